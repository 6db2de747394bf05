"""Shares the cases of one source out over simulated sites, as unlike as one asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from hospitium.errors import PartitionError, UsageError
from hospitium.imaging.cases import SPLITS, Cases, Split
from hospitium.randomness import rng, seed_of
from hospitium.testing import scanners
from hospitium.testing.dealing import Minimum, Shares, count_subjects, deal, lacking, repair
from hospitium.testing.given_sites import by_column
from hospitium.testing.scanners import ScannerShift
from hospitium.types import Json

_ACCEPTED = (
    "iid, dirichlet:A (A > 0), size:RATIO (RATIO >= 1), scanner, dirichlet:A+scanner, "
    "size:RATIO+scanner, column:NAME"
)
_LEAST_TRAIN = 40
_LEAST_OF_CLASS = 8
_LEAST_VAL_OF_CLASS = 2


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How cases are shared out.

    Attributes:
        text: As it was asked for.
        kind: ``iid``: alike; ``dirichlet``: label shares differ; ``size``: sizes differ;
            ``column``: by a column of the source.
        value: The Dirichlet parameter (small is unlike), or largest site over smallest.
        column: Name of the column.
        has_scanners: Whether each site's images get a shift of their own.
    """

    text: str
    kind: Literal["iid", "dirichlet", "size", "column"]
    value: float = 0.0
    column: str = ""
    has_scanners: bool = False


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Simulated sites and the test set that all models are compared on.

    Attributes:
        sites: Each site's own cases, in source order, with its scanner's shift.
        joint_test: All test cases of the source, in source order, without any shift.
        shifts: The scanner of each site; empty without ``scanner``.
        left_out: How many sites or cases of the source are at no site, per stable reason.
        partition: What was asked for.
        description: One sentence for people.
    """

    sites: Mapping[str, Cases]
    joint_test: Cases
    shifts: Mapping[str, ScannerShift] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    partition: Partition
    description: str


def parse_partition(text: str) -> Partition:
    """Read ``iid``, ``dirichlet:A``, ``size:RATIO``, ``scanner``, their sums, ``column:NAME``.

    Raises:
        UsageError: It is none of these, or its number is out of range.

    Example:
        >>> parse_partition("dirichlet:0.5+scanner").has_scanners
        True
    """
    name, _, argument = text.partition(":")
    if name == "column" and argument.strip():
        return Partition(text=text, kind="column", column=argument.strip())
    if text in ("iid", "scanner"):
        return Partition(text=text, kind="iid", has_scanners=text == "scanner")
    number = argument.removesuffix("+scanner")
    value = float(number) if re.fullmatch(r"\d*\.?\d+(e-?\d+)?", number) else math.nan
    has_scanners = number != argument
    if name == "dirichlet" and 0 < value < math.inf:
        return Partition(text=text, kind="dirichlet", value=value, has_scanners=has_scanners)
    if name == "size" and 1 <= value < math.inf:
        return Partition(text=text, kind="size", value=value, has_scanners=has_scanners)
    raise UsageError(
        f"Partition: found {text!r} against one of: {_ACCEPTED}. Nothing was shared out. "
        "Ask for one of these."
    )


def make_federation(cases: Cases, *, partition: Partition, num_sites: int, seed: int) -> Federation:
    """Share cases out over sites; same arguments, same federation.

    Whole subjects go to one site, and train, val and test are each shared out: ``iid`` and
    ``scanner`` evenly within every class; ``dirichlet:A`` with a site's share of each class drawn
    from Dirichlet(A), the same in every split, and at every site at least 40 training cases, 8 of
    each class in train and in test, and where there are enough, 2 of each in val; ``size:RATIO``
    in geometric steps from ``site-1``, RATIO times as large as the last. Every site has a training
    case. ``column:NAME`` takes sites as the source has them and ignores ``num_sites``.

    Raises:
        UsageError: ``num_sites`` is below 1.
        PartitionError: There are too few cases, or there is no such column.
    """
    if partition.kind == "column":
        return _by_column(cases, partition=partition)
    if num_sites < 1:
        raise UsageError(
            f"Partition: found {num_sites} sites against 1 or more. Nothing was shared out. "
            "Ask for at least one site."
        )
    site_of_case = _share_out(cases, partition=partition, num_sites=num_sites, seed=seed)
    digits = len(str(num_sites))
    sites = {
        f"site-{index + 1:0{digits}d}": cases.take(site_of_case == index)
        for index in range(num_sites)
    }
    shifts = {}
    if partition.has_scanners:
        shifts = {site_id: scanners.draw_shift(seed, site_id) for site_id in sites}
    return Federation(
        sites=_scanned(sites, shifts, seed=seed),
        joint_test=cases.split("test"),
        shifts=shifts,
        partition=partition,
        description=_describe_sharing(cases, partition=partition, num_sites=num_sites),
    )


def _by_column(cases: Cases, *, partition: Partition) -> Federation:
    """Return the federation of the sites that the source has."""
    sites, left_out = by_column(cases, column=partition.column)
    skipped = "".join(f" Left out: {count} {why}." for why, count in left_out.items())
    return Federation(
        sites=sites,
        joint_test=cases.split("test"),
        left_out=left_out,
        partition=partition,
        description=f"{_amount(cases)} at {len(sites)} sites, as the column {partition.column!r} "
        f"has them.{skipped}",
    )


def describe(federation: Federation) -> list[dict[str, Json]]:
    """Return one row per site: cases of each class in each split, subjects, and its scanner."""
    rows: list[dict[str, Json]] = []
    for site_id, cases in federation.sites.items():
        shift = federation.shifts.get(site_id)
        row: dict[str, Json] = {
            "site_id": site_id,
            "num_cases": len(cases),
            "num_subjects": len(np.unique(cases.subjects)),
        }
        row |= {split: cases.split(split).class_counts() for split in SPLITS}
        rows.append(row | {"shift": asdict(shift) if shift else None})
    return rows


def _share_out(
    cases: Cases, *, partition: Partition, num_sites: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the site of each case."""
    draw = rng(seed, "partition", partition.kind)
    subject_of, counts = count_subjects(cases)
    of_class, of_all, wished = _minimums(partition, num_classes=len(cases.classes))
    must = of_class + of_all
    for minimum in must:
        found = int(minimum.of(counts).sum())
        if found < minimum.least * num_sites:
            raise _too_few(cases, partition, num_sites, minimum, found=found)
    shares = _shares(partition, num_sites=num_sites, num_classes=len(cases.classes), draw=draw)
    sites = deal(counts, shares=shares, draw=draw)
    for minimums in (of_class, must, must + wished):  # classes first: totals can then be met
        sites = repair(counts, sites, minimums=minimums, num_sites=num_sites, draw=draw)
    for minimum, least in lacking(counts, sites, minimums=must, num_sites=num_sites):
        raise _too_few(cases, partition, num_sites, minimum, least=least)
    return sites[subject_of]


def _minimums(partition: Partition, *, num_classes: int) -> tuple[list[Minimum], ...]:
    """Return what every site must have of a class and of all, and gets where there is enough."""
    if partition.kind != "dirichlet":
        return [], [Minimum(split="train", label=None, least=1)], []
    labels = range(num_classes)
    splits: tuple[Split, ...] = ("train", "test")
    return (
        [Minimum(split=s, label=k, least=_LEAST_OF_CLASS) for s in splits for k in labels],
        [Minimum(split="train", label=None, least=_LEAST_TRAIN)],
        [Minimum(split="val", label=k, least=_LEAST_VAL_OF_CLASS) for k in labels],
    )


def _shares(
    partition: Partition, *, num_sites: int, num_classes: int, draw: np.random.Generator
) -> Shares:
    """Return each site's share of each class, ``(site, class)``; columns sum to 1."""
    if partition.kind == "dirichlet":
        return draw.dirichlet([partition.value] * num_sites, size=num_classes).T
    ratio = partition.value if partition.kind == "size" else 1.0
    sizes = ratio ** -np.linspace(0, 1, num_sites)
    return np.repeat(sizes[:, None] / sizes.sum(), num_classes, axis=1)


def _too_few(
    cases: Cases,
    partition: Partition,
    num_sites: int,
    minimum: Minimum,
    *,
    found: int | None = None,
    least: int | None = None,
) -> PartitionError:
    """Return the error that says which cases are too few, and for how many sites."""
    label = "" if minimum.label is None else f" of class {cases.classes[minimum.label]!r}"
    needed = f"{minimum.least} {minimum.split} cases{label} for each of {num_sites} sites"
    if found is not None:
        state = f"found {found} against {needed} ({minimum.least * num_sites})"
    else:
        state = f"found at most {least} for one site against {needed}: whole subjects do not fit"
    return PartitionError(
        f"Partition {partition.text}: {state}. Nothing was shared out. "
        "Ask for fewer sites, bring more cases, or choose another partition."
    )


def _scanned(
    sites: Mapping[str, Cases], shifts: Mapping[str, ScannerShift], *, seed: int
) -> dict[str, Cases]:
    """Return each site's cases as its scanner, if it has one, would have stored them."""
    scanned = dict(sites)
    for site_id, shift in shifts.items():
        own_seed = seed_of(seed, "scanner", site_id)
        images = scanners.apply(shift, sites[site_id].images, own_seed)
        scanned[site_id] = replace(sites[site_id], images=images)
    return scanned


def _describe_sharing(cases: Cases, *, partition: Partition, num_sites: int) -> str:
    """Say in a sentence how the cases were shared out."""
    how = {
        "iid": "evenly",
        "dirichlet": f"with label shares drawn from Dirichlet({partition.value:g})",
        "size": f"with sizes falling in geometric steps to 1/{partition.value:g}",
    }[partition.kind]
    scanner = ", each site with a scanner of its own" if partition.has_scanners else ""
    return f"{_amount(cases)} shared out over {num_sites} sites {how}{scanner}."


def _amount(cases: Cases) -> str:
    """Say how many cases and subjects there are."""
    return f"{len(cases):,} cases of {len(np.unique(cases.subjects)):,} subjects"
