import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from hospitium.errors import StorageError
from hospitium.state import durable


def put(text):
    return lambda file: str(file.write(text))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    durable.write_atomically(path, put(b"old and long"))
    assert durable.write_atomically(path, put(b"new")) == "3"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_of_those_who_write_once_one_wins_and_there_is_no_half_file(tmp_path):
    path = tmp_path / "file"
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: durable.write_once(path, b"%d" % n * 50), range(16)))
    assert found.count(True) == 1 and path.read_bytes() == b"%d" % found.index(True) * 50
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("point", ["before link"])
def test_a_crash_while_writing_once_leaves_nothing(tmp_path, monkeypatch, point):
    def crash(name):
        if name == point:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(durable, "on_write_point", crash)
    with pytest.raises(StorageError, match="disk is full"):
        durable.write_once(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_write_that_fails_halfway_leaves_the_old_file_and_no_half_one(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises((StorageError, KeyboardInterrupt)):
        durable.write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_half_files_are_swept_from_all_folders_below_and_nothing_else_is(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / ".77.part").touch()
    (tmp_path / ".x.safetensors.77.part").touch()
    (tmp_path / "a" / "kept.part.txt").touch()
    durable.sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept.part.txt"]
    durable.sweep(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "right to write"),
        (errno.EFBIG, "limit"),
        (errno.EIO, "Check the disk"),
    ],
)
def test_what_a_disk_says_becomes_a_way_out(tmp_path, number, way_out):
    error = durable.storage_error(tmp_path, OSError(number, os.strerror(number)))
    assert way_out in str(error)
    assert str(tmp_path) in str(error) and "intact" in str(error) and "resume" in str(error)
