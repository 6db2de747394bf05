"""Writing phantoms for a person to try the product with."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from hospitium.errors import UsageError
from hospitium.operations.progress import Say
from hospitium.testing.phantoms import VENDORS, Knobs, Site, write_chest, write_volumes

KINDS = ("chest", "mr", "ct")
_CASES = {"chest": 200, "mr": 20, "ct": 20}
_SIZES = {"chest": 256, "mr": 96, "ct": 96}


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """What a person may choose; None means the usual of this kind.

    Attributes:
        kind: ``chest`` (radiographs), ``mr`` (heads) or ``ct`` (trunks).
        sites: How many hospitals; each has one vendor, in turn.
        vendors: Or: the vendor of each hospital; the same twice makes two hospitals.
        cases: Studies of all hospitals together.
        size: Rows and columns.
        awkward: Share of further studies that a reader must leave out.
        masks: Whether radiographs come with masks; volumes always do.
        seed: Of everything.
    """

    kind: str = "chest"
    sites: int | None = None
    vendors: tuple[str, ...] = ()
    cases: int | None = None
    size: int | None = None
    awkward: float = 0.0
    masks: bool = False
    seed: int = 7


def write(folder: Path, options: PhantomOptions, *, say: Say) -> dict[str, Any]:
    """Write phantoms into a new or empty folder; return what was written, for people and scripts.

    Returns:
        ``path``, ``labels`` (the table), ``kind``, ``cases``, ``awkward``, ``sites`` (cases of
        each site) and ``classes`` (cases of each label).

    Raises:
        UsageError: An option has no meaning, or the folder holds something else.
        StorageError: The folder cannot be written.
    """
    _check(folder, options)
    sites = sites_of(options)
    count = _CASES[options.kind] if options.cases is None else options.cases
    size = _SIZES[options.kind] if options.size is None else options.size
    is_chest = options.kind == "chest"
    knobs = Knobs(awkward=options.awkward, has_masks=options.masks or not is_chest)

    def progress(done: int, total: int) -> None:
        say({"kind": "count", "text": "studies written", "done": done, "of": total})

    if is_chest:
        labels = write_chest(
            folder, num_cases=count, seed=options.seed, sites=sites, size=size, knobs=knobs,
            progress=progress,
        )  # fmt: skip
    else:
        labels = write_volumes(
            folder, kind="mr" if options.kind == "mr" else "ct", num_cases=count,
            seed=options.seed, sites=sites, size=size, knobs=knobs, progress=progress,
        )  # fmt: skip
    return _summary(folder, labels, kind=options.kind)


def sites_of(options: PhantomOptions) -> list[Site]:
    """Return the hospitals of the options: one a vendor, a second of a vendor with a number."""
    names = options.vendors or tuple(VENDORS)
    if options.sites is not None:
        names = tuple(islice(cycle(VENDORS), options.sites))
    seen: Counter[str] = Counter()
    sites = []
    for name in names:
        vendor = next((known for known in VENDORS if known.casefold() == name.casefold()), name)
        seen[vendor] += 1
        stem = VENDORS[vendor].site_id if vendor in VENDORS else vendor
        site_id = stem if seen[vendor] == 1 else f"{stem}-{seen[vendor]}"
        sites.append(Site(site_id=site_id, vendor=vendor))
    return sites


def _check(folder: Path, options: PhantomOptions) -> None:
    """Refuse what has no meaning, before anything is written."""
    problem = ""
    if options.kind not in KINDS:
        problem = f"--kind is {options.kind!r} against {', '.join(KINDS)}"
    elif options.sites is not None and options.vendors:
        problem = "both --sites and --vendors say how many hospitals there are"
    elif options.sites is not None and options.sites < 1:
        problem = f"--sites is {options.sites} against 1 or more"
    elif folder.exists() and not folder.is_dir():
        problem = f"{folder} is a file, no folder"
    elif folder.is_dir() and any(folder.iterdir()):
        problem = f"{folder} is not empty; name another folder"
    if problem:
        raise UsageError(f"Phantoms: {problem}. Nothing was written.")


def _summary(folder: Path, labels: Path, *, kind: str) -> dict[str, Any]:
    """Count what the tables say."""
    rows = _rows(labels)
    return {
        "path": str(folder),
        "labels": str(labels),
        "kind": kind,
        "cases": len(rows),
        "awkward": len(_rows(folder / "awkward.csv")),
        "sites": dict(sorted(Counter(row["site"] for row in rows).items())),
        "classes": dict(sorted(Counter(row["label"] for row in rows).items())),
    }


def _rows(path: Path) -> Sequence[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
