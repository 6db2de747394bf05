"""What is signed is what is read, by whom it is for, and by nobody else's key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.engines.hub.messages import Ask, Receipt, Reply, nonce_of
from hospitium.errors import UpdateError
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

KEY, OTHER = SigningKey.from_bytes(b"k" * 32), SigningKey.from_bytes(b"o" * 32)
ASK = Ask(site_id="oslo", task=b"{}", nonce="1" * 64, blob="2" * 64, blob_bytes=9, deadline_s=1.5)
REPLY = Reply(kind="update", nonce="1" * 64, content=b'{"kind":"error"}\x00\xff')


def test_what_is_written_is_read():
    assert Ask.opened(ASK.signed(KEY), key=KEY.public, site_id="oslo") == ASK
    assert Reply.opened(REPLY.signed(KEY), key=KEY.public) == REPLY
    receipt = Receipt(site_id="oslo", statement=digest(b"s"), index=3)
    found = Receipt.opened(receipt.signed(KEY), key=KEY.public, site_id="oslo", statement=b"s")
    assert found == receipt


@given(content=st.binary(max_size=200), kind=st.sampled_from(["update", "error"]))
@settings(max_examples=30, deadline=None)
def test_any_bytes_travel_and_give_the_same_statement_each_time(content, kind):
    reply = Reply(kind=kind, nonce="a" * 64, content=content)
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
