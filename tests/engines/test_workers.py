import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import handlers
import pytest

from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import EngineError


@pytest.fixture(scope="module")
def pool():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "3")
        pool = WorkerPool(handlers.obey, num_workers=1)
        pool.prepare()
    yield pool
    pool.close()


def order(pool, what, deadline_s=60.0):
    return pool.submit(json.dumps(what).encode(), deadline_s=deadline_s)


def told(future):
    return json.loads(future.result(timeout=60))


def test_a_worker_has_one_thread_and_no_torch_unless_it_needs_it(pool):
    worker = told(order(pool, "tell"))
    assert worker["pid"] != os.getpid()
    assert worker["omp"] == "1"
    assert worker["threads"] == 0
    assert worker["modules"] == []


def test_the_clock_of_a_request_starts_when_a_worker_takes_it(pool):
    told(order(pool, "tell"))
    futures = [order(pool, 0.3, deadline_s=1.0) for _ in range(4)]
    assert len({told(future)["pid"] for future in futures}) == 1


def test_a_worker_that_hangs_is_killed_at_the_deadline_and_replaced(pool):
    pid = told(order(pool, "tell"))["pid"]
    future = order(pool, 600.0, deadline_s=0.3)
    with pytest.raises(TimeoutError):
        future.result(timeout=60)
    assert future.done()
    assert told(order(pool, "tell"))["pid"] != pid
    assert not _is_running(pid)


def test_a_worker_that_stands_still_delays_nobody_beyond_the_deadline(pool):
    """Neither while it works, nor when it does not even take the request from the pipe."""
    pid = told(order(pool, "tell"))["pid"]
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(json.dumps("x" * 1_000_000).encode(), deadline_s=0.5)
    with pytest.raises(TimeoutError):
        future.result(timeout=60)  # a peer system stood still for 657 s
    assert future.done()
    assert told(order(pool, "tell"))["pid"] != pid


def test_a_worker_that_dies_is_said_to_have_died_and_replaced(pool):
    with pytest.raises(WorkerDiedError, match="ended before it answered"):
        order(pool, "die").result(timeout=30)
    assert told(order(pool, "tell"))["pid"]


def test_a_worker_that_was_killed_while_idle_costs_no_request(pool):
    pid = told(order(pool, "tell"))["pid"]
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: not _is_running(pid))
    assert told(order(pool, "tell"))["pid"] != pid


def test_a_worker_leaves_ctrl_c_to_its_parent(pool):
    pid = told(order(pool, "tell"))["pid"]
    future = order(pool, 0.5)
    for _ in range(3):
        os.kill(pid, signal.SIGINT)
        time.sleep(0.05)
    assert told(future)["pid"] == pid


def test_closing_stops_what_is_done_and_what_waits_and_blames_no_site():
    pool = WorkerPool(handlers.obey, num_workers=1)
    pid = told(order(pool, "tell"))["pid"]
    futures = [order(pool, 600.0) for _ in range(3)]
    pool.close()
    pool.close()
    for future in futures:
        with pytest.raises(EngineError, match="resume"):
            future.result(timeout=0)
    assert not _is_running(pid)


@pytest.mark.parametrize("task", ["idle", "busy"])
def test_a_worker_is_gone_when_its_parent_was_killed(task, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("parent.py"), task, tmp_path / "pid"]
    )
    _wait_until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert _is_running(pid)
    parent.kill()
    parent.wait()
    _wait_until(lambda: not _is_running(pid))


def _is_running(pid: int) -> bool:
    process = Path("/proc", str(pid))
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        num_threads = len([*(process / "task").iterdir()])
    except OSError:
        return False
    return state != "Z" or num_threads > 1


def _wait_until(is_so, timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
