"""How much memory and disk a site's agent and its training process took, at most."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hospitium.errors import HospitiumError
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The most that was ever seen, in bytes; 0 where the system does not tell."""

    memory_bytes: int = 0
    disk_bytes: int = 0


class Footprints:
    """Keeps the most that was seen of one federation, on disk: a restart does not forget it.

    Args:
        folder: The federation's folder at this site; its size is the disk that is used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "footprint.json"
        self._most = Footprint()
        with suppress(OSError, ValueError, TypeError):
            self._most = Footprint(**json.loads(self._path.read_bytes()))

    def seen(self, *, memory_bytes: int) -> Footprint:
        """Look at the disk, count what is held in memory now, and return the most of each."""
        most = replace(
            self._most,
            memory_bytes=max(self._most.memory_bytes, memory_bytes),
            disk_bytes=max(self._most.disk_bytes, folder_bytes(self._folder)),
        )
        if most != self._most:
            self._most = most
            data = canonical_json(asdict(most))
            with suppress(HospitiumError):  # a full disk does not end the agent
                durable.write_atomically(self._path, lambda file: str(file.write(data)))
        return most


def peak_memory_bytes(pid: int | None = None) -> int:
    """Return the most that a process ever held in memory; None: this one; 0 if nobody tells."""
    try:
        text = Path("/proc", "self" if pid is None else str(pid), "status").read_text()
    except OSError:
        return 0
    found = _HIGH_WATER.search(text)
    return 1024 * int(found[1]) if found else 0


def folder_bytes(folder: Path) -> int:
    """Return how much the files of a folder hold; one that goes meanwhile counts as nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total
