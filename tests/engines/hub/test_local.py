import hashlib
import io
import os
import shutil
import sys
from dataclasses import replace

import pytest

from hospitium.engines.hub import local
from hospitium.engines.hub.local import LocalBackend
from hospitium.errors import StorageError, UpdateError
from hospitium.state import spares
from hospitium.state.hub_store import HubStore, OpenTask, StoredAnswer
from hospitium.state.unfinished import Shape
from hospitium.wire.canonical import digest
from hospitium.wire.sealing import RunKey, open_sealed, seal

KEY = RunKey.from_bytes(b"k" * 32)

NONCE, BLOB = "a" * 64, "b" * 64


def task(site_id):
    return OpenTask(
        run_id="r", site_id=site_id, nonce=NONCE, envelope=b"task", blob=BLOB, upload_bytes=9
    )


def answer(site_id):
    return StoredAnswer(
        run_id="r", site_id=site_id, nonce=NONCE, kind="update", statement=b"s",
        sha256="c" * 64, found="",
    )  # fmt: skip


def lost_while_open(folder):
    """Return a backend of two open tasks whose whole folder was just deleted, and the wakes."""
    model, woken = folder / "model", []
    model.write_bytes(b"params")
    backend = LocalBackend(folder / "hub")
    backend.enqueue([task("kiel"), task("oslo")], blob=model)
    backend.withdraw(NONCE, site_ids=["kiel"])
    backend.listen("oslo", lambda: woken.append("oslo"))
    shutil.rmtree(folder / "hub")
    return backend, woken


def test_a_folder_lost_while_open_is_made_anew_with_what_waits_for_an_answer_still(tmp_path):
    backend, woken = lost_while_open(tmp_path)
    [before] = backend.tasks("oslo", after=0)
    assert backend.answers(NONCE, after=0, wait_s=0) == []
    assert woken == ["oslo"]
    assert [one.envelope for one in backend.tasks("oslo", after=before.n)] == [b"task"]
    assert backend.tasks("kiel", after=0) == []
    assert backend.read(BLOB, start=0, size=99) == b"params"
    backend.close()


def test_after_a_loss_answers_are_taken_and_have_later_numbers(tmp_path):
    backend, _ = lost_while_open(tmp_path)
    before = backend.answer(answer("oslo"))  # into a file that nobody can open any more
    backend.answers(NONCE, after=before.n, wait_s=0)
    after = backend.answer(answer("oslo"))
    assert after.n > before.n
    assert backend.answers(NONCE, after=before.n, wait_s=0) == [after]
    backend.close()


def test_what_a_full_disk_stops_of_making_it_anew_is_made_the_next_time(tmp_path, monkeypatch):
    """Of each thing that is made anew the first try fails, and all of it is tried again."""
    backend, woken = lost_while_open(tmp_path)
    [before] = backend.tasks("oslo", after=0)
    shape = Shape(total_bytes=5, chunk_bytes=1 << 16)
    sha256 = hashlib.sha256(b"bytes").digest()
    refused = []

    def fails_once(where, name):
        real = getattr(where, name)

        def call(*args, **kwargs):
            if name not in refused:
                refused.append(name)
                raise StorageError("full")
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, call)

    fails_once(local, "HubStore")
    fails_once(local, "Uploads")
    fails_once(HubStore, "_begin_numbers")
    fails_once(HubStore, "put_tasks")
    for _ in range(4):
        with pytest.raises(StorageError):
            backend.answers(NONCE, after=0, wait_s=0)
    assert sorted(refused) == ["HubStore", "Uploads", "_begin_numbers", "put_tasks"]
    assert backend.answers(NONCE, after=0, wait_s=0) == [] and woken == ["oslo"]
    assert [one.envelope for one in backend.tasks("oslo", after=before.n)] == [b"task"]
    backend.put_chunk("oslo", sha256.hex(), shape, 0, [b"bytes"], sha256=sha256)
    assert backend.finish_upload("oslo", sha256.hex()) == sha256.hex()
    backend.close()


def test_another_file_in_the_place_of_the_hubs_counts_as_lost(tmp_path):
    backend, woken = lost_while_open(tmp_path)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hub.sqlite").touch()  # as one that was begun when the disk was full
    assert backend.answers(NONCE, after=0, wait_s=0) == [] and woken == ["oslo"]
    backend.close()


def ask(backend, nonce, *, size=9):
    """Put a task of its own for oslo."""
    model = backend.test_folder / f"model {nonce[0]}"
    model.write_bytes(nonce.encode())
    row = replace(task("oslo"), nonce=nonce, blob=nonce, upload_bytes=size)
    backend.enqueue([row], blob=model)


def handed_in(backend, nonce, data):
    """Have oslo hand in a file for a task of its own; return the stored answer."""
    size = len(data)
    ask(backend, nonce, size=size)
    found = hashlib.sha256(data).hexdigest()
    shape = Shape(total_bytes=size, chunk_bytes=1 << 16)
    for index in range(shape.num_chunks):
        piece = data[index << 16 : (index + 1) << 16]
        digest = hashlib.sha256(piece).digest()
        backend.put_chunk("oslo", found, shape, index, [piece], sha256=digest)
    assert backend.finish_upload("oslo", found) == found
    return backend.answer(replace(answer("oslo"), nonce=nonce, sha256=nonce, found=found))


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)
    backend = LocalBackend(tmp_path / "hub")
    backend.test_folder = tmp_path
    yield backend
    backend.close()


def sealed(content):
    target = io.BytesIO()
    seal(io.BytesIO(content), target, run_key=KEY.public, binding=digest(b"update"))
    return target.getvalue()


def test_an_update_is_written_over_one_of_an_earlier_round_that_nobody_can_open_any_more(backend):
    first = handed_in(backend, "1" * 64, sealed(b"a change" * 30_000))
    number = backend.received(first).stat().st_ino
    ask(backend, "2" * 64)
    assert not backend.received(first).exists()
    if sys.platform == "linux":
        [spare] = [path for path in backend.spares._all() if path.stat().st_ino == number]
        with spare.open("rb") as file, pytest.raises(UpdateError):
            open_sealed(file, key=KEY, binding=digest(b"update"))
    again = sealed(b"another" * 20_000)
    second = handed_in(backend, "3" * 64, again)
    assert backend.received(second).read_bytes() == again
    backend.forget("r")
    assert backend.spares._all() == []


def test_an_update_that_has_another_name_or_is_not_sealed_is_left_whole_or_deleted(
    backend, tmp_path
):
    data, plain = sealed(b"a change" * 9_000), b"not sealed" * 9_000
    stored = handed_in(backend, "1" * 64, data)
    os.link(backend.received(stored), tmp_path / "adopted")
    handed_in(backend, "2" * 64, plain)
    assert (tmp_path / "adopted").read_bytes() == data
    ask(backend, "3" * 64)
    assert all(plain[:99] not in path.read_bytes() for path in backend.spares._all())
