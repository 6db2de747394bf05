"""A site's answers: sealed once, kept until the coordinator has signed for them."""

import hashlib
import io
import json
import os
import sys
from dataclasses import replace

import pytest

from hospitium.engines.hub.answers import Answers
from hospitium.errors import CorruptedError, UpdateError
from hospitium.state import spares
from hospitium.types import Task, Update
from hospitium.wire.envelope import binding_of, decode_update, encode_update
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
ENVELOPE = encode_update(UPDATE, blob_digest="")
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


def keep(answers, name=b"task", *, key=KEY, content=CONTENT, **options):
    file = None
    if content is not None:
        name_of = f"{hashlib.sha256(content).hexdigest()}.safetensors"
        file = answers.outbox / ("x.unsealed" if key else name_of)
        file.write_bytes(content)
    run_key = key.public if key else ""
    made = answers.made(name, envelope=ENVELOPE, file=file, run_key=run_key)
    kept = replace(made, facts=FACTS)
    answers.keep(name, kept, task=task(**options), run_key=run_key)
    return kept


def opened(kept):
    file = io.BytesIO(kept.file.read_bytes())
    content, found = open_sealed(file, key=KEY, binding=binding_of(ENVELOPE))
    assert decode_update(kept.content) == (UPDATE, found)
    return bytes(content)


def files(answers):
    return sorted(path.suffix for path in answers.outbox.iterdir())


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
    assert kept.file.read_bytes() == CONTENT
    assert answers.find(b"task") == kept


def test_a_file_that_is_not_that_of_its_name_is_not_kept(tmp_path):
    """Else the record would say of what leaves what it is not: the process that trains may lie."""
    answers = Answers(tmp_path)
    file = answers.outbox / f"{hashlib.sha256(CONTENT).hexdigest()}.safetensors"
    file.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(UpdateError) as caught:
        answers.made(b"task", envelope=ENVELOPE, file=file)
    assert caught.value.reason == "blob_digest" and answers.find(b"task") is None
    assert list(answers.outbox.iterdir()) == [file]


def test_what_is_sealed_is_named_by_what_was_sealed_whatever_was_said_of_it(tmp_path):
    """The process that trains may lie: the agent itself hashes what it seals."""
    answers = Answers(tmp_path)
    file = answers.outbox / "x.unsealed"
    file.write_bytes(CONTENT)
    lie = encode_update(UPDATE, blob_digest="2" * 64)
    made = answers.made(b"task", envelope=lie, file=file, run_key=KEY.public)
    assert opened(made) == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_a_worker_left_is_not_followed(tmp_path):
    answers = Answers(tmp_path)
    secret, file = tmp_path / "key", answers.outbox / "x.unsealed"
    secret.write_bytes(CONTENT)
    for leave in (lambda: file.symlink_to(secret), lambda: os.mkfifo(file)):
        leave()
        with pytest.raises(UpdateError) as caught:
            answers.made(b"task", envelope=ENVELOPE, file=file, run_key=KEY.public)
        assert caught.value.reason == "header"
        assert secret.read_bytes() == CONTENT and list(answers.outbox.iterdir()) == [file]
        file.unlink()


def test_what_is_no_envelope_is_not_sealed(tmp_path):
    answers = Answers(tmp_path)
    file = answers.outbox / "x.unsealed"
    file.write_bytes(CONTENT)
    with pytest.raises(UpdateError):
        answers.made(b"task", envelope=b"{}", file=file, run_key=KEY.public)
    assert list(answers.outbox.iterdir()) == [file]


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
    left = [answers.outbox / "x.safetensors", answers.outbox / ".y.sealed.7.part"]
    for path in left:
        path.write_bytes(b"left behind")
    (damaged,) = (tmp_path / "answers").glob("*.json")
    fields = damaged.read_bytes()
    damaged.write_bytes(b"{")
    Answers(tmp_path)
    assert all(path.exists() for path in left)
    damaged.write_bytes(fields)
    assert Answers(tmp_path).find(b"task", run_key=KEY.public) == kept
    assert list(answers.outbox.iterdir()) == [kept.file]


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
    for name, key in ((b"sealed", KEY), (b"open", None)):
        keep(answers, name, key=key)
        answers.receipted(name, b"receipt")
    answers.delete_before("r", 2)
    of_agent = [path.read_bytes() for path in (tmp_path / "spares").glob("*.spare")]
    of_worker = [path.read_bytes() for path in (answers.outbox / "spares").glob("*.spare")]
    assert CONTENT not in of_agent
    if sys.platform == "linux":
        assert len(of_agent) == 1 and of_worker == [CONTENT]
