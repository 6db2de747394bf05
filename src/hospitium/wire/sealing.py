"""Files that only the coordinator can open: sealed to the key of one run, frame by frame.

A fresh content key is wrapped to the run's public key with HPKE (RFC 9180, base mode: DHKEM(X25519,
HKDF-SHA256), HKDF-SHA256, AES-256-GCM). The content follows in frames of 1 MiB, each AES-256-GCM
under that key. A frame's nonce holds its number and whether it is the last one, so that no frame
can be left out, doubled or moved, and nothing can be cut off or put at the end. Wrapping and frames
are bound to *what it is for*: the update's envelope, which names run, round and site, without the
digest of the content (`wire.envelope.binding_of`): that is known only when all has been sealed.

Sealing says nothing of who sealed: that is said by the signed statement, which names the digests of
the sealed file and of what is in it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from hospitium import buffers
from hospitium.errors import UpdateError
from hospitium.wire.running_digest import RunningDigest

FRAME_BYTES = 1 << 20
TAG_BYTES = 16

_MAGIC = b"hospitium sealed 1\n"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_KEY_BYTES = 32
_WRAPPED_BYTES = 32 + _KEY_BYTES + TAG_BYTES
HEAD_BYTES = len(_MAGIC) + _WRAPPED_BYTES


class RunKey:
    """The private half of a run's key. Its text form shows nothing of it."""

    __slots__ = ("_key",)

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> RunKey:
        """Draw a key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> RunKey:
        """Read a key from its 32 bytes.

        Raises:
            UpdateError: They are of another number. The text holds nothing of them.
        """
        if len(data) != _KEY_BYTES:
            raise UpdateError("fields", "A run key was refused: it is not 32 bytes long.")
        return cls(X25519PrivateKey.from_private_bytes(data))

    def to_bytes(self) -> bytes:
        """Return the 32 bytes: for the run's key file, and for nothing else."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> str:
        """The public half, hexadecimal: what sites seal to."""
        return self._key.public_key().public_bytes_raw().hex()

    def unwrap(self, wrapped: bytes, *, purpose: bytes) -> bytes:
        """Return what was wrapped to this key for this purpose.

        Raises:
            UpdateError: It was wrapped to another key, for something else, or changed
                (``identity``).
        """
        try:
            return _SUITE.decrypt(wrapped, self._key, info=purpose)
        except (InvalidTag, ValueError):
            raise UpdateError(
                "identity",
                "A sealed file was refused: it is not sealed to the key of this run, for this "
                "update. Nothing of it was read.",
            ) from None

    def __repr__(self) -> str:
        return f"RunKey(of {self.public[:8]})"


def sealed_bytes(size_bytes: int) -> int:
    """Return the size of the sealed file of a content of this size."""
    return HEAD_BYTES + size_bytes + TAG_BYTES * _num_frames(size_bytes)


def seal(
    source: BinaryIO,
    target: BinaryIO,
    *,
    run_key: str,
    binding: str,
    running: RunningDigest | None = None,
) -> tuple[str, str]:
    """Write a sealed copy of a file; return its SHA-256, and that of the content.

    Memory does not grow with the size.

    The same content gives other bytes each time: seal once, keep the file, and send that.

    Args:
        source: The content, open for reading and seekable.
        target: An open file; making it durable is the caller's part.
        run_key: The run's public key, hexadecimal.
        binding: SHA-256, hexadecimal, of what it is for: without it nobody can open the file.
        running: Is given all that is written, where somebody wants its digest on the way too.

    Raises:
        UpdateError: The run's key is none (``fields``); nothing was written. Or the content became
            shorter meanwhile (``blob_digest``); what was written is to be thrown away.
    """
    bound, content_key = bytes.fromhex(binding), os.urandom(_KEY_BYTES)
    head = _MAGIC + _wrap(content_key, run_key, purpose=_MAGIC + bound)
    cipher, sha256, content = AESGCM(content_key), running or RunningDigest(), hashlib.sha256()
    sha256.update(head)
    target.write(head)
    room = memoryview(bytearray(FRAME_BYTES + TAG_BYTES))
    for nonce, piece in _frames(source, FRAME_BYTES, start=0):
        sealed = room[: len(piece) + TAG_BYTES]
        content.update(piece)
        cipher.encrypt_into(nonce, piece, bound, sealed)
        sha256.update(sealed)
        target.write(sealed)
    return sha256.hexdigest(), content.hexdigest()


def open_sealed(source: BinaryIO, *, key: RunKey, binding: str) -> tuple[memoryview, str]:
    """Return what is in a sealed file, in memory, read-only, and its SHA-256.

    Memory is that of the content, which is as large as the file but for its head and tags. Another
    thread hashes what is open while this one opens the next frame.

    Args:
        source: The sealed file, open for reading and seekable.
        key: The run's key.
        binding: SHA-256, hexadecimal, of what it is for, as it was given to `seal`.

    Raises:
        UpdateError: It is no sealed file (``header``), not for this run or update (``identity``),
            or was changed, cut off or put together anew (``blob_digest``).
    """
    bound, head = bytes.fromhex(binding), source.read(HEAD_BYTES)
    if len(head) != HEAD_BYTES or not head.startswith(_MAGIC):
        raise UpdateError("header", "A file was refused: it is not sealed, or was cut off.")
    cipher = AESGCM(key.unwrap(head[len(_MAGIC) :], purpose=_MAGIC + bound))
    content, at = buffers.lend(_content_bytes(source)).data, 0
    sha256 = hashlib.sha256()
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as other:  # starts with the first submit
        for nonce, piece in _frames(source, FRAME_BYTES + TAG_BYTES, start=HEAD_BYTES):
            opened = content[at : at + max(0, len(piece) - TAG_BYTES)]
            _open_frame(cipher, nonce, piece, bound, opened)
            if len(content) > FRAME_BYTES:
                other.submit(sha256.update, opened)
            else:
                sha256.update(opened)
            at += len(opened)
    return content.toreadonly(), sha256.hexdigest()


def make_unopenable(path: Path) -> bool:
    """Overwrite the wrapped key of a sealed file, durably: nobody can open it; False for others."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            file.write(bytes(_WRAPPED_BYTES))
            file.flush()
            os.fsync(file.fileno())
            return True
    return False


def _wrap(content_key: bytes, run_key: str, *, purpose: bytes) -> bytes:
    """Wrap a content key to a run's public key."""
    if not re.fullmatch(r"[0-9a-f]{64}", run_key, re.ASCII):
        raise UpdateError("fields", "A run key that is not 32 bytes in hexadecimal was refused.")
    public = X25519PublicKey.from_public_bytes(bytes.fromhex(run_key))
    try:
        return _SUITE.encrypt(content_key, public, info=purpose)
    except ValueError:
        raise UpdateError(
            "fields", "A run key to which nothing can be sealed was refused."
        ) from None


def _open_frame(
    cipher: AESGCM, nonce: bytes, piece: memoryview, bound: bytes, opened: memoryview
) -> None:
    """Open one frame into a buffer of its size."""
    try:
        cipher.decrypt_into(nonce, piece, bound, opened)
    except (InvalidTag, ValueError):
        raise UpdateError(
            "blob_digest",
            "A sealed file was refused: it is not as it was sealed. Nothing of it was kept.",
        ) from None


def _frames(source: BinaryIO, size: int, *, start: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the pieces of a file from a place on, with their nonces, in one buffer.

    A file that ends there has one empty piece. Each piece is gone when the next one is asked for.
    """
    left = source.seek(0, os.SEEK_END) - start
    source.seek(start)
    room = memoryview(bytearray(size))
    index = 0
    while True:
        piece = room[: min(size, left)]
        _fill(source, piece)
        left -= len(piece)
        yield index.to_bytes(11, "big") + bytes([left == 0]), piece
        if left == 0:
            return
        index += 1


def _fill(source: BinaryIO, room: memoryview) -> None:
    """Read as many bytes as there is room for.

    Raises:
        UpdateError: The file became shorter while it was read.
    """
    filled = 0
    while filled < len(room):
        count = source.readinto(room[filled:])  # type: ignore[attr-defined]
        if not count:
            raise UpdateError("blob_digest", "A file was cut off while it was read.")
        filled += count


def _content_bytes(source: BinaryIO) -> int:
    """Return how much is in a sealed file, from its size."""
    size = source.seek(0, os.SEEK_END) - HEAD_BYTES
    return max(0, size - TAG_BYTES * max(1, -(-size // (FRAME_BYTES + TAG_BYTES))))


def _num_frames(size_bytes: int) -> int:
    return max(1, -(-size_bytes // FRAME_BYTES))
