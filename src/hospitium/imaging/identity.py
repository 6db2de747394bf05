"""Keyed names in place of a hospital's own: the site key, subject ids, case ids, pseudonyms.

The site key is 32 random bytes, made at the site and never sent. Without it nobody can tell which
person or study a keyed name stands for, or whether two federations speak of the same one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

from hospitium.errors import CorruptedError, StorageError, UsageError
from hospitium.imaging.instance import Uids

KEY_FILE = "site.key"
KEYED = re.compile(r"[a-z2-7]{26}")
_KEY_BYTES = 32
_SALT = b"hospitium site key v1"
_LOCAL = b"local index"
_FEDERATION = b"federation:"


class SiteKey:
    """The secret of one site, and the names that are made with it.

    Every keyed name is the first 26 base-32 characters of an HMAC-SHA-256: 130 bits, lower case.
    """

    def __init__(self, secret: bytes) -> None:
        assert len(secret) == _KEY_BYTES
        self._secret = secret
        self._local = hkdf(secret, info=_LOCAL)

    def __repr__(self) -> str:
        return "SiteKey(...)"

    @classmethod
    def load_or_make(cls, folder: Path) -> SiteKey:
        """Return the key in a folder; the first call makes it, readable by this account alone.

        On Windows a file has the access rights of its folder, by default those of the account.

        Raises:
            StorageError: The key cannot be read or written, or others may read it.
            CorruptedError: The file is not a key.
        """
        path = folder / KEY_FILE
        try:
            if not path.exists():
                _make(path)
            return cls(_load(path))
        except OSError as error:
            raise StorageError(
                f"{path}: the site key cannot be used ({error.strerror}). Nothing was read. Let "
                "this account read and write the folder, or name another one with --home."
            ) from error

    def subject_id(self, uids: Uids, *, federation: str) -> str:
        """Return the name of a person in one federation.

        ``PatientID`` and its issuer are trimmed and case-folded. Without a ``PatientID`` the
        study stands for the subject, and without a study nothing does: the result is empty.

        Args:
            uids: As read from a file; not the pseudonyms of an index.
            federation: Its id; the same person has unlike names in two federations.
        """
        key = self._of(federation)
        if uids.patient.strip():
            return keyed(key, "subject", _folded(uids.issuer), _folded(uids.patient))
        return keyed(key, "study as subject", uids.study) if uids.study else ""

    def case_id(self, uids: Uids, *, federation: str) -> str:
        """Return the name of a case in one federation, from its study and series.

        Args:
            uids: As read from a file; not the pseudonyms of an index.
            federation: Its id.
        """
        return keyed(self._of(federation), "case", uids.study, uids.series)

    def pseudonyms(self, uids: Uids) -> Uids:
        """Return the same object with a keyed name for each value, for the site's own index.

        Equal values have equal names, whatever object they come from, so an index can be grouped
        and joined without holding a single identifier: to look up a study, make its pseudonym
        with ``pseudonyms(Uids(study=...)).study``. Empty stays empty. The patient is named
        together with its issuer.
        """
        names = {
            field.name: keyed(self._local, field.name, value)
            for field in fields(uids)
            if (value := getattr(uids, field.name).strip())
        }
        if "patient" in names:
            parts = (_folded(uids.issuer), _folded(uids.patient))
            names["patient"] = keyed(self._local, "patient", *parts)
        return replace(Uids(), **names)

    def for_worker(self) -> str:
        """Return the secret in hex, for the memory of a worker process of this site only."""
        return self._secret.hex()

    @property
    def mark(self) -> str:
        """What tells two keys apart and tells nothing about either."""
        return keyed(self._local, "mark")

    def _of(self, federation: str) -> bytes:
        if not federation:
            raise UsageError(
                "A keyed name needs the id of a federation, and none was given. Nothing was read. "
                "Name the federation."
            )
        return hkdf(self._secret, info=_FEDERATION + federation.encode())


def hkdf(secret: bytes, *, info: bytes, salt: bytes = _SALT, length: int = 32) -> bytes:
    """Derive a key by HKDF with SHA-256 (RFC 5869); at most 32 bytes long."""
    assert 1 <= length <= 32
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:length]


@lru_cache(maxsize=4096)  # the files of a study share most of their names
def keyed(key: bytes, *parts: str) -> str:
    """Return 26 base-32 characters of an HMAC-SHA-256 over these parts, told apart by length."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    digest = hmac.digest(key, message, hashlib.sha256)
    return base64.b32encode(digest)[:26].decode().lower()


def _folded(text: str) -> str:
    return text.strip().casefold()


def _make(path: Path) -> None:
    """Write a new key in one step; if another process was quicker, its key stands."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path) -> bytes:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise StorageError(
            f"{path}: other accounts may read the site key (mode {path.stat().st_mode & 0o777:o}, "
            f"expected 600). Nothing was read. Run `chmod 600 {path}`; if somebody may have copied "
            "it, tell your data protection officer: with it they can link ids to patients."
        )
    secret = path.read_bytes()
    if len(secret) != _KEY_BYTES:
        raise CorruptedError(
            f"{path}: {len(secret)} bytes, expected {_KEY_BYTES}: this is not the site key. "
            "Nothing was changed. Put the key back from your backup; without it every subject "
            "and case of this site gets a new id."
        )
    return secret
