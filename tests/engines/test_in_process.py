"""In-process federations with the real handler and a NumPy model that trains in milliseconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import prepare, tiny_plan

from hospitium import algorithms, federation
from hospitium.engines.in_process import InProcess
from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.running import open_ledger, sites_of
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.site.departures import LOG, Departures
from hospitium.testing.fakes import DirectEngine, Quiet
from hospitium.training import trainer_for
from hospitium.types import LeftOut, Task, Update
from hospitium.wire.blob import digest_of, file_digest


@pytest.fixture(scope="module")
def pool():
    pool = WorkerPool(answer_request, num_workers=2)
    yield pool
    pool.close()


@pytest.fixture
def ledger(tmp_path):
    ledger = open_ledger(prepare(tmp_path / "run", tiny_plan()))
    for site in sites_of(ledger):
        site.folder.mkdir(parents=True)
    yield ledger
    ledger.close()


@pytest.fixture
def engine(ledger, pool):
    return InProcess(ledger.plan, sites=sites_of(ledger), store=ledger.store, pool=pool)


def task_of(ledger, **changes):
    params = trainer_for(ledger.plan).first_params()
    task = Task(
        run_id="tiny",
        round_number=1,
        plan_digest=ledger.plan.digest,
        params=params,
        base_digest=digest_of(params),
        max_norm=10.0,
    )
    return replace(task, **changes)


def site_in_this_process(ledger, site, folder):
    """Return the same site as a function, without any process between."""
    consent = Consent(plan_digest=ledger.plan.digest, num_cases=site.num_cases)
    own = Site(site_id=site.site_id, cases_folder=site.cases, folder=folder, consent=consent)
    trainer = trainer_for(ledger.plan)
    return lambda task: answer(task, plan=ledger.plan, site=own, trainer=trainer)


def ask(engine, task):
    answers = engine.ask(task, engine.select(round_number=1), deadline_s=60)
    return {answer.site_id: answer for answer in answers}


def test_a_worker_answers_as_the_site_itself_does_bit_for_bit(ledger, engine, tmp_path):
    task = task_of(ledger)
    answers = ask(engine, task)
    for site in sites_of(ledger):
        expected = site_in_this_process(ledger, site, tmp_path / site.site_id)(task)
        found = answers[site.site_id]
        assert digest_of(found.delta) == digest_of(expected.delta)
        assert replace(found, delta={}, path=None, train_s=0) == replace(
            expected, delta={}, train_s=0
        )


def test_a_federation_in_processes_ends_with_the_bits_of_one_without(ledger, engine, tmp_path):
    def build(run):
        return algorithms.build(
            run.plan,
            run_id="tiny",
            seats=run.seats,
            first_params=trainer_for(run.plan).first_params,
        )

    with_processes = federation.run(ledger.plan, build(ledger), engine, ledger, Quiet())
    other = open_ledger(prepare(tmp_path / "other", tiny_plan()))
    sites = {
        site.site_id: site_in_this_process(other, site, tmp_path / f"other-{site.site_id}")
        for site in sites_of(other)
    }
    without = federation.run(other.plan, build(other), DirectEngine(sites=sites), other, Quiet())
    assert digest_of(with_processes.params) == digest_of(without.params)
    assert ledger.record() == other.record()
    other.close()


def test_a_task_that_is_asked_twice_is_answered_with_the_same_bits(ledger, engine):
    task = task_of(ledger)
    digests = [
        {site_id: digest_of(update.delta) for site_id, update in ask(engine, task).items()}
        for _ in range(2)
    ]
    assert digests[0] == digests[1]


def test_a_score_has_sums_and_no_change(ledger, engine):
    answers = ask(engine, task_of(ledger, purpose="score"))
    assert all(update.delta == {} for update in answers.values())
    assert sum(update.sums["n"][0] for update in answers.values()) == 32


def test_what_left_is_in_the_sites_own_record_byte_for_byte(ledger, engine):
    update = ask(engine, task_of(ledger))["site-1"]
    (row,) = Departures(ledger.folder / "sites" / "site-1" / LOG).rows()
    line = row.line.leaf
    assert line["kind"] == "update" and line["round_number"] == 1
    assert line["sha256"] == digest_of(update.delta) == file_digest(Path(update.path))


def test_a_line_of_the_record_that_was_cut_off_spoils_no_other(ledger, engine):
    record = ledger.folder / "sites" / "site-1" / LOG / "leaves.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text('{"bytes": 1, "kind": "upd')
    for _ in range(2):  # the second time the same bytes leave
        ask(engine, task_of(ledger))
    assert [row.line.leaf["kind"] for row in Departures(record.parent).rows()] == ["update"]


def test_a_site_that_cannot_record_gives_nothing_and_the_others_do(ledger, engine):
    record = ledger.folder / "sites" / "site-1" / LOG / "leaves.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text("not an entry\n")
    answers = ask(engine, task_of(ledger))
    assert answers["site-1"].reason == "error: the site failed with E303"
    assert all(answer.delta for name, answer in answers.items() if name != "site-1")


def test_a_site_whose_cases_are_gone_is_left_out_and_knows_why_itself(ledger, engine):
    cases = sites_of(ledger)[0].cases
    (cases / "cases.json").unlink()
    answers = ask(engine, task_of(ledger))
    assert answers["site-1"] == LeftOut(site_id="site-1", reason="error: the site failed with E401")
    assert isinstance(answers["site-2"], Update)
    log = (ledger.folder / "sites" / "site-1" / "site.log").read_text()
    assert str(cases) in log and "Traceback" in log


def test_a_site_does_not_answer_a_plan_that_it_has_not_agreed_to(ledger, engine):
    answers = ask(engine, task_of(ledger, plan_digest="a" * 64))
    reasons = {answer.reason for answer in answers.values()}
    assert reasons == {"error: the site has not agreed to this plan"}


def test_params_that_are_damaged_are_not_trained_on(ledger, engine):
    task = task_of(ledger)
    path = ledger.store.path(ledger.store.put(task.params))
    path.write_bytes(path.read_bytes()[:-1])
    assert {answer.reason for answer in ask(engine, task).values()} == {
        "error: the params that came are not those of the plan's model"
    }


def test_training_that_diverges_is_said_so_and_nothing_else_leaves(ledger, engine):
    params = {name: np.full_like(a, np.inf) for name, a in task_of(ledger).params.items()}
    answers = ask(engine, task_of(ledger, params=params, base_digest=digest_of(params)))
    assert {answer.reason for answer in answers.values()} == {
        "error: training diverged: the loss is not finite"
    }
