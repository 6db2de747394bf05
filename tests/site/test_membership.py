import pytest
from carried import NAME, NOW, Federation
from tiny import tiny_plan

from hospitium.errors import SiteError, StateConflictError, TrustError
from hospitium.operations.approving import approve
from hospitium.operations.enrolment import rotate
from hospitium.operations.site_status import status
from hospitium.site.membership import Membership
from hospitium.wire.approvals import Withdrawal
from hospitium.wire.statement import time_text


@pytest.fixture
def north(tmp_path):
    return Federation(folder=tmp_path).begin()


def test_a_site_that_never_asked_has_no_place(tmp_path):
    place = Membership(tmp_path / "south")
    assert not place.has_joined
    with pytest.raises(StateConflictError, match="site join"):
        place.settings  # noqa: B018
    with pytest.raises(TrustError, match="no member list has come yet"):
        place.members()


def test_a_site_that_asked_is_not_registered_yet(north):
    north.ask("oslo")
    place = north.place("oslo")
    assert place.has_joined and place.own_row() is None
    [found] = status(north.site("oslo"), now=NOW)
    assert not found["registered"] and found["members_epoch"] is None
    with pytest.raises(TrustError, match="no member with its present keys"):
        rotate(north.site("oslo"), NAME, purpose="signing", out=north.folder / "r")


def test_a_member_list_that_was_changed_on_disk_is_refused(north):
    north.admit("oslo")
    path = sorted((north.place("oslo").folder / "members").glob("*.dsse"))[-1]
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"A', 1))
    with pytest.raises(TrustError):
        north.place("oslo").members()
    [found] = status(north.site("oslo"), now=NOW)
    assert not found["registered"] and found["last_error"].startswith("E501")


def test_an_approval_that_was_changed_on_disk_counts_for_nothing(north):
    north.admit("oslo")
    plan, place = north.offer("oslo", rounds=tiny_plan(quorum=1).rounds), north.place("oslo")
    policy = place.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("[allow]", "[allow]\nmin_sites = 1"))
    approve(
        north.site("oslo"),
        NAME,
        plan.digest,
        approver="Kari Nordmann",
        cases=north.cases("oslo"),
        now=NOW,
    )
    assert place.consent(plan.digest).num_cases == 96
    [path] = (place.folder / "said").glob("*.dsse")
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"A', 1))
    with pytest.raises(SiteError, match="has not agreed"):
        place.consent(plan.digest)


def test_two_processes_may_speak_at_once(north):
    """A number that another process took meanwhile is not written over."""
    north.admit("oslo")
    place, plan = north.place("oslo"), "ab" * 32
    said = Withdrawal(
        federation=NAME, site_id="oslo", plan_digest=plan, approver="Kari", time=time_text(NOW)
    )
    place.say(said)
    (place.folder / "said" / "000001.dsse").rename(place.folder / "said" / "000002.dsse")
    place.say(said)
    assert [number for number, _ in place.statements.untold()] == [2, 3]
