"""What a site does with a task before anything of it is read, and when it leaves one alone."""

import threading

import pytest
from hub_federation import Running
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.engines.hub import site_loop
from hospitium.engines.hub.agreed import plan_digest_of
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.engines.hub.site_loop import Approved, Rules, SiteKeys, SiteLoop
from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.errors import SiteError
from hospitium.plan import Plan
from hospitium.site.condition import Condition
from hospitium.site.consent import REFUSALS, Consent
from hospitium.state.hub_store import OpenTask
from hospitium.types import Task
from hospitium.wire.envelope import encode_task

SITE, NONCE, PLAN = "site-1", "a" * 64, Plan()
TASK = encode_task(
    Task(
        run_id="r",
        round_number=4,
        plan_digest=PLAN.digest,
        params={},
        base_digest="b" * 64,
        max_norm=1.0,
    )
)
RUBBISH = b'\xff{"plan_digest":"' + PLAN.digest.encode() + b'","round_number":-1,,'


@pytest.fixture
def running(tmp_path):
    running = Running(place=tmp_path, site_ids=[SITE])
    yield running
    running.stop()


def offer(running, task, *, site_id=SITE):
    ask = Ask(
        site_id=site_id, task=task, nonce=NONCE, blob="b" * 64, blob_bytes=1000, deadline_s=20.0,
        members_digest="", num_sites=2, run_key="",
    )  # fmt: skip
    path = running.place / "blob"
    path.write_bytes(b"")
    envelope = ask.signed(running.key)
    running.backend.enqueue(
        [
            OpenTask(
                run_id="r", site_id=SITE, nonce=NONCE, envelope=envelope, blob="b" * 64,
                upload_bytes=1000,
            )
        ],
        blob=path,
    )  # fmt: skip


class Looped:
    """A loop in a thread; its answers are read at the hub."""

    def __init__(self, running, approved, *, rules=None):
        self.running, self.asked = running, []
        self.condition = Condition(running.place)
        self.pool = WorkerPool(answer_request, num_workers=1)
        self.loop = SiteLoop(
            site_id=SITE,
            keys=SiteKeys(
                request=running.request_key(SITE),
                signing=running.signing_key(SITE),
                coordinator=running.key.public,
            ),
            connection=running.connection(),
            folder=running.place / "site",
            pool=self.pool,
            approved=lambda name: self.asked.append(name) or approved(name),
            rules=rules,
            condition=self.condition,
        )
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *reason):
        self.loop.stop()
        self.thread.join(timeout=5)
        assert not self.thread.is_alive()  # though it was in a long poll
        self.pool.close()

    def reply(self, *, wait_s=10.0):
        found = self.running.backend.answers(NONCE, after=0, wait_s=wait_s)
        if not found:
            return None
        key = self.running.signing_key(SITE).public
        return Reply.opened(found[0].statement, key=key).content.decode()


def approved(name):
    consent = Consent(plan_digest=PLAN.digest, num_cases=1)
    return Approved(plan=PLAN, cases="nowhere", num_cases=1, consent=consent)


def withdrawn(name):
    raise SiteError(REFUSALS["withdrawn"])


@pytest.mark.parametrize(
    ("says", "expected"), [(lambda name: None, "plan"), (withdrawn, "withdrawn")]
)
def test_nothing_of_a_task_but_its_plan_is_read_before_consent(running, says, expected):
    offer(running, RUBBISH)
    with Looped(running, says) as site:
        assert site.reply() == REFUSALS[expected]
    assert site.asked == [PLAN.digest] and site.condition.found.round_number is None


def test_a_task_that_names_no_plan_or_two_is_of_none(running):
    offer(running, TASK + RUBBISH)
    with Looped(running, approved) as site:
        assert site.reply() == REFUSALS["plan"]
    assert site.asked == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_only_one_digest_of_64_characters_is_one(rubbish):
    found = plan_digest_of(rubbish)
    assert found == ""
    assert plan_digest_of(rubbish + TASK) == PLAN.digest


def test_another_sites_task_is_said_and_not_answered(running):
    offer(running, TASK, site_id="site-2")
    with Looped(running, approved) as site:
        assert site.reply(wait_s=0.5) is None
        assert site.condition.found.last_code == "E202" and not site.condition.found.decoding


def test_a_task_is_left_at_the_hub_while_the_site_is_closed(running, monkeypatch):
    monkeypatch.setattr(site_loop, "CLOSED_S", 0.05)
    state = {"closed": "window"}
    offer(running, RUBBISH)
    with Looped(running, withdrawn, rules=Rules(closed=lambda: state["closed"])) as site:
        assert site.reply(wait_s=0.3) is None and site.asked == []
        state["closed"] = ""
        assert site.reply() == REFUSALS["withdrawn"]


def test_an_update_too_large_for_today_waits_and_one_too_large_for_a_day_is_refused(
    running, monkeypatch
):
    monkeypatch.setattr(site_loop, "CLOSED_S", 0.05)
    monkeypatch.setattr(site_loop, "LATER_S", 0.2)
    sizes, says = [], {"when": "later"}
    rules = Rules(fits=lambda size: sizes.append(size) or says["when"])
    offer(running, TASK)
    with Looped(running, approved, rules=rules) as site:
        assert site.reply(wait_s=0.6) is None
        says["when"] = "never"
        assert site.reply() == REFUSALS["limits"]
        assert site.condition.found.round_number == 4
    assert len(sizes) >= 3 and set(sizes) == {1000}
