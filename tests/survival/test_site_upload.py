"""A site's agent that is killed before, during and after its upload: nothing is trained twice."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from carried import NAME
from figures import figure
from machines import Machines, closed, digests, plan_of, seats, wait_for
from tiny import images_of
from undisturbed import require_same_bits_as_all

from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.operations.desks import existing
from hospitium.site.departures import LOG
from hospitium.state.leaf_log import lines_of

pytestmark = pytest.mark.ci

SIZE = 256
ROUNDS = 6
SITES = ["kiel", "oslo"]


def large_cases(folder, *, seed):
    """Write cases of so many pixels that an update, of 262 kB, takes a while on a slow line."""
    images, labels = images_of(24, seed=seed, size=SIZE)
    cases = Cases(
        images=(images / 255).astype(np.float32)[:, None],
        labels=labels.astype(np.int64),
        subjects=np.array([f"s{index}" for index in range(24)]),
        splits=np.repeat(np.arange(2, dtype=np.uint8), [16, 8]),
        classes=("normal", "pneumonia"),
    )
    write_cases(folder, cases)
    return folder


def large_plan():
    plan = plan_of(rounds=ROUNDS, deadline_s=60, name="upload")
    pipeline = replace(plan.imaging.pipeline, size=(SIZE, SIZE))
    return replace(plan, imaging=replace(plan.imaging, pipeline=pipeline))


class Oslo:
    """What the site of this test has on disk about a run."""

    def __init__(self, machines, run):
        self._work = machines.place("oslo").folder / "work"
        self._record = machines.place("oslo").folder / LOG
        self._run_id = run.name

    def trained(self, round_number):
        """Return how often a round was trained, by the site's own record of what leaves."""
        leaves = [line.leaf for line in lines_of(self._record)]
        return sum(
            (leaf.get("run_id"), leaf.get("round_number"), leaf["kind"])
            == (self._run_id, round_number, "update")
            for leaf in leaves
        )

    def kept(self, *, after=0):
        """Return the last answer that is kept, of a later round: round, bytes, has a receipt."""
        found = []
        for path in (self._work / "answers").glob("*.json"):
            row = json.loads(path.read_bytes())
            if row["run_id"] == self._run_id and row["round_number"] > after:
                data = (self._work / "answers" / row["file"]).read_bytes()
                found.append((row["round_number"], data, path.with_suffix(".receipt").is_file()))
        return max(found, default=None)

    def has_model(self, digest):
        """Whether the params of a task have come."""
        return (self._work / "models" / f"{digest}.safetensors").is_file()

    def is_sent_so(self, round_number, data):
        """Whether what is kept of a round, if it is kept still, is these bytes."""
        now = self.kept(after=round_number - 1)
        return now is None or now[0] != round_number or now[1] == data


def test_an_agent_killed_before_during_and_after_its_upload_sends_the_same_bytes(tmp_path):
    cases = {name: large_cases(tmp_path / name, seed=n) for n, name in enumerate(SITES)}
    with Machines(tmp_path / "net", SITES, cases=cases) as field:
        run = field.start(field.offer(large_plan()), "upload")
        oslo, gate = Oslo(field, run), field.gates["oslo"]
        field.up()
        field.attend(*SITES)
        field.healthy()
        wait_for(lambda: closed(run) >= 1)
        field.hold_worker("oslo")
        wait_for(lambda: sorted(seats(run, closed(run) + 1).values()) == ["accepted", "asked"])
        wait_for(lambda: oslo.has_model(digests(run)[-1]))
        gate.shut()
        last = closed(run)
        field.go_on("oslo")
        wait_for(lambda: oslo.kept(after=last))
        before, data, _ = oslo.kept(after=last)
        field.kill_agent("oslo")  # before: not a byte of it has left
        assert not accepted(run, before)
        gate.open()
        gate.up_per_s = 60_000  # so that the next time it is caught in the middle
        field.attend("oslo")
        wait_for(lambda: accepted(run, before))
        assert oslo.is_sent_so(before, data)

        wait_for(lambda: oslo.kept(after=before))
        (during, data, _), passed = oslo.kept(after=before), gate.up
        wait_for(lambda: gate.up > passed + len(data) // 3)
        assert not accepted(run, during)
        field.kill_agent("oslo")
        gate.up_per_s = 0.0
        field.attend("oslo")
        wait_for(lambda: accepted(run, during))
        assert oslo.is_sent_so(during, data)

        wait_for(lambda: oslo.kept(after=during))
        gate.down_per_s = 150  # what the hub says takes seconds to come
        after, data, _ = oslo.kept(after=during)
        wait_for(lambda: accepted(run, after))
        field.kill_agent("oslo")  # after: the hub has it
        gate.down_per_s = 0.0
        field.attend("oslo")
        field.finished(run)
        assert before < during < after
        trained = [oslo.trained(number) for number in range(1, ROUNDS + 1)]
        assert trained == [1] * ROUNDS and not conflicts(field)
        require_same_bits_as_all(field, run, tmp_path / "again")
    figure(
        "upload",
        f"killed at each of the three: {ROUNDS} rounds trained {sum(trained)} times, same bits",
    )


def accepted(run, number):
    return closed(run) >= number or seats(run, number).get("oslo") == "accepted"


def conflicts(field):
    """Return how many other bytes the hub was ever sent for an answer that it had."""
    path = existing(field.home, NAME).folder / "hub" / "hub.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as found:
        return found.execute("SELECT count(*) FROM conflicts").fetchone()[0]
