from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trusted import COORDINATOR, LATER, NOW, key, member, with_oslo

from hospitium.errors import TrustError
from hospitium.wire.approvals import (
    Approval,
    Refusal,
    Withdrawal,
    open_own,
    open_plan,
    open_said,
    require_current,
    sign_plan,
    sign_said,
)
from hospitium.wire.member_changes import admit
from hospitium.wire.statement import TRUST_REASONS, time_text

MEMBERS = admit(with_oslo(), member("bergen", first=30), valid_until=LATER)
DIGEST = "ab" * 32
APPROVAL = Approval(
    federation="north",
    site_id="oslo",
    plan_digest=DIGEST,
    policy_digest="cd" * 32,
    members_epoch=MEMBERS.members_epoch,
    members_digest=MEMBERS.digest,
    approver="Kari Nordmann",
    role="head of radiology",
    cohort_digest="ef" * 32,
    num_cases=120,
    min_sites=2,
    budget=8000,
    isolation="cut_off",
    agreement="A-17",
    ethics="REK 2026/1",
    expires=time_text(NOW + timedelta(days=90)),
    time=time_text(NOW),
)
COMMON = {"federation": "north", "site_id": "oslo", "plan_digest": DIGEST, "approver": "Kari"}
REFUSAL = Refusal(**COMMON, members_epoch=3, reason="privacy", time=time_text(NOW))
WITHDRAWAL = Withdrawal(**COMMON, time=time_text(NOW))


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


@pytest.mark.parametrize(
    "said", [APPROVAL, REFUSAL, WITHDRAWAL], ids=lambda one: type(one).__name__
)
def test_what_a_site_says_reads_back_the_same(said):
    envelope = sign_said(said, key(10))
    assert open_said(envelope, type(said), MEMBERS, site_id="oslo") == said
    own = open_own(envelope, key(10).public, federation="north", site_id="oslo")
    assert own == said


def test_a_statement_in_another_sites_name_is_refused():
    envelope = sign_said(APPROVAL, key(30))  # bergen's key
    assert reason_of(open_said, envelope, Approval, MEMBERS, site_id="bergen") == "identity"
    assert reason_of(open_said, envelope, Approval, MEMBERS, site_id="oslo") == "signature"


def test_the_request_key_signs_no_approval():
    envelope = sign_said(APPROVAL, key(11))
    assert reason_of(open_said, envelope, Approval, MEMBERS, site_id="oslo") == "signature"


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (b"{}", "canonical"),
        (sign_plan(b"{}", key(10)), "fields"),
        (sign_said(APPROVAL, key(30)), "signature"),
    ],
)
def test_what_the_site_did_not_say_is_not_read_from_its_disk(envelope, reason):
    names = {"federation": "north", "site_id": "oslo"}
    assert reason_of(open_own, envelope, key(10).public, **names) == reason


def test_a_refusal_is_never_read_as_an_approval():
    envelope = sign_said(REFUSAL, key(10))
    assert reason_of(open_said, envelope, Approval, MEMBERS, site_id="oslo") == "fields"


def test_an_approval_for_another_federation_is_refused():
    envelope = sign_said(replace(APPROVAL, federation="south"), key(10))
    assert reason_of(open_said, envelope, Approval, MEMBERS, site_id="oslo") == "federation"


def test_an_approval_counts_under_its_own_member_list_until_its_end():
    require_current(APPROVAL, MEMBERS, now=NOW)
    later = admit(MEMBERS, member("turku", first=40), valid_until=LATER)
    assert reason_of(require_current, APPROVAL, later, now=NOW) == "members"
    late = NOW + timedelta(days=90, seconds=1)
    assert reason_of(require_current, APPROVAL, MEMBERS, now=late) == "expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"num_cases": 0},
        {"min_sites": 0},
        {"budget": -1},
        {"approver": ""},
        {"approver": "Kari\n"},
        {"isolation": "perhaps"},
        {"plan_digest": "AB" * 32},
        {"expires": "soon"},
    ],
)
def test_a_strange_approval_is_never_signed(changes):
    assert reason_of(sign_said, replace(APPROVAL, **changes), key(10)) == "fields"


def test_free_text_does_not_travel():
    assert reason_of(sign_said, replace(REFUSAL, reason="we do not like it"), key(10)) == "fields"


@settings(max_examples=80, deadline=None)
@given(st.integers(min_value=0))
def test_any_flipped_bit_of_an_approval_is_refused(bit):
    changed = bytearray(sign_said(APPROVAL, key(10)))
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    found = reason_of(open_said, bytes(changed), Approval, MEMBERS, site_id="oslo")
    assert found in TRUST_REASONS


def test_a_plan_is_the_coordinators():
    envelope = sign_plan(b'{"name":"x"}', COORDINATOR)
    assert open_plan(envelope, MEMBERS) == b'{"name":"x"}'
    assert reason_of(open_plan, sign_plan(b"{}", key(10)), MEMBERS) == "signature"
    assert reason_of(open_plan, sign_said(APPROVAL, COORDINATOR), MEMBERS) == "fields"
