"""An NPZ file in the MedMNIST layout -> an `Inventory`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.cases import SPLITS, Split
from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory, LabelTable
from hospitium.imaging.conformance.labelling import class_indices
from hospitium.imaging.conformance.measuring import measure_image
from hospitium.imaging.conformance.pictures import MAX_THUMBNAILS
from hospitium.imaging.instance import Facts, Instance, Values, is_constant
from hospitium.imaging.sources.archive import read_archive
from hospitium.plan import Plan

_NAMES = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))


def gather_npz(
    path: Path, *, plan: Plan, progress: Callable[[int, int], None] | None = None
) -> Inventory:
    """Measure every image of an NPZ file; its arrays are in memory meanwhile.

    Each image is its own subject, for the file names none. A constant image is kept with a note,
    as its split was given.

    Raises:
        DataError: It is no NPZ file, or holds no images.
    """
    arrays = read_archive(path, names=_NAMES)
    parts = {split: arrays[f"{split}_images"] for split in SPLITS if f"{split}_images" in arrays}
    problem = _problem(parts)
    if problem:
        raise DataError(
            f"{path}: {problem}. Nothing was read. Write it again with train_images of shape (N, "
            "row, column) or (N, row, column, 3) and train_labels, and the same for val and test."
        )
    total, cases = sum(len(images) for images in parts.values()), list[CaseFacts]()
    words: list[str] = []
    for split, images in parts.items():
        words += _words(arrays.get(f"{split}_labels"), len(images))
        for case in _measured(split, images, plan):
            cases.append(case if len(cases) < MAX_THUMBNAILS else replace(case, thumbnail=b""))
            if progress is not None and (len(cases) % 500 == 0 or len(cases) == total):
                progress(len(cases), total)
    index_of, unknown = class_indices([word for word in words if word], plan.task.classes)
    labelled = [
        replace(case, classes=index_of.get(word, ()))
        for case, word in zip(cases, words, strict=True)
    ]
    return Inventory(
        kind="npz",
        cases=tuple(labelled),
        labels=LabelTable(
            problem="" if any(words) else f"{path.name} holds no labels of its images",
            unknown_words=unknown,
            num_rows=len(words),
            num_unlabelled=sum(not word or index_of.get(word) == () for word in words),
            has_splits=len(parts) > 1,
        ),
        num_bytes=path.stat().st_size,
    )


def _problem(parts: dict[Split, npt.NDArray[Any]]) -> str:
    """Return what is wrong with the images in a few words, or nothing."""
    if "train" not in parts:
        return "no train_images"
    for split, images in parts.items():
        is_image = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
        if not is_image or images.dtype.kind not in "biuf" or 0 in images.shape[1:]:
            return f"{split}_images of type {images.dtype} and shape {images.shape}"
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            return f"{split}_images holds a NaN or an infinity"
    return ""


def npz_instances(path: Path, names: Sequence[str]) -> list[Instance]:
    """Return images of an NPZ file by their names, ``train-000012`` being the 13th of training."""
    splits = {name.rsplit("-", 1)[0] for name in names}
    arrays = read_archive(path, names=[f"{split}_images" for split in splits])
    ends = {name: _range_of(images) for name, images in arrays.items()}
    found = []
    for name in names:
        split, number = name.rsplit("-", 1)
        images = arrays[f"{split}_images"]
        found.append(_instance(images[int(number)], ends[f"{split}_images"]))
    return found


def _measured(split: Split, images: npt.NDArray[Any], plan: Plan) -> Iterator[CaseFacts]:
    """Yield the facts of each image, named as the reader of training cases names it."""
    ends = _range_of(images)
    for number, stored in enumerate(images):
        instance = _instance(stored, ends)
        name = f"{split}-{number:06d}"
        yield replace(
            measure_image(instance, name=name, plan=plan),
            subject=name,
            split=split,
        )


def _instance(stored: npt.NDArray[Any], ends: tuple[float, float]) -> Instance:
    """Return one image as a reader gives it."""
    is_colour = stored.ndim == 3
    values: Values = np.asarray(stored, np.float32)[np.newaxis]
    if is_colour:
        values = np.asarray(stored, np.uint8)[np.newaxis]
    instance = Instance(
        values=values,
        range=ends,
        facts=Facts(
            modality="",
            manufacturer="",
            rows=stored.shape[0],
            columns=stored.shape[1],
            bits_stored=stored.dtype.itemsize * 8,
            photometric="RGB" if is_colour else "MONOCHROME2",
            spacing_mm=None,
        ),
        notes=("range_assumed",) if stored.dtype.kind == "f" else (),
    )
    if is_constant(instance):
        return replace(instance, notes=(*instance.notes, "constant"))
    return instance


def _range_of(images: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the values that are black and white: those of the type, or those that are found."""
    if images.dtype.kind in "ub" and images.dtype.itemsize <= 2:
        return 0.0, 1.0 if images.dtype.kind == "b" else float(np.iinfo(images.dtype).max)
    low, high = float(images.min()), float(images.max())
    return (low, high) if low < high else (low, low + 1.0)


def _words(labels: npt.NDArray[Any] | None, count: int) -> list[str]:
    """Return the label of each image as a word; empty where there is none."""
    if labels is None or labels.shape not in ((count,), (count, 1)):
        return [""] * count
    flat = labels.reshape(-1)
    if flat.dtype.kind == "S":
        return [bytes(word).decode("utf-8", errors="replace") for word in flat]
    return [str(word) for word in flat.tolist()]
