"""Reads the arrays of an NPZ file; every size is checked before memory is taken."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError

_MAX_BYTES = 1 << 34
_MAX_RATIO = 200  # beyond 16 MiB; zlib itself reaches 1,030 on zeros
_KINDS = "biufUS"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_archive(path: Path, *, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Return those of the named arrays that an NPZ file holds; read-only, no objects.

    ``np.load`` takes the memory that a header claims; here the claim is first compared with the
    size in the zip directory, and that with the limits.

    Raises:
        DataError: Not an NPZ file, damaged, or larger than 16 GiB or than 200 times its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: members[name] for name in names if name in members}
            _check_sizes(wanted)
            return {name: _read(archive, info) for name, info in wanted.items()}
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise many kinds
        raise DataError(
            f"{path}: not a readable NPZ file ({type(error).__name__}: {error}). Nothing was read. "
            "Copy or download it again, or write it with numpy.savez without objects."
        ) from error


def _check_sizes(wanted: dict[str, zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in wanted.values())
    packed = sum(info.compress_size for info in wanted.values())
    if total > _MAX_BYTES or total > _MAX_RATIO * packed + (1 << 24):
        raise ValueError(f"{total} bytes are too many for {packed} packed ones")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as stream:
        shape, is_fortran, dtype = _header(stream)
        size_bytes = math.prod(shape) * dtype.itemsize
        if dtype.kind not in _KINDS:
            raise ValueError(f"{info.filename} holds {dtype}")
        if size_bytes != info.file_size - stream.tell():
            raise ValueError(f"{info.filename}: {shape} {dtype} is not what the file holds")
        data = stream.read(size_bytes)
        if len(data) != size_bytes or stream.read(1):
            raise ValueError(f"{info.filename} ends early")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"array format {version}")
    shape, is_fortran, dtype = _HEADERS[version](stream)
    return tuple(int(side) for side in shape), bool(is_fortran), dtype
