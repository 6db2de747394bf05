"""Files that nobody needs any more, kept to be written over: cheaper than new ones.

The pages that hold a file in memory, and its blocks on disk, are there already when it is written
over. A round writes each update and each model several times, and deletes as many: with new files
each time that costs more than all hashing and sealing (``docs/results/hub.md``).

Only a file with one name, which no process has open, is ever written over; a mapping counts as long
as it holds its file, as all of Python do. What a spare held is not to be relied on to be gone:
whoever keeps a secret in a file deletes it instead.
"""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from hospitium.state import durable

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    _can_tell = False
else:
    _can_tell = hasattr(fcntl, "F_SETLEASE")

LEAST_BYTES = 1 << 22
"""Smaller files are deleted: they cost little."""

_SUFFIX = ".spare"


class Spares:
    """A folder of spare files; threads and processes may share it.

    Where a system cannot say whether a file is in use elsewhere, as Windows and network file
    systems cannot, nothing is written over and all is as without spares.

    Args:
        folder: Where they are, on the file system of those who take them; made when needed.
        most: How many are kept at once.
    """

    def __init__(self, folder: Path, *, most: int) -> None:
        self._folder = folder
        self._most = most

    def keep(self, path: Path) -> None:
        """Take a file out of use: it becomes a spare, or is deleted; its name is free either way.

        Raises:
            StorageError: The disk refused.
        """
        with durable.storage_errors(path):
            try:
                found = path.lstat()
            except FileNotFoundError:
                return
            is_of_use = (
                _can_tell
                and stat.S_ISREG(found.st_mode)
                and found.st_nlink == 1
                and found.st_size >= LEAST_BYTES
                and len(self._all()) < self._most
            )
            if not is_of_use:
                durable.delete(path)
                return
            durable.write_point("before delete")
            try:
                self._folder.mkdir(0o700, parents=True, exist_ok=True)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW  # whoever made it a link: no
                folder = os.open(self._folder, flags)
                try:
                    os.rename(path, f"{found.st_ino}{_SUFFIX}", dst_dir_fd=folder)
                finally:
                    os.close(folder)
            except OSError:  # another file system, or no folder of ours
                path.unlink(missing_ok=True)

    def take(self, path: Path) -> bool:
        """Put a spare where there is no file yet; False where there is none.

        It holds old bytes, more or fewer than are wanted: whoever writes it over cuts it off at the
        end of the new ones.
        """
        for spare in self._all() if _can_tell else ():
            with suppress(OSError):  # another took it
                spare.replace(path)
                if _is_in_nobodys_hands(path):
                    return True
                path.unlink()
        return False

    def clear(self) -> None:
        """Delete all that are here."""
        for spare in self._all():
            with suppress(OSError):
                spare.unlink()

    def _all(self) -> list[Path]:
        """Return the files that are here; what else somebody has put here is left alone."""
        if self._folder.is_symlink() or not self._folder.is_dir():
            return []
        with suppress(OSError), os.scandir(self._folder) as rows:  # a worker may have closed it
            return sorted(
                Path(row.path)
                for row in rows
                if row.name.endswith(_SUFFIX) and row.is_file(follow_symlinks=False)
            )
        return []


def _is_in_nobodys_hands(path: Path) -> bool:
    """Whether a file has one name, and no process has it open.

    A write lease is given to the only user of a file (``fcntl(2)``). It is given back at once; were
    the file opened in between, the signal that says so is one that is ignored.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                return False
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
        finally:
            os.close(descriptor)
    return False
