"""A small federation for tests of identity: keys from fixed seeds, so that a failure repeats."""

from datetime import UTC, datetime, timedelta

from hospitium.wire.enrolments import sign_request
from hospitium.wire.invites import new_invite, ticket_of
from hospitium.wire.member_changes import admit, first_list
from hospitium.wire.members import Member, sign_members
from hospitium.wire.signing import SigningKey

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
LATER = NOW + timedelta(days=365)


def key(number):
    return SigningKey.from_bytes(bytes([number]) * 32)


OFFICERS = (key(1), key(2), key(3))
COORDINATOR = key(4)


def begun(*, threshold=1, officers=OFFICERS[:1], federation="north"):
    return first_list(
        federation=federation,
        officers=[officer.public.hex() for officer in officers],
        threshold=threshold,
        coordinator_key=COORDINATOR.public.hex(),
        min_sites=2,
        valid_until=LATER,
    )


def member(site_id="oslo", *, first=10):
    return Member(
        site_id=site_id,
        legal_entity=f"{site_id} hospital",
        signing_key=key(first).public.hex(),
        request_key=key(first + 1).public.hex(),
    )


def with_oslo(**options):
    return admit(begun(**options), member(), valid_until=LATER)


def signed(members, *officers):
    return sign_members(members, *(officers or OFFICERS[:1]))


def invited(site_id="oslo", *, members=None, now=NOW):
    invite = new_invite(
        members or begun(),
        site_id=site_id,
        addresses=["https://hub.example.org"],
        now=now,
    )
    return invite, ticket_of(invite)


def request_of(invite, *, first=10, legal_entity="Oslo hospital"):
    return sign_request(
        invite, legal_entity=legal_entity, signing=key(first), request=key(first + 1)
    )
