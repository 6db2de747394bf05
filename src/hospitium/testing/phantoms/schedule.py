"""Who is examined where, how often and with what finding: the same list for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hospitium.randomness import rng
from hospitium.testing.phantoms.knobs import Knobs, Site


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One study to be drawn: whose, where, and the how-many-eth of this subject.

    Attributes:
        site: Where.
        subject: Named after the site that saw this subject first.
        number: From 1.
        is_ill: Whether the finding is drawn.
        is_recorded: Whether the label says so; another value only by label noise.
        has_effusion: Drawn too.
        has_cardiomegaly: Drawn too.
    """

    site: Site
    subject: str
    number: int
    is_ill: bool
    is_recorded: bool
    has_effusion: bool = False
    has_cardiomegaly: bool = False

    @property
    def name(self) -> str:
        """Unique among all studies."""
        return f"{self.subject}-{self.number}"


def subjects(sites: Sequence[Site], seed: int, knobs: Knobs) -> Iterator[list[Planned]]:
    """Yield the studies of one subject after the other, without end.

    Subjects go to the sites in turn, so that each has its share of every beginning of the list.
    """
    total = sum(site.share for site in sites)
    given = [0] * len(sites)
    while True:
        done = sum(given)
        owed = [site.share / total * (done + 1) - n for site, n in zip(sites, given, strict=True)]
        index = owed.index(max(owed))
        given[index] += 1
        subject = f"{sites[index].site_id}-{given[index]:04d}"
        yield _studies(sites, index, subject, seed, knobs)


def _studies(
    sites: Sequence[Site], index: int, subject: str, seed: int, knobs: Knobs
) -> list[Planned]:
    """Return the one, two or three studies of a subject."""
    draw = rng(seed, "phantom-subject", subject)
    places = [sites[index]] * (2 if draw.random() < knobs.seen_twice else 1)
    ill = [draw.random() < knobs.prevalence for _ in places]
    shared = rng(seed, "phantom-shared", subject)
    if len(sites) > 1 and shared.random() < knobs.shared_subjects:
        others = [site for site in sites if site is not sites[index]]
        places.append(others[int(shared.integers(len(others)))])
        ill.append(shared.random() < knobs.prevalence)
    return [
        _planned(place, subject, number, is_ill, seed, knobs)
        for number, (place, is_ill) in enumerate(zip(places, ill, strict=True), start=1)
    ]


def _planned(
    site: Site, subject: str, number: int, is_ill: bool, seed: int, knobs: Knobs
) -> Planned:
    """Return one study with its other findings, and the label as it is recorded."""
    more = rng(seed, "phantom-more", subject, number)
    is_wrong, has_effusion, has_cardiomegaly = (
        more.random() < share for share in (knobs.label_noise, knobs.effusion, knobs.cardiomegaly)
    )
    return Planned(
        site=site,
        subject=subject,
        number=number,
        is_ill=bool(is_ill),
        is_recorded=bool(is_ill != is_wrong),
        has_effusion=has_effusion,
        has_cardiomegaly=has_cardiomegaly,
    )
