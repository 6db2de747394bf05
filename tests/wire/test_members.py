from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trusted import COORDINATOR, LATER, NOW, OFFICERS, begun, key, member, signed, with_oslo

from hospitium.errors import TrustError
from hospitium.wire import statement
from hospitium.wire.member_changes import (
    admit,
    replace_coordinator,
    replace_officers,
    revoke,
    rotate,
    sign_rotation,
)
from hospitium.wire.members import KIND, follow, open_first, require_valid, sign_members
from hospitium.wire.signing import dsse_merge


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


def first(envelope, *, officers=OFFICERS[:1], threshold=1, federation="north"):
    return open_first(
        envelope,
        federation=federation,
        officers=[officer.public.hex() for officer in officers],
        threshold=threshold,
    )


def forged(members, **changes):
    """A list that no function of ours makes, but signed."""
    return statement.sign(KIND, {**members.fields, **changes}, *OFFICERS[:1])


ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40).filter(
    lambda text: text[0] != "-"
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ids, unique=True, max_size=6))
def test_a_list_that_was_signed_reads_back_the_same_along_its_chain(site_ids):
    members = begun()
    envelopes = [signed(members)]
    for number, site_id in enumerate(site_ids):
        members = admit(members, member(site_id, first=20 + 2 * number), valid_until=LATER)
        envelopes.append(signed(members))
    assert follow(first(envelopes[0]), envelopes[1:]) == members
    assert members.members_epoch == 1 + len(site_ids)
    assert [site.site_id for site in members.sites] == sorted(site_ids)


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_any_flipped_bit_of_a_list_is_refused(bit):
    changed = bytearray(signed(begun()))
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    assert reason_of(first, bytes(changed)) in statement.TRUST_REASONS


def test_epochs_never_go_back():
    newest = with_oslo()
    assert reason_of(follow, newest, [signed(begun())]) == "rollback"


def test_the_list_in_force_may_come_again():
    newest = with_oslo()
    assert follow(newest, [signed(newest)]) == newest


def test_two_lists_of_one_epoch_are_a_fork():
    other = admit(begun(), member("bergen", first=30), valid_until=LATER)
    assert reason_of(follow, with_oslo(), [signed(other)]) == "fork"


def test_a_list_on_another_one_is_a_fork():
    other = admit(begun(), member("bergen", first=30), valid_until=LATER)
    third = admit(other, member("turku", first=40), valid_until=LATER)
    assert reason_of(follow, with_oslo(), [signed(third)]) == "fork"


def test_a_list_that_leaves_one_out_is_a_gap():
    third = admit(with_oslo(), member("bergen", first=30), valid_until=LATER)
    assert reason_of(follow, begun(), [signed(third)]) == "gap"


def test_a_list_of_another_federation_is_refused():
    other = with_oslo(federation="south")
    assert reason_of(follow, begun(), [signed(other)]) == "federation"
    assert reason_of(first, signed(other)) == "federation"


def test_a_list_below_the_threshold_is_refused():
    members = begun(threshold=2, officers=OFFICERS)
    following = admit(members, member(), valid_until=LATER)
    assert reason_of(follow, members, [signed(following, OFFICERS[0])]) == "threshold"
    assert reason_of(first, signed(members), officers=OFFICERS, threshold=2) == "threshold"
    apart = [signed(following, officer) for officer in OFFICERS[1:]]
    assert follow(members, [dsse_merge(*apart)]) == following


def test_a_list_by_other_officers_than_those_of_the_invite_is_refused():
    own = begun(officers=OFFICERS[1:2])
    assert reason_of(first, signed(own, OFFICERS[1])) == "threshold"


def test_new_officers_need_the_old_ones_and_themselves():
    following = replace_officers(
        begun(), [key(7).public.hex(), key(8).public.hex()], threshold=2, valid_until=LATER
    )
    assert reason_of(follow, begun(), [sign_members(following, key(7), key(8))]) == "threshold"
    assert reason_of(follow, begun(), [sign_members(following, OFFICERS[0], key(7))]) == "threshold"
    everyone = sign_members(following, OFFICERS[0], key(7), key(8))
    assert follow(begun(), [everyone]) == following


def test_one_key_for_two_sites_is_refused():
    twin = replace(member("bergen", first=30), request_key=member().request_key)
    assert reason_of(admit, with_oslo(), twin, valid_until=LATER) == "key_reused"


@pytest.mark.parametrize("taken", [OFFICERS[0], COORDINATOR, key(30)])
def test_a_key_has_one_purpose(taken):
    twin = replace(member("bergen", first=30), request_key=taken.public.hex())
    assert reason_of(admit, with_oslo(), twin, valid_until=LATER) == "key_reused"


def test_one_legal_entity_has_one_place():
    twin = replace(member("bergen", first=30), legal_entity="Oslo HOSPITAL")
    assert reason_of(admit, with_oslo(), twin, valid_until=LATER) == "identity"


def test_a_revoked_site_is_gone_and_its_keys_never_come_back():
    following = revoke(with_oslo(), "oslo", valid_until=LATER)
    assert reason_of(following.site, "oslo") == "members"
    assert reason_of(admit, following, member(), valid_until=LATER) == "key_reused"
    again = admit(following, member(first=30), valid_until=LATER)
    assert again.site("oslo").signing_key == key(30).public.hex()


def test_a_list_that_forgets_retired_keys_is_refused():
    gone = revoke(with_oslo(), "oslo", valid_until=LATER)
    later = replace(gone, members_epoch=4, previous_digest=gone.digest, retired_keys=())
    assert reason_of(follow, gone, [signed(later)]) == "key_reused"


@pytest.mark.parametrize("purpose", ["signing", "request"])
def test_a_rotation_is_signed_by_the_old_and_the_new_key(purpose):
    members = with_oslo()
    statement_ = sign_rotation(
        members, site_id="oslo", purpose=purpose, new=key(50), signing=key(10)
    )
    following = rotate(members, statement_, valid_until=LATER)
    site = following.site("oslo")
    new, old = key(50).public.hex(), getattr(member(), f"{purpose}_key")
    assert getattr(site, f"{purpose}_key") == new and old in following.retired_keys
    assert follow(members, [signed(following)]) == following


def test_a_rotation_without_both_signatures_or_for_another_list_is_refused():
    members = with_oslo()
    by_other = sign_rotation(
        members, site_id="oslo", purpose="signing", new=key(50), signing=key(11)
    )
    assert reason_of(rotate, members, by_other, valid_until=LATER) == "signature"
    good = sign_rotation(members, site_id="oslo", purpose="signing", new=key(50), signing=key(10))
    fields = statement.read(
        "rotation",
        statement.unverified("rotation", good),
        dict.fromkeys(
            ("federation", "members_epoch", "site_id", "purpose", "old_key", "new_key"),
            lambda value: True,
        ),
    )
    del fields["kind"]
    alone = statement.sign("rotation", fields, key(50))
    assert reason_of(rotate, members, alone, valid_until=LATER) == "threshold"
    later = admit(members, member("bergen", first=30), valid_until=LATER)
    assert reason_of(rotate, later, good, valid_until=LATER) == "members"
    assert reason_of(rotate, with_oslo(federation="south"), good, valid_until=LATER) == "federation"


def test_a_lost_coordinator_gets_a_new_key_by_the_officers():
    following = replace_coordinator(with_oslo(), key(60).public.hex(), valid_until=LATER)
    found = follow(with_oslo(), [signed(following)])
    assert found.coordinator_keys == (key(60).public.hex(),)
    assert COORDINATOR.public.hex() in found.retired_keys


def test_a_list_is_good_until_its_day_and_a_day_of_grace():
    require_valid(begun(), now=LATER + timedelta(hours=23))
    assert reason_of(require_valid, begun(), now=LATER + timedelta(hours=25)) == "expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0},
        {"threshold": 2},
        {"min_sites": 0},
        {"members_epoch": 2},
        {"members_epoch": True},
        {"previous_digest": "0" * 64},
        {"valid_until": "2026-11-21"},
        {"federation": "../north"},
        {"officers": []},
        {"sites": [{"site_id": "oslo"}]},
        {"retired_keys": ["x"]},
        {"more": 1},
    ],
)
def test_a_signed_list_with_strange_fields_is_refused(changes):
    assert reason_of(first, forged(begun(), **changes)) == "fields"


def test_a_list_with_a_key_that_binds_nobody_is_refused():
    weak = {**vars(member()), "request_key": "00" * 32}
    assert reason_of(first, forged(begun(), sites=[weak])) == "signature"


def test_rows_out_of_order_are_refused():
    two = admit(with_oslo(), member("bergen", first=30), valid_until=LATER)
    backwards = forged(two, sites=list(reversed(two.fields["sites"])))
    assert reason_of(first, backwards) == "fields"


def test_names_with_accents_are_refused_in_words():
    with pytest.raises(TrustError, match="without accents"):
        admit(begun(), replace(member(), legal_entity="Universitätsklinik"), valid_until=LATER)


def test_the_digest_is_over_the_signed_bytes():
    assert statement.time_text(NOW) == "2026-11-21T06:00:00Z"
    assert begun().digest != with_oslo().digest == with_oslo().digest
