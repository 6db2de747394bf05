"""Which slices belong together: headers of a series -> stacks, whatever the order of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from hospitium.imaging.grid import SAME_PLACE_MM, Grid, Vector, lay_out
from hospitium.imaging.instance import Facts, Placement, Skip, SkipError, Uids

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SAME_DIRECTION = 1e-3
_UNIT_LENGTH = 1e-2
_FARTHEST_MM = 1e6
_Splitter: TypeAlias = Callable[[Facts], Any]
_SPLITTERS: tuple[_Splitter, ...] = (
    lambda facts: facts.echo_time,
    lambda facts: facts.temporal_position,
    lambda facts: facts.b_value,
    lambda facts: facts.acquisition_number,
    lambda facts: facts.image_type,
)

FrameDigest: TypeAlias = Callable[[int, int], str]
"""Gives for an object's number and a frame's number a digest of that frame's pixels."""


class Described(Protocol):
    """What is stacked: a `Header`, or an `Instance`."""

    @property
    def facts(self) -> Facts:
        """What is known about it."""

    @property
    def uids(self) -> Uids:
        """What it is called."""

    @property
    def placements(self) -> tuple[Placement, ...] | None:
        """Where its frames lie, None where that is not known of all."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why it is no training case."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One frame of one object.

    Attributes:
        source: The number of its object, from 0.
        frame: The number of the frame in its object, from 0.
        facts: Of its object.
        uids: Of its object.
        placement: Where the frame lies.
    """

    source: int
    frame: int
    facts: Facts
    uids: Uids
    placement: Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Parallel slices that make one volume.

    Attributes:
        slices: In the order of ``grid``: see `Grid`.
        grid: How they lie. Its input are these slices as they are ordered here.
        facts: Of the first slice; ``frames`` is the number of slices.
        uids: Of the first slice; without ``instance`` where they come from several objects.
        notes: Stable codes of ``NOTES``.
    """

    slices: tuple[Slice, ...]
    grid: Grid
    facts: Facts
    uids: Uids
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        """The numbers of the objects that hold its slices, in the order of the slices."""
        return tuple(dict.fromkeys(found.source for found in self.slices))


def stacks(
    headers: Sequence[Described], *, frame_digest: FrameDigest | None = None
) -> tuple[Stack | Skip, ...]:
    """Sort the frames of some objects into stacks, one for each volume that they hold.

    Frames of one series, frame of reference, size, spacing and direction (1e-3) belong together.
    Where several lie in one plane, equal ones count once; others are told apart by echo time,
    temporal position, b-value, acquisition number and image type, the first that differs first.
    What no plan takes (localizers) is left out, unless there is nothing else.

    Args:
        headers: The objects of a series or a study, in any order.
        frame_digest: Called only for frames at one place; without it none are equal.

    Returns:
        Each stack, or why some frames make none. But for the numbers of the objects it is the same
        for every order of ``headers``.
    """
    usable = [
        number for number, found in enumerate(headers) if "not_selected" not in found.cautions
    ]
    if not usable:
        return (Skip(reason="not_selected" if headers else "too_few_slices"),)
    found: list[Stack | Skip] = []
    if not all(_is_placed(headers[number]) for number in usable):
        found.append(Skip(reason="no_geometry", detail="an object without position or direction"))
        usable = [number for number in usable if _is_placed(headers[number])]
    slices = sorted((part for number in usable for part in _slices(headers, number)), key=_rank)
    for group in _parallel(slices):
        kept, notes = _without_copies(group, frame_digest)
        for part in _split(kept, _SPLITTERS):
            try:
                found.append(_stack(part, notes))
            except SkipError as error:
                found.append(error.skip)
    return tuple(found)


def _is_placed(header: Described) -> bool:
    """Return whether all frames have a place within bounds that no image exceeds."""
    return bool(header.placements) and all(
        max(map(abs, place.position_mm)) <= _FARTHEST_MM
        and max(map(abs, place.orientation)) <= 1 + _UNIT_LENGTH
        and 0 < min(place.spacing_mm) <= max(place.spacing_mm) <= _FARTHEST_MM
        for place in header.placements or ()
    )


def _slices(headers: Sequence[Described], number: int) -> Iterator[Slice]:
    header = headers[number]
    for frame, placement in enumerate(header.placements or ()):
        yield Slice(
            source=number,
            frame=frame,
            facts=header.facts,
            uids=header.uids,
            placement=placement,
        )


def _family(found: Slice) -> tuple[Any, ...]:
    """Return what slices of one stack have exactly in common."""
    return (
        found.uids.series,
        found.uids.frame_of_reference,
        found.facts.rows,
        found.facts.columns,
    )


def _rank(found: Slice) -> tuple[Any, ...]:
    """Return a sort key that knows nothing of the order of objects."""
    place = found.placement
    attributes = tuple(str(splitter(found.facts)) for splitter in _SPLITTERS)
    return (
        *_family(found),
        (place.orientation, place.spacing_mm, place.position_mm),
        (found.uids.instance, found.frame, attributes),
    )


# --- groups ------------------------------------------------------------------------------------


def _parallel(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Group sorted slices by family, direction and spacing: each joins the first that it fits."""
    groups: list[list[Slice]] = []
    start = 0
    leaders = np.empty((len(slices), 8))
    for found in slices:
        if groups and _family(groups[-1][0]) != _family(found):
            start = len(groups)
        shape = np.array([*found.placement.orientation, *found.placement.spacing_mm])
        off = np.abs(leaders[start : len(groups)] - shape).max(axis=1, initial=0.0)
        near = np.flatnonzero(off <= _SAME_DIRECTION)
        if near.size:
            groups[start + int(near[0])].append(found)
        else:
            leaders[len(groups)] = shape
            groups.append([found])
    return groups


def _planes(group: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices of parallel planes, plane by plane."""
    row, column = np.reshape(group[0].placement.orientation, (2, 3))
    heights = np.array([found.placement.position_mm for found in group]) @ np.cross(row, column)
    planes: list[list[Slice]] = []
    last = -np.inf
    for number in np.argsort(heights, kind="stable"):
        if not heights[number] - last < SAME_PLACE_MM:
            planes.append([])
            last = heights[number]
        planes[-1].append(group[number])
    return planes


def _without_copies(
    group: Sequence[Slice], frame_digest: FrameDigest | None
) -> tuple[list[Slice], tuple[str, ...]]:
    """Keep one of several equal slices at one place; return notes too."""
    copies: set[tuple[int, int]] = set()
    for plane in _planes(group) if frame_digest else ():
        kept: dict[str, Slice] = {}
        for found in plane if len(plane) > 1 else ():
            assert frame_digest is not None
            first = kept.setdefault(frame_digest(found.source, found.frame), found)
            if first is not found and _is_same_place(first, found):
                copies.add((found.source, found.frame))
    rest = [found for found in group if (found.source, found.frame) not in copies]
    return rest, ("duplicate_position",) if copies else ()


def _is_same_place(one: Slice, other: Slice) -> bool:
    apart = np.subtract(one.placement.position_mm, other.placement.position_mm)
    return bool(np.linalg.norm(apart) < SAME_PLACE_MM)


def _split(group: Sequence[Slice], splitters: tuple[_Splitter, ...]) -> list[Sequence[Slice]]:
    """Take slices in one plane apart by the first attribute in which they differ, and so on."""
    crowded = [plane for plane in _planes(group) if len(plane) > 1]
    for number, splitter in enumerate(splitters if crowded else ()):
        if all(len({splitter(found.facts) for found in plane}) == 1 for plane in crowded):
            continue
        parts: dict[Any, list[Slice]] = {}
        for found in group:
            parts.setdefault(splitter(found.facts), []).append(found)
        rest = splitters[number + 1 :]
        return [part for found in parts.values() for part in _split(found, rest)]
    return [group]


# --- one stack ---------------------------------------------------------------------------------


def _stack(group: Sequence[Slice], notes: tuple[str, ...]) -> Stack:
    """Lay one group out, its slices in the grid's order."""
    grid = lay_out(
        np.array([found.placement.position_mm for found in group]) * _LPS_TO_RAS,
        **_steps(group[0].placement),
        num_rows=group[0].facts.rows,
        num_columns=group[0].facts.columns,
    )
    slices = tuple(group[number] for number in grid.order)
    first = slices[0]
    is_one_object = len({found.source for found in slices}) == 1
    return Stack(
        slices=slices,
        grid=replace(grid, order=tuple(range(len(slices)))),
        facts=replace(
            first.facts,
            frames=len(slices),
            is_lossy=any(found.facts.is_lossy for found in slices),
        ),
        uids=first.uids if is_one_object else replace(first.uids, instance=""),
        notes=notes + grid.notes,
    )


def _steps(placement: Placement) -> dict[str, Vector]:
    """Return the step to the next row and the next column, mm RAS, or raise ``no_geometry``."""
    along_row, along_column = np.reshape(placement.orientation, (2, 3)).astype(np.float64)
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if not np.abs(lengths - 1).max() < _UNIT_LENGTH:  # also where one is no number
        raise SkipError("no_geometry", "a direction without unit length")
    between_rows, between_columns = placement.spacing_mm
    return {
        "row_step": along_column / lengths[1] * between_rows * _LPS_TO_RAS,
        "column_step": along_row / lengths[0] * between_columns * _LPS_TO_RAS,
    }
