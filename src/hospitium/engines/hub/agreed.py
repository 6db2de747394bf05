"""Whether a site agreed to a task that came; only the digest of its plan is read to find out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hospitium.engines.hub.messages import Ask
from hospitium.errors import SiteError, UpdateError
from hospitium.plan import Plan
from hospitium.site.consent import REFUSALS, Consent, Occasion
from hospitium.types import Task
from hospitium.wire.envelope import decode_task

_LATER = ("paused", "window")
_PLAN_DIGEST = re.compile(rb'"plan_digest":"([0-9a-f]{64})"')


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A plan that this site takes part in, and what it is answered with.

    ``consent`` is asked about each task; without one, as in a simulation, the plan is all that
    counts.
    """

    plan: Plan
    cases: Path
    num_cases: int
    plugin: Path | None = None
    consent: Consent | None = None

    @property
    def must_be_cut_off(self) -> bool:
        """Whether the site's policy wants training to be without network."""
        terms = self.consent.terms if self.consent else None
        return terms is not None and terms.policy.isolation.required


class LaterError(Exception):
    """This is not the time for the task; it stays at the hub."""


def agreed(
    ask: Ask, approved: Callable[[str], Approved | None], *, is_done: bool = False
) -> Approved:
    """Return what a site agreed to about a task.

    Args:
        ask: What came.
        approved: Says what was agreed under a plan's digest; None: nothing.
        is_done: Whether the work was done meanwhile: the hours no longer count, a pause and a
            withdrawal do.

    Raises:
        SiteError: The task is not within it, for one of `REFUSALS`.
        LaterError: It is, but not now.
    """
    plan_digest = plan_digest_of(ask.task)
    found = approved(plan_digest) if plan_digest else None
    if found is None:
        raise SiteError(REFUSALS["plan"])
    if found.consent is None:
        return found
    occasion = Occasion(
        members_digest=ask.members_digest,
        num_sites=ask.num_sites,
        now=datetime.now(UTC),
        is_sealed=bool(ask.run_key),
    )
    reason = found.consent.refusal(found.plan, plan_digest=plan_digest, occasion=occasion)
    if reason is None or (is_done and reason == "window"):
        return found
    if reason in _LATER:
        raise LaterError
    raise SiteError(REFUSALS[reason])


def task_of(ask: Ask) -> Task:
    """Return the task of a question, without its params.

    Raises:
        UpdateError: It is none (``canonical``, ``fields``), or the model that comes with it is not
            the one that it names (``base``): what a site cosigns and answers is what it trained.
    """
    task = decode_task(ask.task, params={})
    if task.base_digest != ask.blob:
        raise UpdateError("base", "A task was refused: it comes with another model than it names.")
    return task


def plan_digest_of(task: bytes) -> str:
    """Return the plan's digest that a task names; nothing else of it is looked at.

    A task that names none, or two, is of no plan.
    """
    found = _PLAN_DIGEST.findall(task)
    return found[0].decode() if len(found) == 1 else ""
