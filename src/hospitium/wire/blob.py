"""Params as one safetensors file whose every byte is implied by names, shapes, dtypes and values.

Our files are a strict subset of safetensors 0.x: names sorted, data contiguous, no
``__metadata__``, header padded with spaces to 8 bytes. A reader that knows the manifest therefore
*compares* the header instead of parsing it: duplicate keys, overlaps and 100,000 empty tensors
cannot even be expressed. Reading maps the file, so that nothing is copied.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.errors import CorruptedError
from hospitium.types import Params

Manifest: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]
"""``(name, dtype, shape)`` of each array, sorted by name; dtypes as safetensors writes them."""

DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_NAME_OF = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER_BYTES = 1 << 20
MAX_ARRAYS = 4096
_WRITE_BYTES = 1 << 22


def manifest_of(params: Params) -> Manifest:
    """Return the manifest of these params.

    Raises:
        TypeError: A dtype that does not travel (only float32, float64, int64 and uint8 do).
    """
    rows = []
    for name in sorted(params):
        array = params[name]
        if array.dtype not in _NAME_OF:
            raise TypeError(f"{name}: dtype {array.dtype} does not travel; use {sorted(DTYPES)}")
        rows.append((name, _NAME_OF[array.dtype], tuple(int(side) for side in array.shape)))
    return tuple(rows)


def num_values(manifest: Manifest) -> int:
    """Return how many numbers the arrays of a manifest hold together."""
    return sum(_count(shape) for _, _, shape in manifest)


@lru_cache(maxsize=16)
def header_of(manifest: Manifest) -> bytes:
    """Return the constant bytes before the data: 8 bytes of length, then the JSON header."""
    entries = {}
    offset = 0
    for name, dtype, shape in manifest:
        end = offset + _count(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def size_of(manifest: Manifest) -> int:
    """Return the exact size of a file of this manifest, in bytes."""
    data = sum(_count(shape) * DTYPES[dtype].itemsize for _, dtype, shape in manifest)
    return len(header_of(manifest)) + data


def blocks_of(params: Params) -> Iterator[memoryview]:
    """Yield the bytes of the file of these params, without copying contiguous arrays."""
    manifest = manifest_of(params)
    yield memoryview(header_of(manifest))
    for name, _, shape in manifest:
        if _count(shape):
            yield np.ascontiguousarray(params[name]).reshape(-1).view(np.uint8).data


def digest_of(params: Params) -> str:
    """Return the SHA-256 of the file of these params: their name in plans, tasks and stores."""
    sha256 = hashlib.sha256()
    for block in blocks_of(params):
        sha256.update(block)
    return sha256.hexdigest()


def write(file: BinaryIO, params: Params) -> str:
    """Write these params to an open file and return the SHA-256 of what was written."""
    sha256 = hashlib.sha256()
    for block in blocks_of(params):
        for start in range(0, len(block), _WRITE_BYTES):
            piece = block[start : start + _WRITE_BYTES]
            sha256.update(piece)
            file.write(piece)
    return sha256.hexdigest()


def read(path: Path, *, manifest: Manifest | None = None) -> dict[str, npt.NDArray[Any]]:
    """Map a file and return its arrays, read-only; with a manifest the header must equal it.

    Without a manifest the header is parsed strictly: no duplicate or unknown key, every array
    within the file, no gap and no overlap. Values are not looked at.

    Raises:
        CorruptedError: The file is not exactly what it should be; nothing is returned.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 8:
            raise _corrupted(path.name, f"{size} bytes long, shorter than any params file")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return arrays(mapped, name=path.name, manifest=manifest)


def arrays(
    data: mmap.mmap | memoryview, *, name: str, manifest: Manifest | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in the bytes of a file, without copying them; see `read`.

    Args:
        data: All bytes of the file; the arrays are read-only where these are.
        name: What the file is called in an error.
        manifest: What the header must be; None parses it strictly.

    Raises:
        CorruptedError: They are not exactly what they should be; nothing is returned.
    """
    size = len(data)
    if size < 8:
        raise _corrupted(name, f"{size} bytes long, shorter than any params file")
    if manifest is None:
        manifest, offsets, start = _parse(data, name)
    else:
        header = header_of(manifest)
        if size != size_of(manifest):
            raise _corrupted(name, f"{size} bytes found, {size_of(manifest)} expected")
        if bytes(data[: len(header)]) != header:
            raise _corrupted(name, "its header is not the one that the manifest implies")
        start, offsets = len(header), _offsets(manifest)
    return {
        name: np.ndarray(shape, DTYPES[dtype], buffer=data, offset=start + offset)
        if _count(shape)
        else np.zeros(shape, DTYPES[dtype])
        for (name, dtype, shape), offset in zip(manifest, offsets, strict=True)
    }


class Exactly(io.RawIOBase):
    """A file of a manifest, as it is read: exactly so many bytes, its header first.

    For a file that another process may change meanwhile. To read it is safe where to map it is not:
    whoever has a file mapped dies when another shortens it.

    Args:
        file: The file, open for reading; closing it stays with whoever opened it.
        manifest: What it must be.

    Raises:
        CorruptedError: It is of another size; or, on reading, has another header or ends too soon.
    """

    def __init__(self, file: BinaryIO, manifest: Manifest) -> None:
        super().__init__()
        self._file = file
        self._header = header_of(manifest)
        self._size = size_of(manifest)
        self._at = 0
        found = file.seek(0, os.SEEK_END)
        if found != self._size:
            raise _corrupted("a change", f"{found} bytes found, {self._size} expected")

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from any place: yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; from the end it is that of the size that it must have."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, room: Any) -> int:
        """Fill room with what comes next."""
        self._file.seek(self._at)
        piece = memoryview(room).cast("B")[: max(0, self._size - self._at)]
        count = int(self._file.readinto(piece))  # type: ignore[attr-defined]
        if piece and not count:
            raise _corrupted("a change", "it was cut off while it was read")
        expected = self._header[self._at : self._at + count]
        if piece[: len(expected)] != expected:
            raise _corrupted("a change", "its header is not the one that the manifest implies")
        self._at += count
        return count


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(data: mmap.mmap | memoryview, where: str) -> tuple[Manifest, list[int], int]:
    """Read a header that we do not know beforehand; also accepts files of the stock library."""
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES or 8 + length > len(data):
        raise _corrupted(where, f"its header claims {length} bytes")
    try:
        entries = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_unique)
        rows = sorted(_row(name, entry) for name, entry in entries.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupted(where, f"its header cannot be read ({type(error).__name__})") from error
    if len(rows) > MAX_ARRAYS:
        raise _corrupted(where, f"{len(rows)} arrays, at most {MAX_ARRAYS} are allowed")
    expected = 0
    for _, dtype, shape, begin, end in sorted(rows, key=lambda row: (row[3], row[4])):
        if begin != expected or end - begin != _count(shape) * DTYPES[dtype].itemsize:
            raise _corrupted(where, "its arrays overlap, leave gaps or have wrong sizes")
        expected = end
    if 8 + length + expected != len(data):
        raise _corrupted(where, f"{len(data)} bytes found, {8 + length + expected} expected")
    manifest = tuple((name, dtype, shape) for name, dtype, shape, _, _ in rows)
    return manifest, [row[3] for row in rows], 8 + length


def _row(name: str, entry: dict[str, object]) -> tuple[str, str, tuple[int, ...], int, int]:
    """Return one header entry, or raise ValueError or KeyError."""
    dtype, shape, offsets = entry.pop("dtype"), entry.pop("shape"), entry.pop("data_offsets")
    if entry or not isinstance(dtype, str) or dtype not in DTYPES or len(name) > 200:
        raise ValueError(name)
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(shape) > 8:
        raise ValueError(name)
    begin, end = offsets
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in (*shape, begin, end)):
        raise ValueError(name)
    return name, dtype, tuple(shape), begin, end


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build a dict, refusing duplicate keys and the metadata that we never write."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("duplicate key")
    entries.pop("__metadata__", None)
    return entries


def _offsets(manifest: Manifest) -> list[int]:
    """Return where each array of our own layout begins, after the header."""
    offsets, offset = [], 0
    for _, dtype, shape in manifest:
        offsets.append(offset)
        offset += _count(shape) * DTYPES[dtype].itemsize
    return offsets


def _count(shape: tuple[int, ...]) -> int:
    """Return the product of the sides; exact, where NumPy's would overflow."""
    count = 1
    for side in shape:
        count *= side
    return count


def _corrupted(name: str, found: str) -> CorruptedError:
    return CorruptedError(
        f"{name}: {found}. Nothing was read from it. "
        "Restore the file from a backup, or resume the run so that it is made again."
    )
