import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from carried import NAME, NOW, Federation

from hospitium.errors import HospitiumError, StateConflictError, TrustError, UsageError
from hospitium.operations.coordinating import (
    admit_site,
    begin_federation,
    invite_site,
    list_sites,
    receive_request,
    revoke_site,
    rotate_key,
    sign_proposed,
)
from hospitium.operations.desks import existing, federations, only_federation
from hospitium.operations.enrolment import fetch, join, joined, rotate, take_members
from hospitium.site.keys import make_key
from hospitium.state.home import Home
from hospitium.wire.enrolments import sign_request
from hospitium.wire.invites import read_invite
from hospitium.wire.member_changes import replace_officers
from hospitium.wire.members import sign_members
from hospitium.wire.signing import SigningKey


@pytest.fixture
def north(tmp_path):
    return Federation(folder=tmp_path).begin()


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


def states(federation):
    found = list_sites(federation.coordinator, NAME)
    return {row["site_id"]: row["state"] for row in found["sites"]}


def test_two_sites_join_with_one_file_and_one_call_each(north):
    for site_id in ("oslo", "bergen"):
        assert north.admit(site_id)["is_in_force"]
    assert states(north) == {"bergen": "member", "oslo": "member"}
    found = north.carry("oslo")
    assert found["registered"] and found["sites"] == ["bergen", "oslo"]
    assert found["members_epoch"] == 3


def test_a_site_is_invited_then_asks_then_is_a_member(north):
    invite = north.invite("oslo")
    assert states(north) == {"oslo": "invited"}
    request, words = north.ask("oslo", invite)
    receive_request(north.coordinator, NAME, request, now=NOW)
    assert states(north) == {"oslo": "asked to join"}
    admit_site(north.coordinator, NAME, "oslo", heard=words, now=NOW)
    assert states(north) == {"oslo": "member"}
    again = admit_site(north.coordinator, NAME, "oslo", heard=words, now=NOW)
    assert again["members_epoch"] == 2


def test_no_private_key_is_in_a_file_that_travels_or_at_the_coordinator(north):
    north.admit("oslo")
    place = north.place("oslo")
    secrets = [key.to_bytes() for key in (place.signing_key(), place.request_key())]
    files = [path for path in north.folder.rglob("*") if path.is_file()]
    elsewhere = [path for path in files if "keys" not in path.parts]
    assert len(elsewhere) > 10
    for path in elsewhere:
        data = path.read_bytes()
        assert not any(secret in data or secret.hex().encode() in data for secret in secrets)


def test_the_token_is_in_the_invite_alone(north):
    path = north.invite("oslo")
    token = read_invite(path.read_bytes(), now=NOW).token
    north.ask("oslo", path)
    for other in (file for file in north.folder.rglob("*") if file.is_file() and file != path):
        assert token not in other.read_bytes() and token.hex().encode() not in other.read_bytes()


def test_the_same_invite_asks_the_same_again(north):
    invite = north.invite("oslo")
    request, words = north.ask("oslo", invite)
    assert north.ask("oslo", invite) == (request, words)
    for _ in range(2):
        receive_request(north.coordinator, NAME, request, now=NOW)
    admit_site(north.coordinator, NAME, "oslo", heard=words, now=NOW)
    receive_request(north.coordinator, NAME, request, now=NOW)


def test_an_expired_invite_is_refused_at_both_ends(north):
    late = NOW + timedelta(hours=48, seconds=1)
    invite = north.invite("oslo")
    request, _ = north.ask("oslo", invite)
    assert reason_of(receive_request, north.coordinator, NAME, request, now=late) == "expired"
    options = {"legal_entity": "x", "now": late}
    assert reason_of(join, north.site("bergen"), invite, **options) == "expired"


def test_a_used_invite_is_refused(north):
    invite = north.invite("oslo")
    first, _ = north.ask("oslo", invite)
    receive_request(north.coordinator, NAME, first, now=NOW)
    second = another_request(invite)
    assert reason_of(receive_request, north.coordinator, NAME, second, now=NOW) == "used"


def test_of_two_requests_in_a_race_one_wins(north):
    invite = north.invite("oslo")
    requests = [another_request(invite) for _ in range(8)]

    def send(request):
        try:
            receive_request(north.coordinator, NAME, request, now=NOW)
        except TrustError as error:
            return error.reason
        return "taken"

    with ThreadPoolExecutor(8) as threads:
        found = sorted(threads.map(send, requests))
    assert found == ["taken"] + ["used"] * 7
    assert existing(north.coordinator, NAME).request("oslo") is not None


def test_a_request_under_an_invite_that_was_replaced_is_refused(north):
    request, _ = north.ask("oslo", north.invite("oslo"))
    north.invite("oslo")
    assert reason_of(receive_request, north.coordinator, NAME, request, now=NOW) == "identity"


def test_a_request_without_an_invite_here_is_refused(north, tmp_path):
    south = Federation(folder=tmp_path / "elsewhere").begin()
    request, _ = south.ask("oslo")
    assert reason_of(receive_request, north.coordinator, NAME, request, now=NOW) == "identity"
    north.invite("oslo")  # another federation of the same name: its coordinator has another key
    assert reason_of(receive_request, north.coordinator, NAME, request, now=NOW) == "federation"


def test_keys_swapped_on_the_way_are_heard_on_the_telephone(north):
    invite = north.invite("oslo")
    _, words = north.ask("oslo", invite)
    receive_request(north.coordinator, NAME, another_request(invite), now=NOW)
    options = {"heard": words, "now": NOW}
    assert reason_of(admit_site, north.coordinator, NAME, "oslo", **options) == "words"
    assert states(north) == {"oslo": "asked to join"}


def test_nobody_is_admitted_without_having_asked(north):
    north.invite("oslo")
    options = {"heard": "baban", "now": NOW}
    assert reason_of(admit_site, north.coordinator, NAME, "oslo", **options) == "identity"


def test_one_legal_entity_does_not_join_twice(north):
    north.admit("oslo")
    invite = north.invite("oslo-two")
    out = north.folder / "twin.request"
    found = join(
        north.site("oslo-two"), invite, legal_entity="OSLO hospital", request_out=out, now=NOW
    )
    receive_request(north.coordinator, NAME, out.read_bytes(), now=NOW)
    options = {"heard": " ".join(found["words"]), "now": NOW}
    assert reason_of(admit_site, north.coordinator, NAME, "oslo-two", **options) == "identity"


def test_a_revoked_site_is_cut_off_at_once_and_may_enrol_again_with_new_keys(north):
    north.admit("oslo")
    old = north.place("oslo").signing_key().public
    revoke_site(north.coordinator, NAME, "oslo", now=NOW)
    desk = existing(north.coordinator, NAME)
    assert desk.is_cut_off("oslo") and states(north) == {}
    assert not north.carry("oslo")["registered"]
    north.admit("oslo")
    assert not desk.is_cut_off("oslo") and north.carry("oslo")["registered"]
    assert north.place("oslo").signing_key().public != old


def test_an_invite_can_be_taken_back(north):
    request, _ = north.ask("oslo")
    revoke_site(north.coordinator, NAME, "oslo", now=NOW)
    assert reason_of(receive_request, north.coordinator, NAME, request, now=NOW) == "identity"
    assert reason_of(revoke_site, north.coordinator, NAME, "oslo", now=NOW) == "members"


def test_a_member_does_not_join_twice(north):
    north.admit("oslo")
    with pytest.raises(StateConflictError, match="member already"):
        north.ask("oslo", north.invite("oslo"))


def test_an_old_list_is_not_taken_back(north):
    north.admit("oslo")
    old = north.lists()
    revoke_site(north.coordinator, NAME, "oslo", now=NOW)
    north.carry("oslo")
    assert reason_of(take_members, north.site("oslo"), NAME, old, now=NOW) == "rollback"
    assert north.carry("oslo")["members_epoch"] == 3


def test_an_outdated_list_is_said(north):
    north.admit("oslo")
    late = NOW + timedelta(days=367)
    assert reason_of(take_members, north.site("oslo"), NAME, north.lists(), now=late) == "expired"


@pytest.mark.parametrize("purpose", ["signing", "request"])
def test_a_key_is_rotated_and_used_from_the_list_on_that_names_it(north, purpose):
    north.admit("oslo")
    place, out = north.place("oslo"), north.folder / "oslo.rotation"
    before = {"signing": place.signing_key, "request": place.request_key}[purpose]().public
    rotate(north.site("oslo"), NAME, purpose=purpose, out=out)
    assert {"signing": place.signing_key, "request": place.request_key}[purpose]().public == before
    rotate_key(north.coordinator, NAME, out.read_bytes(), now=NOW)
    assert north.carry("oslo")["registered"]
    after = {"signing": place.signing_key, "request": place.request_key}[purpose]().public
    assert after != before and place.own_row() is not None
    assert reason_of(rotate_key, north.coordinator, NAME, out.read_bytes(), now=NOW) == "members"


def test_a_rotation_does_not_let_a_cut_off_site_in(north):
    north.admit("oslo")
    out = north.folder / "oslo.rotation"
    rotate(north.site("oslo"), NAME, purpose="request", out=out)
    desk = existing(north.coordinator, NAME)
    desk.cut_off("oslo", now=NOW)
    rotate_key(north.coordinator, NAME, out.read_bytes(), now=NOW)
    assert desk.is_cut_off("oslo") and states(north) == {"oslo": "cut off"}


def test_with_a_threshold_a_list_waits_for_enough_officers(north):
    second = north.folder / "stick" / "second.key"
    officer = make_key(second, purpose="officer", federation=NAME)
    desk = existing(north.coordinator, NAME)
    first = north.folder / "coordinator" / "coordinator" / NAME / "keys" / "officer.key"
    own = SigningKey.from_bytes(read_seed(first))
    two = replace_officers(
        desk.members(),
        [own.public.hex(), officer.public.hex()],
        threshold=2,
        valid_until=NOW + timedelta(days=365),
    )
    desk.chain.extend([sign_members(two, own, officer)])
    request, words = north.ask("oslo")
    receive_request(north.coordinator, NAME, request, now=NOW)
    found = admit_site(north.coordinator, NAME, "oslo", heard=words, now=NOW)
    assert not found["is_in_force"] and found["threshold"] == 2
    assert states(north) == {"oslo": "asked to join"}
    proposed = north.folder / found["proposed"]
    done = sign_proposed(north.coordinator, NAME, proposed=proposed, officer_keys=[second])
    assert done == {"members_epoch": 3, "is_in_force": True} and not proposed.exists()
    assert states(north) == {"oslo": "member"}


class Wire:
    """A connection that hands everything straight to the coordinator's desk."""

    def __init__(self, federation, plans=()):
        self.federation, self.offered, self.heard = federation, plans, []

    def enrol(self, request):
        receive_request(self.federation.coordinator, NAME, request, now=NOW)

    def members(self, *, after):
        return existing(self.federation.coordinator, NAME).chain.envelopes(after=after)

    def plans(self):
        return self.offered

    def say(self, statement):
        self.heard.append(statement)


def test_a_connection_does_what_files_do(north):
    wire = Wire(north)
    found = join(
        north.site("oslo"), north.invite("oslo"), legal_entity="Oslo", now=NOW, transport=wire
    )
    assert found["is_sent"]
    heard = " ".join(found["words"])
    admit_site(north.coordinator, NAME, "oslo", heard=heard, now=NOW)
    for _ in range(2):
        assert fetch(north.site("oslo"), NAME, wire, now=NOW)["registered"]


def test_one_installation_serves_several_federations_with_keys_of_their_own(north):
    for name in ("east", "west"):
        begin_federation(north.coordinator, name, addresses=["https://h.example"], now=NOW)
        out = north.folder / f"{name}.invite"
        invite_site(north.coordinator, name, "oslo", out=out, now=NOW)
        join(north.site("oslo"), out, legal_entity="Oslo", now=NOW)
    keys = {joined(north.site("oslo"), name).signing_key().public for name in ("east", "west")}
    assert len(keys) == 2 and federations(north.coordinator) == ["east", NAME, "west"]
    with pytest.raises(UsageError, match="Which federation"):
        joined(north.site("oslo"), None)
    with pytest.raises(UsageError, match="Which federation"):
        only_federation(north.coordinator)


def test_an_interrupted_beginning_can_be_begun_again(north, tmp_path):
    home = Home(tmp_path / "new")
    keys = home.folder / "coordinator" / "east" / "keys"
    key = make_key(keys / "coordinator.key", purpose="coordinator-signing", federation="east")
    begin_federation(home, "east", addresses=["https://h.example"], now=NOW)
    members = existing(home, "east").members()
    assert members.coordinator_keys == (key.public.hex(),)
    with pytest.raises(StateConflictError, match="exists"):
        begin_federation(home, "east", addresses=["https://h.example"], now=NOW)


def test_what_cannot_be_named_or_read_is_said(north, tmp_path):
    with pytest.raises(UsageError, match="small letters"):
        begin_federation(north.coordinator, "../x", addresses=["https://h.example"], now=NOW)
    with pytest.raises(UsageError, match="does not coordinate"):
        existing(north.coordinator, "south")
    with pytest.raises(UsageError, match="cannot be read"):
        join(north.site("oslo"), tmp_path / "none.invite", legal_entity="x", now=NOW)
    out = north.invite("oslo")
    with pytest.raises(StateConflictError, match="No invite was made"):
        invite_site(north.coordinator, NAME, "oslo", out=out, now=NOW)
    with pytest.raises(UsageError, match="PEM"):
        begin_federation(
            north.coordinator, "pem", addresses=["https://h.example"], tls_ca=out, now=NOW
        )


def test_every_refusal_is_one_of_ours(north):
    with pytest.raises(HospitiumError):
        receive_request(north.coordinator, NAME, b"{}", now=NOW)


def another_request(invite):
    """A request under the same invite with other keys, as a thief of the file would make it."""
    return sign_request(
        read_invite(invite.read_bytes(), now=NOW),
        legal_entity="oslo hospital",
        signing=SigningKey.generate(),
        request=SigningKey.generate(),
    )


def read_seed(path):
    return bytes.fromhex(json.loads(path.read_bytes())["seed"])
