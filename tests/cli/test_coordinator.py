"""Two machines, files carried between them, and the secrets that are never shown on the way."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from carried import POLICY
from tiny import tiny_plan, write_npz

from hospitium.plan.writing import to_toml


@pytest.fixture
def machines(call, tmp_path):
    """Run commands at the coordinator's or the site's machine; keep all that they said."""
    said = []

    def at(machine):
        def run(*words, status=0):
            found = call("--home", tmp_path / machine, "--debug", *words)
            said.append(found.out + found.err)
            assert found.status == status, found.out + found.err
            return found

        return run

    return at("centre"), at("oslo"), said


def enrol(centre, oslo):
    centre("coordinator", "init", "north", "--address", "https://hub.example.org")
    centre("coordinator", "invite", "oslo")
    asked = oslo(
        *("site", "join", "oslo.invite", "--legal-entity", "Oslo hospital"),
        *("--request-out", "oslo.request"),
    ).out
    words = re.search(r"^    ([a-z ]+)$", asked, re.MULTILINE)[1]
    admitted = centre(
        *("coordinator", "admit", "oslo", "--request", "oslo.request", "--words", words)
    )
    assert "Member list 2 is in force" in admitted.out
    centre("coordinator", "members", "lists")
    assert "This site is a member" in oslo("site", "members", "lists").out


def test_a_site_joins_reads_approves_pauses_and_leaves(machines, tmp_path):
    centre, oslo, _ = machines
    enrol(centre, oslo)
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan(quorum=1, batching="equal")))
    digest = json.loads(
        centre("coordinator", "offer", "plan.toml", "--out", "tiny.plan", "--json").out
    )["plan_digest"][:12]
    assert f"{digest}  tiny" in oslo("site", "inbox", "--add", "tiny.plan").out
    policy = tmp_path / "oslo" / "site" / "federations" / "north" / "policy.toml"
    text = POLICY.format(needed=1).replace("[allow]", "[allow]\nmin_sites = 1")
    policy.write_text(text + "[isolation]\nrequired = false\n")
    write_npz(tmp_path / "tiny.npz")
    read = oslo("site", "review", digest).out
    assert "What will leave" in read and "secure sums are OFF" in read and "allows it" in read
    person = ("--as", "Kari Nordmann")
    done = oslo("site", "approve", digest, *person, "--data", "tiny.npz", "--yes").out
    assert "tiny: approved by Kari Nordmann (1 of 1), with 96 training cases" in done
    status = oslo("site", "status", "--json").json
    fixed = {"registered", "approved", "reachable", "decoding", "round_number", "last_error"}
    assert fixed <= set(status) and status["registered"] and status["approved"]
    assert "NOT reachable" in oslo("site", "status").out
    assert "paused" in oslo("site", "pause").out
    assert "answered again" in oslo("site", "resume").out
    oslo("site", "refuse", digest, *person, "--reason", "data")
    oslo("site", "withdraw", digest, *person)
    assert "1 plans were withdrawn" in oslo("site", "leave", *person).out
    assert "Oslo hospital" in centre("coordinator", "sites").out
    assert "no member" in centre("coordinator", "revoke", "oslo").out
    assert centre("coordinator", "sites", "--json").json["sites"] == []


def test_no_secret_is_ever_said_even_where_a_command_fails(machines, tmp_path):
    centre, oslo, said = machines
    enrol(centre, oslo)
    oslo("site", "rotate", "request", "--out", "oslo.rotation")
    centre("coordinator", "rotate", "oslo.rotation")
    keys = list(tmp_path.glob("**/keys/**/*.key"))
    invite = json.loads((tmp_path / "oslo.invite").read_bytes())
    secrets = {json.loads(path.read_bytes())["seed"] for path in keys}
    assert len(keys) == 5  # coordinator, officer, signing, request and its successor
    for path in keys:
        data = path.read_bytes()
        path.write_bytes(data[:-3])  # damaged: the reader has the seed in its hands
    centre("coordinator", "invite", "bergen", status=1)
    oslo("site", "rotate", "signing", "--out", "again", status=1)
    (tmp_path / "oslo.invite").write_bytes(json.dumps(invite).encode())  # another form
    oslo("site", "join", "oslo.invite", "--legal-entity", "x", "--request-out", "y", status=1)
    oslo("site", "status")
    everything = "\n".join(said)
    assert "Traceback" in everything and "E502" in everything and "E501" in everything
    assert not any(secret in everything for secret in secrets)
    assert invite["payload"] not in everything
    logs = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix in (".log", ".jsonl")]
    assert not any(secret in path.read_text() for path in logs for secret in secrets)


def test_a_site_outside_its_hours_says_when_it_opens(machines, tmp_path):
    centre, oslo, _ = machines
    enrol(centre, oslo)
    opens = (datetime.now(UTC) + timedelta(hours=2)).hour
    policy = tmp_path / "oslo" / "site" / "federations" / "north" / "policy.toml"
    policy.write_text(f'[hours]\nwindows = ["{opens:02}:00-{opens:02}:30 utc"]\n')
    assert f"T{opens:02}:00:00Z" in oslo("site", "status").out


def test_words_that_differ_are_an_error_with_a_way_out(machines):
    centre, oslo, _ = machines
    centre("coordinator", "init", "north", "--address", "https://hub.example.org")
    centre("coordinator", "invite", "oslo")
    options = ("--legal-entity", "Oslo hospital", "--request-out", "oslo.request")
    oslo("site", "join", "oslo.invite", *options)
    request = ("--request", "oslo.request", "--words", "one two three four five six")
    found = centre("coordinator", "admit", "oslo", *request, status=1)
    assert "E501" in found.err and "not those of the request" in found.err
    assert "asked to join" in centre("coordinator", "sites").out
