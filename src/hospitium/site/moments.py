"""Optimizer state between rounds: it stays at the site, one file per round, the last two kept.

A file is named by its round and its digest and is not synced: it is a cache. After a power cut it
may be gone or damaged; then its digest tells, and the optimizer starts anew, as the plan allows.
"""

from __future__ import annotations

import os
from pathlib import Path

from hospitium.errors import CorruptedError
from hospitium.types import Params
from hospitium.wire import blob


def load(folder: Path, *, before: int) -> Params | None:
    """Return the state after the last round before this one; None if it was lost or never was.

    A round that is asked again after a crash begins with the same state as the first time.
    """
    found = [path for path in _files(folder) if _round_of(path) < before]
    if not found or blob.file_digest(found[-1]) != found[-1].stem.split("-")[1]:
        return None
    try:
        return blob.read(found[-1])
    except CorruptedError:
        return None


def save(folder: Path, moments: Params, *, round_number: int) -> None:
    """Write the state after a round, and delete all but the last two."""
    place = folder / "moments"
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{os.getpid()}.part"
    with temporary.open("wb") as file:
        digest = blob.write(file, moments)
    for path in _files(folder):
        if _round_of(path) >= round_number:
            path.unlink(missing_ok=True)
    temporary.replace(place / f"{round_number:08d}-{digest}.safetensors")
    for path in _files(folder)[:-2]:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "moments").glob("*-*.safetensors"))


def _round_of(path: Path) -> int:
    return int(path.stem.split("-")[0])
