from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trusted import COORDINATOR, LATER, NOW, begun, invited, key, member, request_of

from hospitium.errors import TrustError
from hospitium.wire import statement
from hospitium.wire.certificates import fingerprint, make_authority
from hospitium.wire.enrolments import check_request, read_request, require_words, sign_request
from hospitium.wire.invites import (
    LIFETIME,
    new_invite,
    read_invite,
    read_ticket,
    write_invite,
    write_ticket,
)
from hospitium.wire.member_changes import admit, revoke
from hospitium.wire.signing import SigningKey


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


def checked(envelope, ticket, *, members=None, now=NOW):
    return check_request(envelope, ticket=ticket, members=members or begun(), now=now)


def test_an_invite_reads_back_the_same():
    invite, ticket = invited()
    assert read_invite(write_invite(invite, COORDINATOR), now=NOW) == invite
    assert read_ticket(write_ticket(ticket)) == ticket


def test_what_the_coordinator_keeps_holds_no_secret():
    invite, ticket = invited()
    kept = write_ticket(ticket).decode() + repr(ticket) + repr(invite)
    assert invite.token.hex() not in kept and repr(invite.token) not in kept


def test_an_honest_request_is_taken():
    invite, ticket = invited()
    asked = checked(request_of(invite), ticket)
    assert asked == read_request(request_of(invite))
    assert asked.member == replace(member(), legal_entity="Oslo hospital")
    require_words(asked, " ".join(asked.words))
    require_words(asked, "  " + "\n".join(asked.words).upper() + " ")
    with pytest.raises(TrustError, match=r"^2 words were typed .* not 6\.") as caught:
        require_words(asked, " ".join(asked.words[:2]))
    assert caught.value.reason == "words"


def test_an_invite_is_over_after_48_hours():
    invite, ticket = invited()
    data, late = write_invite(invite, COORDINATOR), NOW + LIFETIME + timedelta(seconds=1)
    assert read_invite(data, now=NOW + LIFETIME) == invite
    assert reason_of(read_invite, data, now=late) == "expired"
    assert reason_of(checked, request_of(invite), ticket, now=late) == "expired"


def test_the_token_of_another_site_is_refused():
    (oslo, _), (_, bergen) = invited("oslo"), invited("bergen")
    assert reason_of(checked, request_of(oslo), bergen) == "identity"
    assert reason_of(checked, request_of(replace(oslo, site_id="bergen")), bergen) == "identity"


def test_the_token_of_an_older_invite_is_refused():
    (old, _), (_, new) = invited(), invited()
    assert reason_of(checked, request_of(old), new) == "identity"


def test_a_request_replayed_to_another_federation_is_refused():
    invite, ticket = invited()
    elsewhere = replace(ticket, federation="south")
    assert reason_of(checked, request_of(invite), elsewhere) == "federation"
    namesake = replace(ticket, coordinator_key=key(60).public.hex())
    assert reason_of(checked, request_of(invite), namesake) == "federation"


def test_a_key_of_a_member_or_of_one_who_was_is_refused():
    invite, ticket = invited("bergen")
    asked = request_of(invite, first=10)
    members = admit(begun(), member(), valid_until=LATER)
    assert reason_of(checked, asked, ticket, members=members) == "key_reused"
    gone = revoke(members, "oslo", valid_until=LATER)
    assert reason_of(checked, asked, ticket, members=gone) == "key_reused"


def test_one_key_for_two_purposes_is_refused():
    invite, _ = invited()
    fields = {**vars(read_request(request_of(invite)))}
    fields["request_key"] = fields["signing_key"]
    twice = statement.sign("enrolment", fields, key(10), SigningKey.from_bytes(invite.token))
    assert reason_of(read_request, twice) == "key_reused"


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_request_without_one_of_its_three_signatures_is_refused(missing):
    invite, _ = invited()
    fields = {**vars(read_request(request_of(invite)))}
    signers = [key(10), key(11), SigningKey.from_bytes(invite.token)]
    del signers[missing]
    assert reason_of(read_request, statement.sign("enrolment", fields, *signers)) == "threshold"


def test_swapped_keys_give_other_words():
    invite, ticket = invited()
    told = read_request(request_of(invite)).words
    swapped = checked(request_of(invite, first=40), ticket)  # by whoever has seen the invite
    assert set(swapped.words) != set(told)
    assert reason_of(require_words, swapped, " ".join(told)) == "words"
    assert reason_of(require_words, swapped, "") == "words"
    assert reason_of(require_words, swapped, " ".join(swapped.words[:5])) == "words"


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0), st.sampled_from(["invite", "request"]))
def test_any_flipped_bit_is_refused(bit, what):
    invite, _ = invited()
    data = write_invite(invite, COORDINATOR) if what == "invite" else request_of(invite)
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    with pytest.raises(TrustError):
        read_invite(bytes(changed), now=NOW) if what == "invite" else read_request(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(data):
    for read in (read_request, lambda data: read_invite(data, now=NOW)):
        assert reason_of(read, data) in statement.TRUST_REASONS


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["http://hub.example.org"],
        ["https://me:secret@hub.example.org"],
        ["https://"],
        ["https://["],
        ["x"],
    ],
)
def test_an_invite_holds_https_addresses_without_a_login(addresses):
    options = {"addresses": addresses, "now": NOW}
    assert reason_of(new_invite, begun(), site_id="oslo", **options) == "fields"


@pytest.mark.parametrize("site_id", ["", "Oslo", "../oslo", "-oslo", "o" * 41, "os/lo", "ø"])
def test_a_site_has_a_name_that_may_name_a_folder(site_id):
    options = {"addresses": ["https://hub.example.org"], "now": NOW}
    assert reason_of(new_invite, begun(), site_id=site_id, **options) == "fields"


def test_a_legal_name_with_accents_is_refused_in_words():
    invite, _ = invited()
    with pytest.raises(TrustError, match="without accents"):
        sign_request(invite, legal_entity="Bærum", signing=key(10), request=key(11))


CA = make_authority("Hospitium north", now=NOW).certificate.decode()
"""Of a coordinator with an authority of its own."""


def test_an_invite_brings_the_authority_of_the_coordinator_with_its_fingerprint():
    invite = new_invite(
        begun(), site_id="oslo", addresses=["https://hub.example.org"], tls_ca=CA, now=NOW
    )
    found = read_invite(write_invite(invite, COORDINATOR), now=NOW)
    assert found == invite and found.tls_ca == CA
    assert found.tls_ca_sha256 == fingerprint(CA)


def test_an_authority_that_is_not_the_one_of_the_fingerprint_is_refused():
    other = make_authority("Hospitium north", now=NOW).certificate.decode()
    with_ca = replace(invited()[0], tls_ca=CA, tls_ca_sha256=fingerprint(CA))
    for changed, reason in (
        (replace(with_ca, tls_ca=other), "identity"),
        (replace(with_ca, tls_ca=""), "identity"),
        (replace(with_ca, tls_ca_sha256=""), "identity"),
        (replace(with_ca, tls_ca=CA + CA), "fields"),
        (replace(with_ca, tls_ca="hello\n"), "fields"),
        (replace(with_ca, tls_ca=CA * 20), "fields"),
    ):
        assert reason_of(read_invite, write_invite(changed, COORDINATOR), now=NOW) == reason


def test_an_invite_is_not_made_with_what_is_no_certificate():
    options = {"addresses": ["https://hub.example.org"], "now": NOW}
    assert reason_of(new_invite, begun(), site_id="oslo", tls_ca="x\n", **options) == "fields"
