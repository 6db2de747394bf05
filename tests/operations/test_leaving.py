"""A dry run writes exactly the bytes that leave later, and sends nothing."""

import json
import threading
from datetime import UTC, datetime

import pytest
from connected import Net, hurry, soon

from hospitium.operations.leaving import list_departures, show_departure
from hospitium.operations.site_serving import serve_dry, serve_once
from hospitium.wire.signing import dsse_payload


@pytest.fixture
def net(tmp_path, monkeypatch):
    hurry(monkeypatch)
    net = Net(tmp_path)
    yield net
    net.stop()


@pytest.mark.ci
def test_a_dry_run_writes_the_bytes_that_leave_at_the_next_run_and_sends_nothing(net, tmp_path):
    net.admit("oslo")
    plan = net.offer()
    with net.attended("oslo"):
        soon(lambda: net.place("oslo").inbox.digests() == [plan.digest])
        net.approve("oslo", plan)
        soon(lambda: "oslo" in net.desk.standing(plan.digest))
    answers = []
    task = net.task(plan)
    asked = threading.Thread(target=lambda: answers.extend(net.ask(task, "oslo")))
    asked.start()
    soon(lambda: net.backend.tasks("oslo", after=0))
    home, folder = net.home("oslo"), tmp_path / "seen"
    nonce = net.backend.tasks("oslo", after=0)[0].nonce
    found = serve_dry(home, folder)
    assert found["tasks"] == 1 and not net.backend.answers(nonce, after=0, wait_s=0.0)
    rows = list_departures(home, None, now=datetime.now(UTC))
    assert [row["standing"] for row in rows if row["kind"] == "update"] == ["waiting"]
    statement = (folder / "001.statement").read_bytes()
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert serve_once(home) == 1
    asked.join(timeout=30)
    (arrived,) = net.backend.answers(nonce, after=0, wait_s=0.0)
    assert arrived.statement == statement
    assert json.loads(dsse_payload(statement))["kind"] == "update" and answers[0].delta
    (update,) = [
        row for row in list_departures(home, None, now=datetime.now(UTC)) if row["kind"] == "update"
    ]
    assert update["standing"] == "receipted"
    shown = show_departure(home, None, update["n"], now=datetime.now(UTC), save=tmp_path / "after")
    assert [saved["001.statement"], saved["001.statement.file"]] == [
        (tmp_path / "after").read_bytes(), (tmp_path / "after.file").read_bytes(),
    ]  # fmt: skip
    assert len(shown["saved"]) == 2
