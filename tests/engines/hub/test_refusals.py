"""The record of refusals: clear, bounded, and without a word of whoever was refused."""

import json

import pytest
from desks import Asking, Centre, key_of

from hospitium.engines.hub import refusals as refusals_module
from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.refusals import EVERY_S, MAX_KEPT, RECORD, Refusals
from hospitium.wire.signing import SigningKey


class Record:
    def __init__(self, folder):
        self.now, self.path = 0.0, folder / RECORD
        self.refusals = Refusals(self.path, clock=lambda: self.now)

    def lines(self):
        rows = map(json.loads, self.path.read_text().splitlines()) if self.path.exists() else ()
        return [[row[key] for key in ("who", "route", "status", "reason", "times")] for row in rows]


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path)


@pytest.fixture
def asking(record, tmp_path):
    centre = Centre(folder=tmp_path)
    centre.admit("oslo")
    backend, office = LocalBackend(tmp_path / "hub"), Office(centre.desk)
    hub = Hub(
        backend, members=office.members, key=centre.coordinator, office=office,
        refusals=record.refusals,
    )  # fmt: skip
    yield Asking(app=hub.app)
    backend.close()


def test_who_was_refused_what_and_why_is_written_down(record, asking):
    asking.plain("GET", "/v1/tasks")
    asking.signed(SigningKey.generate(), "GET", "/v1/members")
    asking.signed(key_of("oslo request"), "POST", "/v1/said", content=b"rubbish")
    asking.signed(key_of("oslo request"), "GET", "/v1/blobs/" + "0" * 64)
    asking.plain("POST", "/v1/enrolments", content=b"[" * 1000)
    assert record.lines() == [
        ["127.0.0.1", "GET tasks", 401, "signature", 1],
        ["127.0.0.1", "GET members", 401, "signature", 1],
        ["oslo", "POST said", 400, "canonical", 1],
        ["oslo", "GET blobs", 404, "not_found", 1],
        ["127.0.0.1", "POST enrolments", 400, "canonical", 1],
    ]


def test_what_is_granted_and_what_an_honest_upload_asks_first_are_not_in_it(record, asking):
    asking.signed(key_of("oslo request"), "GET", "/v1/tasks", "after=0&wait=0")
    asking.signed(key_of("oslo request"), "GET", "/v1/uploads/" + "0" * 64)
    assert record.lines() == []


def test_nothing_of_what_was_sent_is_in_it(record, asking):
    asking.plain("GET", "/v1/Kari-Nordmann?name=Kari", headers={"x-name": "Kari"})
    asking.signed(key_of("oslo request"), "POST", "/v1/said", content=b"Kari Nordmann")
    assert len(record.lines()) == 2 and "Kari" not in record.path.read_text()


def test_a_flood_is_one_line_a_minute_with_its_number(record):
    for _ in range(500):
        record.refusals.note("10.0.0.1", "GET /v1/tasks", 401, "signature")
    record.now += EVERY_S
    record.refusals.note("10.0.0.1", "GET /v1/tasks", 401, "signature")
    assert [line[-1] for line in record.lines()] == [1, 500]


def test_neither_memory_nor_disk_grows_with_the_number_of_addresses(record, monkeypatch):
    monkeypatch.setattr(refusals_module, "MAX_BYTES", 10_000)
    for number in range(MAX_KEPT + 200):
        record.refusals.note(f"10.0.{number // 256}.{number % 256}", "GET /", 401, "signature")
    assert len(record.refusals._counted) == MAX_KEPT
    files = list(record.path.parent.glob("refused*"))
    assert len(files) == 2 and all(path.stat().st_size < 11_000 for path in files)


def test_a_disk_that_refuses_changes_no_answer(tmp_path):
    refusals = Refusals(tmp_path / "gone" / RECORD)
    refusals.note("10.0.0.1", "GET /v1/tasks", 401, "signature")
    assert not (tmp_path / "gone").exists()
