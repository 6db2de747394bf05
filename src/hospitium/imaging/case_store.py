"""Harmonised cases on disk, one file each, found again by what they were made from.

A file is named by its key: the reader's version, the plan's steps and the instances that went
into the case. It holds its arrays as safetensors, and a digest of them. What does
not read back as it was written counts as not there, and is made again. Stays at the site.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import CorruptedError, StorageError
from hospitium.imaging.array_files import remove_if_free, write_atomically
from hospitium.imaging.instance import ReadOptions, Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.volume_case import Harmonised
from hospitium.types import Json
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json, digest

PACKAGES = (
    *("hospitium", "numpy", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle"),
    *("pyjpegls", "python-gdcm", "SimpleITK", "nibabel", "pillow"),
)
"""What the numbers of a case pass through, besides the steps."""

_SUFFIX, _PIN = ".safetensors", ".pin"
_PIECE = 1 << 22
_LONGEST_PIN_S = 7 * 24 * 3600.0
_AFFINE, _DIGEST, _IMAGE, _IS_VALID, _MASK, _NOTES = (
    *("affine", "digest", "image", "is_valid", "mask", "notes"),
)


def case_key(
    digests: Sequence[str], harmonise: Harmonise, *, options: ReadOptions | None = None
) -> str:
    """Return the name of a case: SHA-256 of what it is made from, and of what makes it.

    Class labels are no part of it: relabelling makes nothing anew.

    Args:
        digests: SHA-256 of each file that went into it, image and mask, in any order.
        harmonise: The plan's steps.
        options: What the plan asked of the reader.
    """
    asked = options or ReadOptions()
    content: dict[str, Json] = {
        "reader": {name: _version(name) for name in PACKAGES},
        "options": [asked.apply_voi, asked.take_raw, asked.take_maps],
        "pipeline": harmonise.digest,
        "instances": sorted(digests),
    }
    return digest(canonical_json(content))


class CaseStore:
    """A folder of cases with a quota; several processes may use it at once.

    Args:
        folder: Made if it is not there.
        quota_bytes: What it is brought down to when it grows above it.

    Raises:
        StorageError: The folder cannot be made.
    """

    def __init__(self, folder: Path, *, quota_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._verified: dict[str, tuple[int, int]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        self._total_bytes = sum(size for _, size, _ in self._files())

    def read(self, key: str) -> Harmonised | None:
        """Return a volume; None where it must be made. See `read_arrays`."""
        arrays = self.read_arrays(key)
        try:
            return None if arrays is None else _case(arrays)
        except (KeyError, ValueError, TypeError):
            return None

    def read_arrays(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """Return the arrays of a case, read-only maps of its file; None where it must be made.

        The first time in a process every byte is compared with the digest, and again when the
        file has changed; after that a case costs a memory map.
        """
        path = self._path(key)
        try:
            state = path.stat()
            arrays = blob.read(path)
            if self._verified.get(key) != (state.st_size, state.st_mtime_ns):
                _verify(arrays)
                self._verified[key] = (state.st_size, state.st_mtime_ns)
            os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
        except (OSError, CorruptedError, KeyError, ValueError, TypeError):
            return None
        return arrays

    def write(self, key: str, case: Harmonised) -> None:
        """Keep a volume; see `write_arrays`."""
        self.write_arrays(key, _arrays(case))

    def write_arrays(self, key: str, content: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep a case; what is there under this key is replaced at once. Above the quota: `evict`.

        Raises:
            StorageError: The disk refused; what was there is intact.
        """
        digest_sha256 = np.frombuffer(bytes.fromhex(blob.digest_of(content)), np.uint8)
        arrays = {**content, _DIGEST: digest_sha256}
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, _pieces(arrays))
        except OSError as error:
            raise self._refused(error) from error
        self._verified.pop(key, None)
        self._total_bytes += blob.size_of(blob.manifest_of(arrays))
        if self._total_bytes > self._quota_bytes:
            self.evict()

    def read_or_make(self, key: str, make: Callable[[], Harmonised | Skip]) -> Harmonised | Skip:
        """Return a case that is there, else make and keep it; a skip is not kept."""
        found = self.read(key)
        if found is not None:
            return found
        made = make()
        if not isinstance(made, Skip):
            self.write(key, made)
        return made

    def evict(self) -> int:
        """Remove cases, the least recently read first, down to the quota; return how many.

        While anyone holds `pinned`, in this process or another, nothing is removed.
        """
        if self._is_pinned():
            return 0
        files = sorted(self._files())
        self._total_bytes = sum(size for _, size, _ in files)
        removed = 0
        for _, size, path in files:
            if self._total_bytes <= self._quota_bytes:
                break
            remove_if_free(path)
            self._total_bytes -= size
            removed += 1
        return removed

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep every case where it is, for as long as a round takes.

        A pin that a killed process has left behind is ignored after a week.

        Raises:
            StorageError: The folder cannot be written.
        """
        pin = self._folder / f"{secrets.token_hex(8)}{_PIN}"
        try:
            pin.touch(exist_ok=False)
        except OSError as error:
            raise self._refused(error) from error
        try:
            yield
        finally:
            pin.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{_SUFFIX}"

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Yield when each case was last read or written, its size and its path."""
        for path in self._folder.glob(f"??/*{_SUFFIX}"):
            with suppress(OSError):  # another process may have removed it
                state = path.stat()
                yield state.st_atime_ns, state.st_size, path

    def _is_pinned(self) -> bool:
        oldest = time.time() - _LONGEST_PIN_S
        for pin in self._folder.glob(f"*{_PIN}"):
            with suppress(OSError):
                if pin.stat().st_mtime > oldest:
                    return True
        return False

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._folder}: the store of cases cannot be written ({error.strerror}). What was "
            "there is intact. Free space or mend the access rights, then try again."
        )


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _arrays(case: Harmonised) -> dict[str, npt.NDArray[Any]]:
    """Return a case as the arrays of its file."""
    notes = "\n".join(case.notes).encode()
    arrays: dict[str, npt.NDArray[Any]] = {
        _AFFINE: case.affine,
        _IMAGE: case.image,
        _NOTES: np.frombuffer(notes, np.uint8),
    }
    if case.mask is not None:
        arrays[_MASK] = case.mask
    if case.is_valid is not None:
        arrays[_IS_VALID] = case.is_valid.view(np.uint8)
    return arrays


def _pieces(arrays: dict[str, npt.NDArray[Any]]) -> Iterator[bytes]:
    """Yield the bytes of a file, a few megabytes at a time."""
    for block in blob.blocks_of(arrays):
        for start in range(0, len(block), _PIECE):
            yield bytes(block[start : start + _PIECE])


def _verify(arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Raise ValueError where the arrays are not those that were written."""
    content = {name: array for name, array in arrays.items() if name != _DIGEST}
    if bytes.fromhex(blob.digest_of(content)) != arrays[_DIGEST].tobytes():
        raise ValueError("wrong digest")


def _case(arrays: dict[str, npt.NDArray[Any]]) -> Harmonised:
    is_valid = arrays.get(_IS_VALID)
    return Harmonised(
        image=arrays[_IMAGE],
        affine=arrays[_AFFINE],
        mask=arrays.get(_MASK),
        is_valid=None if is_valid is None else is_valid.view(np.bool_),
        notes=tuple(arrays[_NOTES].tobytes().decode().split()),
    )
