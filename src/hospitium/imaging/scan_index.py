"""The index of a scan: one sorted JSON-lines file, and the journal that an interruption leaves.

Nothing in it names a person or a study: identifiers are pseudonyms that only the site's key makes
(`SiteKey.pseudonyms`). It holds the names of files, though, so it stays at the site.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from hospitium.errors import CorruptedError, StorageError
from hospitium.imaging.array_files import write_atomically
from hospitium.imaging.instance import Facts, Uids

PUBLISHED = (
    *("file", "status", "reason", "notes", "shape", "dtype", "spacing_mm"),
    *("photometric_in", "sha256_pixels"),
)
"""What `hospitium site data scan --json` prints of each file, in this order."""

_NO_RECORD = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of a scan.

    Attributes:
        file: Path below the root, with ``/``; a folder that cannot be listed ends in ``/``.
        status: Whether its pixels were read.
        reason: One of ``SKIP_REASONS`` where it was skipped, else empty.
        notes: Stable codes of what was tolerated; see ``NOTES``.
        cautions: Codes of ``SKIP_REASONS`` for which the file, though read, is no case.
        shape: ``(row, column)`` of one frame, ``(frame, row, column)`` of several; colour has a
            last axis of 3; NIfTI ``(i, j, k)``, several of them ``(channel, i, j, k)``.
        dtype: Of the values read: ``float32``, colour ``uint8``.
        spacing_mm: Distance of rows and of columns; NIfTI along i, j and k.
        photometric_in: The photometric interpretation in the file; of a picture Pillow's mode.
        sha256_pixels: Of the values as little-endian bytes in row order; see
            ``reading.pixel_sha256``.
        facts: See `Facts`; None where the file was skipped.
        uids: Pseudonyms, made with the site's key.
        digest: SHA-256 of the file's bytes.
        size: Bytes of the file.
        mtime_ns: When it was last changed.
        detail: For the site's own staff: the attribute at fault, or owner and access rights.
        made_by: Which reader, options and key made this record; another one reads again.
    """

    file: str
    status: Literal["read", "skipped"]
    reason: str = ""
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    spacing_mm: tuple[float, ...] | None = None
    photometric_in: str = ""
    sha256_pixels: str = ""
    facts: Facts | None = None
    uids: Uids = field(default_factory=Uids)
    digest: str = ""
    size: int = 0
    mtime_ns: int = 0
    detail: str = ""
    made_by: str = ""

    @property
    def subject(self) -> str:
        """Whom the file belongs to: the patient, else the study, else the file itself."""
        return self.uids.patient or self.uids.study or f"file:{self.file}"

    @property
    def series(self) -> str:
        """The series it belongs to, else the file itself."""
        return self.uids.series or f"file:{self.file}"

    def published(self) -> dict[str, Any]:
        """Return what `hospitium site data scan --json` prints; null stands for what is not."""
        values = {name: getattr(self, name) for name in PUBLISHED}
        return {name: None if value == "" else value for name, value in values.items()}

    def as_line(self) -> bytes:
        """Return the record as one line of the index."""
        values = _plain(self)
        values["uids"] = {name: value for name, value in _plain(self.uids).items() if value}
        values["facts"] = None if self.facts is None else _plain(self.facts)
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Return the record of one line.

        Raises:
            ValueError, TypeError, KeyError: It is not one of `as_line`.
        """
        values = json.loads(line)
        facts = values.pop("facts")
        for name in ("notes", "cautions", "shape", "spacing_mm"):
            values[name] = None if values[name] is None else tuple(values[name])
        uids = Uids(**values.pop("uids"))
        return cls(**values, uids=uids, facts=None if facts is None else _facts(facts))


def _plain(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _facts(values: Mapping[str, Any]) -> Facts:
    tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Facts(**{**values, **tuples})


def read_index(index: Path) -> Iterator[Record]:
    """Yield the records of a finished scan, sorted by file.

    Raises:
        StorageError: There is no index, or it cannot be read.
        CorruptedError: A line is not what was written.
    """
    try:
        with index.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield _record(line, index, number)
    except OSError as error:
        raise StorageError(
            f"{index}: the index of the scan cannot be read ({error.strerror}). Nothing was "
            "changed. Scan the data set (`hospitium site data scan`), then try again."
        ) from error


def _record(line: bytes, index: Path, number: int) -> Record:
    try:
        return Record.from_line(line)
    except _NO_RECORD as error:
        raise CorruptedError(
            f"{index}, line {number}: not a record of a scan ({type(error).__name__}). Nothing was "
            "changed. Delete this file and scan again; the images are not touched."
        ) from error


class ScanFiles:
    """The files of one scan: the index, the journal of a scan under way, and what is known so far.

    Both files are in order of their names, so they are merged without holding either in memory. A
    crash at any point costs at most the last line of the journal.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        self._journal = index.with_suffix(".journal")
        self._known = index.with_suffix(".known")

    def known(self) -> Iterator[Record]:
        """Yield what earlier scans found, finished or not, sorted by file; never an exception."""
        if self._journal.exists():
            merged = _merged(_readable(self._so_far), _readable(self._journal))
            write_atomically(self._known, (record.as_line() for record in merged))
            self._journal.unlink()
        return _readable(self._so_far)

    def write(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on, each kept in the journal first."""
        self.index.parent.mkdir(parents=True, exist_ok=True)
        with self._journal.open("wb") as journal:
            for record in records:
                journal.write(record.as_line())
                journal.flush()
                yield record

    def journal(self) -> Iterator[Record]:
        """Yield what was written, in the order in which it was."""
        return _readable(self._journal)

    def finish(self, records: Iterable[Record]) -> None:
        """Put a new index in the place of the old one and remove what an interruption needs."""
        write_atomically(self.index, (record.as_line() for record in records))
        self._known.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    @property
    def _so_far(self) -> Path:
        return self._known if self._known.exists() else self.index


def _readable(path: Path) -> Iterator[Record]:
    """Yield the records of a file until the first line that is none, or nothing without one."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield Record.from_line(line)
            except _NO_RECORD:
                return


def _merged(old: Iterable[Record], new: Iterable[Record]) -> Iterator[Record]:
    """Yield both in order; of two records of one file the new one."""
    last: Record | None = None
    for record in heapq.merge(old, new, key=lambda record: record.file):
        if last is not None and last.file != record.file:
            yield last
        last = record
    if last is not None:
        yield last


def as_read(record: Record) -> Record:
    """Take back what only the other files of a scan had said about a record."""
    notes = tuple(note for note in record.notes if note != "duplicate_instance")
    if record.reason == "uid_conflict":
        return replace(record, status="read", reason="", notes=notes)
    return replace(record, notes=notes)


def resolved(records: Iterable[Record], again: Iterable[Record]) -> Iterator[Record]:
    """Say which records share a ``SOPInstanceUID``: copies of one image, or unlike ones.

    Of equal pixels the first is kept and the others are noted ``duplicate_instance``; unlike ones
    are all skipped as ``uid_conflict``. A file without the UID goes by its own digest.

    Args:
        records: All of them, in order.
        again: The same once more.
    """
    pixels: dict[str, str] = {}
    conflicts: set[str] = set()
    for record in records:
        if (name := _instance_name(record)) and record.sha256_pixels != pixels.setdefault(
            name, record.sha256_pixels
        ):
            conflicts.add(name)
    for record in again:
        name = _instance_name(record)
        if name in conflicts:
            yield replace(record, status="skipped", reason="uid_conflict")
        elif name and pixels.pop(name, None) is None:
            yield replace(record, notes=(*record.notes, "duplicate_instance"))
        else:
            yield record


def _instance_name(record: Record) -> str:
    """Return what names the object in the hospital; empty for what is no readable DICOM image."""
    if record.status != "read" or record.facts is None or not record.facts.sop_class:
        return ""
    return record.uids.instance or f"digest:{record.digest}"
