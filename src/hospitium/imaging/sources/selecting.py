"""Which studies and series of a PACS are of a cohort: rules, with a count at each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hospitium.imaging.sources.fetching import Chosen
from hospitium.imaging.sources.flow import FlowBook
from hospitium.imaging.sources.label_keys import LabelTable
from hospitium.imaging.sources.pace import Pace
from hospitium.imaging.sources.queries import Pacs, SeriesFound

MASKS = frozenset({"SEG", "RTSTRUCT"})
"""Modalities of series that hold masks, no images."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which of the studies found are taken. Nothing given, nothing left out.

    Attributes:
        modalities: Of series, as ``DX``.
        body_parts: ``BodyPartExamined`` of series, without case.
        dates: First and last ``StudyDate``, ``YYYYMMDD``, either may be empty.
        ages: Youngest and oldest in whole years, both included; None is open.
        words: The steward's table: from a description of a series (or of its study, where the
            series has none) to the plan's word for it; case and spaces do not count.
        descriptions: The plan's words that are wanted.
        with_masks: Whether SEG and RTSTRUCT series of a taken study come along.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    dates: tuple[str, str] = ("", "")
    ages: tuple[int | None, int | None] = (None, None)
    words: Mapping[str, str] = field(default_factory=dict)
    descriptions: tuple[str, ...] = ()
    with_masks: bool = False


@dataclass(kw_only=True)
class Selection:
    """The studies that are left, and the counts of how that came about."""

    pacs: Pacs
    book: FlowBook
    left: list[Chosen]
    unmapped: Counter[str] = field(default_factory=Counter)

    def keep(self, name: str, decide: Callable[[Chosen], Chosen | str]) -> None:
        """Let each study through, changed or not, or leave it out for a reason."""
        reasons, kept = Counter[str](), list[Chosen]()
        for item in self.left:
            decided = decide(item)
            if isinstance(decided, str):
                reasons[decided] += 1
            else:
                kept.append(decided)
        self.book.step(name, count_in=len(self.left), reasons=reasons)
        self.left = kept


def select(
    selection: Selection,
    rules: Rules,
    labels: LabelTable | None,
    pace: Pace,
    progress: Progress | None,
) -> set[str]:
    """Apply the rules, cheapest first; return the keys of the labels' table that were met."""
    used = set[str]()
    if labels is not None:
        used = {labels.key_of(item.study.uids) for item in selection.left}
        selection.keep("have a label", lambda item: _labelled(item, labels))
    if any(rules.dates):
        selection.keep("date", lambda item: _dated(item, rules.dates))
    num_asked, total = 0, len(selection.left)

    def with_series(item: Chosen) -> Chosen | str:
        nonlocal num_asked
        num_asked += 1
        pace.check_open()
        series = tuple(selection.pacs.series(item.study.uids.study))
        if progress:
            progress("studies looked at", num_asked, total)
        return replace(item, series=series) if series else "empty_study"

    selection.keep("have images", with_series)
    _select_series(selection, rules)
    return used


def _select_series(selection: Selection, rules: Rules) -> None:
    if rules.modalities:
        wanted = {modality.upper() for modality in rules.modalities}
        if rules.with_masks:
            wanted |= MASKS
        selection.keep("modality", lambda item: _of_modality(item, wanted))
    elif not rules.with_masks:
        selection.keep("modality", lambda item: _without_masks(item))
    if rules.body_parts:
        parts = {part.upper() for part in rules.body_parts}
        selection.keep("body part", lambda item: _of_body_part(item, parts))
    if rules.descriptions:
        words = {_folded(word): meant for word, meant in rules.words.items()}
        selection.keep(
            "description",
            lambda item: _described(item, words, rules.descriptions, selection.unmapped),
        )
    if rules.ages != (None, None):
        selection.keep("age", lambda item: _aged(item, rules.ages))


def _labelled(item: Chosen, labels: LabelTable) -> Chosen | str:
    label, reason = labels.find(item.study.uids)
    return reason or replace(item, label=label)


def _dated(item: Chosen, dates: tuple[str, str]) -> Chosen | str:
    first, last = dates
    date = item.study.date
    is_inside = bool(date) and date >= first and (not last or date <= last)
    return item if is_inside else "date_outside"


def _of_modality(item: Chosen, wanted: set[str]) -> Chosen | str:
    kept = tuple(series for series in item.series if series.modality.upper() in wanted)
    return _with(item, kept, otherwise="modality_not_wanted")


def _without_masks(item: Chosen) -> Chosen | str:
    kept = tuple(series for series in item.series if series.modality not in MASKS)
    return _with(item, kept, otherwise="modality_not_wanted")


def _of_body_part(item: Chosen, parts: set[str]) -> Chosen | str:
    kept = tuple(s for s in item.series if s.body_part.upper() in parts or s.modality in MASKS)
    is_told = any(s.body_part for s in item.series if s.modality not in MASKS)
    return _with(item, kept, otherwise="body_part_not_wanted" if is_told else "body_part_unknown")


def _described(
    item: Chosen, words: Mapping[str, str], wanted: Sequence[str], unmapped: Counter[str]
) -> Chosen | str:
    """Keep the series whose description means what is wanted; count words that nobody mapped."""
    kept, is_unmapped = list[SeriesFound](), False
    for series in item.series:
        said = series.description or item.study.description
        meant = words.get(_folded(said))
        if series.modality in MASKS or meant in wanted:
            kept.append(series)
        elif meant is None:
            is_unmapped = True
            unmapped[said] += 1
    reason = "description_unmapped" if is_unmapped else "description_not_wanted"
    return _with(item, tuple(kept), otherwise=reason)


def _aged(item: Chosen, ages: tuple[int | None, int | None]) -> Chosen | str:
    age = _age(item)
    if age is None:
        return "age_unknown"
    youngest, oldest = ages
    is_inside = (youngest is None or age >= youngest) and (oldest is None or age <= oldest)
    return item if is_inside else "age_outside"


def _age(item: Chosen) -> int | None:
    """Return whole years at the study: as told, else from the dates of birth and study."""
    told = [item.study.age, *(series.age for series in item.series)]
    known = next((age for age in told if age is not None), None)
    birth, date = item.study.birth_date, item.study.date
    if known is not None or not (_is_date(birth) and _is_date(date)):
        return known
    return (int(date) - int(birth)) // 10_000


def _is_date(text: str) -> bool:
    return len(text) == 8 and text.isdecimal()


def _with(item: Chosen, series: tuple[SeriesFound, ...], *, otherwise: str) -> Chosen | str:
    """Return the study with these series, or the reason where only masks, or none, are left."""
    has_images = any(found.modality not in MASKS for found in series)
    return replace(item, series=series) if has_images else otherwise


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
