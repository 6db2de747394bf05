"""What ``report.json`` holds, key by key; ``report.html`` shows the same.

Every figure is a `Figure`. Whatever is ``None`` has its reason beside it, or under ``missing`` by
the name of its key. Keys marked ``NotRequired`` may be absent, and are then shown as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

SCHEMA_VERSION = 1


class Figure(TypedDict):
    """A figure with 95 % limits, as `hospitium.evaluation.intervals.Metric.to_json` gives it.

    ``n`` counts cases; ``num_positive`` those of the positive class (more than two classes: of the
    rarest class present).
    """

    estimate: float | None
    lower: float | None
    upper: float | None
    n: int
    num_positive: int | None
    reason: NotRequired[str]


class Figures(TypedDict):
    """What is measured of one model on one test set; more than two classes: macro averages."""

    auroc: Figure
    accuracy: Figure
    sensitivity: Figure
    specificity: Figure


class SiteFigures(TypedDict):
    """A model on a site's own test cases and on the joint test set."""

    own: Figures
    joint: Figures


class ModelResult(TypedDict):
    """A model on the joint test set, and per site.

    For ``local_only``, ``test`` is the mean over sites of their own models on the joint test set,
    and ``per_site`` holds each site's own model.
    """

    test: Figures
    per_site: Mapping[str, SiteFigures]


class Gain(TypedDict):
    """AUROC of the shared model minus that of the site's own model, paired over the cases."""

    own: Figure
    joint: Figure


class WorstSite(TypedDict):
    """The site on whose own test cases a model does worst; ``site_id`` is None if none is known."""

    site_id: str | None
    auroc: Figure
    best_minus_worst: float | None


class Comparison(TypedDict):
    """What `hospitium.evaluation.comparison.compare` returns.

    ``results``, ``worst_site``, ``mean_of_sites`` and ``thresholds`` have the keys ``federated``,
    ``ensemble``, ``pooled`` and ``local_only``; ``pooled`` may be None. ``worst_site`` and
    ``mean_of_sites`` are AUROCs on the sites' own test cases. A threshold of None means "the most
    probable class"; ``thresholds["local_only"]`` maps ``site_id`` to threshold.
    """

    results: Mapping[str, ModelResult | None]
    gap_closed: float | None
    ratio_to_pooled: float | None
    federated_minus_pooled: Figure
    federated_minus_ensemble: Figure
    federated_minus_local_only: Figure
    accuracy_federated_minus_pooled: Figure
    gain_over_own_model: Mapping[str, Gain]
    worst_site: Mapping[str, WorstSite | None]
    mean_of_sites: Mapping[str, Figure | None]
    thresholds: Mapping[str, Any]
    test_sets: Mapping[str, Any]
    missing: Mapping[str, str]


class SiteRow(TypedDict):
    """A site and the number of its training cases."""

    site_id: str
    num_cases: int


class SitePartition(TypedDict, total=False):
    """What a site holds: cases by class name in each split, and its simulated scanner, if any."""

    train: Mapping[str, int]
    validation: Mapping[str, int]
    test: Mapping[str, int]
    shift: Mapping[str, float] | None


class Partition(TypedDict):
    """How cases came to sites: ``name`` as on the command line, then the sites by ``site_id``."""

    name: str
    sites: Mapping[str, SitePartition]
    note: NotRequired[str]  # a sentence: rows left out, where the data come from


class LeftOutRow(TypedDict):
    """A site that was asked and does not count in a round."""

    site_id: str
    reason: str


class RoundRow(TypedDict):
    """Who was asked in a round and what came back; ``asked`` and ``answered`` are site ids."""

    round: int
    asked: Sequence[str]
    answered: Sequence[str]
    left_out: Sequence[LeftOutRow]
    outcome: NotRequired[str]  # what happened then, a sentence


class HeldUpdate(TypedDict):
    """An update that was held; ``by`` and ``reason`` are those of a decision, None without one.

    ``figures`` has, by measure, ``value``, ``median`` (of the round's sites) and ``distances``.
    """

    round: int
    site_id: str
    verdict: str
    why: Sequence[str]
    figures: Mapping[str, Any]
    waits: bool
    decision: str | None  # "released" or "excluded"
    by: str | None
    reason: str | None


class ReviewPart(TypedDict):
    """What was looked at before it counted; ``note`` says where no rule means much."""

    mode: str
    num_updates: int
    num_flagged: int
    updates: Sequence[HeldUpdate]
    note: str


class Traffic(TypedDict):
    """Bytes of one task to one site and of one update from it."""

    bytes_down_per_site_per_round: int
    bytes_up_per_site_per_round: int


class SitePoint(TypedDict):
    """One site's validation AUROC of a model, and the cases behind it."""

    auroc: float | None
    n: int


class CurvePoint(TypedDict):
    """A model on the validation cases of all sites.

    ``round`` is the number of rounds that the model has behind it: 0 is the initial model, and the
    model that comes in to round ``t`` has ``t - 1``.
    """

    round: int
    auroc: float | None
    loss: float | None
    sites: Mapping[str, SitePoint]


class ChosenRound(TypedDict):
    """The model that was taken, by the rounds it has behind it, and why that one."""

    round: int
    reason: str


class Protection(TypedDict):
    """A privacy protection that is off, its value in the plan, and what that means."""

    name: str
    value: str
    meaning: str


class Plugin(TypedDict):
    """A researcher's file that took part, and the SHA-256 of its bytes."""

    name: str
    sha256: str


class Report(Comparison):
    """All of ``report.json``: the facts of a run, and the `Comparison`."""

    schema_version: int
    run_id: str
    plan_digest: str
    task: str  # "binary" or "multiclass"
    classes: Sequence[str]  # two classes: the second is the positive one
    rounds: int
    wall_s: float
    partition: Partition
    sites: Sequence[SiteRow]
    participation: Sequence[RoundRow]
    traffic: Traffic
    curve: NotRequired[Sequence[CurvePoint]]
    chosen_round: NotRequired[ChosenRound]
    seeds: NotRequired[Sequence[int] | Mapping[str, int]]
    command: NotRequired[str]
    review: NotRequired[ReviewPart]
    interruptions: NotRequired[Sequence[Mapping[str, Any]]]  # at_utc, and the last closed round
    finished_at: NotRequired[str]  # ISO 8601 with zone
    protections: NotRequired[Sequence[Protection]]
    plugins: NotRequired[Sequence[Plugin]]
    versions: NotRequired[Mapping[str, str]]
    limits: NotRequired[Sequence[str]]  # further sentences for "What this does not say"
