"""Takes the sites of a source as one of its columns names them."""

from __future__ import annotations

import unicodedata

import numpy as np

from hospitium.errors import PartitionError
from hospitium.imaging.cases import SPLITS, Cases

_LONGEST_SITE_ID = 48


def by_column(cases: Cases, *, column: str) -> tuple[dict[str, Cases], dict[str, int]]:
    """Return the cases of each site, sorted by site, and what is at no site, per stable reason.

    Sites may be very unequal and may lack a class. A site without training cases is left out
    (``site_without_training_cases``), and so are cases whose column is empty
    (``case_without_site``).

    Raises:
        PartitionError: There is no such column, or no site has a training case.
    """
    if column not in cases.columns:
        known = ", ".join(sorted(cases.columns)) or "none"
        raise PartitionError(
            f"Partition column:{column}: the source has no such column; its columns: {known}. "
            "Nothing was shared out. Name one of these, or choose another partition."
        )
    values = np.array([_tidy(value) for value in cases.columns[column]], dtype=np.str_)
    sites: dict[str, Cases] = {}
    left_out = {"site_without_training_cases": 0, "case_without_site": int((values == "").sum())}
    for value, site_id in name_sites(sorted(set(values.tolist()) - {""})).items():
        own = cases.take(values == value)
        if (own.splits == SPLITS.index("train")).any():
            sites[site_id] = own
        else:
            left_out["site_without_training_cases"] += 1
    if not sites:
        raise PartitionError(
            f"Partition column:{column}: no site has a training case, of {len(cases)} cases and "
            f"{left_out['site_without_training_cases']} sites. Nothing was shared out. "
            "Check the column and the split of the source."
        )
    return dict(sorted(sites.items())), {why: count for why, count in left_out.items() if count}


def name_sites(values: list[str]) -> dict[str, str]:
    """Return a site id for each value: lower case letters, digits and single hyphens.

    Values that would get one id are told apart by ``-2``, ``-3``, in their order.

    Example:
        >>> name_sites(["St. Mary's", "Zürich", "北京", "st mary s"])
        {"St. Mary's": 'st-mary-s', 'Zürich': 'zurich', '北京': 'site', 'st mary s': 'st-mary-s-2'}
    """
    taken: dict[str, str] = {}
    for value in values:
        plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
        words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
        stem = "-".join(words)[:_LONGEST_SITE_ID].strip("-") or "site"
        site_id, number = stem, 1
        while site_id in taken:
            number += 1
            site_id = f"{stem}-{number}"
        taken[site_id] = value
    return {value: site_id for site_id, value in taken.items()}


def _tidy(value: str) -> str:
    """Fold case and spaces: values that differ in these alone are one site."""
    return " ".join(str(value).casefold().split())
