"""A checkpoint has one text, and holds under one key, for one log."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import TrustError
from hospitium.wire.checkpoints import (
    ED25519,
    Checkpoint,
    coordinator_origin,
    note_key_id,
    open_checkpoint,
    sign_checkpoint,
    site_origin,
)
from hospitium.wire.signing import SigningKey, VerifyKey

KEY, OTHER = SigningKey.from_bytes(b"k" * 32), SigningKey.from_bytes(b"o" * 32)
ORIGIN = site_origin("chest", "oslo")
TREE_HEAD = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
NOTE = sign_checkpoint(TREE_HEAD, KEY)


def test_the_text_is_that_of_a_signed_note():
    body, blank, line, end = NOTE.rsplit("\n", 3)
    assert (blank, end) == ("", "")
    assert (
        body + "\n" == f"hospitium/chest/oslo\n7\n{base64.b64encode(bytes(range(32))).decode()}\n"
    )
    dash, name, signature = line.split(" ")
    raw = base64.b64decode(signature)
    public = KEY.public.to_bytes()
    assert (dash, name) == ("\N{EM DASH}", ORIGIN)
    assert raw[:4] == hashlib.sha256(ORIGIN.encode() + b"\x0a\x01" + public).digest()[:4]
    KEY.public.verify(raw[4:], (body + "\n").encode())


def test_the_key_id_is_that_of_a_published_key():
    """The verifier key in the documentation of golang.org/x/mod/sumdb/note."""
    name, key_id, key = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    raw = base64.b64decode(key)
    assert raw[0] == ED25519
    assert note_key_id(name, VerifyKey(raw[1:])).hex() == key_id
    assert note_key_id(name, VerifyKey(raw[1:]), kind=4).hex() != key_id


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(0, 10**14),
    root=st.binary(min_size=32, max_size=32),
    site_id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
)
def test_what_was_signed_is_read_back(size, root, site_id):
    for origin in (site_origin("chest", site_id), coordinator_origin("chest", site_id)):
        head = Checkpoint(origin=origin, size=size, root=root)
        assert open_checkpoint(sign_checkpoint(head, KEY), KEY.public, origin=origin) == head


def test_the_key_of_a_site_and_the_one_before_it_both_count():
    assert open_checkpoint(NOTE, OTHER.public, KEY.public, origin=ORIGIN) == TREE_HEAD


def test_no_character_of_a_checkpoint_can_change():
    for place in range(len(NOTE)):
        for other in ("A", "0", "\n", " "):
            changed = NOTE[:place] + other + NOTE[place + 1 :]
            if changed != NOTE:
                with pytest.raises(TrustError):
                    open_checkpoint(changed, KEY.public, origin=ORIGIN)


@pytest.mark.parametrize(
    "text", ["", NOTE + "\n", " " + NOTE, NOTE * 2, NOTE.replace("\n", "\r\n")]
)
def test_another_form_is_refused(text):
    with pytest.raises(TrustError) as caught:
        open_checkpoint(text, KEY.public, origin=ORIGIN)
    assert caught.value.reason == "canonical"


def test_a_checkpoint_of_another_log_or_by_another_key_is_refused():
    with pytest.raises(TrustError) as of_another:
        open_checkpoint(NOTE, KEY.public, origin=site_origin("chest", "bergen"))
    with pytest.raises(TrustError) as by_another:
        open_checkpoint(NOTE, OTHER.public, origin=ORIGIN)
    assert (of_another.value.reason, by_another.value.reason) == ("identity", "signature")


def test_base64_with_loose_ends_is_refused():
    """Some decoders take a last character whose low bits are dropped: two texts, one root."""
    first, size, root, *rest = NOTE.split("\n")
    loose = root[:-2] + chr(ord(root[-2]) + 1) + "="
    assert base64.b64decode(loose) == base64.b64decode(root)
    with pytest.raises(TrustError) as caught:
        open_checkpoint("\n".join([first, size, loose, *rest]), KEY.public, origin=ORIGIN)
    assert caught.value.reason == "canonical"
