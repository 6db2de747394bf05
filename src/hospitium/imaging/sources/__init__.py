"""Where images come from: an NPZ file, or a folder with a table of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hospitium.errors import DataError
from hospitium.imaging.case_store import CaseStore
from hospitium.imaging.cases import Cases
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources.folder import read_folder
from hospitium.imaging.sources.npz import read_npz
from hospitium.imaging.sources.tables import Columns
from hospitium.plan.schema import ImagingSection

__all__ = ["DEFAULT_SIZE", "Columns", "read_source"]

DEFAULT_SIZE = (64, 64)
_ZIP = b"PK\x03\x04"


def read_source(
    path: Path,
    *,
    harmonise: Harmonise,
    seed: int,
    columns: Columns | None = None,
    progress: Callable[[int, int], None] | None = None,
    classes: Sequence[str] | None = None,
    key: SiteKey | None = None,
    imaging: ImagingSection | None = None,
    labels: Path | None = None,
    store: CaseStore | None = None,
) -> Cases:
    """Read training cases from what a person points at.

    Args:
        path: An NPZ file in the MedMNIST layout, a folder with ``labels.csv``, or a table.
        harmonise: How an image becomes a case. Without a size an NPZ keeps its own, and images of
            a folder, which may differ, become 64 x 64.
        seed: The plan's seed, for splits that are not given.
        columns: Which column of a table means what, where its names are not usual ones.
        progress: Told how many images of how many were read.
        classes: The plan's classes, by name or by number; None takes those that are found.
        key: The site's, to name patients with; None: a plain digest, for data of no hospital.
        imaging: The plan's data contract, which says what images of a folder are cases; None
            takes all that can be trained on. The images of an NPZ are selected already.
        labels: A table that lies elsewhere and is about the files of the folder ``path``.
        store: Where harmonised images of a folder are kept and found again; see `image_store`.

    Raises:
        DataError: There is nothing of that kind, or nothing usable in it.
    """
    kind = _kind(path)
    if kind == "npz":
        if labels is not None or (columns is not None and columns.named()):
            named = ", ".join(columns.named().values() if columns else ()) or str(labels)
            raise DataError(
                f"{path}: an NPZ file has no columns and brings its own labels, but {named} was "
                "asked for. Nothing was read. Leave it out, or give a folder with a labels.csv."
            )
        if harmonise.spacing_mm:
            raise DataError(
                f"{path}: the plan resamples to {list(harmonise.spacing_mm)} mm, but the images "
                "of an NPZ file have no spacing. Nothing was read. Give a folder of DICOM files, "
                "or leave imaging.pipeline.spacing_mm out of the plan."
            )
        return read_npz(path, harmonise=harmonise, seed=seed, progress=progress, classes=classes)
    if kind == "nothing":
        raise DataError(
            f"{path}: no such file or folder. Nothing was read. Give an NPZ file in the MedMNIST "
            "layout, or a folder with a labels.csv that names images."
        )
    if harmonise.size is None:
        harmonise = replace(harmonise, size=DEFAULT_SIZE)
    return read_folder(
        path,
        harmonise=harmonise,
        seed=seed,
        columns=columns,
        progress=progress,
        classes=classes,
        key=key,
        imaging=imaging,
        labels=labels,
        store=store,
    )


def _kind(path: Path) -> Literal["npz", "folder", "nothing"]:
    """Tell what a path is, a file by its content; a table counts as its folder."""
    try:
        if path.is_file():
            with path.open("rb") as stream:
                return "npz" if stream.read(len(_ZIP)) == _ZIP else "folder"
        return "folder" if path.exists() else "nothing"
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror}). Nothing was read. Check that this "
            "account may read it."
        ) from error
