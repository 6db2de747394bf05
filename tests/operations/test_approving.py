import json
from dataclasses import replace
from datetime import timedelta

import pytest
from carried import NAME, NOW, POLICY, Federation

from hospitium.errors import SiteError, StateConflictError, TrustError, UsageError
from hospitium.operations.approving import (
    approve,
    inbox,
    refuse,
    review,
    take_plan,
)
from hospitium.operations.coordinating import revoke_site, rotate_key
from hospitium.operations.desks import existing
from hospitium.operations.enrolment import fetch, rotate
from hospitium.operations.plan_words import difference, what_it_does, what_leaves
from hospitium.operations.site_status import status
from hospitium.operations.withdrawing import leave, set_paused, withdraw
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PrivacySection, RoundsSection
from hospitium.site.consent import REFUSALS, Occasion
from hospitium.wire.approvals import Approval, open_said, sign_plan
from hospitium.wire.member_changes import replace_coordinator
from hospitium.wire.members import sign_members
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import time_text

KARI, OLA = "Kari Nordmann", "Ola Nordmann"


@pytest.fixture
def north(tmp_path):
    found = Federation(folder=tmp_path).begin()
    for site_id in ("oslo", "bergen"):
        found.admit(site_id)
    found.carry("oslo")
    return found


def reason_of(call, *args, **options):
    with pytest.raises(TrustError) as error:
        call(*args, **options)
    return error.value.reason


def agree(north, plan, *, approver=KARI, now=NOW):
    return approve(
        north.site("oslo"),
        NAME,
        plan.digest[:8],
        approver=approver,
        cases=north.cases("oslo"),
        now=now,
    )


def refused_task(north, plan, *, members=None, num_sites=2, now=NOW):
    """Why the site would not answer a task now; None if it would."""
    place = north.place("oslo")
    occasion = Occasion(
        members_digest=(members or place.members()).digest, num_sites=num_sites, now=now,
        is_sealed=True,
    )  # fmt: skip
    try:
        consent = place.consent(plan.digest)
    except SiteError as error:
        return next(name for name, words in REFUSALS.items() if words == error.public)
    return consent.refusal(plan, plan_digest=plan.digest, occasion=occasion)


def state(north):
    return [row["state"] for row in inbox(north.site("oslo"), NAME, now=NOW)]


def set_policy(north, text):
    north.place("oslo").folder.joinpath("policy.toml").write_text(text)


def test_an_approved_plan_is_answered_and_no_other(north):
    plan = north.offer("oslo")
    assert state(north) == ["new"] and refused_task(north, plan) == "plan"
    found = agree(north, plan)
    assert found["state"] == "approved" and found["num_cases"] == 96
    assert refused_task(north, plan) is None
    assert refused_task(north, north.offer("oslo", seed=8)) == "plan"
    assert north.place("oslo").consent(plan.digest).num_cases == 96


def test_the_coordinator_reads_the_approval_by_the_member_list(north):
    plan = north.offer("oslo")
    agree(north, plan)
    place = north.place("oslo")
    [(_, envelope)] = place.statements.untold()
    said = open_said(envelope, Approval, place.members(), site_id="oslo")
    assert (said.plan_digest, said.approver, said.ethics) == (plan.digest, KARI, "REK 2026/1")
    assert said.policy_digest == place.policy().digest and said.min_sites == 2


def test_what_changes_after_the_approval_refuses_the_task(north):
    plan = north.offer("oslo")
    agree(north, plan)
    assert refused_task(north, plan, num_sites=1) == "sites"
    assert refused_task(north, plan, now=NOW + timedelta(days=91)) == "expired"
    set_policy(north, POLICY.format(needed=1) + '[hours]\nwindows = ["22:00-06:00 local"]\n')
    assert refused_task(north, plan) == "policy" and state(north) == ["to be approved again"]
    agree(north, plan)
    noon = NOW.astimezone().replace(hour=12)
    assert refused_task(north, plan, now=noon) == "window"


def test_another_member_list_asks_for_another_approval(north):
    plan = north.offer("oslo")
    agree(north, plan)
    revoke_site(north.coordinator, NAME, "bergen", now=NOW)
    north.carry("oslo")
    assert refused_task(north, plan) == "members" and state(north) == ["to be approved again"]
    agree(north, plan)
    assert refused_task(north, plan) is None


def test_two_people_have_to_approve_where_the_policy_says_so(north):
    set_policy(north, POLICY.format(needed=2))
    plan = north.offer("oslo")
    assert agree(north, plan)["state"] == agree(north, plan)["state"] == "partly approved"
    assert refused_task(north, plan) == "plan"
    assert agree(north, plan, approver=OLA)["approved_by"] == [KARI, OLA]
    assert refused_task(north, plan) is None


def test_a_refusal_undoes_an_approval(north):
    plan = north.offer("oslo")
    agree(north, plan)
    options = {"approver": OLA, "now": NOW}
    refuse(north.site("oslo"), NAME, plan.digest[:8], reason="privacy", **options)
    assert refused_task(north, plan) == "plan" and state(north) == ["refused"]
    agree(north, plan)
    assert refused_task(north, plan) is None
    with pytest.raises(UsageError, match="no reason that may travel"):
        refuse(north.site("oslo"), NAME, plan.digest[:8], reason="hm", **options)


def test_a_withdrawal_is_for_good_even_after_the_keys_were_rotated(north):
    plan = north.offer("oslo")
    agree(north, plan)
    withdraw(north.site("oslo"), NAME, plan.digest[:12], approver=KARI, now=NOW)
    assert refused_task(north, plan) == "withdrawn" and state(north) == ["withdrawn"]
    assert reason_of(agree, north, plan) == "withdrawn"
    out = north.folder / "oslo.rotation"
    rotate(north.site("oslo"), NAME, purpose="signing", out=out)
    rotate_key(north.coordinator, NAME, out.read_bytes(), now=NOW)
    north.carry("oslo")
    assert refused_task(north, plan) == "withdrawn"


@pytest.mark.parametrize(
    ("text", "changes", "reason"),
    [
        (POLICY.replace("logistic", "small_cnn"), {}, "policy"),
        (POLICY.replace('"Kari Nordmann", ', ""), {}, "policy"),
        (POLICY.replace('"A-17"', '""'), {}, "policy"),
        (POLICY.replace("2999", "2020"), {}, "expired"),
        (POLICY.replace("[allow]", "[allow]\nsecure_sums = true"), {}, "policy"),
        (POLICY, {"plugin_sha256": "ab" * 32}, "policy"),
    ],
)
def test_what_the_policy_does_not_allow_is_not_signed(north, text, changes, reason):
    plan = north.offer("oslo")
    if changes:
        plan = replace(plan, **changes)
        key = SigningKey.from_bytes(_seed(north))
        take_plan(north.site("oslo"), NAME, sign_plan(plan.canonical, key))
    set_policy(north, text.format(needed=1))
    assert reason_of(agree, north, plan) == reason
    assert not list((north.place("oslo").folder / "said").glob("*"))


def test_a_site_that_is_no_member_approves_nothing(north):
    plan = north.offer("oslo")
    revoke_site(north.coordinator, NAME, "oslo", now=NOW)
    north.carry("oslo")
    assert reason_of(agree, north, plan) == "members"


def test_a_plan_of_a_coordinator_whose_key_was_replaced_is_passed_over(north):
    plan = north.offer("oslo")
    agree(north, plan)
    desk = existing(north.coordinator, NAME)
    officer = SigningKey.from_bytes(_seed(north, "officer"))
    new = SigningKey.generate().public.hex()
    following = replace_coordinator(desk.members(), new, valid_until=NOW + timedelta(days=9))
    desk.chain.extend([sign_members(following, officer)])
    north.carry("oslo")
    assert inbox(north.site("oslo"), NAME, now=NOW) == []
    withdraw(north.site("oslo"), NAME, plan.digest, approver=KARI, now=NOW)
    assert north.place("oslo").is_withdrawn(plan.digest)


def test_a_plan_that_the_coordinator_did_not_sign_is_not_taken(north):
    home, plan = north.site("oslo"), Plan()
    other = sign_plan(plan.canonical, SigningKey.generate())
    assert reason_of(take_plan, home, NAME, other) == "signature"
    key = SigningKey.from_bytes(_seed(north))
    spaced = json.dumps(plan.as_dict()).encode()
    for payload in (spaced, b"[]", b"{", b'{"name":"x"}'):
        assert reason_of(take_plan, home, NAME, sign_plan(payload, key)) == "canonical"
    assert inbox(home, NAME, now=NOW) == []


def test_a_pause_holds_at_once_and_leaving_for_good(north):
    plan, home = north.offer("oslo"), north.site("oslo")
    agree(north, plan)
    set_paused(home, NAME, is_paused=True)
    assert refused_task(north, plan) == "paused"
    set_paused(home, NAME, is_paused=False)
    assert refused_task(north, plan) is None
    assert leave(home, NAME, approver=KARI, now=NOW)["withdrawn"] == [plan.digest]
    assert refused_task(north, plan) == "withdrawn"
    with pytest.raises(StateConflictError, match="has left"):
        set_paused(home, NAME, is_paused=False)


def test_what_was_said_is_told_once(north):
    heard = []

    class Wire:
        def members(self, *, after):
            return []

        def plans(self):
            return [plan_file]

        def say(self, statement):
            heard.append(statement)

    plan = north.offer("oslo")
    plan_file = (north.folder / f"{plan.digest[:8]}.plan").read_bytes()
    agree(north, plan)
    for _ in range(2):
        assert fetch(north.site("oslo"), NAME, Wire(), now=NOW)["plans"] == [plan.digest]
    assert len(heard) == 1


def test_status_tells_each_thing_by_itself(north):
    home, place = north.site("oslo"), north.place("oslo")
    plan = north.offer("oslo")
    [found] = status(home, now=NOW)
    assert (found["registered"], found["approved"], found["reachable"]) == (True, [], False)
    agree(north, plan)
    beat = {
        "time": time_text(NOW),
        "reachable": True,
        "decoding": True,
        "round_number": 4,
        "last_error": "",
    }
    (place.folder / "agent.json").write_text(json.dumps(beat))
    [found] = status(home, now=NOW)
    assert found["approved"] == [plan.digest]
    assert found["reachable"] and found["decoding"] and found["round_number"] == 4
    [stale] = status(home, now=NOW + timedelta(minutes=3))
    assert not stale["reachable"] and "not been heard" in stale["last_error"]
    set_policy(north, "x = 1")
    [broken] = status(home, now=NOW)
    assert broken["last_error"].startswith("E503")


def test_a_review_says_what_happens_and_marks_every_weakening(north):
    first = north.offer("oslo")
    agree(north, first)
    rounds = replace(first.rounds, count=50)
    second = north.offer("oslo", rounds=rounds, seed=9)
    found = review(north.site("oslo"), NAME, second.digest[:8], now=NOW)
    assert found["compared_with"] == first.digest and found["weakenings"] == ["rounds.count"]
    assert found["changes"][0].startswith("WEAKER  rounds.count: 3 -> 50")
    assert found["changes"][1] == "        seed: 7 -> 9"
    assert "50 rounds" in found["does"][0] and "secure sums are OFF" in " ".join(found["leaves"])
    assert found["policy_problems"] == []
    nobody = review(north.site("oslo"), NAME, found["plan_digest"], now=NOW, approver="Nobody")
    assert nobody["policy_problems"] == [
        f"'Nobody' is not named in approval.approvers ({', '.join(found['approvers'])})"
    ]


def test_a_review_says_what_is_still_missing_in_the_policy(north):
    plan = north.offer("oslo")
    path = north.site("oslo").folder / "site" / "federations" / NAME / "policy.toml"
    path.write_text("")
    found = review(north.site("oslo"), NAME, plan.digest[:8], now=NOW)["policy_problems"]
    assert [problem.split(" ")[0] for problem in found] == [
        "model.name",
        "approval.approvers",
        "agreement.reference",
        "agreement.expires:",
    ]


def test_a_plan_is_named_by_enough_of_its_digest(north):
    plan = north.offer("oslo")
    for name in (plan.digest[:7], "0" * 64):
        with pytest.raises(UsageError, match="In the inbox"):
            review(north.site("oslo"), NAME, name, now=NOW)


@pytest.mark.parametrize(
    ("strong", "weak", "key"),
    [
        (PrivacySection(secure_sums="on"), PrivacySection(), "privacy.secure_sums"),
        (PrivacySection(record_dp="on"), PrivacySection(), "privacy.record_dp"),
        (PrivacySection(epsilon=4.0), PrivacySection(epsilon=8.0), "privacy.epsilon"),
        (PrivacySection(epsilon=4.0), PrivacySection(), "privacy.epsilon"),
        (RoundsSection(quorum=3), RoundsSection(quorum=2), "rounds.quorum"),
        (RoundsSection(count=9), RoundsSection(count=10), "rounds.count"),
        (ImagingSection(), ImagingSection(burned_in="accept"), "imaging.burned_in"),
        (ImagingSection(views=("PA",)), ImagingSection(), "imaging.views"),
        (ImagingSection(views=("PA",)), ImagingSection(views=("PA", "AP")), "imaging.views"),
    ],
)
def test_a_weakening_is_marked_and_its_opposite_is_not(strong, weak, key):
    name = type(strong).__name__.removesuffix("Section").lower()
    before, after = replace(Plan(), **{name: strong}), replace(Plan(), **{name: weak})
    assert [(c.key, bool(c.weakens)) for c in difference(before, after)] == [(key, True)]
    assert [bool(change.weakens) for change in difference(after, before)] == [False]
    assert difference(before, before) == difference(None, after) == []


def test_custom_code_is_said_and_is_a_weakening():
    plan = Plan(plugin_sha256="ab" * 32)
    assert any("CUSTOM CODE" in line for line in what_it_does(plan))
    assert [change.weakens != "" for change in difference(Plan(), plan)] == [True]
    private = replace(plan, privacy=PrivacySection(secure_sums="on", record_dp="on", epsilon=8.0))
    assert any("epsilon 8" in line for line in what_leaves(private))


def test_what_leaves_names_the_canary_and_the_scores_after_the_last_round():
    words = " ".join(what_leaves(Plan()))
    assert "canary" in words and "after the last one of each model that may be chosen" in words


def _seed(north, name="coordinator"):
    keys = north.coordinator.folder / "coordinator" / NAME / "keys"
    return bytes.fromhex(json.loads((keys / f"{name}.key").read_bytes())["seed"])
