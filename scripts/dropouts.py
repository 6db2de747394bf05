"""What it costs when hospitals drop out of a run and come back: docs/results/dropouts.md.

    python scripts/dropouts.py [--data PATH] [--work FOLDER] [--seeds 42,43,44,45,46]

Eight unlike hospitals train one model, once undisturbed and once with a fixed list of absences. It
can be stopped at any moment and started again: finished runs are kept, an interrupted one is
resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from over_seeds import half_width, interval, shared_error

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.evaluation.metrics import positive_placements
from hospitium.imaging.cache import write_cases
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import read_source
from hospitium.operations.demo import DemoOptions, demo_plan
from hospitium.operations.new_runs import new_run
from hospitium.operations.predicting import CaseFolder, labels_of, predict
from hospitium.operations.running import Engines, OnThisMachine, open_ledger, run_to_end
from hospitium.operations.starting import create_run, prepare_site
from hospitium.operations.versions import versions
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.testing.absences import Absences, IsAway
from hospitium.testing.partition import make_federation, parse_partition
from hospitium.training import trainer_for
from hospitium.types import Engine

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("HOSPITIUM_DATA", ROOT.parent / "shared" / "data"))
PARTITION = "dirichlet:0.5+scanner"
NUM_SITES, QUORUM = 8, 2
ARMS = ("undisturbed", "absences")


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "pneumoniamnist" / "pneumoniamnist.npz")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "dropouts")
    parser.add_argument("--seeds", default="42,43,44,45,46")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "dropouts.md")
    options = parser.parse_args()
    results = {
        int(seed): {arm: result_of(int(seed), arm, options) for arm in ARMS}
        for seed in options.seeds.split(",")
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page_of(results, rounds=options.rounds), encoding="utf-8")
    print(f"{options.out} was written.")


def absences(num_rounds: int) -> IsAway:
    """Return who is away when: three for good, two for five rounds, one every second round."""
    half, quarter = num_rounds // 2, num_rounds // 4

    def is_away(site_id: str, round_number: int) -> bool:
        number = int(site_id.removeprefix("site-"))
        if number <= 3:
            return round_number > half
        if number <= 5:
            return quarter < round_number <= quarter + 5
        return number == 6 and round_number % 2 == 0

    return is_away


class WithAbsences:
    """Engines on this machine, some of whose sites are away now and then."""

    def __init__(self, pool: WorkerPool, is_away: IsAway) -> None:
        self._here = OnThisMachine(pool)
        self._is_away = is_away

    def open(self, ledger: RunLedger) -> Engine:
        """Return the engine of a run."""
        return Absences(self._here.open(ledger), self._is_away)

    def stop(self) -> None:
        """Stop the workers."""
        self._here.stop()


def result_of(seed: int, arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a run says of the test cases; begin it or go on with it where needed."""
    kept: Path = options.work / f"{seed}-{arm}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    home, run_id = Home(options.work / "home"), f"{seed}-{arm}"
    if run_id not in home.runs():
        begin(home, run_id, seed=seed, data=options.data, num_rounds=options.rounds)
    folder = home.run(run_id)
    pool = WorkerPool(answer_request)
    engines: Engines = OnThisMachine(pool)
    if arm == "absences":
        engines = WithAbsences(pool, absences(options.rounds))
    try:
        run_to_end(folder, engines=engines, say=say, label=run_id)
    finally:
        pool.close()
    result = judged(folder)
    kept.write_text(json.dumps(result), encoding="utf-8")
    return result


def begin(home: Home, run_id: str, *, seed: int, data: Path, num_rounds: int) -> None:
    """Share the cases out and begin a run: FedAvg, ten steps a round, quorum 2."""
    cases = read_source(data, harmonise=Harmonise(), seed=seed)
    federation = make_federation(
        cases, partition=parse_partition(PARTITION), num_sites=NUM_SITES, seed=seed
    )
    plan = demo_plan(
        cases, DemoOptions(data=data, rounds=num_rounds, seed=seed), num_sites=NUM_SITES
    )
    plan = replace(plan, name="dropouts", rounds=replace(plan.rounds, quorum=QUORUM))
    with new_run(home, run_id, out=None) as folder:
        sites = [
            prepare_site(site_id, own, folder / "data" / site_id)
            for site_id, own in federation.sites.items()
        ]
        write_cases(folder / "joint", federation.joint_test)
        create_run(folder, run_id=run_id, plan=plan, sites=sites, facts={})


def judged(folder: Path) -> dict[str, Any]:
    """Return the scores of the joint test cases, and how many sites took part in each round."""
    ledger = open_ledger(folder)
    try:
        chosen = ledger.chosen()
        assert chosen is not None, "the run is finished"
        place = CaseFolder(cases=folder / "joint", statistics=folder / "data" / "site-8")
        trainer = trainer_for(ledger.plan)
        said = predict(ledger.plan, trainer, ledger.store.get(chosen.digest), place)
        return {
            "labels": labels_of(place, "test").labels.tolist(),
            "scores": [round(float(value), 7) for value in said[:, 1]],
            "chosen_round": chosen.round_number,
            "rounds": ledger.last_closed,
            "seats": [[seat.site_id, seat.num_cases] for seat in ledger.seats],
        }
    finally:
        ledger.close()


def say(event: Any) -> None:
    """Tell every twentieth round."""
    if event["kind"] == "round" and event["round"] % 20 == 0:
        print(f"  {event['run']}: round {event['round']} of {event['of']}", file=sys.stderr)


# --- the page ----------------------------------------------------------------------------------


def auroc(result: dict[str, Any]) -> float:
    """Return the area under the curve on the joint test cases."""
    positive = np.array(result["labels"]) == 1
    return float(positive_placements(np.array(result["scores"]), positive).mean())


def page_of(results: dict[int, dict[str, Any]], *, rounds: int) -> str:
    """Return the page: who was away, what it cost, each seed."""
    figures = {arm: [auroc(result[arm]) for result in results.values()] for arm in ARMS}
    differences = [b - a for a, b in zip(figures[ARMS[0]], figures[ARMS[1]], strict=True)]
    every = list(results.values())
    pairs = [
        (np.array(one["absences"]["scores"]), np.array(one["undisturbed"]["scores"]))
        for one in every
    ]
    error = shared_error(pairs, np.array(every[0]["undisturbed"]["labels"]) == 1)
    lower = mean(differences) - half_width(differences, error)
    is_away, found = absences(rounds), versions()
    lost = [
        sum(
            cases
            for site_id, cases in result["absences"]["seats"]
            for number in range(1, rounds + 1)
            if is_away(site_id, number)
        )
        / (rounds * sum(cases for _, cases in result["absences"]["seats"]))
        for result in every
    ]
    return "\n".join(
        [
            "# What it costs when hospitals drop out and come back",
            "",
            "PneumoniaMNIST (Yang 2023; Kermany 2018), real chest X-rays of 28 x 28 pixels, shared out",
            f"over eight simulated hospitals by `{PARTITION}`: unlike label shares, sizes and scanners.",
            f"FedAvg, `small_cnn`, {rounds} rounds of 10 steps, quorum {QUORUM}, secure sums off. The same plan",
            "is run twice for each seed, once undisturbed and once with these absences:",
            "",
            "| sites | away |",
            "|---|---|",
            f"| site-1, site-2, site-3 | for good, from round {rounds // 2 + 1} on |",
            f"| site-4, site-5 | rounds {rounds // 4 + 1} to {rounds // 4 + 5}, then back |",
            "| site-6 | every second round |",
            "| site-7, site-8 | never |",
            "",
            "An absent site is silent until the deadline; the round closes with the others, and nobody has",
            "to do anything: each run ended by itself with all its rounds closed "
            f"({', '.join(str(one['absences']['rounds']) for one in every)}).",
            f"Of the training cases of all rounds, {100 * mean(lost):.0f} % were away on average.",
            "Test AUROC on the joint test images (no scanner's shift), of the last round's params.",
            "",
            "| seed | undisturbed | with absences | difference |",
            "|---|---|---|---|",
            *(
                f"| {seed} | {a:.4f} | {b:.4f} | {b - a:+.4f} |"
                for seed, a, b in zip(results, figures[ARMS[0]], figures[ARMS[1]], strict=True)
            ),
            f"| mean | {interval(figures[ARMS[0]])} | {interval(figures[ARMS[1]])} | "
            f"{interval(differences, error, form='+.4f')} |",
            "",
            f"The lower 95 % limit of the difference is {lower:+.4f}. The interval joins the spread over the",
            "seeds (t) with the error that the shared test cases bring (DeLong 1988).",
            "",
            f"Written by `python scripts/dropouts.py`; torch {found.get('torch')}, numpy "
            f"{found.get('numpy')}, CPU.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
