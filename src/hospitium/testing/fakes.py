"""Small real things to test the loop with: sites that are functions, and an engine that calls them.

Nothing here pretends: a fake site really trains (a least-squares model, in NumPy), and the fake
engine keeps the contract of `hospitium.types.Engine` without processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hospitium.algorithms.norm_bound import NORM_SUM, norm_sum
from hospitium.privacy.clipping import clip
from hospitium.randomness import rng
from hospitium.types import Answer, Answers, LeftOut, Params, Result, Task, Update

SiteFunction = Callable[[Task], Answer]


@dataclass(frozen=True, kw_only=True)
class LeastSquaresSite:
    """A site that fits ``y = x @ w + b`` by plain gradient steps on its own cases.

    It is deterministic, so that a task asked twice is answered with the same bits.
    """

    site_id: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    steps: int = 3
    lr: float = 0.05

    @property
    def num_cases(self) -> int:
        """How many training cases it enrols with."""
        return len(self.y)

    def __call__(self, task: Task) -> Update:
        """Answer a task as a site must: score, train, clip."""
        w, b = (task.params[name].astype(np.float64) for name in ("w", "b"))
        loss = round(float(np.mean((self.x @ w + b - self.y) ** 2)) * 1e6)
        for _ in range(self.steps):
            error = self.x @ w + b - self.y
            w = w - self.lr * self.x.T @ error / len(error)
            b = b - self.lr * error.mean(keepdims=True)
        delta = {
            "w": (w - task.params["w"]).astype(np.float32),
            "b": (b - task.params["b"]).astype(np.float32),
        }
        clipped, norm = clip(delta, max_norm=task.max_norm)
        return Update(
            run_id=task.run_id,
            round_number=task.round_number,
            site_id=self.site_id,
            plan_digest=task.plan_digest,
            base_digest=task.base_digest,
            num_cases=self.num_cases,
            delta=clipped if task.purpose == "train" else {},
            sums={"loss": (loss, 1), NORM_SUM: norm_sum(norm)},
            num_steps=self.steps,
        )


def least_squares_sites(
    *, num_sites: int = 3, num_features: int = 4, seed: int = 7
) -> list[LeastSquaresSite]:
    """Return sites of unlike size and shifted cases that share one true model."""
    truth = rng(seed, "truth").normal(size=num_features)
    sites = []
    for index in range(num_sites):
        site_id = f"site-{index + 1}"
        draw = rng(seed, site_id)
        x = draw.normal(loc=0.3 * index, size=(8 + 5 * index, num_features))
        noise = draw.normal(scale=0.1, size=len(x))
        sites.append(LeastSquaresSite(site_id=site_id, x=x, y=x @ truth + noise))
    return sites


def first_params(num_features: int = 4) -> Params:
    """Return the zeros that every least-squares run begins with."""
    return {"w": np.zeros(num_features, np.float32), "b": np.zeros(1, np.float32)}


@dataclass(kw_only=True)
class DirectEngine:
    """An engine that calls its sites one after the other, in an order that a test may choose."""

    sites: Mapping[str, SiteFunction]
    order: Callable[[Sequence[str]], Sequence[str]] = sorted
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def select(self, *, round_number: int) -> Sequence[str]:
        """Every site is asked in every round."""
        return sorted(self.sites)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Call each site; one that raises is left out."""
        self.asked.append((task.round_number, tuple(site_ids)))
        for site_id in self.order(site_ids):
            try:
                answer = self.sites[site_id](task)
            except Exception as error:  # whatever a site does, the round goes on
                answer = LeftOut(site_id=site_id, reason=type(error).__name__)
            yield answer

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Nobody leaves a run."""
        return ()

    def close(self) -> None:
        """There is nothing to stop."""


class Quiet:
    """Progress that says nothing."""

    def round_opened(self, plan: object, task: Task, site_ids: Sequence[str]) -> None:
        """Say nothing."""

    def answer(self, task: Task, answer: Answer) -> None:
        """Say nothing."""

    def round_closed(self, plan: object, task: Task, result: Result) -> None:
        """Say nothing."""
