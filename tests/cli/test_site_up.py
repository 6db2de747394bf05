"""``hospitium site up`` as a process of its own: stopped politely, killed, and asked how it is."""

import json
import os
import signal
import subprocess
import threading

import pytest
from connected import Net, soon
from tiny import HOSPITIUM, environment, hospitium

from hospitium.operations.site_serving import serve_once
from hospitium.site.record import departures_of

pytestmark = [pytest.mark.ci, pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")]


def updates(net):
    rows = departures_of(net.place("oslo")).rows()
    return [row.line.leaf for row in rows if row.line.leaf["kind"] == "update"]


@pytest.fixture
def net(tmp_path):
    net = Net(tmp_path)
    net.admit("oslo")
    yield net
    net.stop()


def start(net, *words):
    home = net.home("oslo").folder
    return subprocess.Popen(
        [HOSPITIUM, "--home", home, "site", "up", *words],
        env=environment(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_anybody_left(process):
    """Whether a process of the agent's session is there still."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--sid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return bool(found.stdout.strip())


def approved(net, more=""):
    net.set_policy("oslo", more)
    plan = net.offer()
    serve_once(net.home("oslo"))
    net.approve("oslo", plan)
    serve_once(net.home("oslo"))
    return plan


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_ends_everything_within_seconds(net, number):
    plan = approved(net)
    agent = start(net)
    [update] = net.ask(net.task(plan), "oslo", deadline_s=60.0)
    assert update.delta
    soon(lambda: list(net.place("oslo").folder.glob("work/answers/*.receipt")))
    soon(lambda: net.status("oslo")["agent"] == "running")
    agent.send_signal(number)
    out, err = agent.communicate(timeout=15)
    assert agent.returncode == 0 and "The agent has ended" in out and not err
    came, done = [line for line in out.splitlines() if "round 1: " in line]
    assert f"a task came; training on {update.num_cases} cases" in came
    assert "trained, in " in done and "the coordinator has signed for them" in done
    assert not is_anybody_left(agent)
    home = net.home("oslo").folder
    assert not list(home.rglob("*.part"))
    assert hospitium("--home", home, "site", "status").stdout.startswith(
        "north as oslo: registered"
    )


def test_an_agent_that_is_killed_leaves_no_process_and_sends_what_it_had_kept(net):
    plan = approved(net, "[limits]\nmbit_per_s = 0.02\n")
    answers, work = [], net.place("oslo").folder / "work"
    asked = threading.Thread(
        target=lambda: answers.extend(net.ask(net.task(plan), "oslo", deadline_s=120.0))
    )
    asked.start()
    agent = start(net)
    soon(lambda: list((work / "answers").glob("*.json")), within_s=60.0)
    agent.kill()
    agent.communicate(timeout=15)
    soon(lambda: not is_anybody_left(agent))
    assert not list((work / "answers").glob("*.receipt")) and not answers
    again = start(net)
    asked.join(timeout=100)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=15)
    [update] = answers
    assert update.delta and len(updates(net)) == 1


def test_a_second_agent_is_refused_and_once_says_how_many_tasks(net):
    approved(net)
    home = net.home("oslo").folder
    done = hospitium("--home", home, "site", "up", "--once", "--json")
    assert json.loads(done.stdout)["tasks"] == 0
    net.place("oslo").folder.joinpath("agent.json").unlink()  # of that one
    agent = start(net)
    soon(lambda: net.status("oslo")["agent"] == "running")
    second = hospitium("--home", home, "site", "up")
    assert second.returncode == 1 and "another process is this site's agent" in second.stderr
    row = json.loads(hospitium("--home", home, "site", "status", "--json").stdout)
    assert {"registered", "approved", "reachable", "decoding", "round_number", "last_error"} <= {
        *row
    }
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=15)
