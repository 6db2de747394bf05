"""What of a data fingerprint may leave a site: suppression, the exact bytes, and them in words."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from hospitium.errors import DataError, UsageError
from hospitium.imaging.fingerprint.data import Capacity, Fingerprint
from hospitium.imaging.fingerprint.histograms import (
    MAX_CLASSES,
    NONE,
    OTHER,
    Field,
    field_of,
)
from hospitium.imaging.suppression import LEAST, Suppression
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json

KIND = "data_fingerprint"
VERSION = 1
MAX_BYTES = 1 << 20
_MAX_COUNT = 1 << 40
_CAPACITY_WORDS = {
    "memory_gib": "main memory of the training machine, GiB",
    "gpu_memory_gib": "memory of its largest GPU, GiB; 0: there is none",
    "cores": "cores of its processor",
    "read_mb_s": "megabytes of images read and decoded in a second by one core",
    "steps_s": "optimizer steps of the plan in a second",
    "hours": "hours of a day in which it may train",
}


# --- suppression ---------------------------------------------------------------------------------


def suppress(fingerprint: Fingerprint, *, least: int = LEAST) -> Fingerprint:
    """Return a fingerprint in which every count is 0 or at least ``least``.

    Nothing is dropped, so each field still sums to ``num_subjects`` and gives no cell back by
    subtraction. In an ordered field, neighbouring bins that are too small are joined until they
    hold ``least`` subjects, who are counted in the middle of what was joined; what is left over
    is counted in the nearest bin that is large enough. In a field of names those that are too
    small are counted as ``other``, with the smallest other name if need be. Of fewer than
    ``least`` subjects nothing is told, not even how many.

    Raises:
        UsageError: ``least`` is below 10: a site may raise it, never lower it.
    """
    Suppression(least=least)  # refuses a lower number
    if fingerprint.num_subjects < least:
        return Fingerprint(num_subjects=0, counts={}, least=least, capacity=fingerprint.capacity)
    counts = {}
    for name, cells in fingerprint.counts.items():
        known = field_of(name)
        assert known is not None, name
        hide = _ordered if known.is_ordered else _named
        counts[name] = dict(sorted(hide(known, cells, least).items()))
    return replace(fingerprint, counts=counts, least=least)


def withhold(fingerprint: Fingerprint, names: Collection[str]) -> Fingerprint:
    """Return a fingerprint in which some fields say nothing: all their subjects are in ``none``.

    Raises:
        UsageError: There is no such field, or no such figure of the machine.
    """
    machine = set(_CAPACITY_WORDS)
    unknown = sorted(set(names) - set(fingerprint.counts) - machine)
    if unknown:
        raise UsageError(
            f"Fingerprint: there is no field {unknown[0]!r} to withhold. Nothing left the site. "
            f"The fields are: {', '.join((*fingerprint.counts, *_CAPACITY_WORDS))}."
        )
    silent = {NONE: fingerprint.num_subjects} if fingerprint.num_subjects else {}
    kept = {name: None for name in names if name in machine}
    return replace(
        fingerprint,
        counts={
            name: dict(silent) if name in names else cells
            for name, cells in fingerprint.counts.items()
        },
        capacity=tuple(replace(one, **kept) for one in fingerprint.capacity),
    )


def _named(known: Field, cells: Mapping[str, int], least: int) -> dict[str, int]:
    """Count names that are too small as ``other``, which then is large enough itself."""
    shown = {name: count for name, count in cells.items() if count >= least and name != OTHER}
    rest = sum(cells.values()) - sum(shown.values())
    while 0 < rest < least:
        _, smallest = min((count, name) for name, count in shown.items())
        rest += shown.pop(smallest)
    return shown | ({OTHER: rest} if rest else {})


def _ordered(known: Field, cells: Mapping[str, int], least: int) -> dict[str, int]:
    """Join bins that are too small; ``none`` and ``empty`` are names beside the scale."""
    bins = [cells.get(str(index), 0) for index in range(known.num_bins)]
    beside = {name: count for name, count in cells.items() if not name.isdigit()}
    on_scale = sum(bins)
    if on_scale < least:  # too few on the scale: all of them join what is beside it
        return _beside(beside, extra=on_scale, least=least)
    found = _joined(bins, least)
    small = {name: count for name, count in beside.items() if 0 < count < least}
    found[max(found, key=lambda index: found[index])] += sum(small.values())
    large = {name: count for name, count in beside.items() if count >= least}
    return large | {str(index): count for index, count in found.items()}


def _beside(beside: Mapping[str, int], *, extra: int, least: int) -> dict[str, int]:
    """Return the cells beside a scale on which too few subjects lie: the largest takes the rest."""
    large = {name: count for name, count in beside.items() if count >= least}
    if not large:
        return {NONE: sum(beside.values()) + extra}
    rest = extra + sum(count for name, count in beside.items() if name not in large)
    largest = max(sorted(large), key=lambda name: large[name])
    return large | {largest: large[largest] + rest}


def _joined(bins: list[int], least: int) -> dict[int, int]:
    """Return the bins, at least ``least`` subjects in each, of a scale that has so many."""
    found = {index: count for index, count in enumerate(bins) if count >= least}
    for run in _runs(bins, least):
        pieces, leftover = _pieces(run, least)
        for piece in pieces:
            size = sum(count for _, count in piece)
            middle = round(sum(index * count for index, count in piece) / size)
            found[middle] = found.get(middle, 0) + size
        for index, count in leftover:
            found[min(found, key=lambda large: (abs(large - index), large))] += count
    return found


def _runs(bins: list[int], least: int) -> list[list[tuple[int, int]]]:
    """Return the stretches of bins with 1 to ``least - 1`` subjects, those with most first."""
    runs: list[list[tuple[int, int]]] = [[]]
    for index, count in enumerate(bins):
        if count >= least:
            runs.append([])
        elif count:
            runs[-1].append((index, count))
    return sorted((run for run in runs if run), key=lambda run: -sum(count for _, count in run))


def _pieces(
    run: list[tuple[int, int]], least: int
) -> tuple[list[list[tuple[int, int]]], list[tuple[int, int]]]:
    """Cut a stretch into pieces with enough subjects; what is left over joins the last piece."""
    pieces: list[list[tuple[int, int]]] = []
    open_piece: list[tuple[int, int]] = []
    for item in run:
        open_piece.append(item)
        if sum(count for _, count in open_piece) >= least:
            pieces.append(open_piece)
            open_piece = []
    if open_piece and pieces:
        pieces[-1] += open_piece
        open_piece = []
    return pieces, open_piece


# --- the bytes -----------------------------------------------------------------------------------


def to_bytes(fingerprint: Fingerprint) -> bytes:
    """Return exactly what leaves the site: canonical JSON, the same for the same fingerprint."""
    assert fingerprint.least >= LEAST, "only a suppressed fingerprint may leave"
    return canonical_json(_document(fingerprint))


def _document(fingerprint: Fingerprint) -> dict[str, Json]:
    counts: dict[str, Json] = {
        name: dict(cells) for name, cells in fingerprint.counts.items() if set(cells) - {NONE}
    }
    return {
        "kind": KIND,
        "version": VERSION,
        "least": fingerprint.least,
        "num_subjects": fingerprint.num_subjects,
        "counts": counts,
        "capacity": [
            {name: value for name, value in asdict(one).items() if value is not None}
            for one in fingerprint.capacity
        ],
    }


def from_bytes(raw: bytes, *, where: str) -> Fingerprint:
    """Read what another site sent; whatever is not a suppressed fingerprint is refused.

    Raises:
        DataError: It is too large, no JSON, of another version, or holds an unknown field, a
            count that was not suppressed, or counts that do not add up.
    """
    if len(raw) > MAX_BYTES:
        raise _refused(where, f"{len(raw):,} bytes", f"at most {MAX_BYTES:,}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _refused(where, "no JSON", "a data fingerprint") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise _refused(where, "another kind of file", "a data fingerprint")
    if document.get("version") != VERSION:
        raise _refused(where, f"version {str(document.get('version'))[:8]}", f"version {VERSION}")
    expected = {"kind", "version", "least", "num_subjects", "counts", "capacity"}
    if set(document) != expected:
        raise _refused(where, "other keys", ", ".join(sorted(expected)))
    least = _count(document["least"], where, at_least=LEAST)
    number = _count(document["num_subjects"], where, at_least=0)
    if 0 < number < least:
        raise _refused(where, f"{number} subjects", f"none, or at least {least}")
    counts = document["counts"]
    if not isinstance(counts, dict):
        raise _refused(where, "counts that are no table", "fields with cells")
    return Fingerprint(
        num_subjects=number,
        counts={name: _cells(name, counts[name], number, least, where) for name in counts},
        least=least,
        capacity=_capacity(document["capacity"], where),
    )


def _cells(name: str, cells: Any, number: int, least: int, where: str) -> dict[str, int]:
    """Check one field that another site sent."""
    known = field_of(name)
    if known is None:
        raise _refused(where, f"the field {name[:32]!r}", "fields of this version")
    if (
        not isinstance(cells, dict)
        or len(cells) > MAX_CLASSES + 2
        or not all(map(known.has, cells))
    ):
        raise _refused(where, f"unknown cells in {name}", "the cells of this version")
    found = {cell: _count(count, where, at_least=least) for cell, count in cells.items()}
    if sum(found.values()) != number:
        raise _refused(where, f"{sum(found.values())} subjects in {name}", f"{number}")
    return dict(sorted(found.items()))


def _count(value: Any, where: str, *, at_least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < _MAX_COUNT:
        raise _refused(where, f"the count {str(value)[:20]}", f"a whole number from {at_least}")
    return value


def _capacity(value: Any, where: str) -> tuple[Capacity, ...]:
    """Check the figures of the machines that another site sent."""
    names = {item.name for item in fields(Capacity)}
    is_right = isinstance(value, list) and len(value) <= 1024 and all(
        isinstance(one, dict)
        and set(one) <= names
        and all(type(n) in (int, float) and math.isfinite(n) and n >= 0 for n in one.values())
        for one in value
    )  # fmt: skip
    if not is_right:
        raise _refused(where, "figures of the machine that are none", "numbers from 0")
    return tuple(Capacity(**one) for one in value)


def _refused(where: str, found: str, expected: str) -> DataError:
    return DataError(
        f"{where}: found {found} against {expected}. Nothing was used. Ask the site for a file "
        "written by `hospitium site data fingerprint` of this version."
    )


# --- the bytes in words --------------------------------------------------------------------------


def explain(fingerprint: Fingerprint) -> list[dict[str, Any]]:
    """Return every field that leaves, what it means in plain words, and its counts.

    The list holds all of the bytes: a cell that is not in it is not sent.
    """
    rows: list[dict[str, Any]] = [
        {
            "field": "num_subjects",
            "words": "how many persons there are; fewer than the least count are told as 0",
            "cells": [{"cell": "", "says": "persons", "count": fingerprint.num_subjects}],
        },
        {
            "field": "least",
            "words": "no cell below holds fewer persons than this, other than 0",
            "cells": [{"cell": "", "says": "persons", "count": fingerprint.least}],
        },
    ]
    for name, cells in fingerprint.counts.items():
        known = field_of(name)
        assert known is not None, name
        if set(cells) - {NONE}:
            rows.append({"field": name, "words": known.words, "cells": _say_cells(known, cells)})
    for one in fingerprint.capacity:
        for name, value in asdict(one).items():
            if value is not None:
                words = {"field": name, "words": f"of the machine: {_CAPACITY_WORDS[name]}"}
                rows.append({**words, "cells": [{"cell": "", "says": "", "count": value}]})
    return rows


def silent(fingerprint: Fingerprint) -> list[str]:
    """Return the fields of which nothing leaves, as no subject has a value, or it is withheld."""
    return [name for name, cells in fingerprint.counts.items() if not set(cells) - {NONE}]


def _say_cells(known: Field, cells: Mapping[str, int]) -> list[dict[str, Any]]:
    ordered = sorted(
        cells, key=lambda cell: (not cell.isdigit(), int(cell) if cell.isdigit() else 0, cell)
    )
    return [{"cell": cell, "says": known.say(cell), "count": cells[cell]} for cell in ordered]
