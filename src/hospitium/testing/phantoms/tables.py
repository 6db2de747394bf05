"""Writes the tables that come with phantoms, and says what happens when a disk refuses."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hospitium.errors import StorageError


def write_table(
    path: Path, rows: Sequence[Mapping[str, object]], *, columns: Sequence[str]
) -> Path:
    """Write a CSV under a temporary name, then give it its own; what a row lacks is empty."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)
    return path


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Take the labels of an earlier writing away, and turn a disk's refusal into words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("labels.csv", "awkward.csv"):
            (folder / name).unlink(missing_ok=True)
        yield
    except OSError as error:
        raise StorageError(
            f"Phantoms: {folder} cannot be written ({error.strerror or error}). It may hold part "
            "of the studies, and has no labels.csv of them. Choose a folder with space, or make it "
            "writable, and write them again."
        ) from error
