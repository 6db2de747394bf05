from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from hospitium.errors import PolicyError
from hospitium.plan import Plan
from hospitium.plan.schema import ModelSection, PrivacySection, RoundsSection
from hospitium.site.policy import Policy, load_policy, parse_policy, template

DAY = datetime(2026, 11, 21, tzinfo=UTC)
CODE = "ab" * 32


def at(hour, minute=0):
    return DAY.replace(hour=hour, minute=minute)


def problems(text):
    with pytest.raises(PolicyError) as error:
        parse_policy(text)
    return error.value.problems


def test_the_template_is_the_default_policy_with_comments():
    assert parse_policy(template()) == Policy() == parse_policy("")
    assert "# names of the people who may" in template()


def test_every_problem_is_listed_at_once():
    found = problems(
        '[hours]\nwindows = ["10pm-6am"]\n[approval]\nneeded = 3\napprovers = ["A", "A"]\n'
        '[agreement]\nexpires = "soon"\n[allow]\ncode = ["x"]\nmodel = []\n'
    )
    words = (
        "hours.windows",
        "needed is 3",
        "twice",
        "agreement.expires",
        "allow.code",
        "allow.model",
    )
    assert len(found) == 6 and all(any(word in line for line in found) for word in words)


@pytest.mark.parametrize("text", ["[allow", "x = 1", "allow = 1", "[limits]\nmbit_per_s = -1"])
def test_what_is_no_policy_is_refused(text):
    assert len(problems(text)) == 1


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "policy.toml")
    (tmp_path / "policy.toml").write_text("[approval]\nneeded = 2\n")
    assert load_policy(tmp_path / "policy.toml").approval.needed == 2


@pytest.mark.parametrize(
    ("window", "open_at", "closed_at"),
    [
        ("22:00-06:00 utc", [(22, 0), (23, 59), (0, 0), (5, 59)], [(6, 0), (21, 59), (12, 0)]),
        ("08:30-17:00 utc", [(8, 30), (16, 59)], [(8, 29), (17, 0), (0, 0)]),
        ("00:00-24:00 utc", [(0, 0), (23, 59)], []),
    ],
)
def test_a_window_opens_and_closes(window, open_at, closed_at):
    policy = parse_policy(f'[hours]\nwindows = ["{window}"]')
    assert all(policy.is_open(at(*time)) for time in open_at)
    assert not any(policy.is_open(at(*time)) for time in closed_at)


def test_a_window_is_in_the_time_of_the_site_or_utc():
    tokyo = timezone(timedelta(hours=9))
    policy = parse_policy('[hours]\nwindows = ["22:00-06:00 utc"]')
    assert policy.is_open(at(23).astimezone(tokyo))
    local = parse_policy('[hours]\nwindows = ["22:00-06:00 local"]')
    midnight = datetime(2026, 11, 21).astimezone()
    assert local.is_open(midnight) and not local.is_open(midnight + timedelta(hours=12))


@pytest.mark.parametrize(
    "window", ["22:00-06:00", "24:00-06:00 local", "06:00-06:00 utc", "00:00-24:30 utc", "6-7 utc"]
)
def test_a_strange_window_is_refused(window):
    assert "no window" in problems(f'[hours]\nwindows = ["{window}"]')[0]


def test_the_next_opening_is_the_minute_at_which_it_opens():
    policy = parse_policy('[hours]\nwindows = ["22:00-06:00 utc"]')
    assert policy.next_opening(at(12, 30)) == at(22)
    assert policy.next_opening(at(23, 30)) == at(23, 30)
    assert Policy().next_opening(at(12)) == at(12)


def test_an_agreement_holds_through_its_last_day():
    policy = parse_policy('[agreement]\nexpires = "2026-11-21"')
    assert policy.is_agreed(datetime(2026, 11, 21, 23, 59).astimezone())
    assert not policy.is_agreed(datetime(2026, 11, 22).astimezone())
    assert not Policy().is_agreed(DAY)


def test_the_default_policy_allows_the_default_plan():
    assert Policy().problems_of(Plan()) == []


@pytest.mark.parametrize(
    ("text", "plan", "word"),
    [
        ("[allow]\ntasks = []", Plan(), "task.kind"),
        ("", Plan(model=ModelSection(name="densenet")), "model.name"),
        ('[allow]\nreleases = ["pooled"]', Plan(), "metrics.release"),
        ("", Plan(plugin_sha256=CODE), "custom code"),
        ("[allow]\nsecure_sums = true", Plan(), "secure sums are off"),
        ("[allow]\nrecord_dp = true", Plan(), "differential privacy is off"),
        ("[allow]\nepsilon = 8.0", Plan(privacy=PrivacySection(epsilon=9.0)), "epsilon is 9"),
        ("[allow]\nmin_sites = 3", Plan(rounds=RoundsSection(quorum=2)), "rounds.quorum is 2"),
    ],
)
def test_what_a_policy_does_not_allow_is_said(text, plan, word):
    found = parse_policy(text).problems_of(plan)
    assert len(found) == 1 and word in found[0]


def test_pinned_code_is_allowed():
    policy = parse_policy(f'[allow]\ncode = ["{CODE}"]')
    assert policy.problems_of(Plan(plugin_sha256=CODE)) == []


def test_the_digest_names_every_value():
    other = replace(Policy(), approval=replace(Policy().approval, days=91))
    assert Policy().digest == parse_policy("").digest != other.digest
