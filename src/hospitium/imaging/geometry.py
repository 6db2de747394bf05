"""Instances -> a volume with an affine to millimetres, RAS+, slice by slice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.imaging.canvas import MAX_VOXELS, Canvas
from hospitium.imaging.grid import Grid, plain_grid
from hospitium.imaging.instance import (
    NOTES,
    SKIP_REASONS,
    Facts,
    FloatArray,
    Instance,
    Mask,
    Skip,
    SkipError,
    Uids,
)
from hospitium.imaging.stacking import Described, Stack, stacks

Read: TypeAlias = Callable[[int], Instance | Skip]
"""Gives the object of a number, its pixels decoded."""

Select: TypeAlias = Callable[[Stack], bool]
"""Says whether the plan takes a stack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One volume, its axes in the order and direction that is closest to RAS+.

    Attributes:
        values: ``(channel, i, j, k)`` float32, in physical units where the files have them. Its
            order in memory is that of the slices.
        affine: ``(4, 4)`` float64, from ``(i, j, k)`` to mm RAS.
        range: The lowest and highest value that the stored bits can give; lowest < highest.
        facts: Of the first slice, ``frames`` being the number of slices.
        uids: Of the series. They stay at the site.
        is_valid: ``(i, j, k)``, False for padding and outside the slices; None: all valid.
        digests: SHA-256 of each file, in the order of its slices.
        notes: Stable codes of what was tolerated or changed; see ``NOTES``.
        cautions: Stable codes of ``SKIP_REASONS`` for which it is no training case.
        grid: How its slices lie; None where it was not made of slices.
        slices: The ``SOPInstanceUID`` and frame number (from 1) of each slice of ``grid``. They
            stay at the site.
    """

    values: FloatArray
    affine: npt.NDArray[np.float64]
    range: tuple[float, float]
    facts: Facts
    uids: Uids = field(default_factory=Uids)
    is_valid: Mask | None = None
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    grid: Grid | None = None
    slices: tuple[tuple[str, int], ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        _, i, j, k = self.values.shape
        return i, j, k


def slices_grid(volume: Volume) -> Grid:
    """Return how the slices of a volume lie; of one not made of slices, ``k`` counts them.

    Raises:
        SkipError: ``no_geometry``, ``too_few_slices``: it has no such grid.
    """
    if volume.grid is not None:
        return volume.grid
    grid = plain_grid(volume.affine, shape=volume.shape)
    if grid.is_resampled or not np.allclose(grid.affine, volume.affine):
        raise SkipError("no_geometry", "a volume that is not RAS+, or not orthogonal")
    return grid


def assemble(instances: Sequence[Instance], *, select: Select | None = None) -> Volume | Skip:
    """Make the one volume of some instances, or say why there is none; see `assemble_series`."""
    return assemble_series(instances, lambda number: instances[number], select=select)


def assemble_series(
    headers: Sequence[Described],
    read: Read,
    *,
    select: Select | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Volume | Skip:
    """Make the one volume of a series from headers first, then from its pixels, file by file.

    Headers decide which slices belong together, and in which order. Then each object that is part
    of the volume is read and let go: at most one of them is in memory beside the volume.

    Args:
        headers: The objects of one series, in any order: the result is the same, bit for bit.
        read: Called once for each object of the volume, once more for slices at one place.
        select: The plan's choice, if there are several stacks.
        max_voxels: Of the volume; more is ``too_large`` before any is allocated.

    Returns:
        The volume, or the first reason why there is not exactly one.
    """
    try:
        stack = _only(stacks(headers, frame_digest=_FrameDigests(read)), select)
        objects = ((number, read(number)) for number in stack.sources)
        return fill(stack, objects, max_voxels=max_voxels)
    except SkipError as error:
        return error.skip


def fill(
    stack: Stack,
    objects: Iterable[tuple[int, Instance | Skip]],
    *,
    max_voxels: int = MAX_VOXELS,
) -> Volume | Skip:
    """Fill the volume of one stack with its objects as they come, in any order.

    Args:
        stack: One of `stacks`.
        objects: The number that each object had among the headers, and the object; those of
            ``stack.sources``, each once. Others are ignored.
        max_voxels: More is ``too_large`` before any is allocated.
    """
    try:
        canvas = Canvas(stack.grid, max_voxels=max_voxels)
        return _filled(stack, canvas, objects)
    except SkipError as error:
        return error.skip


def unusable_volume(volume: Volume) -> Skip | None:
    """Return why a volume is no training case, or None if it is one."""
    if volume.cautions:
        return Skip(reason=volume.cautions[0])
    values = volume.values[0] if volume.is_valid is None else volume.values[0][volume.is_valid]
    if values.size == 0 or values.min() == values.max():
        return Skip(reason="constant")
    return None


def _only(found: Sequence[Stack | Skip], select: Select | None) -> Stack:
    """Return the one stack that the plan selects, or raise why there is not one."""
    for skip in found:
        if isinstance(skip, Skip):
            raise SkipError(skip.reason, skip.detail)
    whole = [stack for stack in found if isinstance(stack, Stack)]
    left = [stack for stack in whole if select is None or select(stack)]
    if len(left) > 1:
        raise SkipError("ambiguous_stack", f"{len(left)} stacks")
    if not left:
        raise SkipError("not_selected", f"none of {len(whole)} stacks")
    return left[0]


class _FrameDigests:
    """Digests of single frames; each object is read once for them and let go."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._found: dict[int, list[str]] = {}

    def __call__(self, source: int, frame: int) -> str:
        if source not in self._found:
            frames = _usable(self._read(source)).values
            self._found[source] = [
                hashlib.sha256(np.ascontiguousarray(values).data).hexdigest() for values in frames
            ]
        digests = self._found[source]
        return digests[frame] if frame < len(digests) else f"frame {frame} of object {source}"


def _usable(found: Instance | Skip) -> Instance:
    if isinstance(found, Skip):
        raise SkipError(found.reason, found.detail)
    if found.is_colour:
        raise SkipError("colour_not_in_plan", "a volume of colour images")
    return found


def _filled(stack: Stack, canvas: Canvas, objects: Iterable[tuple[int, Instance | Skip]]) -> Volume:
    """Put every slice of every object in its place and gather what is known of them."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for number, part in enumerate(stack.slices):
        wanted.setdefault(part.source, []).append((number, part.frame))
    told: dict[int, tuple[str, tuple[float, float]]] = {}
    notes, cautions = set(stack.notes), set[str]()
    for source, read in objects:
        instance = _usable(read) if source in wanted and source not in told else None
        if instance is None:
            continue
        for number, frame in wanted[source]:
            if frame >= len(instance.values):
                raise SkipError("bad_attribute", f"no frame {frame + 1}")
            valid = None if instance.is_valid is None else instance.is_valid[frame]
            canvas.put(number, instance.values[frame], valid)
        told[source] = (instance.digest, instance.range)
        notes.update(instance.notes)
        cautions.update(instance.cautions)
    if len(told) < len(wanted):
        raise SkipError("missing_slice", f"{len(told)} of {len(wanted)} objects came")
    values, is_valid = canvas.finish()
    in_order = [told[source] for source in stack.sources]
    return Volume(
        values=values[np.newaxis],
        affine=stack.grid.affine,
        range=(min(low for _, (low, _) in in_order), max(high for _, (_, high) in in_order)),
        facts=replace(stack.facts, is_lossy=stack.facts.is_lossy or "lossy" in notes),
        uids=stack.uids,
        is_valid=is_valid,
        digests=tuple(digest for digest, _ in in_order),
        notes=tuple(code for code in NOTES if code in notes),
        cautions=tuple(code for code in SKIP_REASONS if code in cautions),
        grid=stack.grid,
        slices=tuple((part.uids.instance, part.frame + 1) for part in stack.slices),
    )
