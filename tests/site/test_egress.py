import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hospitium.errors import CorruptedError, HubError, SiteError, UpdateError
from hospitium.evaluation.score_sums import layout
from hospitium.plan import Plan
from hospitium.site.agent import answer
from hospitium.site.departures import MAX_KEPT_BYTES, Departures
from hospitium.site.egress import Egress, inspect, prepare, unsealed_path
from hospitium.site.leaving import Departure, facts_of, words_of
from hospitium.site.public_words import OTHER
from hospitium.state import durable
from hospitium.state.leaf_log import FILE, Signer
from hospitium.wire import blob
from hospitium.wire.canonical import digest
from hospitium.wire.checkpoints import open_checkpoint, site_origin
from hospitium.wire.envelope import decode_update
from hospitium.wire.signing import SigningKey

KEY = SigningKey.from_bytes(b"s" * 32)
NONCE = "a" * 64


@pytest.fixture
def update(task, plan, site_for, trainer):
    return answer(task, plan=plan, site=site_for(), trainer=trainer)


@pytest.fixture
def write(tmp_path):
    return lambda update, task: prepare(update, task=task, outbox=tmp_path / "outbox")


# --- what the process that trains may write ------------------------------------------------------


def test_what_leaves_is_an_envelope_and_one_file_named_by_its_digest(update, task, write):
    envelope, path = write(update, task)
    read, promised = decode_update(envelope)
    assert read.sums == update.sums and path.stem == promised == blob.file_digest(path)
    for name, array in blob.read(path, manifest=blob.manifest_of(task.params)).items():
        np.testing.assert_array_equal(array, update.delta[name])


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_file_is_synced_unless_a_sealed_one_is_kept_instead(
    update, task, tmp_path, monkeypatch, is_sealed
):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(fsync(descriptor)))
    prepare(update, task=task, outbox=tmp_path / "outbox", is_sealed=is_sealed)
    assert len(synced) == int(not is_sealed)


def test_what_is_sealed_next_is_named_by_the_task_and_its_digest_is_left_to_whoever_seals_it(
    update, task, tmp_path
):
    outbox = tmp_path / "outbox"
    envelope, path = prepare(update, task=task, outbox=outbox, is_sealed=True)
    assert decode_update(envelope)[1] == "" and path == unsealed_path(outbox, task)
    assert blob.file_digest(path) == blob.digest_of(update.delta)
    assert prepare(update, task=task, outbox=outbox, is_sealed=True) == (envelope, path)
    assert list(outbox.iterdir()) == [path]


def test_nothing_but_the_file_is_left_in_the_outbox(update, task, write, tmp_path):
    _, path = write(update, task)
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
def test_what_is_not_on_the_list_is_not_written(update, task, write, tmp_path, what):
    with pytest.raises(SiteError, match="egress refused"):
        write(replace(update, **REFUSED[what](update)), task)
    assert not (tmp_path / "outbox").exists()


def test_no_params_leave_in_answer_to_a_task_that_only_scores(update, task, write):
    with pytest.raises(SiteError, match="egress refused"):
        write(update, replace(task, purpose="score"))


def test_every_sum_of_two_and_of_many_classes_may_leave(update, task, write):
    for num_classes in (2, 5, 14):
        sums = {name: (0,) * length for name, length in layout(num_classes).items()}
        write(replace(update, sums=sums), task)


def test_the_path_of_a_file_never_leaves(update, task, write):
    envelope, _ = write(replace(update, path="/data/oslo/jane_doe.safetensors"), task)
    assert b"jane_doe" not in envelope and b"outbox" not in envelope


# --- what the site's service lets through of it --------------------------------------------------


def inspected(envelope, file, task, update, **options):
    whose = {"site_id": update.site_id, "num_cases": update.num_cases}
    return inspect(envelope, has_file=file is not None, task=task, **whose, **options)


def test_what_was_prepared_is_let_through_with_and_without_a_file(update, task, write):
    envelope, file = write(update, task)
    assert inspected(envelope, file, task, update) == replace(
        update, delta={}, train_s=decode_update(envelope)[0].train_s
    )
    score = replace(task, purpose="score")
    envelope, file = write(replace(update, delta={}), score)
    assert file is None and inspected(envelope, file, score, update).sums == update.sums


def test_what_is_sealed_next_names_no_file_yet_and_has_one(update, task, write, tmp_path):
    score = replace(task, purpose="score")
    named, _ = write(update, task)
    envelope, file = prepare(update, task=task, outbox=tmp_path / "outbox", is_sealed=True)
    assert inspected(envelope, file, task, update, is_sealed=True).sums == update.sums
    for bad in ((named, file, task), (envelope, None, task), (envelope, file, score)):
        with pytest.raises(SiteError, match="a file too many"):
            inspected(*bad, update, is_sealed=True)
    with pytest.raises(SiteError, match="a file too many"):
        inspected(envelope, file, task, update)


@pytest.mark.parametrize(
    "lie",
    [
        {"run_id": "other"},
        {"round_number": 9},
        {"site_id": "bergen"},
        {"num_cases": 10**6},
        {"plan_digest": "0" * 64},
        {"base_digest": "0" * 64},
    ],
)
def test_a_training_process_cannot_answer_something_else(update, task, write, lie):
    envelope, file = write(replace(update, **lie), task)
    with pytest.raises(SiteError, match="something else than the task"):
        inspected(envelope, file, task, update)


def test_a_training_process_cannot_hide_a_text_or_leave_out_its_file(update, task, write):
    envelope, file = write(update, task)
    named = envelope.replace(b'"log_norm"', b'"log_Jane"')
    for bad in (b"Jane Doe", named, envelope + b" ", envelope.replace(b'"n":', b'"x":')):
        with pytest.raises(SiteError, match="egress refused"):
            inspected(bad, file, task, update)
    with pytest.raises(SiteError, match="egress refused"):
        inspected(envelope, None, task, update)
    with pytest.raises(SiteError, match="a file too many"):
        inspected(envelope, file, replace(task, purpose="score"), update)


# --- the way out ---------------------------------------------------------------------------------


class Line:
    """A line to a coordinator that takes everything, unless it is cut."""

    def __init__(self, departures=None):
        self.sent, self.cut, self.departures, self.seen = [], False, departures, []

    def send(self, statement):
        return self._take(statement)

    def upload(self, path, upload_id, statement):
        return self._take(path.read_bytes(), statement)

    def say(self, statement):
        return self._take(statement)

    def enrol(self, request):
        return self._take(request).decode()

    def beat(self, beat):
        return {"took": self._take(beat)}

    def _take(self, *content):
        self.seen.append(0 if self.departures is None else len(list(self.departures.rows())))
        self.sent.append(content)
        if self.cut:
            raise HubError("unreachable", "The line is cut.")
        return b"receipt of " + digest(content[-1]).encode()


@pytest.fixture
def departures(tmp_path):
    signer = Signer(origin=site_origin("chest", "oslo"), key=lambda: KEY)
    return Departures(tmp_path / "log", signer=signer)


@pytest.fixture
def egress(departures):
    return Egress(departures, destination="https://hub.example")


def leaves(departures):
    return [row.line.leaf for row in departures.rows()]


def departing(update, task, write, **facts):
    envelope, file = write(update, task)
    found = facts_of(
        update, envelope=envelope, params_sha256=file.stem, num_arrays=len(task.params),
        plan=Plan(), consent=None, nonce=NONCE,
    )  # fmt: skip
    return Departure(
        kind="update", content=envelope, facts={**found, **facts}, file=file, sha256=file.stem
    )


def sign(content):
    return lambda checkpoint: b"signed " + content + checkpoint.encode()


def accept(receipt, statement):
    if receipt != b"receipt of " + digest(statement).encode():
        raise UpdateError("identity", "no receipt")


def test_an_update_is_recorded_signed_sent_and_receipted(update, task, write, egress, departures):
    leaving, line = departing(update, task, write), Line(departures)
    receipt = egress.answer(leaving, line, sign=sign(b"x"), require=accept)
    (row,) = departures.rows()
    leaf = row.line.leaf
    assert (leaf["n"], leaf["kind"], leaf["round_number"]) == (0, "update", task.round_number)
    assert leaf["bytes"] == len(leaving.content) + leaving.file.stat().st_size
    assert leaf["sha256"] == digest(line.sent[0][0]) and leaf["num_arrays"] == 2
    assert leaf["sums"] == sorted([*layout(2), "log_norm"])
    assert leaf["destination"] == "https://hub.example"
    assert row.receipt == receipt and row.standing(now=datetime.now(UTC)) == "receipted"
    assert line.sent == [(leaving.file.read_bytes(), departures.payload(0))]


def test_the_statement_that_leaves_holds_a_checkpoint_with_its_own_entry(egress, departures):
    egress.message("enrolment", b"us")
    line = Line()
    egress.answer(words_of(b"no", NONCE), line, sign=sign(b""), require=accept)
    note = line.sent[0][0].removeprefix(b"signed ").decode()
    found = open_checkpoint(note, KEY.public, origin=site_origin("chest", "oslo"))
    assert (found.size, found.root) == (2, departures.log.root(2))


def test_the_entry_is_on_disk_before_the_first_byte_is_sent(
    egress, departures, update, task, write
):
    line = Line(departures)
    egress.enrol(b"request", line)
    egress.beat(b"beat", line)
    egress.say("approval", b"yes", line, plan_digest="b" * 64, require=accept)
    egress.answer(words_of(b"no", NONCE), line, sign=sign(b""), require=accept)
    egress.answer(departing(update, task, write), line, sign=sign(b""), require=accept)
    assert line.seen == [1, 2, 3, 4, 5]
    assert [leaf["kind"] for leaf in leaves(departures)] == [
        "enrolment", "heartbeat", "approval", "error", "update",
    ]  # fmt: skip


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("point", ["before append", "leaf appended", "leaf synced", "before write"])
def test_a_kill_at_any_point_sends_nothing_that_is_not_recorded_and_later_the_same_bytes(
    egress, departures, tmp_path, monkeypatch, point
):
    line, leaving = Line(departures), words_of(b"no", NONCE)

    def kill(name):
        if name == point:
            raise Killed

    monkeypatch.setattr(durable, "on_write_point", kill)
    with pytest.raises(Killed):
        egress.answer(leaving, line, sign=sign(b"x"), require=accept)
    assert line.sent == []
    monkeypatch.setattr(durable, "on_write_point", None)
    for _ in range(2):
        again = Egress(
            Departures(tmp_path / "log", signer=departures._signer), destination="elsewhere"
        )
        again.answer(leaving, line, sign=sign(b"x"), require=accept)
    assert len(leaves(departures)) == 1 and line.sent[0] == line.sent[1]


def test_a_line_that_is_cut_leaves_it_recorded_and_the_same_bytes_go_out_again(egress, departures):
    line, leaving, times = Line(), words_of(b"no", NONCE), iter(b"123")

    def signing(checkpoint):
        return b"%s at %d" % (KEY.public.key_id.encode(), next(times))

    line.cut = True
    for _ in range(2):
        with pytest.raises(HubError):
            egress.answer(leaving, line, sign=signing, require=accept)
        egress.message("enrolment", os.urandom(8))  # the log goes on meanwhile
    (row, *_) = departures.rows()
    assert row.receipt is None and row.standing(now=datetime.now(UTC)) == "waiting"
    assert row.standing(now=datetime.now(UTC) + timedelta(hours=25)) == "unacknowledged"
    line.cut = False
    egress.answer(leaving, line, sign=signing, require=accept)
    assert len({content for (content,) in line.sent}) == 1
    assert [leaf["kind"] for leaf in leaves(departures)].count("error") == 1


def test_what_an_earlier_key_signed_is_signed_anew(egress, departures, monkeypatch):
    line, leaving = Line(), words_of(b"no", NONCE)
    egress.answer(leaving, line, sign=lambda _: KEY.public.key_id.encode(), require=accept)
    other = SigningKey.from_bytes(b"o" * 32)
    signer = Signer(origin=site_origin("chest", "oslo"), key=lambda: other)
    again = Egress(Departures(departures.folder, signer=signer), destination="there")
    again.answer(leaving, line, sign=lambda _: other.public.key_id.encode(), require=accept)
    assert line.sent[0] != line.sent[1] and len(leaves(departures)) == 1


def test_a_receipt_for_something_else_is_not_kept(egress, departures):
    def refuse(receipt, statement):
        raise UpdateError("identity", "for something else")

    with pytest.raises(UpdateError):
        egress.answer(words_of(b"no", NONCE), Line(), sign=sign(b""), require=refuse)
    assert departures.receipt(0) is None


def test_the_same_words_in_answer_to_two_tasks_are_two_entries(egress, departures):
    for nonce in (NONCE, NONCE, "b" * 64):
        egress.answer(words_of(b"no", nonce), Line(), sign=sign(b""), require=accept)
    assert [leaf["nonce"] for leaf in leaves(departures)] == [NONCE, "b" * 64]


def test_a_message_is_recorded_once_however_often_it_is_sent_and_after_a_restart(
    egress, departures, tmp_path
):
    for _ in range(3):
        egress.message("approval", b"yes", plan_digest="b" * 64)
    egress.message("withdrawal", b"yes", plan_digest="b" * 64)
    again = Egress(Departures(tmp_path / "log"), destination="there")
    again.message("approval", b"yes", plan_digest="b" * 64)
    again.message("approval", b"another", plan_digest="b" * 64)
    assert [leaf["kind"] for leaf in leaves(departures)] == ["approval", "withdrawal", "approval"]
    first = leaves(departures)[0]
    assert (first["sha256"], first["bytes"]) == (digest(b"yes"), 3)
    assert departures.payload(0) == b"yes"


def test_heartbeats_are_one_entry_of_a_day_that_allows_for_all_of_them(egress, departures):
    for content in (b"1", b"2"):
        egress.beat(content, Line())
    (leaf,) = leaves(departures)
    assert (leaf["kind"], leaf["count"], leaf["bytes"]) == ("heartbeat", 5000, 5000 << 10)


@pytest.mark.parametrize(("kind", "size"), [("letter", 1), ("error", 4097), ("enrolment", 65537)])
def test_what_is_of_no_kind_that_leaves_or_too_large_is_not_recorded(
    egress, departures, kind, size
):
    line = Line()
    with pytest.raises(SiteError, match="egress refused"):
        egress.message(kind, b"x" * size)
    with pytest.raises(SiteError, match="egress refused"):
        egress.beat(b"x" * 1025, line)
    assert leaves(departures) == [] and line.sent == []


@pytest.mark.parametrize(
    "facts",
    [
        {"path": "/data/oslo"},
        {"sums": ["Jane\nDoe"]},
        {"round_number": -1},
        {"privacy": {"note": 1}},
        {"plan_digest": "not a digest"},
    ],
)
def test_an_entry_has_exactly_the_facts_of_its_form(egress, departures, update, task, write, facts):
    leaving = departing(update, task, write, **facts)
    with pytest.raises(SiteError, match="not of its form"):
        egress.answer(leaving, Line(), sign=sign(b""), require=accept)
    assert leaves(departures) == []


def test_nothing_leaves_while_the_record_is_not_what_was_written(egress, departures, tmp_path):
    egress.message("enrolment", b"us")
    path = tmp_path / "log" / FILE
    path.write_bytes(path.read_bytes().replace(b'"bytes":2', b'"bytes":3'))
    line = Line()
    fresh = Egress(Departures(tmp_path / "log", signer=departures._signer), destination="there")
    with pytest.raises(CorruptedError, match="nothing leaves"):
        fresh.enrol(b"us again", line)
    assert line.sent == []


def test_words_that_are_on_no_list_do_not_leave(egress, departures):
    for words in ("kein Röntgen von Anna Meier\n", "\u202e", "", OTHER):
        line, leaving = Line(), words_of(words.encode(), digest(words.encode()))
        egress.answer(leaving, line, sign=lambda _, it=leaving: it.content, require=accept)
        assert line.sent == [(OTHER.encode(),)]
    assert {leaf["public"] for leaf in leaves(departures)} == {OTHER}
    forged = replace(words_of(b"", NONCE), content=b"Anna Meier")
    with pytest.raises(SiteError, match="not on their list"):
        egress.record(forged)


def test_large_payloads_are_not_kept_a_second_time(departures, egress):
    n = egress.message("enrolment", b"us")
    departures.keep(n, b"x" * (MAX_KEPT_BYTES + 1))
    assert departures.payload(n) == b"us" and departures.payload(n + 1) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has access lists instead")
def test_the_record_is_open_to_its_user_alone(egress, tmp_path):
    egress.message("enrolment", b"us")
    for folder in (tmp_path / "log", tmp_path / "log" / "payloads"):
        assert folder.stat().st_mode & 0o777 == 0o700
