"""How the scenario tests run a federation of least-squares sites in one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hospitium import algorithms, federation
from hospitium.plan import Plan
from hospitium.plan.schema import AlgorithmSection, RoundsSection
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen
from hospitium.testing.fakes import (
    DirectEngine,
    Quiet,
    SiteFunction,
    first_params,
    least_squares_sites,
)
from hospitium.types import Engine, Seat, State, Sums

LOSS = {"loss": 2}
"""What a least-squares site measures. It is on no real site's list of what may leave."""


def score_of(sums: Sums) -> float | None:
    return -sums["loss"][0] / sums["loss"][1] if "loss" in sums else None


def small_plan(rounds: int = 4, quorum: int = 2, **algorithm: object) -> Plan:
    return Plan(
        rounds=RoundsSection(count=rounds, quorum=quorum, deadline_s=5.0, keep_last=2),
        algorithm=replace(AlgorithmSection(ema=0.9), **algorithm),
    )


def sites_by_name() -> dict[str, SiteFunction]:
    return {site.site_id: site for site in least_squares_sites()}


def seats() -> list[Seat]:
    return [Seat(site_id=s.site_id, num_cases=s.num_cases) for s in least_squares_sites()]


def create(folder: Path, plan: Plan) -> None:
    RunLedger.create(folder, run_id="r", plan=plan, seats=seats(), facts={})


def go_on(
    folder: Path,
    sites: Mapping[str, SiteFunction] | None = None,
    order: object = sorted,
    engine: Engine | None = None,
    sum_lengths: Mapping[str, int] | None = LOSS,
) -> tuple[State, dict[str, object]]:
    """Run or resume, to the end; return the last state and the ledger's record."""
    ledger = RunLedger(folder, score_of=score_of)
    algorithm = algorithms.build(
        ledger.plan,
        run_id="r",
        seats=ledger.seats,
        first_params=first_params,
        sum_lengths=sum_lengths,
    )
    engine = engine or DirectEngine(sites=sites or sites_by_name(), order=order)
    try:
        state = federation.run(ledger.plan, algorithm, engine, ledger, Quiet())
        if not ledger.is_finished:
            ledger.finished(
                Chosen(
                    round_number=ledger.best_round(),
                    slot="params",
                    digest=ledger.digests_after(ledger.best_round())["params"],
                    reason="best",
                    threshold=None,
                    sums={},
                )
            )
        return state, ledger.record()
    finally:
        ledger.close()
