"""Reads every file below a folder once and keeps what it is, so that nothing is read twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hospitium.errors import DataError, StorageError
from hospitium.imaging.array_files import write_atomically
from hospitium.imaging.decode_pool import GaveUp, answers
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.instance import Limits, ReadOptions
from hospitium.imaging.minimise import vendor
from hospitium.imaging.scan_index import Record, ScanFiles, as_read, read_index, resolved
from hospitium.imaging.scan_walk import FoundFile, walk
from hospitium.imaging.scan_worker import access_of, file_digest, prepare

__all__ = ["Record", "ScanSummary", "num_cores", "read_index", "scan", "summarise"]

Progress: TypeAlias = Callable[[int, int], None]
_FILES_A_WORKER = 64
_READERS = (
    *("hospitium", "numpy", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
    *("pyjpegls", "python-gdcm", "SimpleITK", "nibabel", "pillow"),
)


@dataclass(frozen=True, kw_only=True)
class ScanSummary:
    """What a scan found, in counts; of the site's own eyes, without suppression.

    Attributes:
        num_files: Files that were looked at; documents and ``DICOMDIR`` are not among them.
        num_read: Of these, how many gave an image.
        skipped: The others, by reason.
        notes: How often something was tolerated, by code.
        cautions: Files that were read and yet are no case, by their first reason.
        modalities: Files read, by ``Modality``; ``-`` where there is none.
        vendors: Files read, by manufacturer; see `minimise.vendor`.
        num_subjects: Distinct patients, studies without a patient, and files without either.
        num_studies: Distinct studies.
        num_series: Distinct series, and files without one.
        num_read_again: Files that this scan opened; the others had not changed since the last.
    """

    num_files: int
    num_read: int
    skipped: Mapping[str, int]
    notes: Mapping[str, int]
    cautions: Mapping[str, int]
    modalities: Mapping[str, int]
    vendors: Mapping[str, int]
    num_subjects: int
    num_studies: int
    num_series: int
    num_read_again: int = 0

    @property
    def num_skipped(self) -> int:
        """How many files gave no image."""
        return self.num_files - self.num_read


def scan(
    root: Path,
    *,
    index: Path,
    workers: int | None = None,
    options: ReadOptions | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    key: SiteKey | None = None,
    group_by: Literal["uid", "folder"] = "uid",
    time_limit_s: float = 60.0,
) -> ScanSummary:
    """Read every file below a folder and write what each is to an index, sorted by path.

    A file whose path, size and time of change are those of an earlier scan is not opened again,
    unless the reader, its options or the key are others, or it could not be opened then. An
    interrupted scan is gone on with by the same call: at most the 64 files that were under way
    are read twice. The index does not depend on the number of workers.

    Args:
        root: A folder, or one file.
        index: The index to write; its folder also holds what an interruption leaves.
        workers: Processes that decode; None: one for each core, fewer for a handful of files; 0:
            none, in this process, where nothing guards against a decoder that crashes.
        options: What the reader is asked for; by default maps of floating-point numbers too.
        limits: What is refused before it is decoded.
        progress: Told how many files of how many are done.
        key: Names the hospital's identifiers; None: one is made beside the index.
        group_by: ``"folder"``: the files of a folder are one series where UIDs are missing.
        time_limit_s: For one file; then it is ``decode_failed``.

    Raises:
        DataError: There is no such folder or file, or no worker can start.
        StorageError: The index cannot be written; what was read so far is kept.
    """
    if not root.exists():
        raise DataError(
            f"{root}: no such folder or file. Nothing was read. Check the path, and that the drive "
            "is mounted."
        )
    run = _Scan(
        root=root if root.is_dir() else root.parent,
        index=index,
        key=key or SiteKey.load_or_make(index.parent),
        options=options or ReadOptions(take_maps=True),
        limits=limits or Limits(),
        is_by_folder=group_by == "folder",
    )
    try:
        own_folder = index.parent.resolve()  # it may lie below the root
        files = walk(root, without=own_folder)
        num_files = sum(1 for _ in walk(root, without=own_folder))
        num_workers = _num_workers(num_files) if workers is None else workers
        known = run.files.known()  # before the journal is begun anew
        records = run.records(files, known, num_workers=num_workers, time_limit_s=time_limit_s)
        for number, _ in enumerate(run.files.write(records), start=1):
            if progress is not None:
                progress(number, max(number, num_files))
        return run.finish()
    except OSError as error:
        raise StorageError(
            f"{index}: the index of the scan cannot be written ({error.strerror}). What was read "
            "so far is kept. Free space or mend the access rights, then run the same command again."
        ) from error


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _num_workers(num_files: int) -> int:
    """Return how many processes are worth their start."""
    return max(1, min(num_cores(), num_files // _FILES_A_WORKER))


class _Scan:
    """One scan under way."""

    def __init__(
        self,
        *,
        root: Path,
        index: Path,
        key: SiteKey,
        options: ReadOptions,
        limits: Limits,
        is_by_folder: bool,
    ) -> None:
        self.files = ScanFiles(index)
        self._denied = index.with_suffix(".denied")
        values: dict[str, Any] = {
            "options": asdict(options),
            "limits": asdict(limits),
            "is_by_folder": is_by_folder,
        }
        self._made_by = _made_by({**values, "key": key.mark})
        self._settings = {
            **values,
            "root": str(root),
            "key": key.for_worker(),
            "denied": [name for name, made in self._deaths().items() if made == self._made_by],
            "made_by": self._made_by,
        }
        self._num_opened = 0

    def records(
        self,
        files: Iterable[FoundFile],
        known: Iterator[Record],
        *,
        num_workers: int,
        time_limit_s: float,
    ) -> Iterator[Record]:
        """Yield the record of each file, in order: a known one, or one made by a worker."""
        jobs = answers(
            self._jobs(files, known),
            prepare=prepare,
            settings=json.dumps(self._settings).encode(),
            num_workers=num_workers,
            time_limit_s=time_limit_s,
        )
        for item, answer in jobs:
            if isinstance(item, Record):
                yield item
            elif isinstance(answer, bytes):
                yield Record.from_line(answer)
            else:
                assert isinstance(answer, GaveUp)
                yield self._given_up(item, answer)

    def finish(self) -> ScanSummary:
        """Write the index from the journal, with what only all files together can tell."""
        counts = _Counts()
        records = resolved(self.files.journal(), self.files.journal())
        self.files.finish(counts.passed(records))
        return counts.summary(num_read_again=self._num_opened)

    def _jobs(
        self, files: Iterable[FoundFile], known: Iterator[Record]
    ) -> Iterator[tuple[FoundFile | Record, bytes | None]]:
        last = next(known, None)
        for found in files:
            while last is not None and last.file < found.file:
                last = next(known, None)
            if found.reason:
                yield self._refused(found), None
            elif last is not None and self._is_current(last, found):
                yield as_read(last), None
            else:
                self._num_opened += 1
                request = {"file": found.file, "size": found.size, "mtime_ns": found.mtime_ns}
                yield found, json.dumps(request).encode()

    def _is_current(self, record: Record, found: FoundFile) -> bool:
        """Return whether a file is as it was; access rights change without a trace in its time."""
        return (
            (record.file, record.size, record.mtime_ns, record.made_by)
            == (found.file, found.size, found.mtime_ns, self._made_by)
        ) and record.reason != "unreadable_file"

    def _refused(self, found: FoundFile) -> Record:
        is_closed = found.reason == "unreadable_file"
        return Record(
            file=found.file,
            status="skipped",
            reason=found.reason,
            size=found.size,
            mtime_ns=found.mtime_ns,
            detail=access_of(found.path) if is_closed else "",
            made_by=self._made_by,
        )

    def _given_up(self, found: FoundFile, answer: GaveUp) -> Record:
        """Put a file on the deny list, by its digest, and say so."""
        digest = file_digest(found.path)
        deaths = json.dumps({**self._deaths(), digest: self._made_by}, indent=1)
        write_atomically(self._denied, [deaths.encode()])
        return Record(
            file=found.file,
            status="skipped",
            reason="decode_failed",
            size=found.size,
            mtime_ns=found.mtime_ns,
            digest=digest,
            detail=f"{answer.detail}, twice",
            made_by=self._made_by,
        )

    def _deaths(self) -> dict[str, str]:
        """Return the digests of files that killed two workers, and which reader they killed."""
        try:
            found = json.loads(self._denied.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class _Counts:
    """Counts records as they pass."""

    def __init__(self) -> None:
        self._num_files = self._num_read = 0
        self._counters = {
            name: Counter[str]()
            for name in ("skipped", "notes", "cautions", "modalities", "vendors")
        }
        self._subjects: set[str] = set()
        self._studies: set[str] = set()
        self._series: set[str] = set()

    def passed(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield each record once it is counted."""
        for record in records:
            self._add(record)
            yield record

    def _add(self, record: Record) -> None:
        self._num_files += 1
        self._counters["notes"].update(record.notes)
        if record.status == "skipped":
            self._counters["skipped"][record.reason] += 1
            return
        self._num_read += 1
        self._counters["cautions"].update(record.cautions[:1])
        self._counters["modalities"][record.facts.modality if record.facts else ""] += 1
        self._counters["vendors"][vendor(record.facts.manufacturer) if record.facts else ""] += 1
        self._subjects.add(record.subject)
        self._series.add(record.series)
        if record.uids.study:
            self._studies.add(record.uids.study)

    def summary(self, *, num_read_again: int) -> ScanSummary:
        counts = {
            name: {key or "-": count for key, count in sorted(counter.items())}
            for name, counter in self._counters.items()
        }
        return ScanSummary(
            num_files=self._num_files,
            num_read=self._num_read,
            num_subjects=len(self._subjects),
            num_studies=len(self._studies),
            num_series=len(self._series),
            num_read_again=num_read_again,
            **counts,
        )


def summarise(records: Iterable[Record]) -> ScanSummary:
    """Count the records of an index."""
    counts = _Counts()
    for _ in counts.passed(records):
        pass
    return counts.summary(num_read_again=0)


def _made_by(settings: Mapping[str, Any]) -> str:
    """Return what changes when the same file might give another record."""
    versions = {name: metadata.version(name) for name in _READERS}
    text = json.dumps({"settings": settings, "versions": versions}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
