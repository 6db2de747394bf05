import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import confined
import pytest
from test_workers import _is_running, _wait_until
from tiny import prepare, tiny_plan

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import SiteError
from hospitium.operations.running import open_ledger, sites_of
from hospitium.operations.site_answering import view_of
from hospitium.plan.schema import ModelSection
from hospitium.site.consent import REFUSALS
from hospitium.site.isolation import ALL, Limits, View
from hospitium.site.keys import make_key
from hospitium.state.home import Home
from hospitium.training import trainer_for
from hospitium.types import Task
from hospitium.wire.blob import digest_of
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import encode_task

pytestmark = pytest.mark.skipif(
    sys.platform != "linux"
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode != 0,
    reason="this kernel or container refuses user namespaces",
)
CANARY = "canary-4f1e"


@pytest.fixture
def pool_of():
    pools = []

    def make(handler=confined.obey, **options):
        pools.append(WorkerPool(handler, num_workers=1, isolated=True, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def order(pool, what, *, deadline_s=60.0, must_be_cut_off=False, **more):
    request = json.dumps({"do": what, **more}).encode()
    return pool.submit(request, deadline_s=deadline_s, must_be_cut_off=must_be_cut_off)


def told(future):
    return json.loads(future.result(timeout=60))


def test_a_pool_says_what_its_workers_found(pool_of):
    pool = pool_of(addresses=["https://hub.invalid/f", "http://127.0.0.1:9"])
    assert pool.isolation() == "not_tested"
    assert pool.prepare() == pool.isolation() == "cut_off"
    assert told(order(pool, "touch", path=os.devnull, must_be_cut_off=True)) is None


def test_a_worker_is_cut_off_before_the_handler_is_imported(pool_of):
    worker = told(order(pool_of(), "tell"))
    assert worker["at_import"] == {"network": worker["network"], "torch": False}
    assert worker["network"] != str(Path("/proc/self/ns/net").readlink())


def test_a_worker_inherits_no_secret_no_descriptor_and_no_terminal(pool_of, monkeypatch, tmp_path):
    for name in ("HTTPS_PROXY", "HOSPITIUM_HOME", "SITE_TOKEN", "HOME"):
        monkeypatch.setenv(name, CANARY)
    with (tmp_path / "open.key").open("w") as key:
        os.set_inheritable(key.fileno(), True)
        worker = told(order(pool_of(), "tell"))
    assert CANARY not in json.dumps(worker)
    descriptors = {int(number): path for number, path in worker["descriptors"].items()}
    assert [descriptors.pop(number) for number in (0, 1)] == [os.devnull] * 2
    descriptors.pop(2)
    assert all(path.startswith("pipe:") for path in descriptors.values()), descriptors
    assert len(descriptors) == 2
    assert worker["has_own_session"] and not worker["writes_bytecode"]


def test_a_task_that_needs_isolation_is_refused_where_there_is_none(tmp_path):
    pool = WorkerPool(confined.obey, num_workers=1)
    place = tmp_path / "was here"
    refused = order(pool, "touch", path=str(place), must_be_cut_off=True)
    with pytest.raises(SiteError) as caught:
        refused.result(timeout=60)
    assert caught.value.public == REFUSALS["isolation"] and not place.exists()
    told(order(pool, "touch", path=str(place)))
    assert place.exists() and pool.prepare() == "not_tested"
    pool.close()


def test_one_worker_that_could_get_out_is_not_forgotten(pool_of, tmp_path):
    """The folder cannot be hidden: it is not there yet when the worker starts, then it is."""
    pool = pool_of()
    assert pool.prepare() == "cut_off"
    seen = tmp_path / "keys"
    seen.mkdir()
    (seen / "a.key").write_text("x")
    (tmp_path / "link").symlink_to(seen)
    pool.show(View(hidden=(tmp_path / "missing", tmp_path / "link")))
    assert pool.prepare() == "not_cut_off"
    pool.show(ALL)
    assert pool.prepare() == "not_cut_off"


def test_folders_that_are_to_be_hidden_are_hidden_from_workers_that_are_there_too(
    pool_of, tmp_path
):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a.key").write_text("x")
    pool = pool_of()
    assert told(order(pool, "listed", folder=str(tmp_path / "keys"))) == ["a.key"]
    pool.show(View(hidden=(tmp_path / "keys",)))
    assert told(order(pool, "listed", folder=str(tmp_path / "keys"))) == []
    assert pool.isolation() == "cut_off"


def test_a_worker_beyond_its_memory_dies_and_the_next_task_is_answered(pool_of):
    pool = pool_of(limits=Limits(memory_gb=0.6))
    assert told(order(pool, "allocate", num_bytes=10**6)) == 10**6
    with pytest.raises(WorkerDiedError):
        told(order(pool, "allocate", num_bytes=10**9))
    assert told(order(pool, "allocate", num_bytes=10**6)) == 10**6


def test_a_task_beyond_the_memory_is_answered_with_closed_words(pool_of, tmp_path):
    pool = pool_of(limits=Limits(memory_gb=0.6))
    answer = told(order(pool, "answer_too_big", num_bytes=10**9, folder=str(tmp_path)))
    assert answer == {"error": "the site failed (MemoryError)"}
    assert "Unable to allocate" in (tmp_path / "site.log").read_text()


def test_the_sites_own_time_limit_holds_whatever_the_deadline_is(pool_of, tmp_path):
    path = tmp_path / "pid"
    for task_s in (1.0, 4.0, 16.0):  # on a busy machine it takes seconds until a worker works
        pool = pool_of(limits=Limits(task_s=task_s))
        started = time.monotonic()
        future = order(pool, "leave_a_child_and_hang", path=str(path))
        with pytest.raises(TimeoutError):
            future.result(timeout=60)
        assert future.done() and time.monotonic() - started >= task_s
        if path.exists():
            break
    child = int(path.read_text())
    _wait_until(lambda: not _is_running(child))


def test_a_reply_of_a_length_that_nobody_sends_ends_the_worker_not_the_agent(pool_of):
    pool = pool_of()
    with pytest.raises(WorkerDiedError):
        told(order(pool, "claim_a_huge_reply"))
    assert told(order(pool, "allocate", num_bytes=5)) == 5


@pytest.mark.parametrize("name", ["policy.toml", "answers/a.sealed", "answers/.a.part", "spares/1"])
def test_a_worker_can_put_nothing_where_the_agent_keeps_what_leaves(pool_of, tmp_path, name):
    place = tmp_path / "site" / "federations" / "north"
    work = place / "work"
    for folder in ("answers", "spares", "../keys", "outbox", "runs", "tmp"):
        (work / folder).mkdir(parents=True)
    (work / "site.log").touch()
    view = view_of(Home(tmp_path), work)
    assert sorted(path.name for path in view.writable) == ["outbox", "runs", "site.log", "tmp"]
    assert view.protected == (tmp_path, place, work) and view.hidden == (place / "keys",)
    pool = pool_of(view=view)
    assert pool.prepare() == "cut_off"
    for path in (work / "outbox" / "a", work / "runs" / "b", work / "site.log"):
        told(order(pool, "touch", path=str(path)))
    assert told(order(pool, "tell"))["temporary"] == str(work / "tmp")
    with pytest.raises(WorkerDiedError):
        told(order(pool, "touch", path=str(work / name)))
    assert not (work / name).exists() and (work / "site.log").read_text() == "x"


def test_a_federation_that_lies_elsewhere_is_protected_too(pool_of, tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "disk"
    (home / "site" / "federations").mkdir(parents=True)
    for folder in ("keys", "work"):
        (elsewhere / folder).mkdir(parents=True)
    (home / "site" / "federations" / "north").symlink_to(elsewhere)
    pool = pool_of(view=view_of(Home(home)))
    assert pool.prepare() == "cut_off"
    with pytest.raises(WorkerDiedError):
        told(order(pool, "touch", path=str(elsewhere / "policy.toml")))
    pool.show(View(protected=(elsewhere,), writable=(elsewhere,)))  # as where it cannot be done
    assert pool.prepare() == "not_cut_off"


# --- a real task at a site with real keys --------------------------------------------------------


@pytest.fixture
def site_of(tmp_path):
    """Return a function that makes a site and the request that asks it for training."""

    def make(plan):
        ledger = open_ledger(prepare(tmp_path / "run", plan))
        local = sites_of(ledger)[0]
        params = trainer_for(plan).first_params()
        digest = digest_of(params)
        ledger.store.put(params, digest=digest)
        task = Task(
            run_id="tiny",
            round_number=1,
            plan_digest=plan.digest,
            params=params,
            base_digest=digest,
            max_norm=10.0,
        )
        local.folder.mkdir(parents=True)
        request = {
            "task": base64.b64encode(encode_task(task)).decode(),
            "params": str(ledger.store.path(digest)),
            "outbox": str(local.folder / "outbox"),
            "plan": plan.as_dict(),
            "site_id": local.site_id,
            "cases": str(local.cases),
            "folder": str(local.folder),
            "num_cases": local.num_cases,
            "plugin": "",
        }
        ledger.close()
        return local, canonical_json(request)

    return make


@pytest.fixture
def site(site_of):
    return site_of(tiny_plan())


def contents(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_real_task_leaves_no_key_anywhere_and_writes_only_into_the_sites_folder(
    site, pool_of, tmp_path, monkeypatch
):
    local, request = site
    keys = tmp_path / "home" / "keys"
    key = make_key(keys / "site-signing.key", purpose="site-signing", federation="north")
    secrets = {key.to_bytes(), key.to_bytes().hex().encode(), base64.b64encode(key.to_bytes())}
    monkeypatch.setenv("HOSPITIUM_SITE_KEY", key.to_bytes().hex())
    before = contents(tmp_path)

    view = View(hidden=(keys,), protected=(tmp_path,), writable=(local.folder,))
    pool = pool_of(answer_request, view=view)
    reply = pool.submit(request, deadline_s=120, must_be_cut_off=True).result(timeout=120)
    assert "envelope" in json.loads(reply), (local.folder / "site.log").read_text()
    after = contents(tmp_path)

    assert {path: after.get(path) for path in before} == before
    written = set(after) - set(before)
    assert written and all(path.is_relative_to(local.folder) for path in written)
    seen = [reply, *(path.read_bytes() for path in written), *_of_processes(pool)]
    assert len(seen) > 3 + len(written)
    assert not any(secret in data for secret in secrets for data in seen)
    assert any(secret in (keys / "site-signing.key").read_bytes() for secret in secrets)


def _of_processes(pool):
    """Return what the kernel tells of this process's children: environment, arguments, files."""
    own = Path("/proc/self/task")
    pids = {pid for task in own.iterdir() for pid in (task / "children").read_text().split()}
    for pid in pids:
        process = Path("/proc") / pid
        yield (process / "environ").read_bytes()
        yield (process / "cmdline").read_bytes()
        for file in (process / "fd").iterdir():
            yield os.fsencode(file.readlink())


def test_cases_are_opened_for_reading_only(site, pool_of):
    local, request = site
    for path in local.cases.rglob("*"):
        path.chmod(0o400 if path.is_file() else 0o500)
    local.cases.chmod(0o500)
    reply = pool_of(answer_request).submit(request, deadline_s=120).result(timeout=120)
    local.cases.chmod(0o700)
    assert "envelope" in json.loads(reply)


@pytest.mark.ci
def test_torch_trains_to_the_same_bits_without_network_home_and_rights(site_of, pool_of):
    local, request = site_of(replace(tiny_plan(), model=ModelSection(name="small_cnn")))
    plain = WorkerPool(answer_request, num_workers=1)
    digests = []
    for pool in (plain, pool_of(answer_request, limits=Limits(memory_gb=8))):
        assert "envelope" in json.loads(pool.submit(request, deadline_s=300).result(timeout=300))
        digests.append({path.name for path in (local.folder / "outbox").iterdir()})
    plain.close()
    assert digests[0] == digests[1] and len(digests[0]) == 1
    assert pool.isolation() == "cut_off"
