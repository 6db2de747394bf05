from datetime import UTC, datetime

import pytest
from carried import NAME, NOW, Federation

from hospitium.errors import SiteError
from hospitium.operations.approving import approve
from hospitium.operations.site_rules import SiteRules
from hospitium.operations.withdrawing import set_paused
from hospitium.site.consent import REFUSALS


@pytest.fixture
def north(tmp_path):
    found = Federation(folder=tmp_path).begin()
    for site_id in ("oslo", "bergen"):
        found.admit(site_id)
    found.carry("oslo")
    return found


def add(north, text):
    with (north.place("oslo").folder / "policy.toml").open("a") as file:
        file.write(text)


def test_a_file_leaves_now_later_or_never_by_the_bytes_of_a_day(north):
    rules = SiteRules(north.place("oslo"))
    assert rules.fits(10**12) == "now" and rules.bytes_per_s() == 0
    add(north, "[limits]\nbytes_per_day = 1000\nmbit_per_s = 8.0\n")
    assert (rules.fits(1000), rules.fits(1001)) == ("now", "never")
    rules.used(sent_bytes=400)
    assert (rules.fits(600), rules.fits(601)) == ("now", "later")
    assert rules.closed() == "" and rules.bytes_per_s() == 1_000_000
    rules.used(sent_bytes=600)
    assert rules.closed() == "limits"


def test_training_ends_with_the_hours_of_a_day(north):
    add(north, "[limits]\ncompute_hours_per_day = 1.0\ntask_hours = 0.5\n")
    rules = SiteRules(north.place("oslo"))
    assert rules.for_loop().seconds() == 1800
    rules.for_loop().worked(3000.0)
    assert rules.for_loop().seconds() == 600 and rules.closed() == ""
    rules.for_loop().worked(600.0)
    assert rules.closed() == "limits"


def test_why_a_site_is_closed_has_an_order(north):
    rules = SiteRules(north.place("oslo"))
    assert rules.closed() == "" and rules.next_opening() is None
    hour = (datetime.now(UTC).hour + 2) % 24
    add(north, f'[hours]\nwindows = ["{hour:02}:00-{hour:02}:30 utc"]\n')
    assert rules.closed() == "window" and rules.next_opening().hour == hour
    set_paused(north.site("oslo"), NAME, is_paused=True)
    assert rules.closed() == "paused"
    set_paused(north.site("oslo"), NAME, is_paused=False)
    add(north, "[hours")
    assert rules.closed() == "policy" and rules.next_opening() is None
    assert rules.bytes_per_s() == 0


def test_what_cannot_be_read_refuses_with_a_reason_that_may_travel(north):
    plan, place = north.offer("oslo"), north.place("oslo")
    cases = north.cases("oslo")
    options = {"approver": "Kari Nordmann", "cases": cases, "now": NOW}
    approve(north.site("oslo"), NAME, plan.digest, **options)
    rules = SiteRules(place)
    assert rules.approved(plan.digest).num_cases == 96
    (cases / "cases.json").rename(cases / "gone")
    with pytest.raises(SiteError) as caught:
        rules.approved(plan.digest)
    assert caught.value.public == REFUSALS["cases"]
    (place.folder / "policy.toml").write_text("[")
    with pytest.raises(SiteError) as caught:
        rules.approved(plan.digest)
    assert caught.value.public == REFUSALS["policy"]
