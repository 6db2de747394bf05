"""What is signed is what is read, by whom it is for, and by nobody else's key."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.engines.hub.messages import (
    ANSWER_TYPE,
    TASK_TYPE,
    Ask,
    Receipt,
    Reply,
    nonce_of,
)
from hospitium.errors import UpdateError
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.signing import SigningKey, dsse_payload, dsse_sign

KEY, OTHER = SigningKey.from_bytes(b"k" * 32), SigningKey.from_bytes(b"o" * 32)
ASK = Ask(
    site_id="oslo",
    task=b"{}",
    nonce="1" * 64,
    blob="2" * 64,
    blob_bytes=9,
    deadline_s=1.5,
    members_digest="3" * 64,
    num_sites=4,
    run_key="5" * 64,
)
REPLY = Reply(kind="update", nonce="1" * 64, content=b'{"kind":"error"}\x00\xff')


def test_what_is_written_is_read():
    assert Ask.opened(ASK.signed(KEY), key=KEY.public, site_id="oslo") == ASK
    assert Reply.opened(REPLY.signed(KEY), key=KEY.public) == REPLY
    receipt = Receipt(site_id="oslo", statement=digest(b"s"), index=3)
    found = Receipt.opened(receipt.signed(KEY), key=KEY.public, site_id="oslo", statement=b"s")
    assert found == receipt


@given(
    content=st.binary(max_size=200),
    kind=st.sampled_from(["update", "error"]),
    sealed=st.sampled_from(["", "5" * 64]),
)
@settings(max_examples=30, deadline=None)
def test_any_bytes_travel_and_give_the_same_statement_each_time(content, kind, sealed):
    reply = Reply(kind=kind, nonce="a" * 64, content=content, sealed=sealed)
    assert Reply.opened(reply.signed(KEY), key=KEY.public) == reply
    assert reply.signed(KEY) == reply.signed(KEY)


def test_anothers_key_another_site_and_another_statement_are_refused():
    receipt = Receipt(site_id="oslo", statement=digest(b"s"), index=3).signed(KEY)
    for read in (
        lambda: Ask.opened(ASK.signed(OTHER), key=KEY.public, site_id="oslo"),
        lambda: Ask.opened(ASK.signed(KEY), key=KEY.public, site_id="turin"),
        lambda: Reply.opened(REPLY.signed(OTHER), key=KEY.public),
        lambda: Reply.opened(ASK.signed(KEY), key=KEY.public),
        lambda: Receipt.opened(receipt, key=KEY.public, site_id="oslo", statement=b"other"),
        lambda: Receipt.opened(receipt, key=KEY.public, site_id="turin", statement=b"s"),
        lambda: Receipt.opened(receipt, key=OTHER.public, site_id="oslo", statement=b"s"),
    ):
        with pytest.raises(UpdateError):
            read()


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_no_bit_of_a_statement_can_change(place, bit):
    data = bytearray(REPLY.signed(KEY))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(UpdateError):
        Reply.opened(bytes(data), key=KEY.public)


def test_a_nonce_is_the_same_for_the_same_task_and_unlike_for_another_key():
    assert nonce_of(b"t", key=KEY) == nonce_of(b"t", key=KEY)
    assert len({nonce_of(b"t", key=KEY), nonce_of(b"u", key=KEY), nonce_of(b"t", key=OTHER)}) == 3
    assert len({nonce_of(b"t", key=KEY, run_key=run_key) for run_key in ("", "a", "b")}) == 3


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
ASKS = st.builds(
    Ask,
    site_id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
    task=st.binary(max_size=200),
    nonce=DIGESTS,
    blob=DIGESTS,
    blob_bytes=st.integers(0, 1 << 52),
    deadline_s=st.integers(0, 10**9).map(lambda ms: ms / 1000),
    members_digest=st.just("") | DIGESTS,
    num_sites=st.integers(0, 1000),
    run_key=st.just("") | DIGESTS,
)


@given(ask=ASKS)
@settings(max_examples=50, deadline=None)
def test_any_question_is_read_as_it_was_asked(ask):
    assert Ask.opened(ask.signed(KEY), key=KEY.public, site_id=ask.site_id) == ask


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("members_digest", ["0" * 63, "A" * 64, "0" * 65, 0, None, ["0" * 64]]),
        ("run_key", ["0" * 63, "A" * 64, "0" * 64 + "\n", 0, None, False]),
        ("num_sites", [-1, 1 << 53, 1.0, "3", True, None]),
        ("blob_bytes", [-1, "9", 9.0]),
        ("deadline_ms", [-1, 1.5, "9"]),
        ("site_id", [1, None, ""]),
        ("task", ["=", 1, "YQ"]),
        ("further", [1]),
        ("kind", ["reply", 1]),
    ],
)
def test_a_question_with_a_field_that_is_not_valid_is_refused(field, values):
    fields = json.loads(dsse_payload(ASK.signed(KEY)))
    for value in values:
        changed = dsse_sign(TASK_TYPE, canonical_json({**fields, field: value}), KEY)
        with pytest.raises(UpdateError):
            Ask.opened(changed, key=KEY.public, site_id="oslo")
    if field in fields:
        del fields[field]
        without = dsse_sign(TASK_TYPE, canonical_json(fields), KEY)
        with pytest.raises(UpdateError):
            Ask.opened(without, key=KEY.public, site_id="oslo")


@pytest.mark.parametrize("sealed", ["0" * 63, "A" * 64, 1, None])
def test_an_answer_with_a_digest_that_is_none_is_refused(sealed):
    fields = json.loads(dsse_payload(REPLY.signed(KEY)))
    changed = dsse_sign(ANSWER_TYPE, canonical_json({**fields, "sealed": sealed}), KEY)
    with pytest.raises(UpdateError) as caught:
        Reply.opened(changed, key=KEY.public)
    assert caught.value.reason == "fields"


@given(ask=ASKS, place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_no_bit_of_a_question_can_change(ask, place, bit):
    data = bytearray(ask.signed(KEY))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(UpdateError):
        Ask.opened(bytes(data), key=KEY.public, site_id=ask.site_id)
