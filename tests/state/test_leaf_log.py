"""A log only grows; a line is there before it counts; what is not what was written is noticed."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import steps_of

from hospitium.errors import CorruptedError, StorageError, TrustError
from hospitium.state import durable
from hospitium.state.leaf_log import FILE, LeafLog, Signer
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import open_checkpoint, site_origin
from hospitium.wire.merkle import MerkleTree, leaf_hash
from hospitium.wire.signing import SigningKey

KEY = SigningKey.from_bytes(b"k" * 32)
ORIGIN = site_origin("chest", "oslo")
SIGNER = Signer(origin=ORIGIN, key=lambda: KEY)


def entry(name):
    return {"kind": "update", "sha256": name}


def same(leaf):
    return leaf["sha256"]


def filled(folder, count=5, *, signer=SIGNER):
    log = LeafLog(folder, signer=signer, same=same)
    for n in range(count):
        assert log.append(entry(f"{n}")) == n
    return log


def lines_of(folder):
    return (folder / FILE).read_bytes().splitlines(keepends=True)


def test_an_entry_has_its_number_and_is_read_back_in_order(tmp_path):
    log = filled(tmp_path)
    before = ["", *(digest(line[:-1]) for line in lines_of(tmp_path))]
    assert [line.leaf for line in log.lines()] == [
        {**entry(f"{n}"), "n": n, "before": before[n]} for n in range(5)
    ]
    assert log.line(3).data == canonical_json({**entry("3"), "n": 3, "before": before[3]})


def test_the_root_is_that_of_the_entries(tmp_path):
    log, tree = filled(tmp_path), MerkleTree()
    for line in log.lines():
        tree.append(leaf_hash(line.data))
    assert (log.size, log.root(), log.root(3)) == (5, tree.root(), tree.root(3))


@pytest.mark.parametrize("again", [False, True])
def test_every_line_is_signed_together_with_all_before_it(tmp_path, again):
    log = filled(tmp_path)
    if again:
        log = LeafLog(tmp_path, signer=SIGNER)
    for n in range(5):
        found = open_checkpoint(log.checkpoint(n), KEY.public, origin=ORIGIN)
        assert (found.size, found.root) == (n + 1, log.root(n + 1))
    assert log.checkpoint() == log.checkpoint(4)


def test_a_log_without_a_key_has_lines_and_no_checkpoint(tmp_path):
    log = filled(tmp_path, signer=None)
    assert json.loads(lines_of(tmp_path)[0]) == {"leaf": {**entry("0"), "n": 0, "before": ""}}
    with pytest.raises(TrustError, match="was not signed"):
        log.checkpoint()


def test_the_same_entry_is_there_once_also_after_opening_again(tmp_path):
    assert filled(tmp_path).append(entry("2")) == 2
    assert LeafLog(tmp_path, signer=SIGNER, same=same).append(entry("4")) == 4
    assert len(lines_of(tmp_path)) == 5


def test_several_that_append_read_what_the_others_wrote(tmp_path):
    logs = [LeafLog(tmp_path, signer=SIGNER, same=same) for _ in range(3)]
    assert [logs[n % 3].append(entry(f"{n}")) for n in range(9)] == list(range(9))
    assert logs[0].append(entry("8")) == 8
    fresh = LeafLog(tmp_path, signer=SIGNER)
    assert fresh.size == 9
    open_checkpoint(fresh.checkpoint(), KEY.public, origin=ORIGIN)


APPENDING = """
import sys
from pathlib import Path
from hospitium.state.leaf_log import LeafLog
log = LeafLog(Path(sys.argv[1]))
for n in range(20):
    log.append({"kind": "update", "sha256": f"{sys.argv[2]}.{n}"})
"""


@pytest.mark.ci
def test_several_processes_append_at_once_and_nothing_is_lost(tmp_path):
    running = [
        subprocess.Popen([sys.executable, "-c", APPENDING, str(tmp_path), name]) for name in "abc"
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(line.leaf["sha256"] for line in LeafLog(tmp_path).lines()) == sorted(
        f"{name}.{n}" for name in "abc" for n in range(20)
    )


@settings(max_examples=12, deadline=None)
@given(count=st.integers(0, 4), cut=st.integers(0, 400))
def test_a_crash_in_the_middle_of_a_line_leaves_the_lines_before_it(tmp_path_factory, count, cut):
    folder = tmp_path_factory.mktemp("log")
    filled(folder, count + 1)
    whole = lines_of(folder)
    left = whole[-1][: min(cut, len(whole[-1]) - 1)]
    (folder / FILE).write_bytes(b"".join(whole[:-1]) + left)
    log = LeafLog(folder, signer=SIGNER, same=same)
    assert log.size == len(list(log.lines())) == count
    assert log.append(entry("next")) == count
    assert lines_of(folder)[:-1] == whole[:-1]
    assert LeafLog(folder, signer=SIGNER).size == count + 1


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("point", ["before append", "leaf appended", "leaf synced"])
def test_a_kill_at_any_point_leaves_one_entry_after_it_is_tried_again(tmp_path, monkeypatch, point):
    log = filled(tmp_path, 2)

    def kill(name):
        if name == point:
            raise Killed

    monkeypatch.setattr(durable, "on_write_point", kill)
    with pytest.raises(Killed):
        log.append(entry("new"))
    monkeypatch.setattr(durable, "on_write_point", None)
    again = LeafLog(tmp_path, signer=SIGNER, same=same)
    assert again.append(entry("new")) == 2
    assert [line.leaf["sha256"] for line in again.lines()] == ["0", "1", "new"]


def test_the_line_is_synced_before_the_append_returns(tmp_path, monkeypatch):
    log, synced, fsync = filled(tmp_path), [], os.fsync

    def watching(descriptor):
        synced.append((tmp_path / FILE).read_bytes().count(b"\n"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    log.append(entry("new"))
    assert synced == [6]


def test_a_full_disk_adds_nothing_and_the_next_append_goes_on(tmp_path, monkeypatch):
    log, fsync = filled(tmp_path), os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        log.append(entry("new"))
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(lines_of(tmp_path)) == 5
    assert log.append(entry("other")) == 5


def edited(lines):
    return [*lines[:1], lines[1].replace(b'"sha256":"1"', b'"sha256":"x"'), *lines[2:]]


def renumbered(lines):
    swapped = [*lines[:1], lines[2], lines[1], *lines[3:]]
    for old, new in ((b'"n":2', b'"n":9'), (b'"n":1', b'"n":2'), (b'"n":9', b'"n":1')):
        swapped = [line.replace(old, new) for line in swapped]
    return swapped


@pytest.mark.parametrize(
    "tamper",
    [
        edited,
        renumbered,
        lambda lines: [*lines[:1], *lines[2:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:2], lines[2].replace(b":", b": ", 1), *lines[3:]],
        lambda lines: [*lines[:2], b"nothing\n", *lines[3:]],
        lambda lines: [*lines[:4], b"[" * 100000 + b"\n"],
    ],
)
def test_nothing_is_appended_to_a_log_that_is_not_what_was_written(tmp_path, tamper):
    filled(tmp_path)
    (tmp_path / FILE).write_bytes(b"".join(tamper(lines_of(tmp_path))))
    with pytest.raises(CorruptedError, match="Keep the file as evidence"):
        LeafLog(tmp_path, signer=SIGNER)


def test_a_log_that_shrinks_under_a_running_process_is_noticed(tmp_path):
    log = filled(tmp_path)
    (tmp_path / FILE).write_bytes(b"".join(lines_of(tmp_path)[:3]))
    with pytest.raises(CorruptedError, match="taken away"):
        log.append(entry("new"))


def test_a_key_that_follows_another_goes_on_with_the_log(tmp_path):
    filled(tmp_path)
    following = SigningKey.from_bytes(b"f" * 32)
    log = LeafLog(tmp_path, signer=Signer(origin=ORIGIN, key=lambda: following), same=same)
    n = log.append(entry("new"))
    open_checkpoint(log.checkpoint(n), following.public, origin=ORIGIN)
    open_checkpoint(log.checkpoint(n - 1), KEY.public, origin=ORIGIN)


def test_what_is_no_statement_is_not_written(tmp_path):
    log = filled(tmp_path, 1)
    for value in (0.5, "line\nbreak", "Universitätsklinikum", None, 2**60):
        with pytest.raises(TrustError) as caught:
            log.append({"kind": "update", "sha256": "x", "field": value})
        assert caught.value.reason == "fields"
    assert log.size == len(lines_of(tmp_path)) == 1


def test_there_is_no_entry_that_was_not_appended(tmp_path):
    log = filled(tmp_path, 2)
    for n in (-1, 2):
        with pytest.raises(TrustError, match="There is no entry"):
            log.line(n)


@pytest.mark.skipif(os.name == "nt", reason="Windows has access lists instead")
def test_a_log_is_readable_by_its_user_alone(tmp_path):
    filled(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "log" / FILE).stat().st_mode & 0o777 == 0o600


def test_the_steps_to_open_a_log_grow_in_proportion_to_its_entries(tmp_path):
    log, steps = LeafLog(tmp_path, signer=SIGNER), []
    for _ in range(2):
        for n in range(100):
            log.append(entry(f"{log.size:060d}{n:04d}"))
        opened, number = steps_of(lambda: LeafLog(tmp_path, signer=SIGNER))
        steps.append(number)
        assert opened.size == log.size
    assert steps[0] < steps[1] < 2.2 * steps[0]
