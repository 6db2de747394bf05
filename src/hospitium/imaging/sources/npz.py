"""NPZ files in the MedMNIST layout -> `Cases`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.cases import SPLITS, Cases, Split
from hospitium.imaging.instance import Facts, Instance, is_constant
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources.archive import read_archive
from hospitium.imaging.sources.labels import MISSING, encode_labels
from hospitium.imaging.splitting import complete_splits, join_duplicates

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
_NAMES = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))
_BITS = {255.0: 8, 65_535.0: 16}


def read_npz(
    path: Path,
    *,
    harmonise: Harmonise,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    classes: Sequence[str] | None = None,
) -> Cases:
    """Read ``train_images``, ``train_labels`` and the same for ``val`` and ``test``.

    Images are ``(N, row, column)`` grey or ``(N, row, column, 3)`` colour, of one size; labels
    ``(N,)`` or ``(N, 1)``. The full range of uint8 and uint16 becomes [0, 1]; of other types
    [0, 1], [0, 255], [0, 65535] or what is found, whichever is the first that holds all values.

    Each image is its own subject, ``"train-000123"``; exact copies are one subject. The given
    splits stay as they are, also for copies across them (note ``duplicate_across_splits``).
    Cases with label -1 are left out. A split that is not there is taken from training.

    Raises:
        DataError: The file is not of this layout.
    """
    arrays = read_archive(path, names=_NAMES)
    parts = _checked_parts(path, arrays)
    encoded, names = encode_labels(
        [label for split in parts for label in _as_words(path, split, parts[split][1])],
        where=f"{path}, labels",
        classes=classes,
    )
    kept = np.flatnonzero(encoded != MISSING)
    notes: Counter[str] = Counter()
    images, digests = _harmonised(parts, kept, harmonise=harmonise, notes=notes, progress=progress)
    origin = _origins(parts)
    splits = np.array([origin[i][0] for i in kept], dtype=np.uint8)
    subjects, notes["duplicate_image"] = join_duplicates(
        subjects=[origin[i][1] for i in kept], digests=digests
    )
    notes["duplicate_across_splits"] = _num_across(digests, splits)
    labels = encoded[kept]
    splits, more = complete_splits(
        splits=splits, subjects=subjects, labels=labels.tolist(), seed=seed
    )
    notes.update(more)
    num_left_out = len(encoded) - len(kept)
    return Cases(
        images=images,
        labels=labels,
        subjects=np.array(subjects, dtype=np.str_),
        splits=splits,
        classes=_named(names, path) if classes is None else names,
        skipped={"no_label": num_left_out} if num_left_out else {},
        notes={code: count for code, count in sorted(notes.items()) if count},
    )


def _named(classes: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """Return the published names of the classes where the file is a known set, else numbers."""
    known = next((names for stem, names in _PUBLISHED.items() if path.stem.startswith(stem)), ())
    return known if classes == tuple(str(index) for index in range(len(known))) else classes


_PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
}
"""Class names of MedMNIST files (Yang 2023), which hold numbers only."""


def _origins(parts: Mapping[Split, tuple[Any, Any]]) -> list[tuple[int, str]]:
    """Return the split and the subject of each image of the file."""
    return [
        (SPLITS.index(split), f"{split}-{number:06d}")
        for split, (images, _) in parts.items()
        for number in range(len(images))
    ]


def _checked_parts(path: Path, arrays: Arrays) -> dict[Split, tuple[Any, Any]]:
    """Return images and labels of each split that is there, with everything checked."""
    present = [split for split in SPLITS if f"{split}_images" in arrays]
    if "train" not in present:
        raise DataError(
            f"{path}: holds {', '.join(sorted(arrays)) or 'none of the arrays'}, expected "
            "train_images and train_labels, and the same for val and test (MedMNIST layout). "
            "Nothing was read. Rename the arrays, or give a folder with a labels.csv."
        )
    parts: dict[Split, tuple[Any, Any]] = {}
    for split in present:
        images, labels = arrays[f"{split}_images"], arrays.get(f"{split}_labels")
        problem = _problem(images, labels, shape=arrays["train_images"].shape[1:])
        if problem or labels is None:
            raise DataError(
                f"{path}, {split}: {problem}. Nothing was read. Write the file again with "
                f"{split}_images of shape (N, row, column) or (N, row, column, 3) and "
                f"{split}_labels of shape (N, 1)."
            )
        parts[split] = images, labels
    return parts


def _problem(
    images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, *, shape: tuple[int, ...]
) -> str:
    """Return what is wrong with one split in a few words, or nothing."""
    if labels is None:
        return "there are images but no labels"
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        return f"images of shape {images.shape} are not 2D grey or colour images"
    if images.shape[1:] != shape or 0 in shape:
        return f"images of shape {images.shape[1:]} against {shape} in train"
    if labels.shape not in ((len(images),), (len(images), 1)):
        return f"labels of shape {labels.shape} for {len(images)} images, expected one for each"
    if images.dtype.kind not in "biuf":
        return f"images of type {images.dtype}, expected numbers"
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        return "an image holds a NaN or an infinity"
    return ""


def _as_words(path: Path, split: str, labels: npt.NDArray[Any]) -> list[str]:
    flat = labels.reshape(-1)
    if flat.dtype.kind == "S":
        return [bytes(word).decode("utf-8", errors="replace") for word in flat]
    if flat.dtype.kind == "f" and not all(np.isnan(x) or x.is_integer() for x in flat):
        raise DataError(
            f"{path}, {split}_labels: numbers with a fraction, expected whole numbers or words. "
            "Nothing was read. This is a measured value, not a class: group it into classes."
        )
    return [str(int(x)) if flat.dtype.kind in "biu" else str(x) for x in flat]


def _harmonised(
    parts: Mapping[Split, tuple[Any, Any]],
    kept: npt.NDArray[np.intp],
    *,
    harmonise: Harmonise,
    notes: Counter[str],
    progress: Callable[[int, int], None] | None,
) -> tuple[npt.NDArray[np.float32], list[bytes]]:
    """Return the harmonised images that are kept and the digest of each as it was stored."""
    stored = [image for images, _ in parts.values() for image in images]
    ends = _value_range([images for images, _ in parts.values()])
    if stored[0].dtype not in (np.uint8, np.uint16):
        notes["range_assumed"] = 1
    rows, columns = harmonise.size or stored[0].shape[:2]
    result = np.empty((len(kept), harmonise.channels, rows, columns), np.float32)
    digests = []
    for at, index in enumerate(kept):
        raw = stored[index]
        instance = _instance(raw, ends)
        result[at] = harmonise.apply(instance)
        notes["constant"] += is_constant(instance)
        digests.append(hashlib.blake2b(np.ascontiguousarray(raw).data, digest_size=16).digest())
        if progress is not None and (at + 1) % 500 == 0:
            progress(at + 1, len(kept))
    if progress is not None:
        progress(len(kept), len(kept))
    if stored[0].ndim == 3 and harmonise.channels == 1:
        notes["colour_to_grey"] = len(kept)
    if stored[0].ndim == 2 and harmonise.channels == 3:
        notes["grey_to_colour"] = len(kept)
    return result, digests


def _instance(raw: npt.NDArray[Any], ends: tuple[float, float]) -> Instance:
    facts = Facts(
        modality="",
        manufacturer="",
        rows=raw.shape[0],
        columns=raw.shape[1],
        bits_stored=_BITS.get(ends[1], 32),
        photometric="RGB" if raw.ndim == 3 else "MONOCHROME2",
        spacing_mm=None,
    )
    return Instance(values=raw[np.newaxis].astype(np.float32), range=ends, facts=facts)


def _value_range(images: list[npt.NDArray[Any]]) -> tuple[float, float]:
    """Return the values that are black and white in this file."""
    if images[0].dtype == np.uint8:
        return 0.0, 255.0
    if images[0].dtype == np.uint16:
        return 0.0, 65_535.0
    low = min((float(part.min()) for part in images if part.size), default=0.0)
    high = max((float(part.max()) for part in images if part.size), default=1.0)
    for end in (1.0, 255.0, 65_535.0):
        if low >= 0 and high <= end and (end > 1 or images[0].dtype.kind in "fb"):
            return 0.0, end
    return (low, high) if low < high else (low, low + 1.0)


def _num_across(digests: list[bytes], splits: npt.NDArray[np.uint8]) -> int:
    """Return how many images are a copy of one that stands first in another split."""
    first: dict[bytes, int] = {}
    pairs = zip(digests, splits.tolist(), strict=True)
    return sum(first.setdefault(digest, split) != split for digest, split in pairs)
