"""Key files: one key, one purpose, one federation each, readable by nobody else.

The folder is 0700 and a file 0600. A file that others can read or write, that is a link or that
belongs to somebody else is not used: who could read a key has it. On Windows a file has the access
list of the user's own folder, which this module does not look at.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from hospitium.errors import KeyFileError, StateConflictError, TrustError
from hospitium.state import durable
from hospitium.wire import statement
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import is_hex, is_id

KeyPurpose = Literal["site-signing", "site-request", "coordinator-signing", "officer"]

_MAX_BYTES = 1000
_KIND = "private-key"


def make_key(path: Path, *, purpose: KeyPurpose, federation: str) -> SigningKey:
    """Draw a key and write it to a new file; an existing file is never overwritten.

    Raises:
        StateConflictError: The file exists. Nothing was changed.
        StorageError: The disk refused.
    """
    key = SigningKey.generate()
    data = statement.write(
        _KIND, {"purpose": purpose, "federation": federation, "seed": key.to_bytes().hex()}
    )
    with durable.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not durable.write_once(path, data):
        raise StateConflictError(
            f"{path}: there is a key already. Nothing was changed: a key is replaced by a rotation."
        )
    return key


def read_key(path: Path, *, purpose: KeyPurpose, federation: str) -> SigningKey:
    """Read a key for the one purpose that it was made for.

    Raises:
        KeyFileError: The file is missing, open to others, damaged, or made for something else. Its
            text holds the path and nothing of the content.
    """
    try:
        data = _read_private(path)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from None
    try:
        fields = statement.read(
            _KIND, data, {"purpose": lambda value: True, "federation": is_id, "seed": is_hex}
        )
    except TrustError:
        raise _refused(path, "it is no key file of ours, or damaged") from None
    if (fields["purpose"], fields["federation"]) != (purpose, federation):
        raise _refused(path, f"it was not made as the {purpose} key of {federation}")
    return SigningKey.from_bytes(bytes.fromhex(fields["seed"]))


def _read_private(path: Path) -> bytes:
    """Return the bytes of a file that only this user can read; checked on the open file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "it is no plain file")
        if os.name == "posix":
            if found.st_uid not in (os.geteuid(), 0):
                raise _refused(path, "it belongs to another user")
            if found.st_mode & 0o077:
                raise _refused(
                    path, f"others can use it (mode {stat.S_IMODE(found.st_mode):04o}, not 0600)"
                )
        return file.read(_MAX_BYTES)


def _refused(path: Path, found: str) -> KeyFileError:
    return KeyFileError(
        f"{path}: this key file is not used: {found}. Nothing was signed or sent. If others could "
        "read it, take it for known to them: rotate the key; else restore the file, mode 0600, "
        "from your backup, or enrol again."
    )
