import json
import os
from dataclasses import replace

import numpy as np
import pytest

from hospitium.errors import SiteError
from hospitium.evaluation.score_sums import layout
from hospitium.site.agent import answer
from hospitium.site.egress import Departures, release
from hospitium.wire import blob
from hospitium.wire.canonical import digest
from hospitium.wire.envelope import decode_update


@pytest.fixture
def update(task, plan, site_for, trainer):
    return answer(task, plan=plan, site=site_for(), trainer=trainer)


@pytest.fixture
def let_out(tmp_path):
    def call(update, task):
        return release(
            update, task=task, outbox=tmp_path / "outbox", record=tmp_path / "egress.jsonl"
        )

    return call


def recorded(tmp_path):
    path = tmp_path / "egress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_what_leaves_is_an_envelope_and_one_file_named_by_its_digest(update, task, let_out):
    envelope, path = let_out(update, task)
    read, promised = decode_update(envelope)
    assert read.sums == update.sums and path.stem == promised == blob.file_digest(path)
    for name, array in blob.read(path, manifest=blob.manifest_of(task.params)).items():
        np.testing.assert_array_equal(array, update.delta[name])


@pytest.mark.parametrize("sync", [True, False])
def test_the_line_of_the_record_is_synced_last_whether_its_file_is_or_not(
    update, task, tmp_path, monkeypatch, sync
):
    synced, fsync, record = [], os.fsync, tmp_path / "egress.jsonl"

    def note(descriptor):
        fsync(descriptor)
        synced.append(os.path.sameopenfile(descriptor, line.fileno()))

    monkeypatch.setattr(os, "fsync", note)
    with record.open("ab") as line:
        release(update, task=task, outbox=tmp_path / "outbox", record=record, sync=sync)
    assert synced == ([False, True] if sync else [True])


def test_every_release_is_a_line_of_the_record_with_its_bytes_and_its_digest(
    update, task, let_out, tmp_path
):
    envelope, path = let_out(update, task)
    let_out(replace(update, delta={}), replace(task, purpose="score"))
    first, second = recorded(tmp_path)
    assert first["bytes"] == len(envelope) + path.stat().st_size
    assert first["sha256"] == path.stem and first["num_arrays"] == 2
    assert first["sums"] == sorted([*layout(2), "log_norm"])
    assert (first["kind"], second["kind"], second["sha256"]) == ("update", "scores", "")


def test_nothing_but_the_file_is_left_in_the_outbox(update, task, let_out, tmp_path):
    _, path = let_out(update, task)
    assert list((tmp_path / "outbox").iterdir()) == [path]


REFUSED = {
    "params of another shape": lambda u: {"delta": {**u.delta, "bias": np.zeros(2, np.float32)}},
    "a param too many": lambda u: {"delta": {**u.delta, "images": np.zeros((3, 8, 8), np.float32)}},
    "a param too few": lambda u: {"delta": {"bias": u.delta["bias"]}},
    "params in another precision": lambda u: {
        "delta": {name: array.astype(np.float64) for name, array in u.delta.items()}
    },
    "a sum of another name": lambda u: {"sums": {**u.sums, "patients": (1,)}},
    "a text behind the name of a sum": lambda u: {"sums": {**u.sums, "n.Jane_Doe": (1,)}},
    "a text behind the name of a histogram": lambda u: {"sums": {"positives.Jane": (1,)}},
    "a sum longer than it should be": lambda u: {"sums": {**u.sums, "n": (1, 20, 21, 14)}},
    "a histogram with room for a text": lambda u: {"sums": {"positives.1": (74, 97, 110, 101)}},
    "a confusion that is no square": lambda u: {"sums": {"confusion": (1, 2, 3)}},
    "a change above the bound": lambda u: {
        "delta": {name: array + np.float32(100) for name, array in u.delta.items()}
    },
    "digits of another script": lambda u: {"sums": {"positives.\u0661": (1,)}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_on_the_list_does_not_leave_and_nothing_is_written(
    update, task, let_out, tmp_path, what
):
    with pytest.raises(SiteError, match="egress refused"):
        let_out(replace(update, **REFUSED[what](update)), task)
    assert recorded(tmp_path) == [] and not (tmp_path / "outbox").exists()


def test_no_params_leave_in_answer_to_a_task_that_only_scores(update, task, let_out, tmp_path):
    with pytest.raises(SiteError, match="egress refused"):
        let_out(update, replace(task, purpose="score"))
    assert recorded(tmp_path) == []


def test_every_sum_of_two_and_of_many_classes_may_leave(update, task, let_out):
    for num_classes in (2, 5, 14):
        sums = {name: (0,) * length for name, length in layout(num_classes).items()}
        let_out(replace(update, sums=sums), task)


def test_the_path_of_a_file_never_leaves(update, task, let_out):
    envelope, _ = let_out(replace(update, path="/data/oslo/jane_doe.safetensors"), task)
    assert b"jane_doe" not in envelope and b"outbox" not in envelope


# --- what leaves beside updates ------------------------------------------------------------------


def test_a_message_is_recorded_once_however_often_it_is_sent_and_after_a_restart(tmp_path):
    departures = Departures(tmp_path / "egress.jsonl")
    for _ in range(3):
        departures.message("approval", b"yes")
    departures.message("withdrawal", b"yes")
    Departures(tmp_path / "egress.jsonl").message("approval", b"yes")
    Departures(tmp_path / "egress.jsonl").message("approval", b"another")
    assert [line["kind"] for line in recorded(tmp_path)] == ["approval", "withdrawal", "approval"]
    assert recorded(tmp_path)[0]["sha256"] == digest(b"yes") and recorded(tmp_path)[0]["bytes"] == 3


def test_heartbeats_are_one_line_of_a_day_that_allows_for_all_of_them(tmp_path):
    for _ in range(2):
        departures = Departures(tmp_path / "egress.jsonl")
        departures.heartbeat(b"1")
        departures.heartbeat(b"2")
    (line,) = recorded(tmp_path)
    assert (line["kind"], line["count"], line["bytes"]) == ("heartbeat", 5000, 5000 << 10)


@pytest.mark.parametrize(("kind", "size"), [("letter", 1), ("error", 4097), ("enrolment", 65537)])
def test_what_is_of_no_kind_that_leaves_or_too_large_is_not_recorded(tmp_path, kind, size):
    departures = Departures(tmp_path / "egress.jsonl")
    with pytest.raises(SiteError, match="egress refused"):
        departures.message(kind, b"x" * size)
    with pytest.raises(SiteError, match="egress refused"):
        departures.heartbeat(b"x" * 1025)
    assert recorded(tmp_path) == []


def test_a_line_that_was_cut_off_counts_as_none_and_stays(tmp_path):
    (tmp_path / "egress.jsonl").write_text('{"kind": "approval", "sha')
    Departures(tmp_path / "egress.jsonl").message("approval", b"yes")
    lines = (tmp_path / "egress.jsonl").read_text().splitlines()
    assert lines[0] == '{"kind": "approval", "sha' and json.loads(lines[1])["bytes"] == 3
