"""One test set, ready to measure models on: each figure with the interval that fits the data.

Two classes, one case per subject, one model: closed forms. Otherwise: the subject bootstrap, with
the same resamples for all models, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.evaluation.bootstrap import Resamples, Weights, limits, weighted_auroc
from hospitium.evaluation.intervals import (
    ONE_CLASS,
    Metric,
    delong,
    missing,
    mover_difference,
    newcombe_paired,
    paired_delong,
    proportion,
    pseudo_score,
    wilson,
)
from hospitium.evaluation.metrics import Bools, Floats, Ints, classes_to_rank, predict

METRICS = ("auroc", "accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Cases that no training and no choice has seen.

    ``labels`` is ``(n,)``, in 0..K-1; ``subjects`` is ``(n,)``, whose case it is (text or numbers).
    """

    __test__: ClassVar[bool] = False  # not a test class, whatever pytest thinks of its name

    labels: Ints
    subjects: npt.NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one model says of the cases of a test set: ``(n, K)`` probabilities, and where it cuts.

    ``threshold`` is on the probability of class 1 (two classes only), chosen on validation data;
    ``None`` predicts the most probable class, which for two classes is a threshold of 0.5.
    """

    probabilities: Floats
    threshold: float | None = None


Models: TypeAlias = Sequence[Prediction]
"""One model, or several of which the unweighted mean of a figure is wanted."""


class Exam:
    """A test set with its resamples.

    Args:
        test: The cases.
        num_classes: K of the task; a class may be absent from the cases.
        generator: From ``rng(seed, "bootstrap", ...)``; drawn from once, when first needed.
    """

    def __init__(self, test: TestSet, *, num_classes: int, generator: np.random.Generator) -> None:
        self._labels = test.labels
        self._subjects = test.subjects
        self._generator = generator
        self._num_classes = num_classes
        self._auroc_draws: dict[int, tuple[Floats, Floats]] = {}
        self._ranked = classes_to_rank(test.labels, num_classes)
        counts = np.bincount(test.labels, minlength=num_classes)
        self.n = len(test.labels)
        present = counts[1:2] if num_classes == 2 else counts[counts > 0]
        self.num_positive = int(min(present, default=0))
        self.num_subjects = len(np.unique(test.subjects))

    @cached_property
    def _resamples(self) -> Resamples:
        return Resamples(self._labels, self._subjects, self._generator)

    @property
    def _is_simple(self) -> bool:
        """Whether cases are independent and the task has two classes."""
        return self._num_classes == 2 and self.num_subjects == self.n

    def measure(self, models: Models) -> dict[str, Metric]:
        """Return AUROC, accuracy, sensitivity and specificity of a model, or the mean over several.

        More than two classes: AUROC, sensitivity and specificity are macro averages, one against
        the rest, over the classes present; a reason names how many are absent.
        """
        reason = self._unusable(models)
        if reason:
            return {name: self._missing(reason) for name in METRICS}
        predicted = [self._predicted(model) for model in models]
        classes = [1] if self._num_classes == 2 else range(self._num_classes)
        everyone = np.ones(self.n, dtype=np.bool_)
        is_class = [self._labels == c for c in classes]
        found = [np.mean([p == c for p in predicted], axis=0) for c in classes]
        right = np.mean([p == self._labels for p in predicted], axis=0)
        sensitivity = self._rate(list(zip(found, is_class, strict=True)), num_models=len(models))
        spared = [(1 - yes, ~group) for yes, group in zip(found, is_class, strict=True)]
        return {
            "auroc": self.auroc(models),
            "accuracy": self._rate([(right, everyone)], num_models=len(models)),
            "sensitivity": replace(sensitivity, reason=sensitivity.reason or self._absent),
            "specificity": self._rate(spared, num_models=len(models)),
        }

    def auroc(self, models: Models) -> Metric:
        """Return the (macro) AUROC of a model, or the mean over several."""
        reason = self._unusable(models) or (None if self._ranked else ONE_CLASS)
        if reason:
            return self._missing(reason)
        if self._is_simple and len(models) == 1:
            return delong(models[0].probabilities[:, 1], self._labels == 1)

        rare = min(self.num_positive, self.n - self.num_positive)
        metric = self._bootstrap(
            self._mean_auroc(models),
            lambda area: pseudo_score(area, num_positive=rare, num_negative=self.n - rare),
        )
        return replace(metric, reason=self._absent)

    def auroc_difference(self, first: Models, second: Models) -> Metric:
        """Return AUROC(first) - AUROC(second), paired over the cases."""
        for models in (first, second):
            reason = self._unusable(models) or (None if self._ranked else ONE_CLASS)
            if reason:
                return self._missing(reason)
        if self._is_simple and len(first) == len(second) == 1:
            scores = [models[0].probabilities[:, 1] for models in (first, second)]
            return paired_delong(scores[0], scores[1], self._labels == 1)
        draws = self._mean_auroc(first) - self._mean_auroc(second)
        between = limits(draws)
        if between is None:
            return mover_difference(self.auroc(first), self.auroc(second))
        return replace(self._counted(float(draws[0]), *between), reason=self._absent)

    def accuracy_difference(self, first: Prediction, second: Prediction) -> Metric:
        """Return accuracy(first) - accuracy(second), each at its threshold, paired over cases."""
        reason = self._unusable([first, second])
        if reason:
            return self._missing(reason)
        one, two = (self._predicted(model) == self._labels for model in (first, second))
        if self.num_subjects == self.n:
            metric = newcombe_paired(one, two)
            return self._counted(metric.estimate, metric.lower, metric.upper)
        everyone = np.ones(self.n, dtype=np.bool_)
        draws = self._share(one, everyone) - self._share(two, everyone)
        between = limits(draws)
        if between is None:
            singles = [self.measure([model])["accuracy"] for model in (first, second)]
            return mover_difference(singles[0], singles[1])
        return self._counted(float(draws[0]), *between)

    def _unusable(self, models: Models) -> str | None:
        """Return why nothing can be measured, if so."""
        if not self.n:
            return "no test cases"
        if not models:
            return "no scores of this model on these cases"
        if not all(np.isfinite(model.probabilities).all() for model in models):
            return "the model's scores are not finite"
        return None

    def _missing(self, reason: str) -> Metric:
        return missing(reason, n=self.n, num_positive=self.num_positive)

    def _predicted(self, model: Prediction) -> Ints:
        return predict(model.probabilities, threshold=model.threshold)

    def _mean_auroc(self, models: Models) -> Floats:
        """Return the draws of the mean AUROC; those of each model are worked out once."""
        for scores in (model.probabilities for model in models):
            if id(scores) not in self._auroc_draws:  # the scores are kept, so the id stays theirs
                self._auroc_draws[id(scores)] = scores, self._draw_auroc(scores)
        known = [self._auroc_draws[id(model.probabilities)][1] for model in models]
        return np.asarray(np.mean(known, axis=0))

    def _draw_auroc(self, scores: Floats) -> Floats:
        def statistic(weights: Weights) -> Floats:
            areas = [weighted_auroc(scores[:, c], self._labels == c, weights) for c in self._ranked]
            return np.asarray(np.mean(areas, axis=0))

        return self._resamples.draws(statistic)

    def _share(self, right: Floats | Bools, group: Bools) -> Floats:
        """Return the draws of the mean of ``right`` over the cases of ``group``."""
        yes, every = np.where(group, right, 0).astype(np.float64), group.astype(np.float64)

        def statistic(weights: Weights) -> Floats:
            with np.errstate(invalid="ignore"):
                return np.asarray((yes @ weights) / (every @ weights))

        return self._resamples.draws(statistic)

    def _rate(self, parts: Sequence[tuple[Floats, Bools]], *, num_models: int) -> Metric:
        """Return the mean over ``parts`` of the share that is right among the cases of a group.

        A part is ``(right, group)``: the share of models right about each case, and which cases
        count. Groups without cases are passed over.
        """
        parts = [(right, group) for right, group in parts if group.any()]
        if not parts:
            return self._missing(ONE_CLASS)
        if self.num_subjects == self.n and num_models == len(parts) == 1:
            right, group = parts[0]
            single = proportion(right[group] > 0)
            return self._counted(single.estimate, single.lower, single.upper)
        fewest = min(len(np.unique(self._subjects[group])) for _, group in parts)
        return self._bootstrap(
            np.asarray(np.mean([self._share(right, group) for right, group in parts], axis=0)),
            lambda share: wilson(share * fewest, fewest),
        )

    def _bootstrap(
        self, draws: Floats, otherwise: Callable[[float], tuple[float, float]]
    ) -> Metric:
        """Return a figure with percentile limits; where all resamples agree, with ``otherwise``.

        They agree at 0 and 1: without errors in the data the bootstrap cannot imagine one.
        """
        estimate = float(draws[0])
        return self._counted(estimate, *(limits(draws) or otherwise(estimate)))

    def _counted(self, estimate: float | None, lower: float | None, upper: float | None) -> Metric:
        return Metric(
            estimate=estimate,
            lower=lower,
            upper=upper,
            n=self.n,
            num_positive=self.num_positive,
        )

    @property
    def _absent(self) -> str | None:
        """Return what a macro average leaves out, if anything."""
        if self._num_classes == 2 or len(self._ranked) == self._num_classes:
            return None
        return f"over the {len(self._ranked)} of {self._num_classes} classes that have cases"


def to_json(metrics: Mapping[str, Metric]) -> dict[str, dict[str, object]]:
    """Return named figures as objects of ``report.json``."""
    return {name: metric.to_json() for name, metric in metrics.items()}
