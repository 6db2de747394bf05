"""Fetched instances on disk: each whole or not at all, each with its digest, never twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hospitium.errors import StorageError
from hospitium.imaging.array_files import write_atomically
from hospitium.imaging.sources.queries import StudyFailedError

RECORD = ".fetched.jsonl"  # a scan passes over names that begin with a dot
_KEEP_FREE = 1 << 28  # 256 MiB: a full disk is everybody's trouble
_PART = ".part"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One instance on the shelf.

    Attributes:
        file: Below the shelf's folder, with ``/``.
        sha256: Of the file as it arrived.
        size: In bytes.
    """

    file: str
    sha256: str
    size: int


class Shelf:
    """A folder of fetched instances, with a record of what arrived whole.

    A file is written as ``.part``, flushed to the disk, renamed, and then recorded. When a shelf is
    opened every recorded file is compared with its digest; what differs, and every ``.part``, is
    thrown away and fetched again.
    """

    def __init__(self, folder: Path, *, quota_bytes: int, max_instance_bytes: int) -> None:
        """Open a folder, made if need be.

        Args:
            folder: Of this cohort alone.
            quota_bytes: The most that all files here may take.
            max_instance_bytes: The largest file that is taken.

        Raises:
            StorageError: The folder cannot be read or written.
        """
        self.folder = folder
        self._quota_bytes = quota_bytes
        self._max_instance_bytes = max_instance_bytes
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in folder.rglob(f"*{_PART}"):
                part.unlink()
            recorded = _recorded(folder)
            self._kept = {kept.file: kept for kept in recorded if _is_whole(folder, kept)}
            if len(self._kept) < len(recorded):
                write_atomically(folder / RECORD, [_line(kept) for kept in self._kept.values()])
        except OSError as error:
            raise self._refused(error) from error
        self._used_bytes = sum(kept.size for kept in self._kept.values())

    def __contains__(self, file: str) -> bool:
        return file in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def below(self, folder: str) -> list[Kept]:
        """Return what is kept in one folder, sorted by name."""
        prefix = f"{folder}/"
        return [self._kept[name] for name in sorted(self._kept) if name.startswith(prefix)]

    def write(self, chunks: Iterable[bytes], *, folder: str) -> tuple[Path, Kept]:
        """Write an instance under a temporary name, flushed to the disk.

        Returns:
            Where it is, and its record, still under that name.

        Raises:
            StudyFailedError: It is larger than the limit for one instance.
            StorageError: The quota is reached, or the disk refused. Nothing of it is left.
        """
        part = self.folder / folder / f"{os.getpid()}{_PART}"
        digest, size = hashlib.sha256(), 0
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                for chunk in chunks:
                    size += len(chunk)
                    self._check_room(size)
                    digest.update(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._refused(error) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part, Kept(file=part.name, sha256=digest.hexdigest(), size=size)

    def keep(self, part: Path, written: Kept, *, file: str) -> None:
        """Give a written instance its name and record it.

        Raises:
            StorageError: The disk refused.
        """
        kept = Kept(file=file, sha256=written.sha256, size=written.size)
        try:
            part.replace(self.folder / file)
            with (self.folder / RECORD).open("ab") as stream:
                stream.write(_line(kept))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._refused(error) from error
        self._kept[file] = kept
        self._used_bytes += kept.size

    def keep_only(self, folders: Collection[str]) -> None:
        """Throw away what is in no folder of these: it is of the cohort no more.

        Raises:
            StorageError: The disk refused.
        """
        gone = [name for name in self._kept if name.rpartition("/")[0] not in folders]
        if not gone:
            return
        self._kept = {name: kept for name, kept in self._kept.items() if name not in set(gone)}
        self._used_bytes = sum(kept.size for kept in self._kept.values())
        try:
            write_atomically(self.folder / RECORD, [_line(kept) for kept in self._kept.values()])
            for name in gone:
                (self.folder / name).unlink(missing_ok=True)
            for folder in {(self.folder / name).parent for name in gone}:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise self._refused(error) from error

    def _check_room(self, size: int) -> None:
        """Refuse to go on with an instance that has so many bytes by now."""
        if size > self._max_instance_bytes:
            raise StudyFailedError(f"an instance of more than {self._max_instance_bytes} bytes")
        if self._used_bytes + size > self._quota_bytes:
            raise StorageError(
                f"{self.folder}: the quota of {self._quota_bytes / 2**30:.3g} GiB is reached. "
                f"{len(self)} instances are kept whole. Raise quota_gib in the PACS settings or "
                "narrow the query, then run the same command again."
            )
        if shutil.disk_usage(self.folder).free < _KEEP_FREE:
            raise StorageError(
                f"{self.folder}: less than {_KEEP_FREE >> 20} MiB are free on this disk. "
                f"{len(self)} instances are kept whole. Free space, then run the same command "
                "again."
            )

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.folder}: fetched images could not be kept ({error.strerror or error}). What "
            "arrived whole before is kept. Free space or mend the access rights, then run the "
            "same command again."
        )


def _line(kept: Kept) -> bytes:
    return (json.dumps(asdict(kept), sort_keys=True) + "\n").encode()


def _recorded(folder: Path) -> list[Kept]:
    """Return the record, line by line, without a last line that was cut off."""
    path = folder / RECORD
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(Kept(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # cut off by a crash: the file is fetched again
    return found


def _is_whole(folder: Path, kept: Kept) -> bool:
    """Return whether the file is there and has the digest of its record."""
    path = folder / kept.file
    if not path.is_file() or path.stat().st_size != kept.size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == kept.sha256
