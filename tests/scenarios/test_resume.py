import os
from pathlib import Path

import numpy as np
import pytest
from runs import create, go_on, sites_by_name, small_plan

from hospitium.errors import StorageError
from hospitium.state import durable
from hospitium.state.ledger import RunLedger


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.ci)])
def unbroken(request, tmp_path_factory):
    """Return state, record and write points of a run, and the plan that it had."""
    folder, plan, points = tmp_path_factory.mktemp("unbroken"), small_plan(rounds=request.param), []
    create(folder, plan)
    durable.on_write_point = points.append
    state, record = go_on(folder)
    durable.on_write_point = None
    return state, record, points, plan


def test_the_write_points_of_a_run_are_many_and_of_every_kind(unbroken):
    points = unbroken[2]
    assert len(points) > 50
    assert {"before write", "before rename", "after rename", "before delete"} <= set(points)
    for name in ("opened", "received", "closed", "finished"):
        assert {f"before commit: {name}", f"after commit: {name}"} <= set(points)


def test_a_run_killed_at_any_write_point_ends_as_an_unbroken_one(unbroken, tmp_path):
    state, record, points, plan = unbroken
    for index in range(len(points)):
        folder = tmp_path / str(index)
        create(folder, plan)
        assert _die_at(index, folder) == 137, points[index]
        resumed, resumed_record = go_on(folder)
        assert resumed_record == record, (index, points[index])
        for name, array in state.params.items():
            np.testing.assert_array_equal(resumed.params[name], array)


def test_a_disk_that_fails_at_any_write_point_loses_nothing(unbroken, tmp_path):
    _, record, points, plan = unbroken
    for index, point in enumerate(points):
        if point.startswith("after"):
            continue
        folder = tmp_path / str(index)
        create(folder, plan)
        durable.on_write_point = _raise_at(index, OSError(28, "No space left on device"))
        try:
            with pytest.raises(StorageError, match="disk is full"):
                go_on(folder)
        finally:
            durable.on_write_point = None
        assert not list(folder.glob("store/*.part"))
        assert go_on(folder)[1] == record, (index, points[index])


def test_sites_that_had_answered_before_the_crash_are_not_asked_again(tmp_path):
    create(tmp_path, small_plan(rounds=3))
    points = ["after commit: received"]
    assert _die_at_named(points[0], tmp_path) == 137
    asked = []

    def remembering(site):
        def answer(task):
            asked.append((task.round_number, site.site_id))
            return site(task)

        return answer

    go_on(tmp_path, {name: remembering(site) for name, site in sites_by_name().items()})
    assert (1, "site-1") not in asked
    assert (1, "site-2") in asked and (2, "site-1") in asked


def test_updates_are_deleted_when_their_round_closes_and_the_best_params_are_kept(tmp_path):
    create(tmp_path, small_plan(rounds=6))
    _, record = go_on(tmp_path)
    closed = {r["round_number"]: r for r in record["rounds"]}
    kept = {closed[n]["params_digest"] for n in (5, 6)}
    ledger = RunLedger(tmp_path)
    kept.add(closed[ledger.best_round()]["params_digest"])
    assert kept <= set(record["blobs"])
    updates = {seat["digest"] for seat in record["seats"]}
    assert not updates & set(record["blobs"])
    assert len(record["blobs"]) <= 6  # params and their running average, of at most 3 rounds


def _die_at(index: int, folder: Path) -> int:
    """Run in a child that is gone at the write point of this number; return its exit status."""
    child = os.fork()
    if child == 0:  # os._exit: nothing is flushed, closed or rolled back
        durable.on_write_point = _exit_at(index)
        try:
            go_on(folder)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at_named(name: str, folder: Path) -> int:
    child = os.fork()
    if child == 0:
        durable.on_write_point = lambda point: os._exit(137) if point == name else None
        try:
            go_on(folder)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _exit_at(index: int):
    seen = iter(range(1 << 30))
    return lambda _: os._exit(137) if next(seen) == index else None


def _raise_at(index: int, error: OSError):
    seen = iter(range(1 << 30))

    def point(_: str) -> None:
        if next(seen) == index:
            raise error

    return point
