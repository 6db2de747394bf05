"""Is the shared model better than each site alone, and as good as pooled training?

All models are measured on the same cases, with thresholds chosen earlier on validation data; the
differences that carry the claims are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hospitium.evaluation.exam import Exam, Models, Prediction, TestSet, to_json
from hospitium.evaluation.intervals import Metric, mean_over_sites, missing
from hospitium.evaluation.metrics import Floats
from hospitium.randomness import rng

__all__ = ["ModelScores", "TestSet", "compare"]

SMALLEST_GAP = 0.01
NO_POOLED = "no pooled model (the data are not in one place, or it was not trained)"
NO_AUROC = "an AUROC on the joint test set is missing"
NO_OWN_MODEL = "this site has no model of its own"


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """What one model says of every test case.

    Args:
        joint: Probabilities on the joint test set, ``(n, K)``.
        own: Probabilities on each site's own test cases, ``(n_i, K)``; a site may be absent.
        threshold: On the probability of class 1, from validation data. ``None`` (always with more
            than two classes) predicts the most probable class.
    """

    joint: Floats
    own: Mapping[str, Floats] = field(default_factory=dict)
    threshold: float | None = None


def compare(
    *,
    joint: TestSet,
    own: Mapping[str, TestSet],
    classes: Sequence[str],
    federated: ModelScores,
    local_only: Mapping[str, ModelScores],
    ensemble: ModelScores,
    pooled: ModelScores | None,
    seed: int,
) -> dict[str, Any]:
    """Return the part of ``report.json`` that says what was learnt; JSON values only.

    The keys are those of `hospitium.evaluation.report_shape.Comparison`. Nothing is chosen here:
    thresholds come with the scores. The same seed gives the same limits.

    Args:
        joint: The test set on which all models are compared.
        own: Each site's own test cases, by ``site_id``.
        classes: Names of the K classes; with two, the second is the positive one.
        federated: The shared model.
        local_only: Each site's model, trained alone; a site may be absent.
        ensemble: The mean of the sites' own models: "round 0".
        pooled: The model of training on all data in one place, if that was done.
        seed: The plan's seed.
    """
    tables = _Tables(joint=joint, own=own, num_classes=len(classes), seed=seed)
    shared = {"federated": federated, "ensemble": ensemble, "pooled": pooled}
    results = {name: scores and tables.of_shared(scores) for name, scores in shared.items()}
    results["local_only"] = tables.of_local(local_only)
    return {
        "results": results,
        **_claims(results),
        **to_json(_differences(tables, shared, local_only)),
        "gain_over_own_model": tables.gains(federated, local_only),
        "worst_site": {name: result and _worst(result) for name, result in results.items()},
        "mean_of_sites": {name: result and _mean(result) for name, result in results.items()},
        "thresholds": {
            **{name: scores and scores.threshold for name, scores in shared.items()},
            "local_only": {site: scores.threshold for site, scores in local_only.items()},
        },
        "test_sets": tables.describe(classes),
    }


class _Tables:
    """The joint test set and each site's own, and the tables measured on them."""

    def __init__(
        self, *, joint: TestSet, own: Mapping[str, TestSet], num_classes: int, seed: int
    ) -> None:
        self._sets = {"joint": joint, **{f"own:{site}": test for site, test in own.items()}}
        self.joint = Exam(joint, num_classes=num_classes, generator=rng(seed, "bootstrap"))
        self.own = {
            site: Exam(test, num_classes=num_classes, generator=rng(seed, "bootstrap", site))
            for site, test in sorted(own.items())
        }

    def of_shared(self, scores: ModelScores) -> dict[str, Any]:
        """Return the figures of a model that all sites share."""
        test = to_json(self.joint.measure([_on_joint(scores)]))
        return {
            "test": test,
            "per_site": {
                site: {"own": to_json(exam.measure(_on_own(scores, site))), "joint": test}
                for site, exam in self.own.items()
            },
        }

    def of_local(self, local_only: Mapping[str, ModelScores]) -> dict[str, Any]:
        """Return the figures of the sites' own models: each by itself, and their mean."""
        per_site = {}
        for site, exam in self.own.items():
            scores = local_only.get(site)
            joint = self.joint.measure([_on_joint(scores)] if scores else [])
            own = exam.measure(_on_own(scores, site) if scores else [])
            per_site[site] = {"own": to_json(own), "joint": to_json(joint)}
        everyone = [_on_joint(local_only[site]) for site in sorted(local_only)]
        return {"test": to_json(self.joint.measure(everyone)), "per_site": per_site}

    def gains(
        self, federated: ModelScores, local_only: Mapping[str, ModelScores]
    ) -> dict[str, dict[str, Any]]:
        """Return, per site, the AUROC of the shared model minus that of the site's own model."""
        gains = {}
        for site, exam in self.own.items():
            scores = local_only.get(site)
            if scores is None:
                none = {"own": missing(NO_OWN_MODEL), "joint": missing(NO_OWN_MODEL)}
                gains[site] = to_json(none)
                continue
            own = exam.auroc_difference(_on_own(federated, site), _on_own(scores, site))
            joint = self.joint.auroc_difference([_on_joint(federated)], [_on_joint(scores)])
            gains[site] = to_json({"own": own, "joint": joint})
        return gains

    def describe(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the size of each test set: cases, subjects, cases of each class."""
        sizes = {}
        for name, test in self._sets.items():
            counts = np.bincount(test.labels, minlength=len(classes)).tolist()
            sizes[name] = {
                "num_cases": len(test.labels),
                "num_subjects": len(np.unique(test.subjects)),
                "classes": dict(zip(classes, counts, strict=True)),
            }
        joint = sizes.pop("joint")
        return {"joint": joint, "own": {k.removeprefix("own:"): v for k, v in sizes.items()}}


def _on_joint(scores: ModelScores) -> Prediction:
    return Prediction(probabilities=scores.joint, threshold=scores.threshold)


def _on_own(scores: ModelScores, site: str) -> Models:
    if site not in scores.own:
        return []
    return [Prediction(probabilities=scores.own[site], threshold=scores.threshold)]


def _differences(
    tables: _Tables,
    shared: Mapping[str, ModelScores | None],
    local_only: Mapping[str, ModelScores],
) -> dict[str, Metric]:
    """Return the federated model's paired differences on the joint test set."""
    sides = {name: [_on_joint(scores)] for name, scores in shared.items() if scores}
    sides["local_only"] = [_on_joint(local_only[site]) for site in sorted(local_only)]
    federated, exam = sides["federated"], tables.joint
    differences = {
        f"federated_minus_{name}": exam.auroc_difference(federated, sides[name])
        if name in sides
        else missing(NO_POOLED)
        for name in ("pooled", "ensemble", "local_only")
    }
    differences["accuracy_federated_minus_pooled"] = (
        exam.accuracy_difference(federated[0], sides["pooled"][0])
        if "pooled" in sides
        else missing(NO_POOLED)
    )
    return differences


def _auroc(result: Mapping[str, Any] | None) -> float | None:
    return result["test"]["auroc"]["estimate"] if result else None


def _claims(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the single numbers, and under ``missing`` why there are fewer."""
    closed, why_no_gap = _gap_closed(results)
    ratio, why_no_ratio = _ratio(results)
    reasons = {
        "gap_closed": why_no_gap,
        "ratio_to_pooled": why_no_ratio,
        "pooled": None if results["pooled"] else NO_POOLED,
    }
    return {
        "gap_closed": closed,
        "ratio_to_pooled": ratio,
        "missing": {key: reason for key, reason in reasons.items() if reason},
    }


def _gap_closed(results: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Return the share of the way from the mean site alone to pooled, or why there is none."""
    pooled, local = _auroc(results["pooled"]), _auroc(results["local_only"])
    federated = _auroc(results["federated"])
    if results["pooled"] is None:
        return None, NO_POOLED
    if pooled is None or local is None or federated is None:
        return None, NO_AUROC
    if pooled - local < SMALLEST_GAP:
        return None, f"pooled beats the mean site alone by less than {SMALLEST_GAP}"
    return (federated - local) / (pooled - local), None


def _ratio(results: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Return the federated AUROC over the pooled one, or why there is none."""
    federated, pooled = _auroc(results["federated"]), _auroc(results["pooled"])
    if federated is None or not pooled:
        return None, NO_AUROC if results["pooled"] else NO_POOLED
    return federated / pooled, None


def _own_aurocs(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {site: tables["own"]["auroc"] for site, tables in result["per_site"].items()}


def _worst(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the site whose own test cases a model does worst on, and best minus worst."""
    known = {k: v for k, v in _own_aurocs(result).items() if v["estimate"] is not None}
    if not known:
        nothing = missing("no site has this figure").to_json()
        return {"site_id": None, "auroc": nothing, "best_minus_worst": None}
    estimates = {site: auroc["estimate"] for site, auroc in known.items()}
    worst = min(estimates, key=lambda site: (estimates[site], site))
    spread = max(estimates.values()) - estimates[worst]
    return {"site_id": worst, "auroc": known[worst], "best_minus_worst": spread}


def _mean(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unweighted mean over sites of the AUROC on each site's own test cases."""
    return mean_over_sites([Metric(**m) for m in _own_aurocs(result).values()]).to_json()
