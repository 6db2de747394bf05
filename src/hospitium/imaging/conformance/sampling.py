"""A few of a site's cases, harmonised as for training, so that one real step can be tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory
from hospitium.imaging.conformance.gathering_npz import npz_instances
from hospitium.imaging.files import read_file
from hospitium.imaging.instance import FloatArray, Instance
from hospitium.imaging.pipeline import Harmonise
from hospitium.plan import Plan

_MAX_BYTES = 1 << 26


def sample_cases(
    path: Path, inventory: Inventory, *, plan: Plan
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return images ``(case, channel, row, column)`` and labels of the first training cases.

    At most a batch of them, and at most 64 MiB; fewer, or none, where files have gone since they
    were examined.

    Args:
        path: What `gather` was given.
        inventory: What it found.
        plan: Of images with class labels.
    """
    pipeline = plan.imaging.pipeline
    each = 4 * pipeline.channels * math.prod(pipeline.size)
    count = max(1, min(plan.training.batch_size, _MAX_BYTES // each))
    wanted = [case for case in inventory.cases if case.classes and case.split in (None, "train")]
    harmonise = Harmonise.of(plan)
    images = [
        (harmonise.apply(instance), case.classes[0])
        for case, instance in _instances(path, wanted[:count], is_npz=inventory.kind == "npz")
    ]
    shape = (0, pipeline.channels, *pipeline.size)
    stacked = np.stack([image for image, _ in images]) if images else np.empty(shape, np.float32)
    return stacked, np.array([label for _, label in images], dtype=np.int64)


def _instances(
    path: Path, cases: Sequence[CaseFacts], *, is_npz: bool
) -> Iterator[tuple[CaseFacts, Instance]]:
    """Yield the cases that can still be read, with their images."""
    if is_npz:
        instances = npz_instances(path, [case.name for case in cases])
        yield from zip(cases, instances, strict=True)
        return
    folder = path.parent if path.is_file() else path
    for case in cases:
        found = read_file(folder / case.name)
        if isinstance(found, Instance):
            yield case, found
