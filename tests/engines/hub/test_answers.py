"""A site's answers: sealed once, kept until the coordinator has signed for them."""

import errno
import hashlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hospitium.engines.hub.answers import PLAIN, SEALED, Answers
from hospitium.errors import CorruptedError, StorageError, UpdateError
from hospitium.state import spares
from hospitium.types import Task, Update
from hospitium.wire.envelope import binding_of, decode_update
from hospitium.wire.sealing import RunKey, open_sealed

KEY, OTHER = RunKey.from_bytes(b"k" * 32), RunKey.from_bytes(b"o" * 32)
CONTENT = b"a change" * 1000
UPDATE = Update(
    run_id="r",
    round_number=1,
    site_id="oslo",
    plan_digest="0" * 64,
    base_digest="1" * 64,
    num_cases=7,
    delta={},
)
FACTS = {"run_id": "r", "sums": ["n"]}


def task(round_number=1, run_id="r"):
    return Task(
        run_id=run_id,
        round_number=round_number,
        plan_digest="0" * 64,
        params={},
        base_digest="1" * 64,
        max_norm=1.0,
    )


def written(answers, content=CONTENT):
    path = answers.outbox / "x.unsealed"
    path.write_bytes(content)
    return path


def made(answers, name, path, *, run_key=""):
    with answers.opened(path) as file:
        return answers.made(name, update=UPDATE, change=file, run_key=run_key)


def keep(answers, name=b"task", *, key=KEY, content=CONTENT, **options):
    path = answers.outbox / "none" if content is None else written(answers, content)
    run_key = key.public if key else ""
    kept = replace(made(answers, name, path, run_key=run_key), facts=FACTS)
    answers.keep(name, kept, task=task(**options), run_key=run_key)
    answers.let_go(path)
    return kept


def opened(kept):
    file = io.BytesIO(kept.file.read_bytes())
    content, found = open_sealed(file, key=KEY, binding=binding_of(UPDATE))
    assert decode_update(kept.content) == (UPDATE, found)
    return bytes(content)


def files(answers):
    assert not [path for path in answers.outbox.iterdir() if not path.is_dir()]
    names = (answers.outbox.parent / "answers").iterdir()
    return sorted(path.suffix for path in names if path.suffix in (PLAIN, SEALED))


def test_a_change_is_sealed_once_and_only_the_sealed_file_is_kept(tmp_path):
    answers = Answers(tmp_path)
    kept = keep(answers)
    data = kept.file.read_bytes()
    assert kept.sealed == kept.sha256 == hashlib.sha256(data).hexdigest()
    assert files(answers) == [".sealed"]
    assert opened(kept) == CONTENT
    assert Answers(tmp_path).find(b"task", run_key=KEY.public) == kept
    assert kept.file.read_bytes() == data


def test_without_a_run_key_the_change_leaves_as_it_is(tmp_path):
    answers = Answers(tmp_path)
    kept = keep(answers, key=None)
    assert kept.sealed == "" and kept.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert decode_update(kept.content) == (UPDATE, kept.sha256)
    assert kept.file.read_bytes() == CONTENT and files(answers) == [".safetensors"]
    assert answers.find(b"task") == kept


def test_what_leaves_is_no_file_that_a_worker_could_have_open_still(tmp_path):
    answers = Answers(tmp_path)
    for name, key in ((b"sealed", KEY), (b"as it is", None)):
        path = written(answers)
        with path.open("r+b") as still_open:
            kept = made(answers, name, path, run_key=key.public if key else "")
            data = kept.file.read_bytes()
            still_open.write(b"changed later")
        assert not kept.file.samefile(path) and kept.file.read_bytes() == data
        assert kept.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_only_a_plain_file_is_opened(tmp_path):
    answers = Answers(tmp_path)
    secret, path = tmp_path / "key", answers.outbox / "x.unsealed"
    secret.write_bytes(CONTENT)
    for leave in (lambda: path.symlink_to(secret), lambda: os.mkfifo(path), path.mkdir):
        leave()
        with pytest.raises(UpdateError) as caught, answers.opened(path):
            pass
        assert caught.value.reason == "header"
        answers.let_go(path)
        assert secret.read_bytes() == CONTENT
        if path.is_dir():
            path.rmdir()
        assert not os.path.lexists(path)


def test_what_is_not_there_is_none(tmp_path):
    with Answers(tmp_path).opened(tmp_path / "outbox" / "x.unsealed") as file:
        assert file is None


def test_an_outbox_that_a_worker_closed_is_no_harm(tmp_path, monkeypatch):
    answers = Answers(tmp_path)
    kept, path = keep(answers), written(answers)
    (answers.outbox / "spares").mkdir()

    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "closed")

    with monkeypatch.context() as patch:  # for root no folder is closed
        patch.setattr(os, "scandir", refuse)
        patch.setattr(os, "listdir", refuse)
        with pytest.raises(PermissionError):
            list(answers.outbox.iterdir())
        answers.let_go(path)
        patch.setattr(os, "open", refuse)
        with pytest.raises(UpdateError), answers.opened(path):
            pass
    outbox = answers.outbox
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda it: refuse() if it == outbox else listed(it))
    assert Answers(tmp_path).find(b"task", run_key=KEY.public) == kept


def test_a_disk_that_refuses_is_no_reason_to_lose_an_answer(tmp_path, monkeypatch):
    answers = Answers(tmp_path)
    path = written(answers)

    def refuse(path):
        raise StorageError("the disk is full")

    monkeypatch.setattr(answers._written, "keep", refuse)
    answers.let_go(path)
    assert path.exists()


def test_a_key_to_which_nothing_can_be_sealed_leaves_no_sealed_file(tmp_path):
    answers = Answers(tmp_path)
    with pytest.raises(UpdateError):
        made(answers, b"task", written(answers), run_key="0" * 64)
    assert not [*(tmp_path / "answers").iterdir()]


@pytest.mark.parametrize(("kept_for", "asked_for"), [(KEY, OTHER), (KEY, None), (None, KEY)])
def test_an_answer_for_another_key_counts_as_none(tmp_path, kept_for, asked_for):
    answers = Answers(tmp_path)
    keep(answers, key=kept_for)
    assert answers.find(b"task", run_key=asked_for.public if asked_for else "") is None


def test_an_answer_without_a_file_fits_every_key(tmp_path):
    answers = Answers(tmp_path)
    kept = keep(answers, content=None)
    assert kept.file is None and kept.sealed == ""
    assert answers.find(b"task", run_key=OTHER.public) == kept
    assert answers.find(b"another task", run_key=OTHER.public) is None


def test_an_answer_whose_file_is_gone_counts_as_none(tmp_path):
    answers = Answers(tmp_path)
    keep(answers).file.unlink()
    assert answers.find(b"task", run_key=KEY.public) is None


def test_the_same_change_for_two_tasks_is_two_sealed_files(tmp_path):
    answers = Answers(tmp_path)
    first, second = keep(answers, b"one"), keep(answers, b"two")
    assert first.file != second.file
    assert hashlib.sha256(first.file.read_bytes()).hexdigest() == first.sha256


def test_answers_stay_until_there_is_a_receipt_and_a_later_round(tmp_path):
    answers = Answers(tmp_path)
    keep(answers, b"one")
    keep(answers, b"other run", run_id="q")
    answers.delete_before("r", 2)
    assert files(answers) == [".sealed"] * 2
    for name in (b"one", b"other run", b"an error, which is not kept"):
        answers.receipted(name, b"receipt")
    answers.delete_before("r", 1)
    assert files(answers) == [".sealed"] * 2
    answers.delete_before("r", 2)
    assert files(answers) == [".sealed"]
    assert answers.find(b"one", run_key=KEY.public) is None
    assert answers.find(b"other run", run_key=KEY.public) is not None


def test_what_an_interrupted_answer_left_behind_goes_at_the_next_start(tmp_path):
    answers = Answers(tmp_path)
    kept = keep(answers)
    folder = tmp_path / "answers"
    left = [folder / "x.safetensors", folder / "y.sealed"]
    gone = [folder / ".y.sealed.7.part", answers.outbox / "z.unsealed"]
    for path in [*left, *gone]:
        path.write_bytes(b"left behind")
    (damaged,) = (tmp_path / "answers").glob("*.json")
    fields = damaged.read_bytes()
    damaged.write_bytes(b"{")
    Answers(tmp_path)
    assert all(path.exists() for path in left) and not any(path.exists() for path in gone)
    damaged.write_bytes(fields)
    assert Answers(tmp_path).find(b"task", run_key=KEY.public) == kept
    assert {path.name for path in folder.iterdir()} == {damaged.name, kept.file.name}
    assert files(answers) == [".sealed"]


def test_an_answer_that_cannot_be_read_is_said_and_left(tmp_path):
    answers = Answers(tmp_path)
    keep(answers)
    (path,) = (tmp_path / "answers").glob("*.json")
    for damage in (b"{", json.dumps({"run_id": "r"}).encode(), b"[]"):
        path.write_bytes(damage)
        with pytest.raises(CorruptedError, match="left as it is"):
            answers.find(b"task", run_key=KEY.public)
        assert path.read_bytes() == damage


def test_the_next_answer_is_written_over_files_that_are_needed_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)
    answers = Answers(tmp_path)
    first = keep(answers, b"one")
    number = first.file.stat().st_ino
    answers.receipted(b"one", b"receipt")
    answers.delete_before("r", 2)
    second = keep(answers, b"two", content=b"another change", round_number=2)
    if sys.platform == "linux":
        assert second.file.stat().st_ino == number
    assert opened(second) == b"another change"
    Answers(tmp_path)
    assert not [*tmp_path.rglob("*.spare")]


def test_what_a_worker_wrote_is_never_written_over_by_the_agent(tmp_path, monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)
    answers = Answers(tmp_path)
    made_by_worker = set()
    for name, key in ((b"sealed", KEY), (b"open", None)):
        made_by_worker.add(written(answers).stat().st_ino)
        keep(answers, name, key=key)
        answers.receipted(name, b"receipt")
    answers.delete_before("r", 2)
    of_agent, of_worker = (
        {path.stat().st_ino for path in (folder / "spares").glob("*.spare")}
        for folder in (tmp_path, answers.outbox)
    )
    assert not of_agent & made_by_worker
    if sys.platform == "linux":
        assert len(of_agent) == 2 and len(of_worker) == 1
