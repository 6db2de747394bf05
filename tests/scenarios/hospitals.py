"""Whole federations of real sites in one process: cases on disk, real trainers, a real ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hospitium import algorithms, federation
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import SPLITS, Cases
from hospitium.plan import Plan
from hospitium.plan.schema import (
    AlgorithmSection,
    ImagingSection,
    ModelSection,
    PipelineSection,
    RoundsSection,
    TrainingSection,
)
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine, Quiet
from hospitium.training import trainer_for
from hospitium.types import Answer, Seat, State, Task

SIZE = 8


SMALL = {"widths": [8, 16], "convs_per_stage": 1, "dropout": 0.0}


def plan_of(
    model: str = "logistic", *, rounds: int = 3, mu: float = 0.0, **training: object
) -> Plan:
    """Return a plan without what a plain loop would not do: no clip, no cap, no augmentation."""
    plain = TrainingSection(
        steps=4, batch_size=8, augment="none", class_weighting="none", weight_decay=0.01, lr=0.05
    )
    return Plan(
        imaging=ImagingSection(normalise="none", pipeline=PipelineSection(size=(SIZE, SIZE))),
        model=ModelSection(name=model, args=SMALL if model == "small_cnn" else {}),
        algorithm=AlgorithmSection(
            name="fedprox" if mu else "fedavg", mu=mu, max_share=1.0, clip="fixed", max_norm=100.0
        ),
        training=replace(plain, **training),
        rounds=RoundsSection(count=rounds, quorum=1),
    )


def cases_of(num_train: int, *, seed: int = 7, num_val: int = 4, size: int = SIZE) -> Cases:
    """Return cases in which the positive ones are brighter in one corner."""
    draw = np.random.default_rng(seed)
    total = num_train + num_val
    labels = draw.integers(0, 2, total)
    images = draw.uniform(0, 0.8, (total, 1, size, size))
    images[labels == 1, :, : size // 2, : size // 2] += 0.2
    return Cases(
        images=images.astype(np.float32),
        labels=labels,
        subjects=np.array([f"p{number}" for number in range(total)]),
        splits=np.array([SPLITS.index("train")] * num_train + [1] * num_val, np.uint8),
        classes=("normal", "pneumonia"),
    )


def federate(
    folder: Path,
    plan: Plan,
    cases: Mapping[str, Cases],
    *,
    called: str | None = None,
    order: object = sorted,
) -> State:
    """Run a plan over these sites to its end; ``called`` makes all draw as one site would."""
    trainer = trainer_for(plan, device="cpu")
    seats = _seats(cases)
    RunLedger.create(folder / "run", run_id="r", plan=plan, seats=seats, facts={})
    sites = {}
    for seat in seats:
        place = folder / seat.site_id
        write_cases(place / "cases", cases[seat.site_id])
        site = Site(
            site_id=called or seat.site_id,
            cases_folder=place / "cases",
            folder=place,
            consent=Consent(plan_digest=plan.digest, num_cases=seat.num_cases),
        )

        def act(task: Task, site: Site = site, name: str = seat.site_id) -> Answer:
            return replace(answer(task, plan=plan, site=site, trainer=trainer), site_id=name)

        sites[seat.site_id] = act
    ledger = RunLedger(folder / "run")
    algorithm = algorithms.build(plan, run_id="r", seats=seats, first_params=trainer.first_params)
    try:
        engine = DirectEngine(sites=sites, order=order)
        return federation.run(plan, algorithm, engine, ledger, Quiet())
    finally:
        ledger.close()


def _seats(cases: Mapping[str, Cases]) -> Sequence[Seat]:
    return [
        Seat(site_id=name, num_cases=int((own.splits == 0).sum())) for name, own in cases.items()
    ]
