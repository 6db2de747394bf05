import os
import signal
import threading
from dataclasses import replace

import pytest
from tiny import prepare, tiny_plan

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.errors import EngineError, PlanError, PluginError, QuorumError, RunBusyError
from hospitium.operations.baselines import POOLED, baseline_plan, run_baselines
from hospitium.operations.progress import silent
from hospitium.operations.run_figures import curve
from hospitium.operations.running import (
    OnThisMachine,
    open_ledger,
    plugin_of,
    run_to_end,
    sites_of,
)
from hospitium.plan.checking import check_plan
from hospitium.plan.schema import EvaluationSection
from hospitium.plan.writing import template
from hospitium.state.home import locked
from hospitium.training import trainer_for
from hospitium.wire import blob

PLUGIN = "def register(plugin): plugin.model('my_net', None)"


@pytest.fixture
def run(tmp_path):
    return prepare(tmp_path / "run", tiny_plan())


def finish(folder, pool, say=silent):
    return run_to_end(folder, engines=OnThisMachine(pool), say=say, label="federated")


def record_of(folder):
    ledger = open_ledger(folder)
    record = ledger.record()
    ledger.close()
    return record


def half_files(folder):
    return list(folder.rglob("*.part"))


def test_a_run_comes_to_params_that_are_kept_and_is_not_done_twice(run, pool):
    chosen = finish(run, pool)
    before = record_of(run)
    assert chosen.digest in before["blobs"]
    assert 0 < chosen.threshold < 1
    assert finish(run, pool) == chosen
    assert record_of(run) == before


def test_the_same_run_comes_to_the_same_bits_whatever_the_number_of_workers(run, tmp_path, pool):
    alone = WorkerPool(answer_request, num_workers=1)
    other = prepare(tmp_path / "other", tiny_plan())
    assert finish(run, pool) == finish(other, alone)
    alone.close()
    assert record_of(run) == record_of(other)


def test_what_is_said_counts_rounds_and_sites(run, pool):
    events = []
    finish(run, pool, events.append)
    assert [(event["round"], event["of"], event["num_sites"]) for event in events] == [
        (1, 3, 3),
        (2, 3, 3),
        (3, 3, 3),
    ]
    assert {event["run"] for event in events} == {"federated"}


def test_a_run_that_another_process_works_on_is_left_alone(run, pool):
    with locked(run), pytest.raises(RunBusyError):
        finish(run, pool)
    assert record_of(run)["rounds"] == []


@pytest.mark.parametrize(("choose", "ema"), [("last", 0.0), ("last", 0.9), ("best", 0.9)])
def test_the_plan_says_which_params_are_chosen(tmp_path, pool, choose, ema):
    plan = tiny_plan(lr=0.2)
    plan = replace(
        plan,
        evaluation=EvaluationSection(choose=choose),
        algorithm=replace(plan.algorithm, ema=ema),
    )
    folder = prepare(tmp_path / "run", plan)
    chosen = finish(folder, pool)
    ledger = open_ledger(folder)
    if choose == "last":
        assert (chosen.round_number, chosen.slot) == (3, "ema" if ema else "params")
    else:
        assert ledger.best_score() is not None and "best validation auroc" in chosen.reason
    assert chosen.digest == ledger.digests_after(chosen.round_number)[chosen.slot]
    ledger.close()


def test_a_site_that_cannot_answer_is_left_out_by_name_and_the_run_goes_on(run, pool):
    _break(run, "site-2")
    events = []
    finish(run, pool, events.append)
    left_out = [event for event in events if event["kind"] == "left_out"]
    assert {(event["site_id"], event["reason"]) for event in left_out} == {
        ("site-2", "error: the site failed with E401")
    }
    assert {seat["site_id"] for seat in record_of(run)["seats"] if seat["reason"]} == {"site-2"}


def test_below_quorum_the_run_stops_and_goes_on_when_sites_are_back(run, tmp_path, pool):
    mended = [_break(run, site_id) for site_id in ("site-1", "site-2")]
    with pytest.raises(QuorumError, match=r"1 of 3 sites.*quorum is 2.*run resume tiny"):
        finish(run, pool)
    for mend in mended:
        mend()
    again = WorkerPool(answer_request, num_workers=1)
    chosen = finish(run, again)
    other = prepare(tmp_path / "other", tiny_plan())
    assert chosen == finish(other, again)
    again.close()


def test_the_last_score_needs_a_quorum_too_and_can_be_asked_for_again(run, tmp_path):
    mended = []

    def say(event):
        if event["round"] == 3 and event["kind"] == "round":
            mended.extend(_break(run, site_id) for site_id in ("site-1", "site-2"))

    pool = WorkerPool(answer_request, num_workers=1)
    with pytest.raises(QuorumError, match=r"Last score: 1 of 3 sites.*All rounds are closed"):
        finish(run, pool, say)
    for mend in mended:
        mend()
    pool = WorkerPool(answer_request, num_workers=1)
    expected = finish(prepare(tmp_path / "other", tiny_plan()), pool)
    assert finish(run, pool) == expected
    pool.close()


def test_a_run_that_is_stopped_between_two_answers_blames_no_site_and_ends_as_unbroken(
    run, tmp_path, pool
):
    own = WorkerPool(answer_request, num_workers=2)
    with pytest.raises(EngineError, match="nothing was recorded"):
        finish(run, own, lambda event: own.close() if event["round"] == 2 else None)
    assert record_of(run)["refusals"] == []
    assert not half_files(run)
    other = prepare(tmp_path / "other", tiny_plan())
    assert finish(run, pool) == finish(other, pool)
    assert record_of(run) == record_of(other)


def test_half_files_of_a_process_that_was_killed_are_swept_when_the_run_goes_on(run, pool):
    for place in ("store", "sites/site-1/moments", "store/incoming/site-1"):
        (run / place).mkdir(parents=True, exist_ok=True)
        (run / place / ".4711.part").write_bytes(b"half")
    finish(run, pool)
    assert not half_files(run)


def test_each_alone_and_all_in_one_place_are_trained_with_the_same_plan(run, pool):
    finish(run, pool)
    ledger = open_ledger(run)
    results = run_baselines(ledger, pool=pool, say=silent)
    assert list(results) == [POOLED, "site-1", "site-2", "site-3"]
    before = {name: record_of(run / "baselines" / name) for name in results}
    assert run_baselines(ledger, pool=pool, say=silent) == results
    assert {name: record_of(run / "baselines" / name) for name in results} == before
    assert sum(site.num_cases for site in sites_of(ledger)) == 96
    pooled = open_ledger(run / "baselines" / POOLED)
    assert [seat.num_cases for seat in pooled.seats] == [96]
    pooled.close()
    ledger.close()


def test_baselines_that_are_interrupted_stop_at_once_and_go_on_as_if_they_had_not(
    run, tmp_path, pool
):
    finish(run, pool)
    ledger = open_ledger(run)
    own = WorkerPool(answer_request, num_workers=2)
    is_pressed = threading.Lock()

    def interrupt(event):
        if is_pressed.acquire(blocking=False):  # Ctrl-C, once, while threads wait for workers
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run_baselines(ledger, pool=own, say=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(EngineError):
        own.submit(b"", deadline_s=1)
    assert not half_files(run)
    results = run_baselines(ledger, pool=pool, say=silent)
    other = prepare(tmp_path / "other", tiny_plan())
    finish(other, pool)
    unbroken = open_ledger(other)
    assert results == run_baselines(unbroken, pool=pool, say=silent)
    for found in (ledger, unbroken):
        found.close()


def test_a_federation_of_one_has_no_pooled_baseline(tmp_path, pool):
    folder = prepare(tmp_path / "run", tiny_plan(quorum=1), num_sites=1)
    finish(folder, pool)
    ledger = open_ledger(folder)
    assert list(run_baselines(ledger, pool=pool, say=silent)) == ["site-1"]
    ledger.close()


def test_a_baseline_is_a_federation_of_one_in_whose_favour_things_differ():
    plan = tiny_plan()
    plan = replace(plan, algorithm=replace(plan.algorithm, name="fedprox", mu=0.1))
    pooled = baseline_plan(plan, num_sites=4)
    assert (pooled.algorithm.name, pooled.algorithm.mu, pooled.rounds.quorum) == ("fedavg", 0.0, 1)
    assert pooled.training.batch_size == 4 * plan.training.batch_size
    assert (pooled.rounds.count, pooled.seed) == (plan.rounds.count, plan.seed)


def test_a_baseline_of_fedadam_takes_the_coordinators_steps_itself():
    plan = template("xray-as-pooled")
    pooled = baseline_plan(plan, num_sites=5)
    assert pooled.total_steps == plan.total_steps == 2000
    assert (pooled.rounds.count, pooled.training.steps, pooled.evaluation.every) == (100, 20, 1)
    training = pooled.training
    assert (training.optimizer, training.lr, training.weight_decay) == ("adamw", 0.004, 0.05)
    assert (training.schedule, training.warmup, training.batch_size) == ("cosine", 0.05, 160)
    check_plan(pooled)


def test_scores_are_taken_in_the_rounds_that_the_plan_says(tmp_path, pool):
    plan = tiny_plan()
    plan = replace(
        plan,
        rounds=replace(plan.rounds, count=5),
        evaluation=replace(plan.evaluation, every=2),
    )
    folder = prepare(tmp_path / "run", plan)
    chosen = finish(folder, pool)
    rows = record_of(folder)["rounds"]
    measured = [row["round_number"] for row in rows if '"n"' in row["sums"]]
    assert measured == [1, 3, 5]
    assert [row["score"] is not None for row in rows] == [False, True, False, True, True]
    assert chosen.sums["n"][0] > 0
    ledger = open_ledger(folder)
    assert [point["round"] for point in curve(ledger, chosen)] == [0, 2, 4, 5]
    ledger.close()


def test_first_params_from_a_file_are_used_and_checked(tmp_path, pool):
    plan = tiny_plan()
    params = {name: array + 0.25 for name, array in trainer_for(plan).first_params().items()}
    with (tmp_path / "first.safetensors").open("wb") as file:
        digest = blob.write(file, params)

    def with_file(sha256, folder):
        model = replace(
            plan.model, init_file=str(tmp_path / "first.safetensors"), init_sha256=sha256
        )
        return prepare(tmp_path / folder, replace(plan, model=model))

    folder = with_file(digest, "good")
    finish(folder, pool)
    assert record_of(folder)["rounds"][0]["base_digest"] == digest
    again = WorkerPool(answer_request, num_workers=1)
    with pytest.raises(PlanError, match=digest):
        finish(with_file("0" * 64, "bad"), again)


def test_a_plug_in_file_that_changed_since_the_run_began_is_refused(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    plan = tiny_plan()
    assert plugin_of(plan, "").models == {}
    with pytest.raises(PluginError, match="changed since this run began"):
        plugin_of(replace(plan, plugin_sha256="0" * 64), str(path))


def _break(folder, site_id):
    """Take a site's cases away; return what brings them back."""
    index = folder / "data" / site_id / "cases.json"
    text = index.read_text()
    index.unlink()
    return lambda: index.write_text(text)
