"""Answering a task inside a hospital: consent, then scores, training and clipping, then egress."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hospitium.algorithms.norm_bound import NORM_SUM, norm_sum
from hospitium.errors import SiteError, UpdateError
from hospitium.evaluation.score_sums import score_sums
from hospitium.imaging.cache import read_cases, read_facts
from hospitium.imaging.cases import SPLITS, Split
from hospitium.plan import Plan
from hospitium.privacy.clipping import clip
from hospitium.site import moments
from hospitium.site.consent import Consent
from hospitium.training import Trainer, TrainingCases
from hospitium.types import Params, Sums, Task, Update

EXPLODED_LOSS = 50.0
"""Mean training loss of a round, in nats per case, above which nothing leaves: a guess among any
number of classes has a tenth of it, and what is learnt there is noise."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site's own settings: what it is called, and where its cases and its state are.

    ``cases_folder`` holds the prepared cases; ``folder`` holds ``moments/`` (optimizer state that
    never leaves) and ``log/`` (what left).
    """

    site_id: str
    cases_folder: Path
    folder: Path
    consent: Consent

    def cases(self, split: Split) -> TrainingCases:
        """Return the cases of one split, as the trainer sees them; images stay on disk."""
        return training_cases(self.cases_folder, split)


def training_cases(
    folder: Path, split: Split, *, statistics_from: Path | None = None
) -> TrainingCases:
    """Open prepared cases, with the mean and sd of the training images beside them.

    Args:
        folder: The cases.
        split: Which of them.
        statistics_from: Cases whose training images give the mean and sd instead, for a set that
            has no training images of its own.
    """
    cases, facts = read_cases(folder), read_facts(statistics_from or folder)
    rows = np.flatnonzero(cases.splits == SPLITS.index(split))
    return TrainingCases(
        images=cases.images,
        rows=rows,
        labels=cases.labels[rows],
        mean=float(np.mean(facts.mean)) if facts.mean else 0.5,
        sd=max(1e-6, float(np.mean(facts.std))) if facts.std else 0.25,
    )


def answer(task: Task, *, plan: Plan, site: Site, trainer: Trainer) -> Update:
    """Answer a task: score the incoming params on validation cases, then train and clip.

    The same task is answered with the same bits, so that it may be asked twice.

    Raises:
        SiteError: The site has not agreed, has no cases, or training diverged. Its public text
            holds nothing about a patient.
    """
    site.consent.require(plan, task)
    sums: Sums = {}
    if task.purpose == "score" or plan.is_scored(task.round_number):
        validation = site.cases("val")
        sums = score_sums(trainer.logits(task.params, validation), validation.labels)
    update = Update(
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=site.site_id,
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=site.consent.num_cases,
        delta={},
        sums=sums,
    )
    if task.purpose == "score":
        return update
    return _trained(update, task=task, plan=plan, site=site, trainer=trainer)


def _trained(update: Update, *, task: Task, plan: Plan, site: Site, trainer: Trainer) -> Update:
    """Add the clipped change of the params to an update."""
    cases = site.cases("train")
    if len(cases) == 0:
        raise SiteError("there are no training cases")
    keeps = plan.training.moments == "keep"
    started = time.perf_counter()
    trained = trainer.train(
        task.params,
        cases,
        site_id=site.site_id,
        round_number=task.round_number,
        moments=moments.load(site.folder, before=task.round_number) if keeps else None,
    )
    if trained.mean_loss > EXPLODED_LOSS:
        raise SiteError("training diverged: the loss exploded")
    try:
        delta, norm = clip(_change(trained.params, task.params), max_norm=task.max_norm)
    except UpdateError as error:
        raise SiteError("training diverged: the params are not finite") from error
    if keeps:
        moments.save(site.folder, trained.moments, round_number=task.round_number)
    return Update(
        run_id=update.run_id,
        round_number=update.round_number,
        site_id=update.site_id,
        plan_digest=update.plan_digest,
        base_digest=update.base_digest,
        num_cases=update.num_cases,
        delta=delta,
        sums={**update.sums, NORM_SUM: norm_sum(norm)},
        num_steps=trained.num_steps,
        train_s=time.perf_counter() - started,
    )


def _change(after: Params, before: Params) -> Params:
    return {name: array - before[name] for name, array in after.items()}
