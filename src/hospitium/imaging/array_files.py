"""Arrays as files of raw bytes, named by their SHA-256 and read through memory maps."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPE = re.compile(r"<f4|<i8|\|u1|<U[0-9]{1,6}")
_NAME = re.compile(r"[0-9a-f]{64}\.bin")
_CHUNK = 1 << 22


def is_array_file(name: str) -> bool:
    """Return whether a name is one that `write_array` gives."""
    return _NAME.fullmatch(name) is not None


def write_array(folder: Path, array: npt.NDArray[Any]) -> dict[str, Any]:
    """Write one array under its digest, if it is not there already; return its index entry."""
    digest = hashlib.sha256()
    for chunk in _chunks(array):
        digest.update(chunk)
    path = folder / f"{digest.hexdigest()}.bin"
    if not path.is_file() or path.stat().st_size != array.nbytes:
        write_atomically(path, _chunks(array))
    return {"file": path.name, "dtype": array.dtype.str, "shape": list(array.shape)}


def open_array(folder: Path, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Map one array into memory, read-only, once its name, type and size are checked.

    Raises:
        ValueError: One of them is not what `write_array` wrote.
        KeyError, TypeError: The entry is not one of `write_array`.
    """
    name, dtype, shape = entry["file"], entry["dtype"], tuple(entry["shape"])
    if not is_array_file(name) or not _DTYPE.fullmatch(dtype):
        raise ValueError("the index names a file or type that is never written")
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    path = folder / name
    found = path.stat().st_size if path.is_file() else -1
    if found != size_bytes:
        raise ValueError(f"{name} has {max(found, 0)} bytes, expected {size_bytes}")
    if size_bytes == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape).view(np.ndarray)


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write under a temporary name, flush to the disk, and rename.

    Raises:
        OSError: The disk refused; the file is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # Windows has no flush of a folder
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_if_free(path: Path) -> None:
    """Remove a file that is no longer named; Windows keeps it while another process maps it."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return


def _chunks(array: npt.NDArray[Any]) -> Iterator[bytes]:
    """Yield the bytes of an array, in row order, a few cases at a time."""
    step = max(1, _CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step]).tobytes()
