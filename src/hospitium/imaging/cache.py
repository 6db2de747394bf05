"""Harmonised cases on disk, read through shared memory maps by every worker of a site.

A folder holds ``cases.json``, an index, and one file of raw bytes for each array, named by its
SHA-256. The index is written last, in one rename: a reader finds the old cases or the new ones.
Subjects and columns are in here too, so the folder stays at the site.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import CorruptedError, DataError, StorageError, VersionError
from hospitium.imaging.array_files import (
    is_array_file,
    open_array,
    remove_if_free,
    write_array,
    write_atomically,
)
from hospitium.imaging.cases import SPLITS, Cases

INDEX = "cases.json"
_VERSION = 1
_FIXED = ("images", "labels", "subjects", "splits")


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What is known about a site's cases without opening an array; it stays at the site.

    Attributes:
        num_cases: All cases.
        splits: Cases of each class in each split.
        mean: Of the training images, per channel; None without training cases.
        std: The same, over all pixels; 0 where the images of a site are constant.
        digest: SHA-256 of all content: arrays, classes, counts of what was left out.
    """

    num_cases: int
    splits: Mapping[str, Mapping[str, int]]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    digest: str


def write_cases(folder: Path, cases: Cases) -> CaseFacts:
    """Write cases into a folder; what was there is replaced at once or, if this fails, kept.

    Raises:
        StorageError: The disk is full or read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _files_of(folder)
        arrays = {name: write_array(folder, array) for name, array in _arrays(cases).items()}
        content: dict[str, Any] = {
            "version": _VERSION,
            "arrays": arrays,
            "classes": list(cases.classes),
            "skipped": dict(cases.skipped),
            "notes": dict(cases.notes),
        }
        facts = _facts(cases, digest=_digest(content))
        text = json.dumps({**content, "facts": asdict(facts)}, indent=1, sort_keys=True)
        write_atomically(folder / INDEX, [text.encode()])
        for name in before - {entry["file"] for entry in arrays.values()}:
            remove_if_free(folder / name)
    except OSError as error:
        raise StorageError(
            f"{folder}: cases could not be written ({error.strerror}). What was there before is "
            "intact. Free space or mend the access rights, then try again."
        ) from error
    return facts


def read_cases(folder: Path) -> Cases:
    """Open cases; arrays are read-only memory maps, so this is quick and takes no memory.

    Only sizes are compared with the index; `verify_cases` reads everything. Call this in each
    worker: a memory map that is sent to another process is copied, one that is opened is shared.

    Raises:
        DataError: There are no cases in this folder.
        CorruptedError: The index or a size is not what was written.
        VersionError: Written by a later version.
    """
    index = _read_index(folder)
    try:
        arrays = {name: open_array(folder, entry) for name, entry in index["arrays"].items()}
        cases = Cases(
            **{name: arrays.pop(name) for name in _FIXED},
            classes=tuple(index["classes"]),
            columns={name.removeprefix("column:"): array for name, array in arrays.items()},
            skipped=index["skipped"],
            notes=index["notes"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupted(folder, str(error)) from error
    if len({len(cases), *(len(getattr(cases, name)) for name in _FIXED)}) != 1:
        raise _corrupted(folder, "arrays of different length")
    return cases


def read_facts(folder: Path) -> CaseFacts:
    """Return what is known about the cases in a folder, without opening an array.

    Raises:
        DataError: There are no cases in this folder.
        CorruptedError: The index is not what was written.
        VersionError: Written by a later version.
    """
    try:
        facts = _read_index(folder)["facts"]
        mean, std = (
            None if facts[name] is None else tuple(facts[name]) for name in ("mean", "std")
        )
        return CaseFacts(**{**facts, "mean": mean, "std": std})
    except (KeyError, TypeError) as error:
        raise _corrupted(folder, f"{INDEX} has no facts ({error})") from error


def verify_cases(folder: Path) -> None:
    """Read every byte and compare it with its digest.

    Raises:
        DataError: There are no cases in this folder.
        CorruptedError: It names the first array that is not what was written.
    """
    cases, index = read_cases(folder), _read_index(folder)
    for name, entry in index["arrays"].items():
        with (folder / entry["file"]).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if f"{found}.bin" != entry["file"]:
            raise _corrupted(folder, f"the bytes of {name} have changed")
    content = {key: value for key, value in index.items() if key != "facts"}
    if _facts(cases, digest=_digest(content)) != read_facts(folder):
        raise _corrupted(folder, f"{INDEX} has changed")


def _arrays(cases: Cases) -> dict[str, npt.NDArray[Any]]:
    """Return every array under its name in the index, in the types that are stored."""
    return {
        "images": cases.images.astype("<f4", copy=False),
        "labels": cases.labels.astype("<i8", copy=False),
        "subjects": _text(cases.subjects),
        "splits": cases.splits.astype("|u1", copy=False),
        **{f"column:{name}": _text(column) for name, column in cases.columns.items()},
    }


def _text(array: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    wide = np.asarray(array, dtype=np.str_)
    return wide.astype(f"<U{max(1, wide.dtype.itemsize // 4)}", copy=False)


def _facts(cases: Cases, *, digest: str) -> CaseFacts:
    mean, std = _statistics(cases)
    return CaseFacts(
        num_cases=len(cases),
        splits={name: _class_counts(cases, index) for index, name in enumerate(SPLITS)},
        mean=mean,
        std=std,
        digest=digest,
    )


def _class_counts(cases: Cases, split: int) -> dict[str, int]:
    counts = np.bincount(cases.labels[cases.splits == split], minlength=len(cases.classes))
    return {name: int(count) for name, count in zip(cases.classes, counts, strict=True)}


def _statistics(cases: Cases) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and standard deviation of the training images per channel, in float64."""
    where = np.flatnonzero(cases.splits == SPLITS.index("train"))
    if where.size == 0 or cases.images[0].size == 0:
        return None, None
    total = np.zeros(cases.images.shape[1])
    squares = np.zeros(cases.images.shape[1])
    for index in where:
        image = cases.images[index].astype(np.float64)
        total += image.sum(axis=(1, 2))
        squares += np.square(image).sum(axis=(1, 2))
    count = where.size * cases.images[0, 0].size
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _files_of(folder: Path) -> set[str]:
    """Return the files that the present index names; none if it cannot be read."""
    try:
        entries = json.loads((folder / INDEX).read_bytes())["arrays"].values()
        return {entry["file"] for entry in entries if is_array_file(entry["file"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        raw = (folder / INDEX).read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder}: no cases here ({error.strerror}). Nothing was read. Prepare the site's "
            "cases again."
        ) from error
    try:
        index = json.loads(raw)
        version = index["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupted(folder, f"{INDEX} does not parse") from error
    if version != _VERSION:
        raise VersionError(
            f"{folder}: cases of version {version}, expected {_VERSION}. Nothing was changed. "
            "Prepare the site's cases again with this version."
        )
    return dict(index)


def _corrupted(folder: Path, what: str) -> CorruptedError:
    return CorruptedError(
        f"{folder}: {what}: these are not the cases that were written. Nothing was changed. "
        "Delete this folder and prepare the site's cases again; the source images are not touched."
    )
