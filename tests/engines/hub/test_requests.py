"""Signed requests: each is good once, for what was signed, by whom the list names."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.engines.hub.requests import (
    CHALLENGE_S,
    MAX_CHALLENGES,
    TYPE,
    WINDOW,
    Member,
    Question,
    ReplayWindow,
    Signer,
    Verifier,
)
from hospitium.errors import HubError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import SigningKey, dsse_sign

ASKED = Question(method="GET", path="/v1/tasks", query="after=0&wait=5")
NOTHING = "0" * 64


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def key():
    return SigningKey.generate()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def members(key):
    return {"oslo": Member(request_key=key.public, signing_key=SigningKey.generate().public)}


@pytest.fixture
def verifier(members, clock):
    return Verifier(members, clock=clock)


def refused(verifier, header, question=ASKED) -> str:
    with pytest.raises(HubError) as caught:
        verifier.admit(header, question)
    assert caught.value.status == 401
    return caught.value.reason


def test_a_request_is_admitted_once_in_the_name_of_its_key(verifier, key):
    header = Signer(key, verifier.challenge()).header(ASKED, content_sha256=NOTHING)
    caller = verifier.admit(header, ASKED)
    assert (caller.site_id, caller.content_sha256) == ("oslo", NOTHING)
    assert refused(verifier, header) == "challenge"


@pytest.mark.parametrize(
    "other",
    [
        Question(method="POST", path=ASKED.path, query=ASKED.query),
        Question(method="GET", path="/v1/tasks/", query=ASKED.query),
        Question(method="GET", path=ASKED.path, query="after=1&wait=5"),
    ],
)
def test_a_signature_is_good_for_nothing_else(verifier, key, other):
    header = Signer(key, verifier.challenge()).header(ASKED, content_sha256=NOTHING)
    assert refused(verifier, header, other) == "signature"


def test_an_unknown_or_revoked_key_and_the_key_for_statements_are_refused(verifier, key, members):
    stranger = Signer(SigningKey.generate(), verifier.challenge())
    assert refused(verifier, stranger.header(ASKED, content_sha256=NOTHING)) == "signature"
    signer = Signer(key, verifier.challenge())
    verifier.admit(signer.header(ASKED, content_sha256=NOTHING), ASKED)
    del members["oslo"]
    assert refused(verifier, signer.header(ASKED, content_sha256=NOTHING)) == "signature"


@given(data=st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_garbage_is_refused(data):
    verifier = Verifier({})
    for header in (base64.b64encode(data).decode(), data.decode("latin-1")):
        assert refused(verifier, header) == "signature"


@pytest.mark.parametrize("change", [{"counter": -1}, {"counter": True}, {"more": 1}, {"query": 0}])
def test_fields_of_another_kind_are_refused(verifier, key, change):
    fields = {
        "challenge": verifier.challenge(),
        "content_sha256": NOTHING,
        "counter": 1,
        "method": ASKED.method,
        "path": ASKED.path,
        "query": ASKED.query,
    }
    header = base64.b64encode(dsse_sign(TYPE, canonical_json(fields | change), key)).decode()
    assert refused(verifier, header) in ("signature", "challenge")


def test_a_challenge_is_good_at_its_hub_and_for_five_minutes(verifier, key, members, clock):
    elsewhere = Signer(key, Verifier(members, clock=clock).challenge())
    assert refused(verifier, elsewhere.header(ASKED, content_sha256=NOTHING)) == "challenge"
    signer = Signer(key, verifier.challenge())
    clock.now_s += CHALLENGE_S - 1
    verifier.admit(signer.header(ASKED, content_sha256=NOTHING), ASKED)
    clock.now_s += 2
    assert refused(verifier, signer.header(ASKED, content_sha256=NOTHING)) == "challenge"


def test_what_was_used_stays_used_when_a_site_takes_many_challenges(verifier, key, clock):
    headers = []
    for _ in range(MAX_CHALLENGES * 3):
        clock.now_s += 1
        headers.append(Signer(key, verifier.challenge()).header(ASKED, content_sha256=NOTHING))
        verifier.admit(headers[-1], ASKED)
    assert {refused(verifier, header) for header in headers} == {"challenge"}


@given(st.lists(st.integers(-2, 5000), max_size=60))
@settings(deadline=None)
def test_the_window_is_a_set_of_used_counters_that_forgets_on_the_safe_side(counters):
    window, used, newest = ReplayWindow(), set(), 0
    for counter in counters:
        fresh = counter >= 1 and counter > newest - WINDOW and counter not in used
        assert window.take(counter) == fresh
        if fresh:
            used.add(counter)
            newest = max(newest, counter)
    assert window.bits < 1 << WINDOW


def test_a_huge_counter_costs_nothing():
    window = ReplayWindow()
    assert window.take((1 << 53) - 1) and not window.take(1)
    assert window.bits.bit_length() <= WINDOW
