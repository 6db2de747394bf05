"""A coordinator with its own key asks what it should not: the site does not do it, and says why."""

import base64
import json
import threading
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_cases, tiny_plan

from hospitium.engines.hub.agreed import Approved, task_of
from hospitium.engines.hub.messages import Ask
from hospitium.engines.hub.site_work import Rules, Workbench
from hospitium.engines.site_worker import answer_request
from hospitium.errors import SiteError, UpdateError
from hospitium.imaging.cache import write_cases
from hospitium.site.consent import REFUSALS
from hospitium.training import trainer_for
from hospitium.types import Task
from hospitium.wire import blob
from hospitium.wire.envelope import encode_task

PLAN = tiny_plan()
PARAMS = trainer_for(PLAN).first_params()
TASK = Task(
    run_id="study",
    round_number=3,
    plan_digest=PLAN.digest,
    params=PARAMS,
    base_digest=blob.digest_of(PARAMS),
    max_norm=10.0,
)


def asked(task, *, model=None):
    """Return a question whose model is that of the task, or another."""
    size = sum(len(block) for block in blob.blocks_of(task.params))
    return Ask(
        site_id="oslo", task=encode_task(task), nonce="a" * 64, blob=model or task.base_digest,
        blob_bytes=size, deadline_s=20.0, members_digest="", num_sites=2, run_key="",
    )  # fmt: skip


class Direct:
    """A pool that answers at once, in this process; or with what a test says."""

    def __init__(self, reply=None):
        self.reply, self.num_trained = reply, 0

    def submit(self, request, **_):
        self.num_trained += 1
        future = Future()
        future.set_result(answer_request(request) if self.reply is None else self.reply)
        return future


class Line:
    """A client that has one file for everybody."""

    def __init__(self, params):
        self.params = params

    def fetch(self, sha256, target, *, size_bytes, take=None):
        with target.open("wb") as file:
            assert blob.write(file, self.params) == sha256


class House:
    """A site with cases and a workbench."""

    def __init__(self, folder):
        self.folder = folder
        write_cases(folder / "cases", tiny_cases())
        self.approved = Approved(plan=PLAN, cases=folder / "cases", num_cases=96)

    def work(self, task, *, pool=None, ask=None):
        self.pool = pool or Direct()
        bench = Workbench(
            site_id="oslo", folder=self.folder, pool=self.pool, rules=Rules(),
            stop=threading.Event(),
        )  # fmt: skip
        ask = ask or asked(task)
        kept = bench.answers.find(ask.task)
        return kept or bench.make(Line(task.params), ask, task_of(ask), self.approved)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def other_params():
    return {name: array + np.float32(1) for name, array in PARAMS.items()}


def test_an_honest_task_is_answered_and_the_same_one_again_from_disk(house):
    first = house.work(TASK)
    again = house.work(TASK)
    assert (house.pool.num_trained, again.content) == (0, first.content)


def test_a_task_that_comes_with_another_model_than_it_names_is_refused():
    """Sites cosign the digest that the task names: it has to be that of what they trained on."""
    other = blob.digest_of(other_params())
    with pytest.raises(UpdateError) as caught:
        task_of(asked(TASK, model=other))
    assert caught.value.reason == "base"


@pytest.mark.parametrize(
    "change",
    [
        {"params": other_params(), "base_digest": blob.digest_of(other_params())},
        {"max_norm": 9.0},
    ],
)
def test_a_second_task_for_a_round_is_not_trained(house, change):
    """Each answer tells something of the patients: a coordinator asks once for each round."""
    house.work(TASK)
    with pytest.raises(SiteError) as caught:
        house.work(replace(TASK, **change))
    assert caught.value.public == REFUSALS["seat"] and house.pool.num_trained == 0


def test_the_next_round_and_scores_are_answered_as_before(house):
    house.work(TASK)
    house.work(replace(TASK, purpose="score", params=other_params(),
                       base_digest=blob.digest_of(other_params())))  # fmt: skip
    house.work(replace(TASK, round_number=4))
    assert house.pool.num_trained == 1


@pytest.mark.parametrize(
    "params",
    [
        {**PARAMS, "extra": np.zeros(3, np.float32)},
        {"weight": PARAMS["weight"]},
        {**PARAMS, "bias": PARAMS["bias"].astype(np.float64)},
        {**PARAMS, "weight": PARAMS["weight"].reshape(-1)},
        {**PARAMS, "bias": np.zeros(0, np.float32)},
    ],
)
def test_a_model_with_another_header_than_the_plans_is_not_trained_on(house, params):
    """Crafted layers that copy a patient into an update cannot be brought."""
    task = replace(TASK, params=params, base_digest=blob.digest_of(params))
    with pytest.raises(SiteError) as caught:
        house.work(task)
    assert caught.value.public == "the params that came are not those of the plan's model"
    assert str(house.folder) not in caught.value.public


REPLIES = {
    "nothing": b"",
    "no JSON": b"\x80\x04cos\nsystem\n",
    "deep nesting": b"[" * 200_000,
    "a number": b"7",
    "both": b'{"envelope":"","error":"x"}',
    "no base64": b'{"envelope":"!!"}',
    "a number for an envelope": b'{"envelope":7}',
    "an envelope that is none": json.dumps({"envelope": base64.b64encode(b"{}").decode()}).encode(),
    "words that are no text": b'{"error":["x"]}',
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_a_worker_replies_passes_a_gate_too(house, name):
    """The process that trains reads the hospital's files, which may have taken it over."""
    with pytest.raises(SiteError) as caught:
        house.work(TASK, pool=Direct(REPLIES[name]))
    assert len(caught.value.public) < 100 and not list((house.folder / "answers").glob("*.json"))


def test_an_envelope_about_something_else_does_not_leave(house):
    honest = house.work(TASK)
    fields = json.loads(honest.content)
    for name, value in (("num_cases", 97), ("site_id", "turin"), ("round_number", 4)):
        envelope = json.dumps({**fields, name: value}, sort_keys=True, separators=(",", ":"))
        reply = json.dumps({"envelope": base64.b64encode(envelope.encode()).decode()}).encode()
        with pytest.raises(SiteError):
            house.work(replace(TASK, run_id="other"), pool=Direct(reply))
