"""What is sealed is opened by the run's key alone, whole and in order, for its own update alone."""

import hashlib
import hmac
import io
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import UpdateError
from hospitium.wire.canonical import digest
from hospitium.wire.gate import REASONS
from hospitium.wire.sealing import (
    FRAME_BYTES,
    HEAD_BYTES,
    TAG_BYTES,
    RunKey,
    open_sealed,
    seal,
    sealed_bytes,
)

KEY, OTHER = RunKey.from_bytes(b"k" * 32), RunKey.from_bytes(b"o" * 32)
ENVELOPE = b'{"round_number":3,"run_id":"r","site_id":"oslo"}'
BINDING = digest(ENVELOPE)
SEALED_FRAME = FRAME_BYTES + TAG_BYTES
SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(-2, 2).map(lambda more: FRAME_BYTES + more),
    st.integers(-2, 2).map(lambda more: 3 * FRAME_BYTES + more),
)


def content_of(size):
    return hashlib.shake_128(b"content").digest(size)


def sealed(content, *, key=KEY, envelope=ENVELOPE):
    target = io.BytesIO()
    digests = seal(io.BytesIO(content), target, run_key=key.public, binding=digest(envelope))
    assert digests == tuple(hashlib.sha256(of).hexdigest() for of in (target.getvalue(), content))
    return target.getvalue()


def opened(data, *, key=KEY, envelope=ENVELOPE):
    content, sha256 = open_sealed(io.BytesIO(data), key=key, binding=digest(envelope))
    assert content.readonly and sha256 == hashlib.sha256(content).hexdigest()
    return bytes(content)


def reason_of(data, **options):
    with pytest.raises(UpdateError) as caught:
        opened(data, **options)
    assert caught.value.reason in REASONS
    return caught.value.reason


FOUR = sealed(content_of(3 * FRAME_BYTES + 1000))
"""Four frames, the last one short."""
ONE, TWO = sealed(content_of(1000)), sealed(content_of(2 * FRAME_BYTES))


def frames(data):
    body = data[HEAD_BYTES:]
    return [body[start : start + SEALED_FRAME] for start in range(0, len(body), SEALED_FRAME)]


def joined(head, pieces):
    return head[:HEAD_BYTES] + b"".join(pieces)


@given(size=SIZES)
@settings(max_examples=25, deadline=None)
def test_what_was_sealed_is_opened_and_its_size_is_known_before(size):
    content = content_of(size)
    data = sealed(content)
    assert len(data) == sealed_bytes(size)
    assert opened(data) == content
    assert content[:32] not in data or size < 32


def test_the_same_content_never_gives_the_same_bytes():
    first, second = frames(sealed(b"x" * 100)), frames(sealed(b"x" * 100))
    assert first != second


@given(place=st.integers(0, len(ONE) - 1), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_no_bit_of_a_sealed_file_can_change(place, bit):
    data = bytearray(ONE)
    data[place] ^= 1 << bit
    reason_of(bytes(data))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (0, "header"),
        (HEAD_BYTES - 80, "identity"),  # the key that was drawn for the wrapping
        (HEAD_BYTES - 1, "identity"),  # the wrapped key
        (HEAD_BYTES, "blob_digest"),  # the first frame
        (HEAD_BYTES + SEALED_FRAME - 1, "blob_digest"),  # its tag
        (HEAD_BYTES + SEALED_FRAME, "blob_digest"),
        (HEAD_BYTES + 3 * SEALED_FRAME, "blob_digest"),  # the last frame
        (len(FOUR) - 1, "blob_digest"),
    ],
)
def test_each_part_is_refused_with_its_reason(place, reason):
    data = bytearray(FOUR)
    data[place] ^= 1
    assert reason_of(bytes(data)) == reason


@given(cut=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_a_file_that_was_cut_off_or_has_more_is_refused(cut):
    reason_of(ONE[:-cut])
    reason_of(ONE + b"\0" * cut)


def test_a_file_cut_at_a_frame_is_refused():
    pieces = frames(FOUR)
    for count in range(4):
        reason_of(joined(FOUR, pieces[:count]))
    for data in (FOUR, TWO):
        reason_of(joined(data, [*frames(data), frames(data)[-1]]))


@given(order=st.lists(st.integers(0, 3), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_frames_left_out_doubled_or_moved_are_refused(order):
    data = joined(FOUR, [frames(FOUR)[index] for index in order])
    if order == [0, 1, 2, 3]:
        assert opened(data) == opened(FOUR)
    else:
        reason_of(data)


def test_frames_of_another_file_are_refused():
    other = frames(sealed(content_of(3 * FRAME_BYTES + 1000)))
    for index in range(4):
        pieces = frames(FOUR)
        pieces[index] = other[index]
        assert reason_of(joined(FOUR, pieces)) == "blob_digest"


def test_another_key_and_another_update_are_refused():
    assert reason_of(ONE, key=OTHER) == "identity"
    for envelope in (b"", ENVELOPE + b" ", ENVELOPE.replace(b"oslo", b"rome")):
        assert reason_of(ONE, envelope=envelope) == "identity"


@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_what_was_never_sealed_is_refused(data):
    assert reason_of(data) == "header"


@pytest.mark.parametrize("text", ["", "0" * 63, "G" * 64, "A" * 64, "\u0660" * 64, "0" * 64])
def test_nothing_is_sealed_to_what_is_no_key(text):
    target = io.BytesIO()
    with pytest.raises(UpdateError) as caught:
        seal(io.BytesIO(b"x"), target, run_key=text, binding=BINDING)
    assert caught.value.reason == "fields"
    assert target.getvalue() == b""


def test_a_file_that_shrinks_while_it_is_read_is_refused():
    class Shrinking(io.BytesIO):
        def readinto(self, room):
            self.truncate(5)
            return super().readinto(room)

    for act in (
        lambda: seal(Shrinking(b"x" * 99), io.BytesIO(), run_key=KEY.public, binding=BINDING),
        lambda: open_sealed(Shrinking(ONE), key=KEY, binding=BINDING),
    ):
        with pytest.raises(UpdateError):
            act()


def test_memory_does_not_grow_with_the_file_but_by_what_is_opened(tmp_path):
    size = 24 * FRAME_BYTES
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    plain.write_bytes(content_of(size))
    tracemalloc.start()
    try:
        with plain.open("rb") as source, hidden.open("wb") as target:
            seal(source, target, run_key=KEY.public, binding=BINDING)
        assert tracemalloc.get_traced_memory()[1] < 4 * FRAME_BYTES
        with hidden.open("rb") as source:
            content, _ = open_sealed(source, key=KEY, binding=BINDING)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size + 4 * FRAME_BYTES
    assert content == plain.read_bytes()


def test_a_reader_written_from_the_standards_alone_opens_it():
    content = content_of(2 * FRAME_BYTES + 7)
    data = sealed(content)
    bound = hashlib.sha256(ENVELOPE).digest()
    magic, enc, wrapped = data[:19], data[19:51], data[51:HEAD_BYTES]
    key, nonce = key_schedule(enc, info=magic + bound)
    content_key = AESGCM(key).decrypt(nonce, wrapped, b"")
    found = [
        AESGCM(content_key).decrypt(index.to_bytes(11, "big") + bytes([index == 2]), frame, bound)
        for index, frame in enumerate(frames(data))
    ]
    assert b"".join(found) == content


def key_schedule(enc, *, info):
    """RFC 9180, sections 4.1 and 5.1: base mode, DHKEM(X25519), HKDF-SHA256, AES-256-GCM."""
    secret = X25519PrivateKey.from_private_bytes(KEY.to_bytes())
    shared = secret.exchange(X25519PublicKey.from_public_bytes(enc))
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    prk = extract(kem, b"", b"eae_prk", shared)
    shared = expand(kem, prk, b"shared_secret", enc + bytes.fromhex(KEY.public), 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"")
    context += extract(suite, b"", b"info_hash", info)
    prk = extract(suite, shared, b"secret", b"")
    return expand(suite, prk, b"key", context, 32), expand(suite, prk, b"base_nonce", context, 12)


def extract(suite, salt, label, data):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + data, "sha256")


def expand(suite, prk, label, info, size):
    info = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, info + b"\x01", "sha256")[:size]


def test_a_key_is_kept_as_bytes_and_shows_nothing_of_itself():
    key = RunKey.generate()
    assert RunKey.from_bytes(key.to_bytes()).public == key.public
    assert key.to_bytes().hex() not in repr(key)
    assert key.public != RunKey.generate().public
    with pytest.raises(UpdateError, match="32 bytes"):
        RunKey.from_bytes(b"short")
