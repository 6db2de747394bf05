"""Tiny real input: images in which a square is brighter in sick cases, as files and as runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.operations.starting import create_run, prepare_site
from hospitium.plan import Plan
from hospitium.plan.schema import (
    EvaluationSection,
    ImagingSection,
    ModelSection,
    PipelineSection,
    RoundsSection,
    TrainingSection,
)
from hospitium.testing.partition import make_federation, parse_partition

SIZE = 8
COUNTS = {"train": 96, "val": 32, "test": 48}
HOSPITIUM = Path(sys.executable).with_name("hospitium")


def folder_in_memory(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder in memory where there is one: ledgers sync at every step."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield factory.mktemp("folder")
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def images_of(num: int, *, seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images ``(num, size, size)`` and labels: sick ones have a brighter middle."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(num) % 2)
    images = draw.normal(100, 25, (num, size, size))
    images[labels == 1, size // 4 : size // 2, size // 4 : size // 2] += 40
    return images.clip(0, 255).astype(np.uint8), labels


def write_npz(path: Path, *, scale: int = 1, size: int = SIZE) -> Path:
    """Write a file in the MedMNIST layout."""
    arrays = {}
    for seed, (split, num) in enumerate(COUNTS.items()):
        images, labels = images_of(num * scale, seed=seed, size=size)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels[:, None]
    np.savez(path, **arrays)
    return path


def tiny_cases(*, scale: int = 1) -> Cases:
    """Return the same cases in memory."""
    parts = [images_of(num * scale, seed=seed) for seed, num in enumerate(COUNTS.values())]
    labels = np.concatenate([part[1] for part in parts]).astype(np.int64)
    return Cases(
        images=(np.concatenate([part[0] for part in parts]) / 255).astype(np.float32)[:, None],
        labels=labels,
        subjects=np.array([f"s{index:05d}" for index in range(len(labels))]),
        splits=np.repeat(np.arange(3, dtype=np.uint8), [n * scale for n in COUNTS.values()]),
        classes=("normal", "pneumonia"),
    )


def tiny_plan(*, rounds: int = 3, quorum: int = 2, **training: object) -> Plan:
    """Return a plan of the NumPy model that takes milliseconds a round."""
    return Plan(
        name="tiny",
        imaging=ImagingSection(pipeline=PipelineSection(size=(SIZE, SIZE))),
        model=ModelSection(name="logistic"),
        training=replace(TrainingSection(steps=2, batch_size=16), **training),
        rounds=RoundsSection(count=rounds, quorum=quorum, deadline_s=60.0),
        evaluation=EvaluationSection(choose="best"),
    )


def prepare(
    folder: Path, plan: Plan, *, num_sites: int = 3, scale: int = 1, run_id: str = "tiny"
) -> Path:
    """Begin a run of simulated sites in a folder; return the folder."""
    federation = make_federation(
        tiny_cases(scale=scale), partition=parse_partition("iid"), num_sites=num_sites, seed=7
    )
    sites = [
        prepare_site(site_id, cases, folder / "data" / site_id)
        for site_id, cases in federation.sites.items()
    ]
    write_cases(folder / "joint", federation.joint_test)
    create_run(
        folder,
        run_id=run_id,
        plan=plan,
        sites=sites,
        facts={"out": str(folder / "report"), "compare": True},
    )
    return folder


def hospitium(
    *words: object, home: Path | None = None, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own."""
    return subprocess.run(
        [HOSPITIUM, *map(str, words)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment(home: Path | None) -> dict[str, str]:
    """Return an environment whose home folder is the test's."""
    return {**os.environ, "HOSPITIUM_HOME": str(home or "/nonexistent"), "NO_COLOR": "1"}
