"""Fifty sites and hundreds of rounds: the run ends by itself, and what it holds stays bounded."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from carried import NAME
from machines import Machines, closed, plan_of, rounds, rows_of
from measuring import count, folder_kb, growth, most, process
from page import write_page
from tiny import tiny_cases

from hospitium.imaging.cache import write_cases
from hospitium.operations.desks import existing
from hospitium.testing.partition import make_federation, parse_partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * 3600)]

SITES = [f"site-{index:02d}" for index in range(int(os.environ.get("SOAK_SITES", "50")))]
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "450"))
EVERY = 10
WARM_UP = 100
"""Rounds after which nothing may grow that is no record."""

NUM_PROCESSES = 2
LIMITS = {
    "coordinator_mb": 400.0,
    "coordinator_files": 60.0 + 4 * len(SITES),
    "coordinator_threads": 60.0,
    "hub_kb": 64 << 10,
    "hub_count": 40.0 + 4 * len(SITES),
    "params_kb": 4 << 10,
    "home_kb": 4 << 10,
    "agents_mb": 800.0,
    "agents_files": 40.0 + 4 * len(SITES),
}
"""The most that may be held at any time, whatever the number of rounds."""

GROWTH = {
    "coordinator_mb": 4 / 1024 * len(SITES),
    "coordinator_files": 0.02,
    "coordinator_threads": 0.02,
    "hub_kb": 0.2 * len(SITES),
    "hub_count": 0.02,
    "params_kb": 0.01,
    "home_kb": 0.1,
    "agents_mb": 4 / 1024 * len(SITES),
    "agents_files": 0.02,
    "ledger_kb": 6.0 * len(SITES),
    "record_kb": 40.0,
    "work_kb": 12.0,
}
"""The most that may be added in a round. What is a record grows; so does memory, which holds where
in the records things are; proofs in the hub's store grow with the logarithm of the log's length."""


class Many(Machines):
    """A coordinator as a process of its own, and agents that share a few processes."""

    def __init__(self, folder):
        dealt = make_federation(
            tiny_cases(scale=10), partition=parse_partition("iid"), num_sites=len(SITES), seed=7
        )
        cases = {}
        for site_id, made in zip(SITES, dealt.sites.values(), strict=True):
            cases[site_id] = folder / "cases" / site_id
            write_cases(cases[site_id], made)
        super().__init__(folder, SITES, cases=cases)
        self.agents = []

    def gather(self):
        """Start all agents."""
        script = Path(__file__).with_name("many_agents.py")
        for index in range(NUM_PROCESSES):
            words = [script, self.folder, *SITES[index::NUM_PROCESSES]]
            with (self.folder / f"agents-{index}.txt").open("wb") as out:
                command = [sys.executable, *map(str, words)]
                self.agents.append(subprocess.Popen(command, stdout=out, stderr=out))

    def __exit__(self, *reason):
        for agent in self.agents:
            agent.kill()
            agent.wait()
        super().__exit__(*reason)

    def sample(self, run, number):
        """Return what everything holds now."""
        hub = existing(self.home, NAME).folder / "hub"
        site = self.place(SITES[0]).folder
        agents = [process(agent.pid, name="agents") for agent in self.agents]
        ledger = sum(path.stat().st_size for path in run.glob("ledger.sqlite*")) / 1024
        return {
            "round": number,
            **process(self.centre.process.pid, name="coordinator"),
            **{name: sum(each[name] for each in agents) for name in agents[0]},
            "hub_kb": folder_kb(hub),
            "hub_count": count(hub),
            "ledger_kb": ledger,
            "params_kb": folder_kb(run / "store"),
            "home_kb": folder_kb(self.home.folder) - folder_kb(run) - folder_kb(hub),
            "record_kb": folder_kb(site / "log"),
            "work_kb": folder_kb(site) - folder_kb(site / "log"),
        }


def test_fifty_sites_and_hundreds_of_rounds_hold_no_more_at_the_end_than_at_the_beginning(tmp_path):
    samples = []
    with Many(tmp_path / "net") as field:
        run = field.start(field.offer(plan_of(rounds=ROUNDS, deadline_s=600, name="soak")), "soak")
        field.up()
        field.gather()
        wait_until_closed(run, 1)
        begun = time.monotonic()
        for number in range(EVERY, ROUNDS + 1, EVERY):
            wait_until_closed(run, number)
            samples.append({**field.sample(run, number), "seconds": time.monotonic() - begun})
            sys.stdout.write(json.dumps(samples[-1]) + "\n")
            sys.stdout.flush()
        field.finished(run)
        assert [row["status"] for row in rounds(run)] == ["closed"] * ROUNDS
        missing = rows_of(run, "SELECT * FROM seats WHERE status <> 'accepted'")
        reasons = Counter(f"{row['status']}: {row['reason']}" for row in missing)
        sys.stdout.write(f"without {dict(reasons)}\n")
    write_page(
        samples,
        reasons,
        warm_up=WARM_UP,
        num_sites=len(SITES),
        limits=LIMITS,
        growth_limits=GROWTH,
    )
    assert len(missing) <= 0.01 * ROUNDS * len(SITES)  # a held update may be among so many
    found = {name: most(samples, name) for name in LIMITS}
    assert {name: found[name] for name in found if found[name] > LIMITS[name]} == {}
    warm = [sample for sample in samples if sample["round"] >= WARM_UP]
    if len(warm) > 10:
        grown = {name: growth(warm, name) for name in GROWTH}
        assert {name: grown[name] for name in grown if grown[name] > GROWTH[name]} == {}


def wait_until_closed(run, number):
    """Wait for a round, without a look at the ledger more often than needed."""
    until = time.monotonic() + 600
    while closed(run) < number:
        assert time.monotonic() < until, f"round {number} never closed"
        time.sleep(0.5)
