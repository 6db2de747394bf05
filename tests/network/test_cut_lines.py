"""Proxies that cut silent connections, and proxies that are restarted in the middle of an upload.

A hospital's proxy cuts after 60 s of silence and a long poll lasts 50 s; here a poll lasts 5 s.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from evidence import record_of
from installations import FEDERATION, POLICY, Installation, approve_all, begin, join_all, wait_for
from tiny import images_of

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]

AGENT = Path(__file__).with_name("agent.py")
POLL_S = 5
LOGISTIC = POLICY + '[allow]\nmodels = ["logistic"]\n'
KINDS = {"kiel": "connect_only", "oslo": "inspecting"}
MBIT_PER_S = 4
CHUNKS = 7
"""Of an update of 640 x 640 params, in pieces for slow lines."""
NOTES_HEAD, NOTE = 16, 40


class Machines:
    """A coordinating centre that serves, and sites behind proxies whose agents run."""

    def __init__(self, network, folder, behind, *, idle_s, policy):
        self.folder = folder
        self.centre = begin(network, folder / "centre")
        self.centre.start("coordinator", "up")
        wait_for(lambda: "Serving" in self.centre.notes(), timeout_s=60, notes=self.notes)
        made = {
            name: behind(kind, hub_ca=self.centre.hub_ca, idle_s=idle_s.get(name, 60))
            for name, kind in KINDS.items()
        }
        self.proxies = {name: proxy for name, (_, proxy) in made.items()}
        self.sites = {
            name: Installation(network=network, machine=machine, home=folder / name)
            for name, (machine, _) in made.items()
        }
        join_all(self.centre, self.sites, self.proxies, policy=policy)

    def agree(self, plan):
        """Offer a plan, start the agents, and have it approved."""
        path = self.folder / "plan.toml"
        path.write_text(plan, encoding="ascii")
        self.digest = self.centre.tell("coordinator", "offer", path)["plan_digest"]
        for seed, site in enumerate(self.sites.values()):
            write_cases(site.home.with_suffix(".npz"), seed=seed)
            words = [sys.executable, AGENT, site.home, POLL_S]
            with site.said_in.open("ab") as file:
                site.network.start(site.machine, words, stdout=file, stderr=file)
        approve_all(self.centre, self.sites, self.digest)

    def begin_run(self, name):
        """Begin a run; return its folder."""
        words = ("--federation", FEDERATION, "--name", name, "--no-canary")
        self.centre.tell("run", "start", self.digest, *words)
        return self.centre.home / "runs" / name

    def finished(self, folder):
        """Wait for the end of a run in which every site answered; return what came of it."""
        report = folder / "report" / "report.json"
        wait_for(report.is_file, timeout_s=100, notes=self.notes)
        record = record_of(folder)
        assert {seat["status"] for seat in record["seats"]} == {"accepted"}
        assert not record["refusals"] and len(record["seats"]) == len(self.sites)
        return {**record, "run": {**record["run"], "run_id": ""}}

    def num_arrived(self, name):
        """Return how many chunks of a site's unfinished upload the hub has noted."""
        notes = self.centre.office.glob(f"hub/uploads/{name}/*.chunks")
        return sum((path.stat().st_size - NOTES_HEAD) // NOTE for path in notes)

    def notes(self):
        return "\n".join(one.notes() for one in (self.centre, *self.sites.values()))


def write_cases(path, *, seed):
    """Write a few small images, with the finding in half of them."""
    arrays = {}
    for number, split in enumerate(("train", "val", "test")):
        images, labels = images_of(16, seed=10 * seed + number)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels[:, None]
    np.savez(path, **arrays)


def plan_of(*, size):
    """Return a plan of one round, whose model has as many params as an image has pixels."""
    return f"""
name = "tiny"
[imaging.pipeline]
size = [{size}, {size}]
[model]
name = "logistic"
[training]
batching = "equal"
batch_size = 8
steps = 2
[rounds]
count = 1
quorum = 2
deadline_s = 100.0
"""


def seen(proxy, part):
    """Return URL and status of every request that an inspecting proxy saw, with a part in it."""
    rows = [line.split() for line in proxy.log().splitlines()]
    return [(row[6], row[3].rpartition("/")[2]) for row in rows if part in row[6]]


@pytest.mark.slow
def test_no_task_is_lost_whether_a_proxy_cuts_after_a_long_poll_or_before_its_end(
    network, behind, tmp_path
):
    machines = Machines(network, tmp_path, behind, idle_s={"kiel": 3, "oslo": 10}, policy=LOGISTIC)
    machines.agree(plan_of(size=8))
    records = []
    for number, pause_s in enumerate((0.0, 4.0, 7.0)):  # each task comes at another moment
        time.sleep(pause_s)
        records.append(machines.finished(machines.begin_run(f"run-{number}")))
    assert records[1:] == records[:-1]
    statuses = {status for _, status in seen(machines.proxies["oslo"], "/v1/tasks")}
    assert statuses == {"200", "204"}
    assert "no answer from the hub" in machines.sites["kiel"].notes()
    assert "no answer from the hub" not in machines.sites["oslo"].notes()


@pytest.mark.slow
def test_a_proxy_that_is_restarted_in_the_middle_of_an_upload_only_delays_it(
    network, behind, tmp_path
):
    slow = LOGISTIC + f"[limits]\nmbit_per_s = {MBIT_PER_S}\n"
    machines = Machines(network, tmp_path, behind, idle_s={}, policy=slow)
    machines.agree(plan_of(size=640))
    unbroken = machines.finished(machines.begin_run("unbroken"))
    folder = machines.begin_run("broken")
    stopped = set()
    while len(stopped) < len(KINDS):
        for name in KINDS.keys() - stopped:
            if machines.num_arrived(name):
                machines.proxies[name].stop()
                stopped.add(name)
        time.sleep(0.02)
    time.sleep(0.5)
    left = {name: machines.num_arrived(name) for name in KINDS}
    time.sleep(1.5)
    assert {name: machines.num_arrived(name) for name in KINDS} == left
    assert all(1 <= count < CHUNKS for count in left.values())
    for proxy in machines.proxies.values():
        proxy.start()
    assert machines.finished(folder) == unbroken
    assert all("no answer from the hub" in site.notes() for site in machines.sites.values())
    taken = [url for url, status in seen(machines.proxies["oslo"], "/chunks/") if status < "300"]
    assert len(taken) >= CHUNKS and set(Counter(taken).values()) == {1}
