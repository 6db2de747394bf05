"""Every write that must survive a crash goes through here, and can be made to fail in tests.

A *write point* stands before and after each of them. Tests do not choose where to kill a run: they
count the points that a run passes, and kill it at every one.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from hospitium.errors import StorageError

_Result = TypeVar("_Result")

on_write_point: Callable[[str], None] | None = None
"""Called with the name of each write point that is passed; set by tests only."""


def write_point(name: str) -> None:
    """Mark a place where a crash must do no harm."""
    if on_write_point is not None:
        on_write_point(name)


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], _Result],
    *,
    sync: bool = True,
    take: Callable[[Path], bool] | None = None,
) -> _Result:
    """Write a whole file or none of it: temporary name, fsync, rename, fsync of the folder.

    Args:
        path: Where the file is to be; an older file there is replaced.
        write: Writes the content; what it returns is returned.
        sync: False for what can be made anew: whole after ``kill -9``, but perhaps not after a
            power cut.
        take: Puts a spare file where it is told, if there is one (`Spares.take`); it is written
            over then, from its start.

    Raises:
        StorageError: The disk refused. There is no half file, and the older one is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        try:
            write_point("before write")
            has_old_bytes = take is not None and take(temporary)
            with temporary.open("r+b" if has_old_bytes else "wb") as file:
                result = write(file)
                file.truncate()
                if sync:
                    os.fsync(file.fileno())
            write_point("before rename")
            if sync:
                move(temporary, path)
            else:
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    return result


def write_once(path: Path, data: bytes) -> bool:
    """Write a new file, readable by this user alone; False where there is one already.

    Of several processes that try at once exactly one wins, and nobody ever sees half a file.

    Raises:
        StorageError: The disk refused. There is no half file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    with storage_errors(path):
        try:
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            write_point("before link")
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def link(source: Path, target: Path) -> None:
    """Give a file a second name in place of what is there; another file system gets a copy."""
    with storage_errors(target):
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            shutil.copyfile(source, target.with_suffix(".part"))
            target.with_suffix(".part").replace(target)


def move(source: Path, target: Path) -> None:
    """Rename durably within one file system."""
    source.replace(target)
    sync_folder(target.parent)
    write_point("after rename")


def delete(path: Path) -> None:
    """Delete a file if it is there."""
    with storage_errors(path):
        write_point("before delete")
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what interrupted writes left behind below a folder."""
    for path in sorted(folder.rglob(".*.part")):
        delete(path)


def make_folder(path: Path, *, mode: int = 0o777) -> Path:
    """Make a folder and its parents if they are not there; the mode of one that is, stays."""
    with storage_errors(path):
        path.mkdir(mode, parents=True, exist_ok=True)
    return path


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system has a way to say so."""
    if os.name == "nt":  # pragma: no cover (Windows journals folders and cannot open them)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what a disk says into a `StorageError` with the way out."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error to raise for what a disk said about a path."""
    ways_out = {
        errno.ENOSPC: "The disk is full: free some space",
        errno.EDQUOT: "The quota is used up: free some space",
        errno.EFBIG: "A file may not grow that large here: raise the limit",
        errno.EROFS: "The disk is read-only: choose another folder with --home",
        errno.EACCES: "Access was refused: give this user the right to write, or use --home",
        errno.EPERM: "Access was refused: give this user the right to write, or use --home",
    }
    way_out = ways_out.get(error.errno or 0, "Check the disk")
    return StorageError(
        f"{path}: it cannot be written ({error.strerror or error}). "
        "All that was committed before is intact. "
        f"{way_out}, then resume the run."
    )
