"""From a hospital's data to the cases of one plan: read, harmonised, kept beside the approval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hospitium.errors import DataError, UsageError
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import Columns, read_source
from hospitium.operations.admission import admit_local
from hospitium.operations.case_caches import site_cache
from hospitium.operations.enrolment import joined
from hospitium.operations.progress import Say, silent
from hospitium.operations.site_sources import SiteSource, find_sources
from hospitium.plan import Plan
from hospitium.site.membership import Membership
from hospitium.state.home import Home


def cases_for(
    home: Home,
    federation: str | None,
    plan: Plan,
    *,
    data: str | None,
    say: Say = silent,
) -> Path:
    """Return the folder with a site's cases for a plan, prepared from its data.

    Args:
        home: This installation.
        federation: Which federation; None for the only one.
        plan: What the cases are for: its harmonisation, classes and splits.
        data: Name of a data set of this site, or a path; None takes what was prepared before, by
            whoever approved first.
        say: Told what is done.

    Raises:
        UsageError: Nothing was named, and nothing was prepared before.
        DataError: The data cannot be used with this plan. What was prepared before is kept.
        ReaderError: The site reads the shipped test series into other numbers.
    """
    place = joined(home, federation)
    if data is None:
        return _before(place, plan)
    site_id = place.settings.site_id
    admit_local([site_id])
    source = SiteSource(site_id=site_id, word=data, data=Path(data).resolve(), columns=Columns())
    [source] = find_sources(home, [source])
    cases = read_site(plan, source, home=home, say=say)
    if not len(cases.split("train")):
        raise DataError(
            f"{data}: there is no training case for plan {plan.name!r} in it. Nothing was "
            "approved. The steward: look at the labels, and at `hospitium site data check`."
        )
    folder = place.folder / "cases" / plan.digest
    write_cases(folder, cases)
    return folder


def read_site(plan: Plan, source: SiteSource, *, home: Home, say: Say) -> Cases:
    """Read one site's data as the plan's data contract asks."""
    site_id = source.site_id
    say({"kind": "stage", "text": f"Reading the images of {site_id}"})
    cases = read_source(
        source.data,
        harmonise=Harmonise.of(plan),
        seed=plan.seed,
        columns=source.columns if source.columns.named() else None,
        progress=lambda done, of: say(
            {"kind": "count", "text": f"images of {site_id} read", "done": done, "of": of}
        ),
        classes=plan.task.classes,
        key=source.key,
        imaging=plan.imaging,
        labels=source.labels,
        store=None if source.data.suffix.lower() == ".npz" else site_cache(home),
    )
    # Two hospitals count their subjects alike; a person is told apart by the hospital's name.
    subjects = np.array([f"{site_id}/{subject}" for subject in cases.subjects], np.str_)
    return replace(cases, subjects=subjects)


def _before(place: Membership, plan: Plan) -> Path:
    """Return the cases that were prepared when somebody approved before."""
    folder = place.cases(plan.digest)
    if folder is None:
        raise UsageError(
            f"{plan.name}: on which data? Nothing was prepared for this plan yet. Nothing was "
            "signed. Name a data set or a folder with --data; `hospitium site data show` lists the "
            "data sets."
        )
    return folder
