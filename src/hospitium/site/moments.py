"""Optimizer state between rounds: it stays at the site, one file per round, the last two kept."""

from __future__ import annotations

import os
from pathlib import Path

from hospitium.types import Params
from hospitium.wire import blob


def load(folder: Path, *, before: int) -> Params | None:
    """Return the state after the last round before this one; None if it was lost or never was.

    A round that is asked again after a crash begins with the same state as the first time.
    """
    found = [path for path in _files(folder) if _round_of(path) < before]
    return blob.read(found[-1]) if found else None


def save(folder: Path, moments: Params, *, round_number: int) -> None:
    """Write the state after a round, and delete all but the last two."""
    place = folder / "moments"
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{os.getpid()}.part"
    with temporary.open("wb") as file:
        blob.write(file, moments)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / f"{round_number:08d}.safetensors")
    for path in _files(folder)[:-2]:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "moments").glob("*.safetensors"))


def _round_of(path: Path) -> int:
    return int(path.stem)
