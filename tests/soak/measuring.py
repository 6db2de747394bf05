"""What processes and folders hold while a run goes on, and how fast that grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Sample = Mapping[str, float]


def process(pid: int, *, name: str) -> dict[str, float]:
    """Return memory (MB), threads, open files and processor seconds of a process."""
    place = Path(f"/proc/{pid}")
    status = (place / "status").read_text()
    rss_kb, threads = (int(status.split(f"{word}:")[1].split()[0]) for word in ("VmRSS", "Threads"))
    user, system = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    return {
        f"{name}_mb": rss_kb / 1024,
        f"{name}_threads": threads,
        f"{name}_files": len(list((place / "fd").iterdir())),
        f"{name}_cpu_s": (int(user) + int(system)) / 100,
    }


def folder_kb(folder: Path) -> float:
    """Return what the files below a folder hold, in KB; files come and go meanwhile."""
    return sum(_sizes(folder)) / 1024


def count(folder: Path) -> float:
    """Return how many files are below a folder."""
    return len(_sizes(folder))


def growth(samples: Sequence[Sample], name: str) -> float:
    """Return how much something grew for each round: the line of Theil and Sen through samples."""
    x = np.array([sample["round"] for sample in samples])
    y = np.array([sample[name] for sample in samples])
    before, after = np.triu_indices(len(x), k=1)
    return float(np.median((y[after] - y[before]) / (x[after] - x[before])))


def most(samples: Sequence[Sample], name: str) -> float:
    return max(sample[name] for sample in samples)


def _sizes(folder: Path) -> list[int]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                found.append(path.stat().st_size)
        except OSError:
            continue
    return found
