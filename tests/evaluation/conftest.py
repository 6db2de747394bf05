"""A made-up run: scores drawn from a seed, compared and reported as a real one would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hospitium.evaluation.comparison import ModelScores, TestSet, compare

SITES = ("bergen", "lisboa", "napoli", "tartu", "utrecht")


def draw_cases(num_cases: int, *, num_classes: int = 2, positives: float = 0.6) -> TestSet:
    """Return cases of which a share is of the last classes, one per subject."""
    cut = round(num_cases * (1 - positives))
    labels = np.array([0 if i < cut else 1 + i % (num_classes - 1) for i in range(num_cases)])
    return TestSet(labels=labels, subjects=np.arange(num_cases))


def made_up_comparison(
    *,
    num_classes: int = 2,
    skills: tuple[float, float, float] = (2.5, 1.2, 2.5),
    num_cases: int = 400,
    with_pooled: bool = True,
    own: dict[str, TestSet] | None = None,
    seed: int = 7,
) -> dict[str, Any]:
    """Compare models of the given skill: federated, local only, pooled."""
    generator = np.random.default_rng(seed)
    joint = draw_cases(num_cases, num_classes=num_classes)
    own = own or {site: draw_cases(60, num_classes=num_classes) for site in SITES}
    base = {
        name: generator.normal(size=(len(test.labels), num_classes))
        for name, test in {"": joint, **own}.items()
    }  # what all models find hard alike

    def scores(skill: float) -> ModelScores:
        def of(name: str, test: TestSet) -> np.ndarray:
            fresh = generator.normal(size=base[name].shape)
            odds = np.exp(0.9 * base[name] + 0.4 * fresh + skill * np.eye(num_classes)[test.labels])
            return odds / odds.sum(axis=1, keepdims=True)

        mine = {site: of(site, test) for site, test in own.items()}
        threshold = 0.45 if num_classes == 2 else None
        return ModelScores(joint=of("", joint), own=mine, threshold=threshold)

    federated, local, pooled = skills
    return compare(
        joint=joint,
        own=own,
        classes=("normal", "pneumonia", "covid-19", "other")[:num_classes],
        federated=scores(federated),
        local_only={site: scores(local) for site in own},
        ensemble=scores((federated + local) / 2),
        pooled=scores(pooled) if with_pooled else None,
        seed=seed,
    )


def made_up_report(**changes: Any) -> dict[str, Any]:
    """Return a whole report around a made-up comparison."""
    comparison = made_up_comparison(**changes)
    classes = list(comparison["test_sets"]["joint"]["classes"])
    sites = list(comparison["gain_over_own_model"])
    curve = [
        {
            "round": r,
            "auroc": None if r == 0 else 0.97 - 0.3 / (r + 1),
            "loss": 0.15 + 0.55 / (r + 1),
            "sites": {
                s: {"auroc": 0.97 - (0.33 + 0.02 * k) / (r + 1) if r else None, "n": 40}
                for k, s in enumerate(sites)
            },
        }
        for r in range(21)
    ]
    participation = [
        {"round": r, "asked": sites, "answered": sites, "left_out": []} for r in range(1, 21)
    ]
    participation[6] = {
        "round": 7,
        "asked": sites,
        "answered": sites[1:],
        "left_out": [{"site_id": sites[0], "reason": "no answer within 60 s"}],
    }
    shift = {"gain": 1.08, "offset": -0.03, "gamma": 0.91, "blur_px": 0.4, "noise": 0.02}
    return {
        "schema_version": 1,
        "run_id": "2025-11-21-pneumonia-7",
        "plan_digest": "sha256:" + "3f" * 32,
        "task": "binary" if len(classes) == 2 else "multiclass",
        "classes": classes,
        "rounds": 20,
        "wall_s": 412.7,
        "partition": {
            "name": "dirichlet:0.5+scanner",
            "sites": {
                s: {
                    "train": dict.fromkeys(classes, 90),
                    "validation": dict.fromkeys(classes, 10),
                    "test": comparison["test_sets"]["own"][s]["classes"],
                    "shift": shift,
                }
                for s in sites
            },
        },
        "sites": [{"site_id": s, "num_cases": 180} for s in sites],
        "participation": participation,
        "traffic": {
            "bytes_down_per_site_per_round": 391_224,
            "bytes_up_per_site_per_round": 402_816,
        },
        "curve": curve,
        "chosen_round": {"round": 18, "reason": "It has the lowest validation loss."},
        "seeds": {"plan": 7},
        "command": "hospitium demo --sites 5 --partition dirichlet:0.5+scanner --seed 7",
        "review": {
            "mode": "hold",
            "num_updates": 20,
            "num_flagged": 1,
            "note": "",
            "updates": [
                {
                    "round": 2,
                    "site_id": "site-2",
                    "verdict": "held",
                    "why": ["AUROC of the model there, against the other sites of the round"],
                    "figures": {"auroc": {"value": 0.1, "median": 0.9, "distances": {"family": 7}}},
                    "waits": False,
                    "decision": "excluded",
                    "by": "Ada <Berg>",
                    "reason": "labels were the wrong way round",
                }
            ],
        },
        "interruptions": [{"at_utc": "2025-11-21T13:40:00+00:00", "round": 3}],
        "finished_at": "2025-11-21T14:02:11+00:00",
        "protections": [
            {
                "name": "Secure sums",
                "value": 'secure_sums = "off"',
                "meaning": "The coordinator can read each site's update.",
            },
            {
                "name": "Record-level differential privacy",
                "value": 'record_dp = "off"',
                "meaning": "No bound on what the model may remember of one patient.",
            },
        ],
        "plugins": [],
        "limits": ["These sites are simulated: one data set was shared out over them."],
        "versions": {"hospitium": "0.1.0", "python": "3.11.9", "numpy": "2.4.6"},
        **comparison,
    }


@pytest.fixture
def compare_made_up() -> Callable[..., dict[str, Any]]:
    return made_up_comparison


@pytest.fixture
def report_made_up() -> Callable[..., dict[str, Any]]:
    return made_up_report
