"""The key of a run on disk: made at the run's first start, kept until it is finished, then gone.

Once it is deleted nobody can open again what sites sealed to it, whoever kept a copy.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hospitium.errors import KeyFileError, UpdateError
from hospitium.state import durable
from hospitium.wire.sealing import RunKey

FILE = "run.key"
_MAX_BYTES = 100


def run_key(folder: Path) -> RunKey:
    """Return the key of a run that is not finished; made the first time.

    Args:
        folder: The run's folder.

    Raises:
        KeyFileError: The key file is open to others, or damaged.
        StorageError: The disk refused.
    """
    path = folder / FILE
    if not path.exists():
        durable.write_once(path, RunKey.generate().to_bytes().hex().encode())
    try:
        return RunKey.from_bytes(bytes.fromhex(_read(path).decode("ascii")))
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from None
    except (ValueError, UpdateError):
        raise _refused(path, "it is no run key, or damaged") from None


def delete_run_key(folder: Path) -> None:
    """Delete the key of a run that is finished; safe to call twice."""
    path = folder / FILE
    if path.exists():
        durable.delete(path)
        durable.sync_folder(folder)


def _read(path: Path) -> bytes:
    """Return the bytes of a file that only this user can read; checked on the open file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise _refused(path, "it is no plain file")
        if os.name == "posix" and mode & 0o077:
            raise _refused(path, f"others can use it (mode {stat.S_IMODE(mode):04o}, not 0600)")
        return file.read(_MAX_BYTES)


def _refused(path: Path, found: str) -> KeyFileError:
    return KeyFileError(
        f"{path}: the key of this run is not used: {found}. No update was opened, and the run "
        "stays as it is. The coordinator: restore the file from a backup, mode 0600, and resume; "
        "or delete it, then the run goes on with a new key, and sites that had answered already "
        "train that round again."
    )
