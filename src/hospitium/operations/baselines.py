"""What the federation is compared with: each hospital alone, and all data in one place.

A baseline is a federation of one, run by the same loop with the same plan: the same model, first
params, steps, schedule, augmentation and choice on validation. So it gets the same care, and can be
killed and resumed like any run. Four things differ: its params are
those that training made, whatever the algorithm of the federation; nothing is clipped;
optimizer state is kept between rounds as in plain training; and the pooled run's batches are as
many times larger as there are sites, so that it sees as many cases as the federation did. A site
alone draws the plan's batch: a large site sees fewer cases alone than in a federation with
proportional batches, a small one more.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hospitium.engines.workers import WorkerPool
from hospitium.errors import QuorumError
from hospitium.imaging.cache import read_cases
from hospitium.imaging.cases import concatenate
from hospitium.operations.progress import Say
from hospitium.operations.running import OnThisMachine, plugin_of, run_to_end, sites_of
from hospitium.operations.starting import PreparedSite, create_run, opened_site, prepare_site
from hospitium.plan import Plan
from hospitium.plan.schema import AlgorithmSection
from hospitium.state.ledger import RunLedger
from hospitium.state.record import Chosen

POOLED = "pooled"


def run_baselines(ledger: RunLedger, *, pool: WorkerPool, say: Say) -> dict[str, Chosen]:
    """Train, or go on training, every baseline of a finished run; return what each came to.

    Returns:
        The result of each site alone by ``site_id``, and of all together as ``"pooled"``; one
        whose training failed is missing. A federation of one site has no pooled baseline: it is
        one.
    """
    folder = ledger.folder / "baselines"
    sites = [opened_site(site.site_id, site.cases) for site in sites_of(ledger)]
    wanted = {site.site_id: [site] for site in sites}
    if len(sites) > 1:
        wanted = {POOLED: sites, **wanted}

    def run(item: tuple[str, list[PreparedSite]]) -> Chosen | None:
        name, members = item
        place = folder / name
        if not RunLedger.exists(place):
            _create(ledger, name, members, place)
        label = name if name == POOLED else f"{name} alone"
        try:
            return run_to_end(place, engines=OnThisMachine(pool), say=say, label=label)
        except QuorumError as error:  # the report says that it is missing
            say({"kind": "stage", "text": f"{label} came to nothing: {error}"})
            return None

    with ThreadPoolExecutor(max_workers=pool.num_workers + 1) as threads:
        try:
            results = list(threads.map(run, wanted.items()))
        except BaseException:
            pool.close()  # the others stop at once; leaving the block waits for them
            raise
    found = zip(wanted, results, strict=True)
    return {name: chosen for name, chosen in found if chosen is not None}


def baseline_plan(plan: Plan, *, num_sites: int) -> Plan:
    """Return the plan of a federation of one that stands for ``num_sites`` hospitals together."""
    plan = _at_one_place(plan) if plan.algorithm.name == "fedadam" else plan
    batch_size = min(65_536, plan.training.batch_size * num_sites)
    return replace(
        plan,
        algorithm=replace(
            plan.algorithm,
            name="fedavg",
            mu=0.0,
            coordinator_lr=1.0,
            clip="fixed",
            max_norm=1e4,
        ),
        training=replace(
            plan.training,
            batch_size=batch_size,
            sampling_rate=0.0,
            moments="keep",
            class_weights=(),
        ),
        rounds=replace(plan.rounds, quorum=1, deadline_s=plan.rounds.deadline_s * num_sites),
        review=replace(plan.review, mode="off"),
    )


def _at_one_place(plan: Plan) -> Plan:
    """Return the plan in which the site itself takes the AdamW steps of a FedAdam coordinator.

    Where a site takes one plain SGD step in a round this is the same training, to rounding, of a
    federation of one; where it takes more, a step of it stands for a site's step. Rounds are as
    long as the time between two scores, so that the curve has as many points.
    """
    algorithm, default = plan.algorithm, AlgorithmSection()
    every = plan.evaluation.every
    count = max(1, plan.rounds.count // every)
    return replace(
        plan,
        algorithm=replace(
            algorithm,
            coordinator_schedule=default.coordinator_schedule,
            coordinator_warmup=default.coordinator_warmup,
            coordinator_decay=default.coordinator_decay,
            beta1=default.beta1,
            beta2=default.beta2,
        ),
        training=replace(
            plan.training,
            optimizer="adamw",
            lr=algorithm.coordinator_lr,
            weight_decay=algorithm.coordinator_decay,
            schedule=algorithm.coordinator_schedule,
            warmup=algorithm.coordinator_warmup,
            steps=plan.training.steps * max(1, round(plan.rounds.count / count)),
        ),
        rounds=replace(plan.rounds, count=count),
        evaluation=replace(plan.evaluation, every=1),
    )


def _create(ledger: RunLedger, name: str, members: list[PreparedSite], place: Path) -> None:
    plan = ledger.plan
    if name == POOLED:
        cases = concatenate([read_cases(site.cases_folder) for site in members])
        members = [prepare_site(POOLED, cases, place / "cases")]
        num_sites = len(ledger.seats)
    else:
        num_sites = 1
    create_run(
        place,
        run_id=f"{ledger.run_id[:40]}.{name}"[:64],
        plan=baseline_plan(plan, num_sites=num_sites),
        sites=members,
        facts={"baseline_of": ledger.run_id, "init_file": ledger.facts.get("init_file", "")},
        plugin=plugin_of(plan, str(ledger.facts.get("plugin", ""))),
    )
