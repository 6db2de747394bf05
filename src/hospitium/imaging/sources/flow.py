"""How a cohort came about: counts at each step, as data, as a picture, and as others may see it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hospitium.imaging.suppression import HIDDEN, Shown, Suppression

FLOW_REASONS: Mapping[str, str] = {
    "no_label": "the table of labels does not name it",
    "label_conflict": "the table gives it two different labels",
    "date_outside": "not in the range of dates",
    "empty_study": "the PACS knows the study and has no images of it",
    "modality_not_wanted": "no series of a wanted modality",
    "body_part_not_wanted": "no series of a wanted body part",
    "body_part_unknown": "the PACS does not say which body part",
    "description_not_wanted": "described as something else",
    "description_unmapped": "described in words that the steward's table does not hold",
    "age_outside": "not in the range of ages",
    "age_unknown": "the PACS does not say how old the person was",
    "incomplete_study": "images were still arriving, or fewer are there than the PACS says",
    "import_failed": "the PACS could not give it; the cause is in problems.csv",
}
"""Why a study is not in a cohort, as a stable code that may be counted, and its meaning."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a flow; counts are studies.

    Attributes:
        name: What was done, in a few words.
        reasons: How many were left out, by ``FLOW_REASONS``.
    """

    name: str
    count_in: int
    count_out: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How a cohort came about. Exact counts stay at the site; `suppressed` is for others.

    Attributes:
        steps: In order; what goes out of one goes into the next.
        num_subjects, num_series, num_instances: In the cohort.
        num_fetched: Instances that this call fetched; the others were there.
        size_bytes: Of the cohort on disk.
        label_rows: Counts about the table of labels: rows, repeated, unlabelled, conflicts,
            unmatched, not_asked.
        unmapped: Words that no table of the steward holds, and how often they were met.
    """

    steps: tuple[Step, ...]
    num_subjects: int = 0
    num_series: int = 0
    num_instances: int = 0
    num_fetched: int = 0
    size_bytes: int = 0
    label_rows: Mapping[str, int] = field(default_factory=dict)
    unmapped: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data, for the site's own eyes."""
        return asdict(self)

    def suppressed(self, rule: Suppression | None = None) -> dict[str, Any]:
        """Return the steps as they may be seen outside: no count from 1 to 9, by no subtraction.

        Steps that leave out fewer than that are joined with the next ones. Words, sizes and the
        counts of the labels' table are not in it.
        """
        rule = rule or Suppression()
        steps = [_shown(group, rule) for group in _groups(self.steps, rule)]
        is_told = bool(steps) and isinstance(steps[-1]["count_out"], int)
        subjects = rule.count(self.num_subjects) if is_told else HIDDEN
        return {"steps": steps, "num_subjects": subjects}


class FlowBook:
    """Keeps count while a cohort is made."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def step(self, name: str, *, count_in: int, reasons: Mapping[str, int]) -> None:
        """Note one step; what is left out for no reason does not exist."""
        assert set(reasons) <= set(FLOW_REASONS), reasons
        left_out = {reason: count for reason, count in sorted(reasons.items()) if count}
        self._steps.append(
            Step(
                name=name,
                count_in=count_in,
                count_out=count_in - sum(left_out.values()),
                reasons=left_out,
            )
        )

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps so far."""
        return tuple(self._steps)


def flow_svg(flow: Flow, *, title: str = "Studies") -> str:
    """Return the flow as a picture: one box for each step, what was left out beside it.

    Exact counts: for the site's own report.
    """
    first = flow.steps[0].count_in if flow.steps else 0
    drawn, top = [*_box(title, first, top=8)], 70
    for step in flow.steps:
        drawn.append(f'<line x1="130" y1="{top - 18}" x2="130" y2="{top}"/>')
        drawn += _box(step.name, step.count_out, top=top)
        drawn += [
            f'<text x="272" y="{top + 18 + 18 * line}" class="out">{count} '
            f"{html.escape(FLOW_REASONS[reason])}</text>"
            for line, (reason, count) in enumerate(step.reasons.items())
        ]
        top += max(44, 18 * len(step.reasons) + 8) + 18
    style = (
        "text{font:13px sans-serif}.out{fill:#555}.n{font-weight:bold}"
        "rect{fill:#f4f7fb;stroke:#456}line{stroke:#456}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {top}" role="img" '
        f'aria-label="How the cohort came about"><style>{style}</style>{"".join(drawn)}</svg>'
    )


def flow_page(flow: Flow, *, title: str) -> str:
    """Return the picture as a page of its own that needs nothing else."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><body><h1>{html.escape(title)}</h1>{flow_svg(flow)}</body></html>\n"
    )


def _box(name: str, count: int, *, top: int) -> Iterator[str]:
    yield f'<rect x="8" y="{top}" width="244" height="44" rx="4"/>'
    yield f'<text x="18" y="{top + 18}">{html.escape(name)}</text>'
    yield f'<text x="18" y="{top + 36}" class="n">{count}</text>'


def _groups(steps: Sequence[Step], rule: Suppression) -> Iterator[tuple[Step, ...]]:
    """Yield runs of steps that leave out nothing, or enough to be told."""
    group: list[Step] = []
    for step in steps:
        group.append(step)
        left_out = group[0].count_in - step.count_out
        if _is_told(left_out, rule) and _is_told(step.count_out, rule):
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def _shown(group: Sequence[Step], rule: Suppression) -> dict[str, Any]:
    """Return one run of steps as it may be seen."""
    count_in, count_out = group[0].count_in, group[-1].count_out
    is_told = _is_told(count_in - count_out, rule) and _is_told(count_out, rule)
    reasons = Counter[str]()
    for step in group:
        reasons.update(step.reasons)
    cells, total = rule.table(dict(sorted(reasons.items())))
    shown: dict[str, Shown] = cells
    if not is_told or total == HIDDEN:  # the counts of the boxes would give the total back
        shown = dict.fromkeys(reasons, HIDDEN)
    return {
        "name": ", ".join(step.name for step in group),
        "count_in": rule.count(count_in),
        "count_out": rule.count(count_out) if is_told else HIDDEN,
        "reasons": shown,
    }


def _is_told(count: int, rule: Suppression) -> bool:
    return rule.count(count) == count
