"""The contract of `hospitium.types.Engine`: every claim holds for every kind in `engines.KINDS`."""

import os
from dataclasses import replace
from pathlib import Path

import acts
import numpy as np
import pytest

from engines import KINDS, NUM_WORKERS
from hospitium.errors import EngineError
from hospitium.testing.fakes import first_params
from hospitium.types import LeftOut, Task, Update
from hospitium.wire.blob import digest_of

LONG_S = 60.0
SHORT_S = 1.5
TOO_SHORT_S = 0.5
"""A deadline that the site which is late never keeps; whether others do, no test asks."""

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
across_processes = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.crosses_processes], ids=lambda kind: kind.name
)


def task(round_number: int = 1) -> Task:
    params = {name: array + np.float32(round_number) for name, array in first_params().items()}
    return Task(
        run_id="r",
        round_number=round_number,
        plan_digest="0" * 64,
        params=params,
        base_digest=digest_of(params),
        max_norm=10.0,
    )


def three(second=acts.answer, **more):
    return {"site-1": acts.answer, "site-2": second, "site-3": acts.answer, **more}


def ask(engine, round_number=1, site_ids=("site-1", "site-2", "site-3"), deadline_s=LONG_S):
    answers = list(engine.ask(task(round_number), site_ids, deadline_s=deadline_s))
    assert len({answer.site_id for answer in answers}) == len(answers)
    return {answer.site_id: answer for answer in answers}


@pytest.fixture
def start(tmp_path):
    """Start an engine whose sites do what they are cast to do, and stop it afterwards."""
    started = []

    def start(kind, cast, *, alone=False):
        started.append(kind.start(tmp_path, cast, alone=alone))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


@every_kind
def test_every_site_that_is_asked_is_answered_for_once(kind, start):
    engine = start(kind, three())
    for round_number in (1, 2):
        answers = ask(engine, round_number)
        assert sorted(answers) == ["site-1", "site-2", "site-3"]
        assert all(isinstance(answer, Update) for answer in answers.values())


@every_kind
def test_an_update_arrives_as_it_was_sent(kind, start):
    update = ask(start(kind, three()), 2)["site-3"]
    asked = task(2)
    for name, array in acts.delta_of("site-3", asked.params, 2).items():
        np.testing.assert_array_equal(update.delta[name], array, strict=True)
    sent = acts.answer(acts.Scene(task=asked, site_id="site-3", place=Path()))
    assert replace(update, delta={}, path=None, train_s=0.0) == replace(sent, delta={})


@every_kind
def test_the_first_answer_arrives_before_the_last_site_is_done(kind, start, tmp_path):
    engine = start(kind, {"site-1": acts.answer, "site-2": acts.wait_for_word})
    answers = iter(engine.ask(task(), ["site-1", "site-2"], deadline_s=LONG_S))
    first = next(answers)
    assert isinstance(first, Update) and first.site_id == "site-1"
    (tmp_path / "go").touch()
    assert [type(answer) for answer in answers] == [Update]


@every_kind
def test_selected_are_all_sites_in_order(kind, start):
    engine = start(kind, {"site-2": acts.answer, "site-1": acts.answer})
    assert list(engine.select(round_number=1)) == ["site-1", "site-2"]


@every_kind
def test_a_site_that_is_not_asked_hears_nothing(kind, start, tmp_path):
    cast = dict.fromkeys(["site-1", "site-2", "site-3"], acts.answer_and_tell)
    answers = ask(start(kind, cast), site_ids=["site-1", "site-3"])
    assert sorted(answers) == ["site-1", "site-3"]
    assert sorted(path.name for path in tmp_path.glob("asked-*")) == [
        "asked-site-1-1",
        "asked-site-3-1",
    ]


@every_kind
def test_asking_nobody_yields_nothing(kind, start):
    assert ask(start(kind, three()), site_ids=[]) == {}


@every_kind
def test_a_site_that_the_engine_does_not_know_is_left_out(kind, start):
    answers = ask(start(kind, three()), site_ids=["site-1", "site-9"])
    assert isinstance(answers["site-1"], Update)
    assert isinstance(answers["site-9"], LeftOut) and answers["site-9"].reason


@every_kind
@pytest.mark.parametrize("act", [acts.fail, acts.fail_in_words, acts.fail_naming_a_patient])
def test_a_site_that_raises_is_left_out_without_a_word_that_is_not_public(kind, start, act):
    answers = ask(start(kind, three(act)))
    left_out = answers.pop("site-2")
    assert isinstance(left_out, LeftOut) and left_out.reason
    for secret in (acts.SECRET, "patients", "1.2.840", "MEIER", "Traceback", "File ", ".py"):
        assert secret not in left_out.reason
    assert all(isinstance(answer, Update) for answer in answers.values())


@every_kind
def test_a_site_that_raised_may_answer_in_the_next_round(kind, start):
    engine = start(kind, three(acts.fail))
    ask(engine)
    engine.close()
    assert isinstance(ask(start(kind, three()), 2)["site-2"], Update)


@every_kind
def test_a_round_that_is_given_up_halfway_leaves_the_engine_usable(kind, start):
    engine = start(kind, three())
    answers = iter(engine.ask(task(), ["site-1", "site-2", "site-3"], deadline_s=LONG_S))
    next(answers)
    answers.close()
    found = ask(engine, 2)
    assert {answer.round_number for answer in found.values()} == {2}
    assert len(found) == 3


@every_kind
def test_closing_twice_is_fine(kind, start):
    engine = start(kind, three(), alone=True)
    engine.close()
    engine.close()


@across_processes
@pytest.mark.timeout(100)  # the site hangs for an hour
def test_a_site_that_hangs_is_left_out_at_the_deadline_and_the_round_ends(kind, start):
    engine = start(kind, three(acts.hang_in_round_1))
    answers = ask(engine, deadline_s=SHORT_S)
    assert answers["site-2"] == LeftOut(site_id="site-2", reason="deadline")
    assert isinstance(answers["site-1"], Update) and isinstance(answers["site-3"], Update)
    assert isinstance(ask(engine, 2)["site-2"], Update)


@across_processes
def test_an_answer_that_comes_too_late_is_in_no_round(kind, start):
    cast = three(acts.late_in_round_1) | {"site-3": acts.slow_in_round_2}
    engine = start(kind, cast)
    assert ask(engine, deadline_s=TOO_SHORT_S)["site-2"].reason == "deadline"
    answers = ask(engine, 2)
    assert {site_id: answer.round_number for site_id, answer in answers.items()} == dict.fromkeys(
        answers, 2
    )
    for site_id, update in answers.items():
        assert update.delta["b"] == acts.delta_of(site_id, task(2).params, 2)["b"]


@across_processes
@pytest.mark.parametrize("act", [acts.exit_in_round_1, acts.killed_in_round_1])
def test_a_site_whose_process_dies_is_left_out_and_later_rounds_work(kind, start, act):
    engine = start(kind, three(act))
    answers = ask(engine)
    assert isinstance(answers["site-2"], LeftOut) and answers["site-2"].reason
    assert sum(isinstance(answer, Update) for answer in answers.values()) == 2
    assert all(isinstance(answer, Update) for answer in ask(engine, 2).values())


@across_processes
def test_a_round_in_which_every_process_dies_is_over_soon_and_the_next_one_works(kind, start):
    cast = {f"site-{index}": acts.killed_in_round_1 for index in range(1, NUM_WORKERS + 2)}
    engine = start(kind, cast)
    assert {type(answer) for answer in ask(engine, site_ids=sorted(cast)).values()} == {LeftOut}
    assert {type(answer) for answer in ask(engine, 2, site_ids=["site-1"]).values()} == {Update}


@across_processes
@pytest.mark.parametrize(
    ("act", "reason"), acts.GATE.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_what_the_gate_refuses_is_left_out_with_its_reason(kind, start, act, reason):
    answers = ask(start(kind, three(act)))
    assert answers["site-2"] == LeftOut(site_id="site-2", reason=reason)
    assert isinstance(answers["site-1"], Update) and isinstance(answers["site-3"], Update)


@across_processes
def test_after_closing_no_process_of_the_engine_is_left(kind, start):
    before = _children()
    engine = start(kind, three(), alone=True)
    ask(engine)
    engine.close()
    assert _children() <= before


@across_processes
def test_an_engine_that_was_closed_says_so_when_it_is_asked(kind, start):
    engine = start(kind, three(), alone=True)
    engine.close()
    with pytest.raises(EngineError, match="resume"):
        ask(engine)


def _children() -> set[int]:
    """Return the processes that this one has started, but for Python's own resource tracker."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and b"resource_tracker" not in command:
            found.add(int(folder.name))
    return found
