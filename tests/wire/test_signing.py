import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trusted import key

from hospitium.errors import UpdateError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import (
    MAX_DSSE_BYTES,
    SigningKey,
    VerifyKey,
    dsse_merge,
    dsse_sign,
    dsse_signers,
    dsse_verify,
    pae,
)

KIND = "application/vnd.hospitium.test+json"
ONE, TWO, OTHER = key(1), key(2), key(3)
BOTH = {one.public.key_id: one.public for one in (ONE, TWO)}
ENVELOPE = dsse_sign(KIND, b'{"a":1}', ONE, TWO)


def refused(envelope, keys=BOTH, **options):
    with pytest.raises(UpdateError) as error:
        dsse_verify(envelope, keys, payload_type=KIND, **options)
    return error.value.reason


def test_the_signature_is_that_of_rfc_8032():
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    first = SigningKey.from_bytes(bytes.fromhex(seed))
    assert first.public.hex() == public and first.sign(b"").hex() == signature
    assert first.to_bytes().hex() == seed


def test_what_is_signed_is_the_example_of_the_dsse_specification():
    found = pae("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=0, max_value=len(ENVELOPE) * 8 - 1))
def test_any_flipped_bit_of_an_envelope_is_refused(bit):
    changed = bytearray(ENVELOPE)
    changed[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(changed)) in ("canonical", "fields", "signature")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_what_is_signed_is_what_is_read(payload):
    assert dsse_verify(dsse_sign(KIND, payload, ONE), BOTH, payload_type=KIND) == payload


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig", "x"]), inner,
        max_size=4),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_bytes_raise_anything_but_a_refusal(data):
    assert refused(data) in ("canonical", "fields", "signature")


def test_an_envelope_in_another_form_is_refused_though_its_signature_holds():
    value = json.loads(ENVELOPE)
    spaced = json.dumps(value, sort_keys=True).encode()
    with_more = canonical_json({**value, "more": 1})
    padded = {**value, "payload": value["payload"].rstrip("=")}
    assert refused(spaced) == refused(with_more) == refused(canonical_json(padded)) == "canonical"


def test_signatures_by_one_key_count_once():
    envelope = dsse_sign(KIND, b"x", ONE)
    assert refused(envelope, threshold=2) == "signature"
    value = json.loads(envelope)
    twice = canonical_json({**value, "signatures": value["signatures"] * 2})
    assert refused(twice, threshold=2) == "canonical"


def test_an_unknown_or_a_wrong_signature_beside_good_ones_is_refused():
    assert refused(dsse_sign(KIND, b"x", ONE, OTHER)) == "signature"
    value = json.loads(dsse_sign(KIND, b"x", ONE, TWO))
    value["signatures"][1]["sig"] = base64.b64encode(bytes(64)).decode()
    assert refused(canonical_json(value)) == "signature"


@pytest.mark.parametrize("length", [0, 1, 63, 65])
def test_a_signature_of_another_length_is_refused(length):
    value = json.loads(dsse_sign(KIND, b"x", ONE))
    value["signatures"][0]["sig"] = base64.b64encode(bytes(length)).decode()
    assert refused(canonical_json(value)) == "signature"


def test_a_key_under_the_id_of_another_is_not_used():
    wrong = {ONE.public.key_id: OTHER.public}
    assert refused(dsse_sign(KIND, b"x", ONE), wrong) == "signature"


def test_another_type_is_refused_though_its_signature_holds():
    assert refused(dsse_sign("application/x", b"x", ONE)) == "fields"


def test_a_huge_envelope_is_refused_before_it_is_parsed():
    assert refused(b"[" * (MAX_DSSE_BYTES + 1)) == "size"


def test_several_people_sign_one_after_the_other():
    apart = dsse_sign(KIND, b"x", TWO), dsse_sign(KIND, b"x", ONE)
    assert dsse_merge(*apart) == dsse_sign(KIND, b"x", ONE, TWO)
    _, signers = dsse_signers(dsse_merge(*apart), BOTH, payload_type=KIND)
    assert signers == set(BOTH)
    with pytest.raises(UpdateError, match="different payloads"):
        dsse_merge(apart[0], dsse_sign(KIND, b"y", ONE))


@pytest.mark.parametrize(
    "data",
    [
        bytes(32),
        bytes(31) + b"\x80",
        b"\x01" + bytes(31),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
        bytes(31),
        bytes(33),
    ],
)
def test_a_public_key_that_binds_nobody_is_refused(data):
    with pytest.raises(UpdateError):
        VerifyKey(data)


def test_a_seed_of_another_length_is_refused_without_showing_it():
    with pytest.raises(UpdateError) as error:
        SigningKey.from_bytes(b"canary-secret")
    assert "canary" not in str(error.value)


def test_keys_are_equal_by_their_bytes_and_show_no_secret():
    drawn = SigningKey.generate()
    again = VerifyKey(drawn.public.to_bytes())
    assert again == drawn.public and len({again, drawn.public}) == 1 and again != drawn
    assert drawn.to_bytes().hex() not in repr(drawn) + str(drawn) + repr(drawn.public)


@pytest.mark.parametrize("text", ["", "ab", "AB" * 32, "zz" * 32])
def test_a_key_is_32_bytes_in_lower_case(text):
    with pytest.raises(UpdateError):
        VerifyKey.from_hex(text)


def test_a_key_id_that_is_none_is_refused():
    value = json.loads(dsse_sign(KIND, b"x", ONE))
    value["signatures"][0]["keyid"] = "one"
    assert refused(canonical_json(value)) == "canonical"
