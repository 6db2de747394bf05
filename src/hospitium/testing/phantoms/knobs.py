"""What a person may turn about phantoms: how many of whom, how ill, how badly kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hospitium.errors import UsageError

SIZES = (64, 2048)


@dataclass(frozen=True, kw_only=True)
class Site:
    """An invented hospital.

    Attributes:
        site_id: Its name.
        vendor: Who built its equipment.
        share: Of all subjects, relative to the other sites' shares.
    """

    site_id: str
    vendor: str
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What may be turned; the defaults are those of the demo.

    Attributes:
        prevalence: Share of studies with the finding, 0 to 1; the same at every site.
        seen_twice: Share of subjects with a second study, which has a finding of its own.
        shared_subjects: Share of subjects with one more study, at another site.
        lesion_size: Factor on width and height of a lesion, 0.25 to 2.
        noise: Factor on the noise of every vendor, 0 to 5.
        label_noise: Share of labels that are recorded wrongly; the drawn one is in a column.
        effusion: Share of radiographs with a pleural effusion, whatever the label.
        cardiomegaly: Share of radiographs with a wide heart, whatever the label.
        awkward: Studies added that a reader must leave out, as a share of all; in the field
            0.025 (48 of 1,910 studies at one trust were empty shells).
        has_masks: Whether each study comes with a mask of its finding.
        is_compressed: Whether vendors compress as they do; else native values are written.
    """

    prevalence: float = 0.4
    seen_twice: float = 0.25
    shared_subjects: float = 0.0
    lesion_size: float = 1.0
    noise: float = 1.0
    label_noise: float = 0.0
    effusion: float = 0.0
    cardiomegaly: float = 0.0
    awkward: float = 0.0
    has_masks: bool = False
    is_compressed: bool = True


_BOUNDS = {
    **dict.fromkeys(
        ("prevalence", "seen_twice", "shared_subjects", "label_noise", "effusion", "cardiomegaly"),
        (0.0, 1.0),
    ),
    "lesion_size": (0.25, 2.0),
    "noise": (0.0, 5.0),
    "awkward": (0.0, 1.0),
}


def check_knobs(
    knobs: Knobs, *, sites: Sequence[Site], vendors: Collection[str], size: int, count: int
) -> None:
    """Refuse what is out of its range before anything is written.

    Raises:
        UsageError: It says what, and the range.
    """
    names = [site.site_id for site in sites]
    problem = next(
        (
            f"{name} is {getattr(knobs, name)} against {low:g} to {high:g}"
            for name, (low, high) in _BOUNDS.items()
            if not low <= getattr(knobs, name) <= high
        ),
        "",
    )
    if count < 1:
        problem = f"the number of cases or subjects is {count} against 1 or more"
    elif not sites or len(set(names)) < len(names):
        problem = f"sites are {names} against one or more, each named once"
    elif not {site.vendor for site in sites} <= set(vendors):
        found = sorted({site.vendor for site in sites} - set(vendors))
        problem = f"vendors are {found} against any of {sorted(vendors)}"
    elif not all(site.share > 0 and math.isfinite(site.share) for site in sites):
        problem = f"shares are {[site.share for site in sites]} against numbers above 0"
    elif not SIZES[0] <= size <= SIZES[1]:
        problem = f"size is {size} against {SIZES[0]} to {SIZES[1]}"
    if problem:
        raise UsageError(f"Phantoms: {problem}. Nothing was written. Change this argument.")
