"""Enrolment, lists, plans, what is said, heartbeat and echo: who may, and who may not."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta

import pytest
from desks import PLAN, Asking, Centre, key_of
from hypothesis import given
from hypothesis import strategies as st

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.beats import ISOLATIONS, STATES, Beat
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.messages import Receipt
from hospitium.engines.hub.office import Office
from hospitium.errors import TrustError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.enrolments import read_request, sign_request
from hospitium.wire.invites import new_invite, ticket_of
from hospitium.wire.members import parse_list
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import time_text

OSLO = key_of("oslo request")
BEAT = Beat(state="waiting", version="0.1.0", decoding=True)
WORDS = [("approved", 1), ("refused", 0)]


class World:
    """A hub with a desk, asked in this process."""

    def __init__(self, folder, federation="north", **limits) -> None:
        self.centre = Centre(folder=folder, federation=federation)
        self.backend = LocalBackend(folder / f"hub of {federation}")
        self.news: list[str] = []
        self.office = Office(self.centre.desk, tell=self.news.append)
        hub = Hub(
            self.backend,
            members=self.office.members,
            key=self.centre.coordinator,
            office=self.office,
            limits=Limits(**limits),
        )
        self.app = hub.app
        self.asking = Asking(app=hub.app)

    def invite(self, site_id):
        members = self.centre.desk.members()
        invite = new_invite(
            members,
            site_id=site_id,
            addresses=["https://hub.example.org"],
            now=self.centre.now,
        )
        self.centre.desk.open_invite(ticket_of(invite))
        return invite

    def enrol(self, request):
        return self.asking.plain("POST", "/v1/enrolments", content=request)

    def call(self, key, method, path, query="", *, content=b""):
        return self.asking.signed(key, method, path, query, content=content)


def request_of(invite, name="oslo"):
    return sign_request(
        invite,
        legal_entity=f"{name} hospital",
        signing=key_of(f"{name} signing"),
        request=key_of(f"{name} request"),
    )


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, enrolments_burst=1e6)
    yield world
    world.backend.close()


@pytest.fixture
def member(world):
    world.centre.admit("oslo")
    world.centre.offer()
    return world


# --- enrolment --------------------------------------------------------------------------------


def test_a_site_enrols_reads_the_lists_and_is_let_in_once_it_is_on_one(world):
    request = request_of(world.invite("oslo"))
    assert world.call(OSLO, "GET", "/v1/members", "after=0").status_code == 401
    for _ in range(2):
        taken = world.enrol(request)
        assert (taken.status_code, taken.json()) == (200, {"request": read_request(request).digest})
    (news,) = world.news
    assert news.startswith("oslo asks to join north.") and "coordinator admit oslo`" in news
    (first,) = world.call(OSLO, "GET", "/v1/members", "after=0").json()["lists"]
    assert parse_list(first.encode()).sites == ()
    assert world.call(OSLO, "GET", "/v1/members", "after=1").json() == {"lists": []}
    assert world.call(OSLO, "GET", "/v1/standing").status_code == 401
    world.centre.admit("oslo")
    (second,) = world.call(OSLO, "GET", "/v1/members", "after=1").json()["lists"]
    assert [site.site_id for site in parse_list(second.encode()).sites] == ["oslo"]
    assert world.call(OSLO, "GET", "/v1/standing").json()["members_epoch"] == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tasks"), ("GET", "/v1/plans"), ("GET", "/v1/standing"), ("POST", "/v1/said"),
        ("POST", "/v1/heartbeat"), ("POST", "/v1/echo"), ("POST", "/v1/envelopes"),
        ("POST", "/v1/members"), ("GET", "/v1/members/"), ("GET", f"/v1/blobs/{'0' * 64}"),
        ("GET", f"/v1/uploads/{'0' * 64}"), ("PUT", f"/v1/uploads/{'0' * 64}/chunks/0"),
        ("POST", f"/v1/uploads/{'0' * 64}/complete"),
    ],
)  # fmt: skip
def test_an_applicant_may_read_members_and_nothing_else(world, method, path):
    world.enrol(request_of(world.invite("oslo")))
    assert world.call(OSLO, "GET", "/v1/members").status_code == 200
    assert world.call(OSLO, method, path, content=BEAT.encoded()).status_code == 401


def test_the_key_of_an_invite_posts_one_request_and_nothing_else(world):
    invite = world.invite("oslo")
    token = SigningKey.from_bytes(invite.token)
    for _ in range(2):
        assert world.call(token, "GET", "/v1/members").status_code == 401
        assert world.call(token, "GET", "/v1/tasks").status_code == 401
        assert world.call(key_of("oslo signing"), "GET", "/v1/members").status_code == 401
        world.enrol(request_of(invite))
    used = world.enrol(request_of(invite, "turin"))
    assert (used.status_code, used.json()["reason"]) == (409, "used")


def test_of_requests_in_a_race_one_wins(world):
    invite = world.invite("oslo")
    requests = [request_of(invite, f"site{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        codes = sorted(threads.map(lambda request: world.enrol(request).status_code, requests))
    assert codes == [200] + [409] * 7


def test_an_expired_invite_is_refused(world):
    request = request_of(world.invite("oslo"))
    world.centre.now += timedelta(hours=48, seconds=1)
    refused = world.enrol(request)
    assert (refused.status_code, refused.json()["reason"]) == (403, "expired")


def test_an_invite_of_another_site_and_none_at_all_are_answered_alike(world):
    world.invite("turin")
    elsewhere = Centre(folder=world.centre.folder / "else")
    for site_id in ("turin", "paris"):
        foreign = new_invite(
            elsewhere.desk.members(), site_id=site_id, addresses=["https://x.example.org"],
            now=world.centre.now,
        )  # fmt: skip
        answer = world.enrol(request_of(foreign, site_id))
        assert (answer.status_code, answer.json()["reason"]) == (403, "identity")
        assert "turin" not in answer.text and "paris" not in answer.text


def test_a_request_for_another_federation_is_refused(world, tmp_path):
    south = World(tmp_path, "south")
    request = request_of(south.invite("oslo"))
    world.invite("oslo")
    answer = world.enrol(request)
    assert (answer.status_code, answer.json()["reason"]) == (400, "federation")
    assert world.centre.desk.request("oslo") is None
    south.backend.close()


@given(content=st.binary(max_size=200))
def test_garbage_is_no_request(content):
    with pytest.raises(TrustError):
        read_request(content)


def test_a_flood_of_requests_is_429_and_members_are_served(tmp_path):
    world = World(tmp_path, enrolments_burst=5.0, enrolments_per_s=0.01)
    world.centre.admit("oslo")
    codes = [world.enrol(b"{}").status_code for _ in range(12)]
    assert codes == [400] * 5 + [429] * 7
    assert world.call(OSLO, "GET", "/v1/standing").status_code == 200
    world.backend.close()


def test_a_withdrawn_invite_and_an_admitted_key_are_no_applicants(world):
    world.enrol(request_of(world.invite("oslo")))
    assert set(world.office.applicants()) == {"oslo"}
    world.centre.desk.close_invite("oslo")
    assert world.office.applicants() == {}
    assert world.call(OSLO, "GET", "/v1/members").status_code == 401
    world.enrol(request_of(world.invite("turin"), "turin"))
    world.centre.admit("turin")
    assert world.office.applicants() == {}
    world.centre.rotate("turin", "request", key_of("turin's next"))
    assert world.office.applicants() == {}


# --- who is a member --------------------------------------------------------------------------


def test_a_new_request_key_is_let_in_once_the_list_names_it_and_the_old_one_is_not(member):
    following = key_of("oslo's next")
    assert member.call(OSLO, "GET", "/v1/standing").status_code == 200
    assert member.call(following, "GET", "/v1/standing").status_code == 401
    member.centre.rotate("oslo", "request", following)
    assert member.call(OSLO, "GET", "/v1/standing").status_code == 401
    assert member.call(following, "GET", "/v1/standing").json()["site_id"] == "oslo"


def test_the_members_are_those_of_the_list_in_force_that_are_not_cut_off(member):
    members = member.office.members
    assert list(members) == ["oslo"] and len(members) == 1
    assert members["oslo"].request_key == OSLO.public
    member.centre.desk.cut_off("oslo", now=member.centre.now)
    assert dict(members.items()) == {} and members.get("oslo") is None
    member.centre.desk.let_in_again("oslo")
    member.centre.admit("turin")
    assert sorted(members) == ["oslo", "turin"]


def test_a_list_that_was_changed_on_disk_lets_nobody_in_and_shows_nothing(member):
    (newest,) = (member.centre.desk.folder / "members").glob("00000002.dsse")
    newest.write_bytes(newest.read_bytes().replace(b"payload", b"payIoad"))
    anew = Office(type(member.centre.desk)(member.centre.desk.folder))
    hub = Hub(member.backend, members=anew.members, key=member.centre.coordinator, office=anew)
    answer = Asking(app=hub.app).signed(OSLO, "GET", "/v1/standing")
    assert answer.status_code == 500 and "dsse" not in answer.text


# --- plans, and what is said -------------------------------------------------------------------


def test_plans_are_offered_and_what_is_said_gets_a_receipt(member):
    (plan,) = member.call(OSLO, "GET", "/v1/plans").json()["plans"]
    assert plan.encode() == member.centre.desk.plans()[0]
    said = [member.centre.approval("oslo"), member.centre.refusal("oslo")]
    for number, statement in [(1, said[0]), (2, said[1]), (1, said[0])]:
        answer = member.call(OSLO, "POST", "/v1/said", content=statement)
        receipt = Receipt.opened(
            answer.content,
            key=member.centre.coordinator.public,
            site_id="oslo",
            statement=statement,
        )
        assert receipt.index == number
    told = [text.partition(" is ")[2] for text in member.news if PLAN.digest[:12] in text]
    assert told == [f"{word}; approved by {n} of 1 sites" for word, n in WORDS]
    assert len(member.centre.desk.said(PLAN.digest)) == 2


def test_a_statement_about_no_plan_or_of_no_kind_is_refused(member):
    unknown = member.centre.approval("oslo", plan_digest="0" * 64)
    answers = [
        member.call(OSLO, "POST", "/v1/said", content=content)
        for content in (unknown, b"{}", member.centre.desk.plans()[0])
    ]
    assert [answer.status_code for answer in answers] == [404, 400, 400]


def test_a_site_is_told_how_it_stands(member):
    def words():
        found = member.call(OSLO, "GET", "/v1/standing").json()
        assert found["members_digest"] == member.centre.desk.members().digest
        return found["plans"][PLAN.digest]

    assert words() == "silent"
    member.centre.desk.take_said("oslo", member.centre.approval("oslo"))
    assert words() == "approved"
    member.centre.admit("turin")
    assert words() == "outdated"
    member.centre.desk.take_said("oslo", member.centre.refusal("oslo"))
    assert words() == "refused"
    member.centre.desk.take_said("oslo", member.centre.withdrawal("oslo"))
    assert words() == "withdrawn"


# --- heartbeat and echo ------------------------------------------------------------------------


def test_a_heartbeat_is_kept_and_answered_with_the_time_and_the_standing(member):
    now = time_text(member.centre.now)
    beat = Beat(state="training", version="0.1.0", decoding=True, round_number=3)
    answer = member.call(OSLO, "POST", "/v1/heartbeat", content=beat.encoded()).json()
    assert answer["time"] == now
    assert answer["standing"] == member.call(OSLO, "GET", "/v1/standing").json()
    assert answer["standing"]["heard"] == now
    assert member.centre.desk.beats()["oslo"] == asdict(beat) | {"heard": now}


beats = st.builds(
    Beat,
    state=st.sampled_from(STATES),
    version=st.from_regex(r"[0-9A-Za-z.+-]{1,40}", fullmatch=True),
    decoding=st.booleans(),
    round_number=st.integers(0, 1 << 53),
    isolation=st.sampled_from(ISOLATIONS),
    next_opening=st.none() | st.datetimes().map(lambda time: time.strftime("2026-%m-%dT%H:%M:%SZ")),
    last_error=st.sampled_from(["", "E203"]),
    peak_memory_bytes=st.integers(0, 1 << 53),
)


@given(beat=beats)
def test_a_heartbeat_is_read_as_it_was_written(beat):
    assert Beat.decoded(beat.encoded()) == beat


@given(
    beat=beats,
    change=st.sampled_from(
        [
            {"state": "Kari Nordmann"}, {"round_number": -1}, {"round_number": 1.5},
            {"round_number": True}, {"isolation": "yes"}, {"version": "1 2"}, {"decoding": 1},
            {"next_opening": "soon"}, {"next_opening": ""}, {"last_error": "/data/patient"},
            {"note": "x"},
            {"peak_disk_bytes": -1},
        ]
    ),
)  # fmt: skip
def test_a_heartbeat_holds_nothing_else(beat, change):
    fields = json.loads(beat.encoded()) | change
    with pytest.raises(TrustError):
        Beat.decoded(canonical_json(fields))
    del fields["state"]
    with pytest.raises(TrustError):
        Beat.decoded(canonical_json(fields))
    with pytest.raises(TrustError):
        Beat.decoded(beat.encoded() + b" ")


def test_a_heartbeat_of_another_form_is_refused_and_too_many_have_to_wait(member):
    assert member.call(OSLO, "POST", "/v1/heartbeat", content=b"[]").status_code == 400
    codes = [
        member.call(OSLO, "POST", "/v1/heartbeat", content=BEAT.encoded()).status_code
        for _ in range(14)
    ]
    assert codes[:9] == [200] * 9 and 429 in codes


def test_an_echo_says_what_arrived_and_sends_as_much_as_is_asked_for(member):
    sent = bytes(range(256)) * 5000
    answer = member.call(OSLO, "POST", "/v1/echo", content=sent)
    assert answer.json() == {"bytes": len(sent), "sha256": hashlib.sha256(sent).hexdigest()}
    for size in (0, 1, 200_000):
        assert len(member.call(OSLO, "POST", "/v1/echo", f"size={size}").content) == size
    assert member.call(OSLO, "POST", "/v1/echo", f"size={(8 << 20) + 1}").status_code == 404


def test_a_site_cannot_have_echoes_without_end(tmp_path):
    world = World(tmp_path, echo_burst=1e6, echo_bytes_per_s=1.0)
    world.centre.admit("oslo", "turin")
    codes = [
        world.call(OSLO, "POST", "/v1/echo", "size=400000", content=b"x").status_code
        for _ in range(4)
    ]
    assert codes == [200, 200, 429, 429]
    assert world.call(key_of("turin request"), "POST", "/v1/echo", "size=9").status_code == 200
    world.backend.close()
