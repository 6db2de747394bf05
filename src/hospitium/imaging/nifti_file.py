"""The bytes of a NIfTI file: its checked header, and its voxels, inflated a slab at a time."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from hospitium.imaging.instance import Limits, SkipError

_GZIP = b"\x1f\x8b"
_HEADERS = {
    348: (nibabel.Nifti1Header, b"n+1\0", b"ni1\0"),
    540: (nibabel.Nifti2Header, b"n+2\0", b"ni2\0"),
}
_TO_MM = {"meter": 1000.0, "micron": 0.001}
_SMALL = 1 << 26  # 64 MiB: inflated without a look at the ratio, as an empty mask may be
_FARTHEST_MM = 1e6
_LAST_OFFSET = 1 << 24
_CHUNK = 1 << 20
Slab: TypeAlias = npt.NDArray[Any]
"""``(j, i)``, scaled: float64 where the file scales, else as stored."""


@dataclass(frozen=True, kw_only=True)
class NiftiHead:
    """The checked description of a NIfTI file's voxels.

    Attributes:
        shape: ``(i, j, k)`` of one volume, as stored.
        dtype: Of a stored voxel.
        slope: Of the scaling; with ``intercept`` 1 and 0 where there is none.
        intercept: Of the scaling.
        affine: ``(4, 4)`` from stored ``(i, j, k)`` to mm RAS.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    affine: npt.NDArray[np.float64]

    @property
    def slab_bytes(self) -> int:
        """Bytes of all voxels of one ``k``."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def open_voxels(raw: bytes) -> BinaryIO:
    """Return the file's content as a stream that inflates no more than is asked for."""
    plain = io.BytesIO(raw)
    return gzip.GzipFile(fileobj=plain) if raw.startswith(_GZIP) else plain  # type: ignore[return-value]


def _take(stream: BinaryIO, size: int) -> bytes:
    """Read so many bytes, or raise ``truncated``."""
    try:  # what gzip raises for damaged bytes
        found = stream.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise SkipError("truncated", f"gzip: {error}") from error
    if len(found) < size:
        raise SkipError("truncated", f"{len(found)} of {size} bytes")
    return found


def read_head(
    stream: BinaryIO, *, volume: int | None, packed_bytes: int, limits: Limits
) -> NiftiHead:
    """Read the header, check it against the limits, and go to the first voxel.

    Args:
        stream: At its start.
        volume: Which of several volumes, from 0; None: there must be one.
        packed_bytes: Size of the file.
        limits: Of voxels, and of bytes inflated against stored.

    Raises:
        SkipError: ``not_an_image``, ``truncated``, ``bad_attribute``, ``too_large``,
            ``ambiguous_stack``, ``not_selected``, ``no_geometry``.
    """
    header, size, offset = _header(stream)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SkipError("bad_attribute", f"voxels of type {dtype}")
    shape, volumes = _shape([int(length) for length in header["dim"]])
    number = _number(volume, volumes)
    slope, intercept = _scale(header)
    affine = _affine(header)
    head = NiftiHead(shape=shape, dtype=dtype, slope=slope, intercept=intercept, affine=affine)
    skipped = offset - size + number * head.slab_bytes * shape[2]
    _check_size(head, skipped + head.slab_bytes * shape[2], packed_bytes, limits)
    while skipped > 0:
        skipped -= len(_take(stream, min(skipped, _CHUNK)))
    return head


def _header(stream: BinaryIO) -> tuple[Any, int, int]:
    """Return nibabel's header, its size, and where the voxels begin."""
    start = _start(stream)
    size = int.from_bytes(start, "little")
    size = size if size in _HEADERS else int.from_bytes(start, "big")
    kind, magic, magic_of_pair = _HEADERS[size]
    block = start + _take(stream, size - 4)
    try:  # on damaged bytes nibabel raises whatever numpy raises
        header = kind.from_fileobj(io.BytesIO(block), check=False)
        header.get_data_dtype()
        found, offset = header["magic"].tobytes()[:4], int(header["vox_offset"])
    except Exception as error:
        raise SkipError("bad_attribute", f"NIfTI header: {type(error).__name__}") from error
    if found == magic_of_pair:
        raise SkipError("not_an_image", "a pair of .hdr and .img: save it as one .nii.gz")
    if found != magic or not size <= offset <= _LAST_OFFSET:
        raise SkipError("bad_attribute", f"NIfTI magic {found!r}, voxels at {offset}")
    return header, size, offset


def _start(stream: BinaryIO) -> bytes:
    """Return the first four bytes, which give the header's size."""
    try:
        start = _take(stream, 4)
    except SkipError as error:
        raise SkipError("not_an_image", "not a NIfTI file") from error
    if not {int.from_bytes(start, "little"), int.from_bytes(start, "big")} & set(_HEADERS):
        raise SkipError("not_an_image", "not a NIfTI file")
    return start


def _shape(dims: Sequence[int]) -> tuple[tuple[int, int, int], int]:
    """Return the voxels of one volume and the number of volumes."""
    count = dims[0]
    if not 1 <= count <= 7 or min(dims[1 : count + 1]) < 1:
        raise SkipError("bad_attribute", f"NIfTI dimensions {dims}")
    lengths = [*dims[1 : count + 1], *[1] * 7][:7]
    return (lengths[0], lengths[1], lengths[2]), math.prod(lengths[3:])


def _number(volume: int | None, volumes: int) -> int:
    if volume is None and volumes > 1:
        raise SkipError("ambiguous_stack", f"{volumes} volumes, and the plan names none")
    number = volume or 0
    if not 0 <= number < volumes:
        raise SkipError("not_selected", f"volume {number} of {volumes}")
    return number


def _check_size(head: NiftiHead, needed: int, packed_bytes: int, limits: Limits) -> None:
    if math.prod(head.shape) > limits.max_pixels:
        raise SkipError("too_large", f"{head.shape} voxels")
    if needed > max(_SMALL, packed_bytes * limits.max_inflate_ratio):
        raise SkipError("too_large", f"{needed} bytes of {packed_bytes}")


def _scale(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise SkipError("bad_attribute", f"scl_slope {slope}, scl_inter {intercept}")
    return slope, intercept


def _affine(header: Any) -> npt.NDArray[np.float64]:
    """Return the affine to mm RAS, or raise ``no_geometry``."""
    try:  # a quaternion that is none, unknown codes
        with np.errstate(all="ignore"):
            affine = _stored_affine(header)
        unit = header.get_xyzt_units()[0]
    except (ValueError, KeyError, HeaderDataError) as error:
        raise SkipError("no_geometry", f"{type(error).__name__}: {error}") from error
    affine[:3] *= _TO_MM.get(unit, 1.0)
    if not np.abs(affine).max() <= _FARTHEST_MM or not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise SkipError("no_geometry", "the affine cannot be inverted")
    return affine


def _stored_affine(header: Any) -> npt.NDArray[np.float64]:
    """Return ``sform``, else ``qform``, in the file's units."""
    if header["sform_code"] > 0:
        return np.array(header.get_sform(), np.float64)
    if header["qform_code"] > 0:
        return np.array(header.get_qform(), np.float64)
    raise SkipError("no_geometry", "neither sform nor qform")


def slabs(stream: BinaryIO, head: NiftiHead) -> Iterator[Slab]:
    """Yield the scaled values of each ``k``; raise ``truncated`` where they end."""
    for _ in range(head.shape[2]):
        words = np.frombuffer(_take(stream, head.slab_bytes), head.dtype)
        slab: Slab = words.reshape(head.shape[1], head.shape[0])
        if (head.slope, head.intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):
                slab = slab.astype(np.float64) * head.slope + head.intercept
        yield slab


def tail_notes(stream: BinaryIO) -> set[str]:
    """Return a note where bytes are left; at the end of a gzip file its checksum is compared."""
    try:
        return {"trailing_bytes"} if stream.read(1) else set()
    except (OSError, EOFError, zlib.error) as error:
        raise SkipError("truncated", f"gzip: {error}") from error
