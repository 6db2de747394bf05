"""What becomes of a run in which one of five hospitals is faulty: docs/results/faulty-site.md.

    python scripts/faulty_site.py [--data PATH] [--work FOLDER] [--seeds 42,43,44,45,46] [--honest 50]

Each kind of fault is run with review off, with holding, and with the site out for good after its
first hold; and many runs without a fault count the false alarms. It can be stopped at any moment
and started again: finished runs are kept, an interrupted one is begun anew. One process, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from over_seeds import interval, shared_error

from hospitium import algorithms, federation
from hospitium.evaluation.intervals import wilson
from hospitium.evaluation.metrics import positive_placements
from hospitium.evaluation.score_sums import layout
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import read_source
from hospitium.operations.demo import DemoOptions, demo_plan
from hospitium.operations.predicting import CaseFolder, labels_of, predict
from hospitium.operations.reviewing import Reviewer
from hospitium.operations.starting import create_run, prepare_site
from hospitium.operations.versions import versions
from hospitium.plan import Plan
from hospitium.plan.schema import ModelSection
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.state.ledger import RunLedger
from hospitium.testing.absences import Absences
from hospitium.testing.fakes import DirectEngine, Quiet
from hospitium.testing.partition import make_federation, parse_partition
from hospitium.training import Trainer, trainer_for
from hospitium.types import Answer, Task

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("HOSPITIUM_DATA", ROOT.parent / "shared" / "data"))
PARTITION = "dirichlet:0.5+scanner"
NUM_SITES, QUORUM, ROUNDS = 5, 3, 20
FAULTS = {
    "inverted": "inverted contrast",
    "flipped": "flipped labels",
    "x255": "values x255",
    "sign": "sign-flipped update",
}
BEGINS = 11
LATER = {f"{fault}-later": f"{words}, from round {BEGINS} on" for fault, words in FAULTS.items()}
ARMS = {"off": "review off", "hold": "holding", "exclude": "excluding"}


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "pneumoniamnist" / "pneumoniamnist.npz")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "faulty-site")
    parser.add_argument("--seeds", default="42,43,44,45,46")
    parser.add_argument("--honest", type=int, default=50)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "faulty-site.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    runs: dict[tuple[str, str, int], dict[str, Any]] = {}
    for seed in seeds:
        for fault in [*FAULTS, *LATER]:
            for arm in ARMS:
                runs[fault, arm, seed] = result_of(seed, fault, arm, options)
    honest = {
        seed: result_of(seed, "none", "hold", options)
        for seed in range(seeds[0], seeds[0] + options.honest)
    }
    for seed in seeds:
        for arm in ARMS:  # where nobody was held, all three are the same run
            is_same = not honest[seed]["held"]
            runs["none", arm, seed] = (
                honest[seed] if is_same else result_of(seed, "none", arm, options)
            )
    page = page_of(runs, seeds=seeds, honest=honest)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")
    print(f"{options.out} was written.")


# --- one run -----------------------------------------------------------------------------------


def result_of(seed: int, fault: str, arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what one run came to; run it where that is not known yet."""
    kept: Path = options.work / f"{fault}-{arm}-{seed}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    place = options.work / "now"
    shutil.rmtree(place, ignore_errors=True)
    found = run_once(place, seed=seed, fault=fault, arm=arm, data=options.data)
    shutil.rmtree(place, ignore_errors=True)
    kept.write_text(json.dumps(found), encoding="utf-8")
    print(f"{fault}, {arm}, seed {seed}: {auroc(found):.4f}", file=sys.stderr, flush=True)
    return found


def run_once(place: Path, *, seed: int, fault: str, arm: str, data: Path) -> dict[str, Any]:
    """Train once, with the largest site faulty from the first round on, or later."""
    fault, begins = fault.removesuffix("-later"), BEGINS if fault.endswith("-later") else 1
    cases = read_source(data, harmonise=Harmonise(), seed=seed)
    parts = make_federation(
        cases, partition=parse_partition(PARTITION), num_sites=NUM_SITES, seed=seed
    )
    faulty = max(parts.sites, key=lambda name: int((parts.sites[name].splits == 0).sum()))
    sites = [prepare_site(name, each, place / "data" / name) for name, each in parts.sites.items()]
    write_cases(place / "faulty", spoilt(parts.sites[faulty], fault))
    write_cases(place / "joint", parts.joint_test)
    plan = plan_of(cases, data=data, seed=seed, mode="off" if arm == "off" else "hold")
    plan = create_run(place / "run", run_id="study", plan=plan, sites=sites, facts={})
    trainer = trainer_for(plan, device="cpu")
    ledger = RunLedger(place / "run")
    try:
        is_faulty = _Fault(site_id=faulty, begins=begins, turns=fault == "sign")
        train(ledger, trainer, place=place, fault=is_faulty, arm=arm)
        state = ledger.state_after(ledger.last_closed)
        honest = next(name for name in parts.sites if name != faulty)
        joint = CaseFolder(cases=place / "joint", statistics=place / "data" / honest)
        odd = ledger.reviews.odd()
        return {
            "faulty": "" if fault == "none" else faulty,
            "seats": [[seat.site_id, seat.num_cases] for seat in ledger.seats],
            "labels": labels_of(joint, "test").labels.tolist(),
            "scores": predict(plan, trainer, state.params, joint)[:, 1].round(7).tolist(),
            "held": [found_in(row) for row in odd if row["verdict"] == "held"],
            "flagged": [found_in(row) for row in odd if row["verdict"] == "flagged"],
        }
    finally:
        ledger.close()


def spoilt(cases: Cases, fault: str) -> Cases:
    """Return the cases of a site as it sees them with this fault: of all its splits."""
    images = np.asarray(cases.images)
    if fault == "inverted":
        return replace(cases, images=(1 - images).astype(np.float32))
    if fault == "x255":
        return replace(cases, images=(255 * images).astype(np.float32))
    if fault == "flipped":
        return replace(cases, labels=1 - np.asarray(cases.labels))
    return cases


def plan_of(cases: Cases, *, data: Path, seed: int, mode: str) -> Plan:
    """Return the plan of a small run: FedAvg, ten local steps, a net of 23,000 params."""
    plan = demo_plan(cases, DemoOptions(data=data, rounds=ROUNDS, seed=seed), num_sites=NUM_SITES)
    return replace(
        plan,
        name="faulty-site",
        model=ModelSection(
            name="small_cnn", args={"widths": [16, 32], "convs_per_stage": 1}, init_seed=seed
        ),
        rounds=replace(plan.rounds, quorum=QUORUM),
        review=replace(plan.review, mode=mode),
    )


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """Which site is faulty, from which round on, and whether it turns its changes around."""

    site_id: str
    begins: int
    turns: bool


def train(ledger: RunLedger, trainer: Trainer, *, place: Path, fault: _Fault, arm: str) -> None:
    """Take the run to its last round, in this process."""
    plan = ledger.plan

    def act_of(site: Site) -> Any:
        def act(task: Task) -> Answer:
            if site.site_id != fault.site_id or task.round_number < fault.begins:
                return answer(task, plan=plan, site=site, trainer=trainer)
            bad = replace(site, cases_folder=place / "faulty")
            update = answer(task, plan=plan, site=bad, trainer=trainer)
            if not fault.turns:
                return update
            return replace(update, delta={name: -array for name, array in update.delta.items()})

        return act

    sites = {
        seat.site_id: act_of(
            Site(
                site_id=seat.site_id,
                cases_folder=place / "data" / seat.site_id,
                folder=place / "state" / seat.site_id,
                consent=Consent(plan_digest=plan.digest, num_cases=seat.num_cases),
            )
        )
        for seat in ledger.seats
    }

    def is_out(site_id: str, round_number: int) -> bool:
        rows = ledger.reviews.odd() if arm == "exclude" else []
        return any(row["site_id"] == site_id and row["verdict"] == "held" for row in rows)

    algorithm = algorithms.build(
        plan,
        run_id=ledger.run_id,
        seats=ledger.seats,
        first_params=trainer.first_params,
        sum_lengths=layout(len(plan.task.classes)),
    )
    engine = Absences(DirectEngine(sites=sites), is_out)
    federation.run(plan, algorithm, engine, ledger, Quiet(), Reviewer(ledger))


def found_in(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the page needs of one review."""
    return {key: row[key] for key in ("round_number", "site_id", "why", "scores")}


# --- the page ----------------------------------------------------------------------------------

Runs = Mapping[tuple[str, str, int], dict[str, Any]]


def auroc(result: dict[str, Any]) -> float:
    """Return the area under the curve on the joint test cases."""
    positive = np.array(result["labels"]) == 1
    return float(positive_placements(np.array(result["scores"]), positive).mean())


def holds_of(result: dict[str, Any], *, faulty: bool) -> list[int]:
    """Return the rounds in which the faulty site was held, or one of the others."""
    return [
        row["round_number"]
        for row in result["held"]
        if (row["site_id"] == result["faulty"]) == faulty
    ]


def page_of(runs: Runs, *, seeds: Sequence[int], honest: Mapping[int, dict[str, Any]]) -> str:
    """Return the page: what was held and when, false alarms, and what it did to the model."""
    found = versions()
    lines = [
        "# One of five hospitals is faulty",
        "",
        "PneumoniaMNIST (Yang 2023; Kermany 2018), real chest X-rays of 28 x 28 pixels, shared out",
        f"over five simulated hospitals by `{PARTITION}`: unlike label shares, sizes and scanners.",
        f"FedAvg, {ROUNDS} rounds of 10 steps, `small_cnn` of 23,000 params, quorum {QUORUM}, the review's",
        "default limits. The faulty site is the one with the most cases, from the first round on or from",
        "the middle: the worst one to have. How updates are judged: [held updates](../concepts/held-updates.md).",
        "",
        "- *review off*: all that passes the gate counts.",
        '- *holding*: `review.mode = "hold"`; a held update is left out of its round, nobody decides.',
        "- *excluding*: whoever was held once is out for the rest of the run, as if revoked.",
        "",
        "## What is held, and when",
        "",
        *_detection(runs, seeds),
        "",
        "## False alarms",
        "",
        *_false_alarms(honest),
        "",
        "## What it does to the model",
        "",
        *_effects(runs, seeds),
        "",
        "Written by `python scripts/faulty_site.py`; torch "
        f"{found.get('torch')}, numpy {found.get('numpy')}, CPU.",
        "",
    ]
    notes = ROOT / "docs" / "results" / "faulty-site-notes.md"
    return "\n".join(lines) + (notes.read_text(encoding="utf-8") if notes.exists() else "")


def _detection(runs: Runs, seeds: Sequence[int]) -> list[str]:
    lines = [
        "| fault | runs in which it was held | first held in round | rounds held | why first | "
        "honest sites held |",
        "|---|---|---|---|---|---|",
    ]
    for fault, words in {**FAULTS, **LATER}.items():
        each = [runs[fault, "hold", seed] for seed in seeds]
        rounds = [holds_of(result, faulty=True) for result in each]
        others = sum(len(holds_of(result, faulty=False)) for result in each)
        why = [
            "+".join(
                next(row["why"] for row in result["held"] if row["site_id"] == result["faulty"])
            )
            if held
            else "-"
            for held, result in zip(rounds, each, strict=True)
        ]
        lines.append(
            f"| {words} | {sum(map(bool, rounds))} of {len(seeds)} | "
            f"{', '.join(str(held[0]) if held else '-' for held in rounds)} | "
            f"{', '.join(str(len(held)) for held in rounds)} of {ROUNDS} | {'; '.join(why)} | "
            f"{others} of {len(seeds) * ROUNDS * (NUM_SITES - 1)} updates |"
        )
    return [
        *lines,
        "",
        f"Holding, seeds {', '.join(map(str, seeds))}, in their order.",
    ]


def _false_alarms(honest: Mapping[int, dict[str, Any]]) -> list[str]:
    with_alarm = [seed for seed, result in honest.items() if result["held"]]
    lower, upper = wilson(len(with_alarm), len(honest))
    updates = len(honest) * ROUNDS * NUM_SITES
    held = sum(len(result["held"]) for result in honest.values())
    flagged = sum(len(result["flagged"]) for result in honest.values())
    named = f" (seeds {', '.join(map(str, with_alarm))})" if with_alarm else ""
    seeds = sorted(honest)
    return [
        f"{len(honest)} runs without a fault (seeds {seeds[0]} to {seeds[-1]}): in {len(with_alarm)} of",
        f"them{named} an update was held: {100 * len(with_alarm) / len(honest):.0f} % "
        f"[{100 * lower:.1f}, {100 * upper:.1f}] of runs (Wilson). Of {updates:,} updates",
        f"{held} were held and {flagged} flagged. A run in which nothing is held ends with the bits of",
        "one without a review.",
    ]


def _effects(runs: Runs, seeds: Sequence[int]) -> list[str]:
    lines = [
        "Test AUROC on the joint test images (nobody's scanner, nobody's fault), last params; mean and",
        "95 % interval over the seeds (t), for the differences joined with the error that the shared",
        "test cases bring (DeLong 1988).",
        "",
        "| fault | review off | holding | excluding | holding minus off | excluding minus off |",
        "|---|---|---|---|---|---|",
    ]
    for fault, words in {"none": "none", **FAULTS, **LATER}.items():
        by_arm = {arm: [auroc(runs[fault, arm, seed]) for seed in seeds] for arm in ARMS}
        cells = [interval(values) for values in by_arm.values()]
        for arm in ("hold", "exclude"):
            pairs = [
                tuple(np.array(runs[fault, each, seed]["scores"]) for each in (arm, "off"))
                for seed in seeds
            ]
            error = shared_error(pairs, np.array(runs[fault, arm, seeds[0]]["labels"]) == 1)
            gains = [a - b for a, b in zip(by_arm[arm], by_arm["off"], strict=True)]
            cells.append(interval(gains, error, form="+.4f"))
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", "| fault | seed | " + " | ".join(ARMS.values()) + " | cases at the sites |"]
    lines += ["|---|---|---|---|---|---|"]
    for fault, words in {"none": "none", **FAULTS, **LATER}.items():
        for seed in seeds:
            each = [f"{auroc(runs[fault, arm, seed]):.4f}" for arm in ARMS]
            seats = ", ".join(str(number) for _, number in runs[fault, "off", seed]["seats"])
            lines.append(f"| {words} | {seed} | " + " | ".join(each) + f" | {seats} |")
    return lines


if __name__ == "__main__":
    main()
