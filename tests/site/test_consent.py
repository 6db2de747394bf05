from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.site.consent import REFUSALS, Consent, Occasion, Terms
from hospitium.site.policy import AgreementSection, AllowSection, HoursSection, Policy

NOW = datetime(2026, 11, 21, 23, tzinfo=UTC)
CODE = "ab" * 32
POLICY = Policy(
    agreement=AgreementSection(expires="2027-06-30"),
    hours=HoursSection(windows=("22:00-06:00 utc",)),
)
TERMS = Terms(
    members_digest="list 3",
    min_sites=3,
    policy_digest=POLICY.digest,
    policy=POLICY,
    expires=NOW + timedelta(days=90),
)
PLAN = Plan()
CONSENT = Consent(plan_digest=PLAN.digest, num_cases=20, terms=TERMS)
OCCASION = Occasion(members_digest="list 3", num_sites=3, now=NOW, is_sealed=True)


def refusal(*, terms=None, occasion=OCCASION, plan=PLAN, consent=CONSENT):
    found = replace(consent, terms=replace(TERMS, **terms)) if terms else consent
    return found.refusal(plan, plan_digest=PLAN.digest, occasion=occasion)


def test_a_task_within_the_terms_is_answered(task):
    assert refusal() is None
    CONSENT.require(PLAN, replace(task, plan_digest=PLAN.digest), occasion=OCCASION)


def test_without_terms_the_digest_of_the_plan_decides(plan, task):
    consent = Consent(plan_digest=plan.digest, num_cases=20)
    consent.require(plan, task)
    with pytest.raises(SiteError, match="has not agreed to this plan"):
        consent.require(replace(plan, seed=8), task)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("plan", {"plan": Plan(seed=8)}),
        ("plan", {"consent": replace(CONSENT, plan_digest="0" * 64)}),
        ("paused", {"terms": {"is_paused": True}}),
        ("members", {"occasion": replace(OCCASION, members_digest="list 4")}),
        ("members", {"occasion": None}),
        ("sites", {"occasion": replace(OCCASION, num_sites=2)}),
        ("sealed", {"occasion": replace(OCCASION, is_sealed=False)}),
        ("expired", {"terms": {"expires": NOW - timedelta(seconds=1)}}),
        ("window", {"occasion": replace(OCCASION, now=NOW + timedelta(hours=10))}),
    ],
)
def test_what_changed_since_the_approval_refuses(reason, changes):
    assert refusal(**changes) == reason and reason in REFUSALS


def test_custom_code_that_is_not_pinned_is_refused():
    plan = Plan(plugin_sha256=CODE)
    consent = replace(CONSENT, plan_digest=plan.digest)
    found = consent.refusal(plan, plan_digest=plan.digest, occasion=OCCASION)
    assert found == "code"
    pinned = replace(POLICY, allow=AllowSection(code=(CODE,)))
    terms = replace(TERMS, policy=pinned, policy_digest=pinned.digest)
    again = replace(consent, terms=terms)
    assert again.refusal(plan, plan_digest=plan.digest, occasion=OCCASION) is None


def test_another_policy_than_the_one_approved_under_is_refused():
    wider = replace(POLICY, hours=HoursSection())
    assert refusal(terms={"policy": wider}) == "policy"


def test_after_the_agreement_nothing_is_trained():
    ended = replace(POLICY, agreement=AgreementSection(expires="2026-11-19"))
    assert refusal(terms={"policy": ended, "policy_digest": ended.digest}) == "expired"
    never = replace(POLICY, agreement=AgreementSection())
    assert refusal(terms={"policy": never, "policy_digest": never.digest}) == "expired"


def test_the_policy_may_ask_for_more_sites_than_the_approval():
    more = replace(POLICY, allow=AllowSection(min_sites=4))
    assert refusal(terms={"policy": more, "policy_digest": more.digest}) == "sites"


def test_the_words_that_travel_are_a_closed_list(task):
    with pytest.raises(SiteError) as error:
        CONSENT.require(PLAN, replace(task, plan_digest=PLAN.digest), occasion=None)
    assert error.value.public == REFUSALS["members"] and error.value.detail == ""
