import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hospitium.errors import UpdateError
from hospitium.types import Task, Update
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import (
    MAX_ENVELOPE_BYTES,
    decode_task,
    decode_update,
    encode_task,
    encode_update,
)
from hospitium.wire.gate import MAX_SUM, REASONS

TASK = Task(
    run_id="run-1",
    round_number=3,
    plan_digest="a" * 64,
    params={"w": np.zeros(2, np.float32)},
    base_digest="b" * 64,
    max_norm=0.1,
)
UPDATE = Update(
    run_id="run-1",
    round_number=3,
    site_id="oslo",
    plan_digest="a" * 64,
    base_digest="b" * 64,
    num_cases=120,
    delta={},
    sums={"n": (7,), "confusion": (1, 2, 3, 4)},
    num_steps=5,
    train_s=1.25,
)
TASK_BYTES = encode_task(TASK)
UPDATE_BYTES = encode_update(UPDATE, blob_digest="c" * 64)


def decoded_again(data, kind):
    """Decode, and return what encoding gives again."""
    if kind == "task":
        return encode_task(decode_task(data, params=TASK.params))
    update, digest = decode_update(data)
    return encode_update(update, blob_digest=digest)


def test_a_task_makes_the_round_trip_with_the_exact_bound():
    assert decode_task(TASK_BYTES, params=TASK.params) == TASK
    assert decode_task(encode_task(replace(TASK, purpose="score")), params={}).purpose == "score"


def test_an_update_makes_the_round_trip_with_the_digest_of_its_change():
    assert decode_update(UPDATE_BYTES) == (UPDATE, "c" * 64)
    assert decode_update(encode_update(UPDATE, blob_digest="")) == (UPDATE, "")


def test_the_envelope_of_an_update_is_pinned_and_holds_nothing_of_its_file():
    data = encode_update(replace(UPDATE, path="/home/oslo/patients"), blob_digest="c" * 64)
    assert data == UPDATE_BYTES
    assert json.loads(data) == {
        "kind": "update", "run_id": "run-1", "round_number": 3, "site_id": "oslo",
        "plan_digest": "a" * 64, "base_digest": "b" * 64, "num_cases": 120, "num_steps": 5,
        "train_ms": 1250, "sums": {"n": [7], "confusion": [1, 2, 3, 4]}, "blob": "c" * 64,
    }  # fmt: skip


def test_an_envelope_of_another_kind_is_refused():
    with pytest.raises(UpdateError) as caught:
        decode_update(TASK_BYTES)
    assert caught.value.reason == "fields"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: data.replace(b":", b": ", 1),
        lambda data: b'{"base_digest":1,' + data[1:],
        lambda data: data.replace(b"oslo", b"\\u006fslo"),
        lambda data: data.replace(b"120", b"1.2e2"),
        lambda data: data.replace(b"120", b"NaN"),
        lambda data: data.replace(b"120", b"9" * 5000),
        lambda data: data.replace(b"oslo", b"\\ud800"),
        lambda data: data.replace(b"oslo", b"\xff"),
        lambda data: b"[" * 200_000,
        lambda data: b"",
    ],
)
def test_bytes_that_are_not_canonical_json_are_refused(change):
    with pytest.raises(UpdateError) as caught:
        decode_update(change(UPDATE_BYTES))
    assert caught.value.reason == "canonical"


def test_an_envelope_larger_than_any_honest_one_is_refused_unread():
    with pytest.raises(UpdateError) as caught:
        decode_update(b"x" * (MAX_ENVELOPE_BYTES + 1))
    assert caught.value.reason == "size"


@pytest.mark.parametrize("bound", ["0.1", "8", "nan", "inf", "0x0.0p+0", "-0x1.0p+0", "0x1p9999"])
def test_a_bound_in_any_other_spelling_than_ours_is_refused(bound):
    fields = {**json.loads(TASK_BYTES), "max_norm": bound}
    with pytest.raises(UpdateError, match="max_norm"):
        decode_task(canonical_json(fields), params={})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([-1, MAX_SUM, MAX_SUM + 1, 10**30, 1.5, "", "oslo", "../x", "A" * 64])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/ ", max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["task", "update"]), st.data(), VALUES)
def test_a_field_with_any_other_value_is_refused_or_is_itself_canonical(kind, data, value):
    fields = json.loads(TASK_BYTES if kind == "task" else UPDATE_BYTES)
    fields[data.draw(st.sampled_from(sorted(fields)))] = value
    mutated = canonical_json(fields)
    try:
        assert decoded_again(mutated, kind) == mutated
    except UpdateError as error:
        assert error.reason in REASONS


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["task", "update"]), st.integers(0, 10**6), st.integers(1, 255))
@example("update", 0, 1)
def test_a_damaged_byte_is_refused_or_makes_another_canonical_envelope(kind, at, mask):
    damaged = bytearray(TASK_BYTES if kind == "task" else UPDATE_BYTES)
    damaged[at % len(damaged)] ^= mask
    try:
        assert decoded_again(bytes(damaged), kind) == damaged
    except UpdateError as error:
        assert error.reason in REASONS


@pytest.mark.parametrize(
    "sums",
    [
        {"n": [-1]},
        {"n": [1.0]},
        {"n": [True]},
        {"n": [MAX_SUM + 1]},
        {"n": 3},
        {"n m": [1]},
        {"n": [0] * ((1 << 16) + 1)},
        {f"s{number}": [1] for number in range(65)},
        [],
    ],
)
def test_sums_that_are_not_short_lists_of_counts_are_refused(sums):
    fields = {**json.loads(UPDATE_BYTES), "sums": sums}
    with pytest.raises(UpdateError, match="sums"):
        decode_update(canonical_json(fields))
