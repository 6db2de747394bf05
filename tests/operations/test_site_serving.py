"""Sites and a coordinator over a real connection: from the invite to the answer, and refusals."""

import multiprocessing
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from carried import NAME, NOW
from connected import KARI, Net, hurry, soon
from tiny import tiny_cases

from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.transport import HubTransport
from hospitium.errors import HubError, RunBusyError, TrustError, UsageError
from hospitium.imaging.cache import write_cases
from hospitium.operations import site_attending
from hospitium.operations.approving import approve
from hospitium.operations.auditing import verify_record
from hospitium.operations.coordinating import admit_site, revoke_site, rotate_key
from hospitium.operations.enrolment import join, join_online, rotate
from hospitium.operations.leaving import list_departures
from hospitium.operations.site_serving import serve_once, serve_site
from hospitium.operations.withdrawing import leave, set_paused, withdraw
from hospitium.site import policy
from hospitium.site.consent import REFUSALS
from hospitium.site.membership import membership
from hospitium.site.record import departures_of
from hospitium.state.home import Home
from hospitium.types import Update


@pytest.fixture
def net(tmp_path, monkeypatch):
    hurry(monkeypatch)
    net = Net(tmp_path)
    yield net
    net.stop()


@pytest.fixture
def oslo(net):
    """A plan that oslo approved and the coordinator knows of."""
    net.admit("oslo")
    plan = net.offer()
    assert serve_once(net.home("oslo")) == 0
    net.approve("oslo", plan)
    serve_once(net.home("oslo"))
    assert list(net.desk.standing(plan.digest)) == ["oslo"]
    return plan


def reason(answers):
    [answer] = answers
    return answer.reason


def in_background(call, *args, **options):
    """Start a call in a thread; what is returned waits for it and gives what it returned."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call(*args, **options)), daemon=True)
    thread.start()

    def result():
        thread.join(timeout=20)
        return found[0]

    return result


def departed(net):
    return [row.line.leaf for row in departures_of(net.place("oslo")).rows()]


def test_a_site_joins_reads_approves_and_answers_over_the_connection(net):
    words = " ".join(net.join("oslo")["words"])
    with net.attended("oslo"):
        soon(lambda: "not admitted yet" in net.status("oslo")["last_error"])
        admit_site(net.files.coordinator, NAME, "oslo", heard=words, now=NOW)
        net.set_policy("oslo")
        plan = net.offer()
        soon(lambda: net.place("oslo").inbox.digests() == [plan.digest])
        net.approve("oslo", plan)
        soon(lambda: "oslo" in net.desk.standing(plan.digest))
        [update] = net.ask(net.task(plan), "oslo")
        assert isinstance(update, Update) and update.num_cases == 96 and update.delta
        soon(lambda: net.status("oslo")["healthy"])
    lines = departed(net)
    assert [line["kind"] for line in lines if line["kind"] != "heartbeat"] == [
        "enrolment", "approval", "update", "cosignature",
    ]  # fmt: skip
    (beats,) = [line for line in lines if line["kind"] == "heartbeat"]
    assert beats["count"] * (1 << 10) == beats["bytes"]
    (leaf,) = [line for line in lines if line["kind"] == "update"]
    assert leaf["params_sha256"] != leaf["sha256"], "it leaves sealed"
    assert leaf["approved_by"] == ["Kari Nordmann"] and leaf["members_epoch"] > 0
    assert verify_record(net.home("oslo"), federation=None, run_id=None)["holds"]
    receipts = {
        row["kind"]: row["standing"]
        for row in list_departures(net.home("oslo"), None, now=datetime.now(UTC))
    }
    assert receipts["update"] == receipts["approval"] == "receipted"
    assert net.desk.beats()["oslo"]["peak_memory_bytes"] > 10_000_000
    assert net.desk.beats()["oslo"]["peak_disk_bytes"] > 1000
    row = net.status("oslo")
    assert row["agent"] == "stopped" and not row["reachable"]
    assert not multiprocessing.active_children()


def test_an_offer_is_said_once_with_what_to_do_and_not_where_it_is_answered(net, monkeypatch):
    net.admit("oslo")
    plan = net.offer()
    said = []

    def attend():
        agent = net.agent("oslo")
        monkeypatch.setattr(agent, "_say", said.append)
        for _ in range(2):
            agent._exchange()
        agent._end_transport()

    attend()
    short = plan.digest[:8]
    offer = f"north: plan {short} was offered. Next: `hospitium site review {short}`"
    assert said[1:] == [offer] and "a member now" in said[0]
    net.approve("oslo", plan)
    said.clear()
    attend()
    assert said == []


def test_a_site_is_healthy_as_soon_as_its_approval_was_brought(net, monkeypatch):
    monkeypatch.setattr(site_attending, "BEAT_S", 3600.0)
    net.admit("oslo")
    plan = net.offer()
    with net.attended("oslo"):
        soon(lambda: net.status("oslo")["coordinator"].get("plans") == {plan.digest: "silent"})
        net.approve("oslo", plan)
        soon(lambda: net.status("oslo")["healthy"])


@pytest.mark.ci
def test_the_status_has_both_sides_and_healthy_is_all_four(net, oslo):
    with net.attended("oslo"):
        net.ask(net.task(oslo, round_number=1), "oslo")
        soon(lambda: net.status("oslo")["healthy"])
        soon(lambda: net.desk.beats()["oslo"]["isolation"] != "not_tested")
        row = net.status("oslo")
    assert row["registered"] and row["reachable"] and row["decoding"]
    assert row["approved"] == [oslo.digest] and row["round_number"] == 1 and not row["last_error"]
    assert row["coordinator"]["plans"] == {oslo.digest: "approved"}
    assert row["isolation"] in ("cut_off", "not_cut_off")
    assert net.desk.beats()["oslo"]["isolation"] == row["isolation"]


def test_asking_to_join_again_does_no_harm_and_another_site_cannot_use_the_invite(net):
    invite = net.files.invite("oslo")
    ask = {"legal_entity": "Oslo hospital", "now": NOW}
    first = join(net.home("oslo"), invite, **ask)
    assert join_online(net.home("oslo"), invite, **ask)["words"] == first["words"]
    assert join_online(net.home("oslo"), invite, **ask)["words"] == first["words"]
    with pytest.raises(HubError, match="used already") as caught:
        join_online(net.home("thief"), invite, **ask)
    assert caught.value.reason == "used"


@pytest.mark.ci
def test_a_request_that_was_carried_is_sent_by_the_agent_too(net):
    join(net.home("oslo"), net.files.invite("oslo"), legal_entity="Oslo hospital", now=NOW)
    with pytest.raises(TrustError, match="not admitted yet"):
        serve_once(net.home("oslo"))
    assert list(net.desk.applicants()) == ["oslo"]


def forget(net, plan):
    for path in (net.place("oslo").folder / "said").glob("*"):
        path.unlink()


def withdrawn(net, plan):
    withdraw(net.home("oslo"), NAME, plan.digest, approver=KARI, now=NOW)


def other_list(net, plan):
    net.admit("bergen")


def other_policy(net, plan):
    net.set_policy("oslo", "[limits]\nmbit_per_s = 1000.0\n")


def over(net, plan):
    shutil.rmtree(net.place("oslo").folder / "said")
    sign(net, plan, now=datetime.now(UTC) - timedelta(days=91))


def other_cases(net, plan):
    write_cases(net.files.cases("oslo"), tiny_cases(scale=2))


def unsealed(net, plan):
    net.run_key = None


def sign(net, plan, now=None):
    plan_cases = net.files.cases("oslo")
    approve(
        net.home("oslo"), NAME, plan.digest, approver=KARI, cases=plan_cases,
        now=now or datetime.now(UTC),
    )  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (forget, "plan"),
        (withdrawn, "withdrawn"),
        (other_list, "members"),
        (other_policy, "policy"),
        (over, "expired"),
        (other_cases, "cases"),
        (unsealed, "sealed"),
    ],
)
def test_a_task_that_is_not_within_what_was_agreed_is_refused_with_its_reason(
    net, oslo, change, expected
):
    change(net, oslo)
    with net.attended("oslo"):
        assert reason(net.ask(net.task(oslo), "oslo")) == f"error: {REFUSALS[expected]}"
    lines = departed(net)
    assert not {"update", "scores"} & {line["kind"] for line in lines}
    assert [line["public"] for line in lines if line["kind"] == "error"] == [REFUSALS[expected]]


@pytest.mark.ci
def test_a_smaller_set_of_sites_than_agreed_is_refused(net):
    net.admit("oslo")
    plan = net.offer()
    serve_once(net.home("oslo"))
    net.approve("oslo", plan)
    place = net.place("oslo")
    [one] = place.said(plan.digest)
    shutil.rmtree(place.folder / "said")
    place.say(replace(one, min_sites=2))
    with net.attended("oslo"):
        assert reason(net.ask(net.task(plan), "oslo")) == f"error: {REFUSALS['sites']}"


@pytest.mark.ci
def test_a_task_outside_the_hours_waits_at_the_hub_and_is_taken_when_they_begin(
    net, oslo, monkeypatch
):
    hour = (datetime.now(UTC) + timedelta(hours=2)).hour
    net.set_policy("oslo", f'[hours]\nwindows = ["{hour:02}:00-{hour:02}:30 utc"]\n')
    sign(net, oslo)
    with net.attended("oslo"):
        assert reason(net.ask(net.task(oslo), "oslo", deadline_s=1.0)) == "deadline"
        soon(lambda: net.desk.beats()["oslo"]["state"] == "closed")
        answers = in_background(net.ask, net.task(oslo, round_number=2), "oslo")
        monkeypatch.setattr(policy, "_is_within", lambda window, now: True)  # it is that hour
        [update] = answers()
        assert update.round_number == 2


@pytest.mark.ci
def test_a_paused_site_answers_after_it_resumed_and_nothing_before(net, oslo):
    set_paused(net.home("oslo"), NAME, is_paused=True)
    with net.attended("oslo"):
        answers = in_background(net.ask, net.task(oslo), "oslo")
        soon(lambda: net.desk.beats().get("oslo", {}).get("state") == "paused")
        assert "update" not in {line["kind"] for line in departed(net)}
        set_paused(net.home("oslo"), NAME, is_paused=False)
        [update] = answers()
        assert update.delta


@pytest.mark.ci
def test_a_site_that_leaves_says_so_and_answers_nothing(net, oslo):
    with net.attended("oslo"):
        leave(net.home("oslo"), NAME, approver=KARI, now=NOW)
        soon(lambda: net.desk.last_word("oslo", oslo.digest) == "withdrawn")
        assert reason(net.ask(net.task(oslo), "oslo", deadline_s=1.0)) == "deadline"


@pytest.mark.ci
def test_a_revoked_site_says_it_clearly_and_does_not_ask_again_and_again(net, oslo, monkeypatch):
    asked = []
    real = site_attending.Attendant._exchange
    monkeypatch.setattr(
        site_attending.Attendant, "_exchange", lambda self: asked.append(1) or real(self)
    )
    with net.attended("oslo"):
        soon(lambda: net.status("oslo")["reachable"])
        revoke_site(net.files.coordinator, NAME, "oslo", now=NOW)
        soon(lambda: "does not know this site's keys" in net.status("oslo")["last_error"])
        before = len(asked)
        threading.Event().wait(1.0)
        assert len(asked) == before
        row = net.status("oslo")
    assert not row["reachable"] and not row["healthy"]


@pytest.mark.ci
def test_a_key_that_was_rotated_is_used_from_the_list_on_that_names_it(net, oslo):
    out = net.folder / "oslo.rotation"
    for purpose in ("request", "signing"):
        rotate(net.home("oslo"), NAME, purpose=purpose, out=out)
        with net.attended("oslo"):
            soon(lambda: net.status("oslo")["reachable"])
            rotate_key(net.files.coordinator, NAME, out.read_bytes(), now=NOW)
            epoch = net.desk.members().members_epoch
            soon(lambda epoch=epoch: net.status("oslo")["members_epoch"] == epoch)
            net.approve("oslo", oslo)
            soon(lambda: "oslo" in net.desk.standing(oslo.digest))
    with net.attended("oslo"):
        [update] = net.ask(net.task(oslo), "oslo")
        assert update.delta


@pytest.mark.parametrize("moment", ["members", "plans", "beat"])
def test_a_key_that_is_rotated_while_its_site_asks_is_no_key_from_elsewhere(
    net, oslo, monkeypatch, moment
):
    """A list that names the new key may come with the old one; all that follows needs the new."""
    out, asked = net.folder / "oslo.rotation", getattr(HubTransport, moment)
    rotate(net.home("oslo"), NAME, purpose="request", out=out)

    def in_between(transport, *args, **options):
        monkeypatch.setattr(HubTransport, moment, asked)
        rotate_key(net.files.coordinator, NAME, out.read_bytes(), now=NOW)
        if moment == "members":
            return Office(net.desk).lists(**options)
        return asked(transport, *args, **options)

    monkeypatch.setattr(HubTransport, moment, in_between)
    assert serve_once(net.home("oslo")) == 0
    assert net.status("oslo")["members_epoch"] == net.desk.members().members_epoch


@pytest.mark.ci
def test_keys_that_were_rotated_elsewhere_are_found_stale(net, oslo):
    shutil.copytree(net.home("oslo").folder, net.folder / "copy")
    copy, out = Home(net.folder / "copy"), net.folder / "r"
    rotate(copy, NAME, purpose="request", out=out)
    rotate_key(net.files.coordinator, NAME, out.read_bytes(), now=NOW)
    with pytest.raises(HubError):  # still the old key, until it has the list
        serve_once(net.home("oslo"))
    with net.attended("oslo"):
        soon(lambda: "replaced elsewhere" in net.status("oslo")["last_error"])
    assert membership(copy.folder, NAME).own_row() is not None


@pytest.mark.ci
def test_a_task_that_is_asked_again_after_a_kill_gets_the_same_bytes(net, oslo):
    task = net.task(oslo)
    with net.attended("oslo"):
        [first] = net.ask(task, "oslo")
        one = {name: array.tobytes() for name, array in first.delta.items()}
    shutil.rmtree(net.folder / "hub")  # the whole transfer store is lost
    net.stop()
    net.backend = LocalBackend(net.folder / "hub")
    net.start_again()
    with net.attended("oslo"):
        [second] = net.ask(task, "oslo")
    assert {name: array.tobytes() for name, array in second.delta.items()} == one
    kinds = [line["kind"] for line in departed(net)]
    assert kinds.count("update") == 1


@pytest.mark.ci
def test_a_coordinator_that_was_away_is_found_again(net, oslo):
    with net.attended("oslo"):
        soon(lambda: net.status("oslo")["reachable"])
        net.server.stop()
        soon(
            lambda: "unreachable" in str(net.status("oslo")) or not net.status("oslo")["reachable"]
        )
        assert "E205" in net.status("oslo")["last_error"]
        net.start_again()
        [update] = net.ask(net.task(oslo), "oslo")
        assert update.delta
        soon(lambda: net.status("oslo")["healthy"])


@pytest.mark.ci
def test_one_agent_for_each_home_serves_all_until_it_is_stopped(net, oslo):
    stop = threading.Event()
    said = []
    done = in_background(serve_site, net.home("oslo"), stop=stop, say=said.append)
    soon(lambda: net.status("oslo")["reachable"])
    with pytest.raises(RunBusyError, match="another process is this site's agent"):
        serve_once(net.home("oslo"))
    stop.set()
    done()
    assert said == ["north: attending as oslo"] and not multiprocessing.active_children()
    assert net.status("oslo")["agent"] == "stopped"
    assert serve_once(net.home("oslo")) == 0


def test_an_agent_of_a_home_that_joined_nothing_says_so_and_where_it_looked(tmp_path):
    stop, said = threading.Event(), []

    def say(text):
        said.append(text)
        stop.set()

    serve_site(Home(tmp_path), stop=stop, say=say)
    [text] = said
    assert "joined nothing yet" in text and str(tmp_path) in text and "HOSPITIUM_HOME" in text


def test_once_answers_what_is_open_and_ends(net, oslo):
    answers = in_background(net.ask, net.task(oslo), "oslo")
    soon(lambda: net.backend.tasks("oslo", after=0))
    assert serve_once(net.home("oslo")) == 1
    [update] = answers()
    assert update.delta
    with pytest.raises(UsageError, match="takes part in nothing yet"):
        serve_once(net.home("nobody"))
