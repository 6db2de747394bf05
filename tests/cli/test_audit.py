"""``hospitium egress`` and ``hospitium audit`` at both sides, and the verifier as a program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from audited import RUN, record

from hospitium.errors import TrustError
from hospitium.wire.canonical import digest

VERIFIER = Path(__file__).parents[2] / "verifier" / "hospitium_verify.py"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def oslo(recorded, call):
    return lambda *words: call("--home", recorded.home("oslo").folder, *words)


@pytest.fixture
def centre(recorded, call):
    return lambda *words: call("--home", recorded.federation.coordinator.folder, *words)


def verify(*paths):
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), *map(str, paths)], capture_output=True, text=True
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_everything_that_left_is_listed_with_its_receipt(oslo):
    rows = json.loads(oslo("egress", "list", "--json").out)["departures"]
    assert [row["kind"] for row in rows][:4] == ["enrolment", "heartbeat", "update", "error"]
    assert {row["standing"] for row in rows if row["kind"] == "update"} == {"receipted"}
    assert rows[2]["run_id"] == RUN and rows[2]["federation"] == "north"
    text = oslo("egress", "list").out
    assert len(text.splitlines()) == len(rows) + 1 and "0 without a receipt" in text


def test_what_left_is_shown_and_written_byte_for_byte(oslo, recorded, tmp_path):
    out = tmp_path / "update"
    found = json.loads(oslo("egress", "show", "2", "--save", out, "--json").out)
    kept = recorded.log("oslo") / "payloads" / "00000002"
    assert out.read_bytes() == kept.read_bytes() and found["saved"] == [str(out)]
    assert found["entry"]["kind"] == "update" and not found["file_is_kept"]
    request = oslo("egress", "show", "0", "--save", tmp_path / "request")
    assert "request was written" in request.out
    sha256 = json.loads(oslo("egress", "show", "0", "--json").out)["entry"]["sha256"]
    assert digest((tmp_path / "request").read_bytes()) == sha256


def test_what_is_not_kept_or_not_there_is_said(oslo, tmp_path):
    assert "only its digest" in oslo("egress", "show", "1", "--save", tmp_path / "beat").err
    assert not (tmp_path / "beat").exists()
    assert "There is no entry 99" in oslo("egress", "show", "99").err


def test_an_installation_from_which_nothing_left_says_so(call, tmp_path):
    found = call("--home", tmp_path / "new", "egress", "list")
    assert found.out == "0 departures; 0 without a receipt after 24 hours.\n"


def test_a_coordinating_centre_is_not_told_that_nothing_left(centre):
    assert "is a coordinating centre and no site" in centre("egress", "list").err


def test_both_sides_show_verify_and_export_and_the_verifier_agrees(oslo, centre, tmp_path):
    assert "all 8 entries are unchanged and in order" in oslo("audit", "verify").out
    assert "round_closed" in centre("audit", "show", "--run", RUN).out
    mine, theirs = tmp_path / "oslo.jsonl", tmp_path / "run.jsonl"
    exported = json.loads(oslo("audit", "export", "--out", mine, "--json").out)
    assert exported["format"] == "jsonl" and exported["entries"] == 8 and exported["holds"]
    assert "was written" in centre("audit", "export", "--run", RUN, "--out", theirs).out
    both = oslo("audit", "verify", theirs)
    assert both.status == 0 and "all 8 entries are unchanged and in order" in both.out
    status, text = verify(mine, theirs)
    assert status == 0 and text.endswith("All of it holds.\n")
    assert sum("update" in line and "receipt" in line for line in text.splitlines()) == 3


def test_a_record_that_was_changed_is_named_and_the_status_is_1(recorded, call, tmp_path):
    there = recorded.copy(tmp_path / "there")
    path = there.log("oslo") / "leaves.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"round_number":2', b'"round_number":3'))
    home = there.home("oslo").folder
    found = call("--home", home, "audit", "verify")
    assert found.status == 1 and "hospitium/north/oslo, entry 4" in found.out
    told = call("--home", home, "audit", "verify", "--json")
    assert told.status == 1 and json.loads(told.out)["findings"][0]["name"] == "entry"
    exported = call("--home", home, "audit", "export", "--out", tmp_path / "bad.jsonl")
    assert "does NOT hold" in exported.out
    status, text = verify(tmp_path / "bad.jsonl")
    assert status == 1 and "entry: entry 4" in text


def test_what_is_no_bundle_is_refused(oslo, tmp_path):
    for number, text in enumerate(("", "{}", "[1]\n", '{"record":"leaf"}', "\x00")):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(text)
        assert "no bundle" in oslo("audit", "verify", path).err


def test_a_run_on_one_machine_is_in_order_and_not_signed(call, tmp_path):
    from tiny import tiny_plan

    from hospitium.state.home import Home
    from hospitium.state.ledger import RunLedger
    from hospitium.types import Seat

    folder = Home(tmp_path / "home").new_run("local")
    seats = [Seat(site_id="oslo", num_cases=3)]
    RunLedger.create(folder, run_id="local", plan=tiny_plan(), seats=seats, facts={})
    found = call("--home", tmp_path / "home", "audit", "verify", "--run", "local")
    assert found.status == 0 and "No key signs this log" in found.out


def test_the_verifier_is_one_short_file_without_hospitium(tmp_path):
    source = VERIFIER.read_text("utf-8")
    assert len(source.splitlines()) <= 250 and "import hospitium" not in source
    assert "from hospitium" not in source
    assert verify() == (1, "It does NOT hold.\n")


def test_a_site_goes_on_with_a_run_by_name_and_reason_only(recorded, call, tmp_path):
    there = recorded.copy(tmp_path / "there")
    there.watched("oslo").stop(TrustError("fork", "Another history."), ask=b"task")
    resume = ("--home", there.home("oslo").folder, "site", "resume")
    for words in ((RUN,), (RUN, "--as", "Kari"), (RUN, "--reason", "x"), ("--as", "Kari")):
        said = call(*resume, *words)
        assert (said.status, "Nothing was changed" in said.err) == (2, True)
    by, reason = "Kari Nordmann", "the officers looked"
    said = call(*resume, RUN, "--as", by, "--reason", reason, "--json").json
    assert (said["by"], said["reason"], said["stopped"]) == (by, reason, "fork")
    assert call(*resume, RUN, "--as", by, "--reason", "again").status == 2
    assert call(*resume, "--json").json["is_paused"] is False
