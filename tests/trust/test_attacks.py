"""One site lies, with keys of its own: its lie counts for nothing, and the ledger says why.

The hub, its server, the client, the engine and the ledger are the real ones. What somebody without
keys may try is in ``tests/engines/hub/test_routes.py``; what a hub may, in ``test_hostile_hub.py``.
"""

import json
import queue
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from attacking import LIAR, ROUNDS, Answering, file_of, run
from hub_federation import Running

from hospitium.errors import CorruptedError
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.envelope import encode_update
from hospitium.wire.gate import REASONS
from hospitium.wire.sealing import RunKey
from hospitium.wire.signing import SigningKey

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    running = Running(place=tmp_path_factory.mktemp("hub"), site_ids=["site-1", LIAR])
    yield running
    running.stop()


@pytest.fixture(scope="module")
def silent(running, tmp_path_factory):
    """Return the model of a run in which the liar never answers."""
    hundred_thousand_arrays()  # takes longer than a round
    folder = tmp_path_factory.mktemp("silent") / "silent"
    return run(running, folder, lambda answering: None, deadline_s=1.0).params


def changed(change):
    """Send an update whose params are others; its file and digest fit them."""

    def lie(answering):
        delta = change(dict(answering.update.delta))
        answering.update = replace(answering.update, delta=delta)
        answering.file = file_of(delta)
        answering.send()

    return lie


def said(**fields):
    """Send an envelope with other fields, in canonical form."""

    def lie(answering):
        whole = json.loads(encode_update(answering.update, blob_digest=digest(answering.file)))
        answering.content = canonical_json({**whole, **fields})
        answering.send()

    return lie


def content(change):
    """Send an envelope of other bytes."""

    def lie(answering):
        whole = encode_update(answering.update, blob_digest=digest(answering.file))
        answering.content = change(whole)
        answering.send()

    return lie


def file(change):
    """Send another file, promised as it is."""

    def lie(answering):
        answering.file = change(answering.file)
        answering.send()

    return lie


def with_other_file(answering):
    answering.promised = digest(answering.file)
    answering.file = file_of({name: -x for name, x in answering.update.delta.items()})
    answering.send()


def sealed_for_another(answering):
    answering.run_key = RunKey.generate().public
    answering.send()


def not_sealed(answering):
    answering.run_key = ""
    answering.send()


def header(text):
    return lambda whole: len(text).to_bytes(8, "little") + text + whole[-20:]


def flipped_beyond_the_bound(answering):
    """Turn the change round and make it a hair longer than the bound of the task."""
    delta = answering.update.delta
    norm = np.sqrt(sum(float((x.astype(np.float64) ** 2).sum()) for x in delta.values()))
    factor = np.float32(-1.01 * answering.task.max_norm / norm)
    changed(lambda found: {name: x * factor for name, x in found.items()})(answering)


def nan(delta):
    return {**delta, "w": np.append(delta["w"][:-1], np.float32(np.nan))}


LIES = {
    "a NaN": (changed(nan), "non_finite"),
    "a change times 1000": (
        changed(lambda delta: {name: x * np.float32(1000) for name, x in delta.items()}),
        "norm",
    ),
    "a flipped sign beyond the bound": (flipped_beyond_the_bound, "norm"),
    "a billion cases": (said(num_cases=10**9), "weight"),
    "fewer than no cases": (said(num_cases=-1), "fields"),
    "another site's name": (said(site_id="site-1"), "identity"),
    "another plan": (said(plan_digest="0" * 64), "plan"),
    "another run": (said(run_id="elsewhere"), "plan"),
    "other base params": (said(base_digest="0" * 64), "base"),
    "a path for a digest": (said(blob="../../../ledger.sqlite"), "fields"),
    "a name that is a path": (said(run_id="../../x"), "fields"),
    "a field more": (said(role="coordinator"), "fields"),
    "an update of an earlier round": (said(round_number=0), "round"),
    "an update of a round to come": (said(round_number=2), "round"),
    "a key twice": (content(lambda whole: whole[:-1] + b',"round_number":1}'), "canonical"),
    "a bomb of brackets": (content(lambda whole: b"[" * 200_000), "canonical"),
    "a pickle": (content(lambda whole: b"\x80\x04cos\nsystem\n(S'x'\ntR."), "canonical"),
    "another file than promised": (with_other_file, "blob_digest"),
    "a file sealed for somebody else": (sealed_for_another, "identity"),
    "a file that is not sealed": (not_sealed, "fields"),
    "a header of its own": (file(header(b'{"w":{"dtype":"F32"}}   ')), "header"),
    "a header with a class": (file(header(b'{"__reduce__":["os.system"]}    ')), "header"),
    "a file cut off": (file(lambda whole: whole[:-1]), "header"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_counts_for_nothing_and_the_ledger_says_why(running, silent, tmp_path, name):
    lie, reason = LIES[name]
    outcome = run(running, tmp_path / name.replace(" ", "-").replace("'", ""), lie)
    assert outcome.left_out == [reason] * ROUNDS and reason in REASONS
    assert outcome.params == silent


@cache
def hundred_thousand_arrays():
    rows = {
        f"a{n:05}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10**5)
    }
    text = json.dumps(rows, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


REFUSED_AT_THE_DOOR = {
    "a file with a byte more": (file(lambda whole: whole + b"\x00"), "413 size"),
    "100,000 empty arrays": (file(lambda whole: hundred_thousand_arrays()), "413 size"),
    "a file of gigabytes": (file(lambda whole: whole + bytes(3 << 20)), "413 size"),
    "a stranger's signature": (
        lambda answering: replace(answering, key=SigningKey.generate()).send(),
        "400 signature",
    ),
    "the request key's signature": (
        lambda a: replace(a, key=a.site.running.request_key(LIAR)).send(),
        "400 signature",
    ),
    "an answer to a task that is nobody's": (
        lambda a: replace(a, ask=replace(a.ask, nonce="0" * 64)).send(),
        "404 not_found",
    ),
}


@pytest.mark.parametrize("name", REFUSED_AT_THE_DOOR)
def test_what_the_hub_does_not_take_never_reaches_the_round(running, silent, tmp_path, name):
    lie, expected = REFUSED_AT_THE_DOOR[name]
    folder = tmp_path / "".join(letter for letter in name if letter.isalnum())
    outcome = run(running, folder, lie, deadline_s=1.0)
    assert outcome.said == [expected] * ROUNDS
    assert outcome.left_out == ["deadline"] * ROUNDS
    assert outcome.params == silent


def waiting_for(done):
    """Return an honest site that answers once the liar has done what it does."""

    def honest(answering):
        assert done.acquire(timeout=10)
        answering.send()

    return honest


def test_of_two_answers_the_first_counts_and_both_are_kept(running, tmp_path):
    done = threading.Semaphore(0)

    def twice(answering):
        answering.send()
        other = {name: -x for name, x in answering.update.delta.items()}
        second = replace(
            answering, update=replace(answering.update, delta=other), file=file_of(other)
        )
        try:
            second.send()
        finally:
            done.release()

    once = run(running, tmp_path / "once", Answering.send)
    before = len(running.backend.conflicts(LIAR))
    outcome = run(running, tmp_path / "twice", twice, honest=waiting_for(done))
    assert outcome.said == ["409 conflict"] * ROUNDS
    assert (outcome.params, outcome.left_out) == (once.params, [""] * ROUNDS)
    assert len(outcome.conflicts) == before + ROUNDS


def test_an_upload_that_somebody_else_poisoned_is_not_in_the_way(running, tmp_path):
    """An upload is named by its digest: who guesses the name fills only an upload of its own."""
    names, done = queue.Queue(), threading.Semaphore(0)

    def honest(answering):
        content = encode_update(answering.update, blob_digest=digest(answering.file))
        sealed = answering.sealed(content)
        names.put((digest(sealed), len(sealed)))
        assert done.acquire(timeout=10)
        answering.send(sealed)

    def poisoning(answering):
        name, size = names.get(timeout=10)
        path = tmp_path / "rubbish"
        path.write_bytes(b"x" * size)
        answering.site.client._uploader.send(path, name)
        done.release()

    alone = run(running, tmp_path / "alone", lambda answering: None, deadline_s=1.0)
    outcome = run(running, tmp_path / "poisoned", poisoning, honest=honest, deadline_s=1.5)
    assert names.empty() and outcome.params == alone.params
    assert [row["answered"] for row in outcome.rounds] == [["site-1"]] * ROUNDS


def test_the_largest_header_that_fits_is_compared_and_not_parsed(tmp_path):
    """What the stock library needs seconds for is refused by its size and its first bytes."""
    manifest = blob.manifest_of({"w": np.zeros(4, np.float32)})
    path = tmp_path / "file"
    path.write_bytes(hundred_thousand_arrays())
    with pytest.raises(CorruptedError, match="expected"):
        blob.read(path, manifest=manifest)
    with pytest.raises(CorruptedError, match="claims"):
        blob.read(path)
