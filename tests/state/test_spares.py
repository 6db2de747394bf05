"""Files that are written over: only those that nobody else can see."""

import errno
import mmap
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.errors import StorageError
from hospitium.state import durable, spares
from hospitium.state.spares import Spares

OLD = b"old " * 2000

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is written over"),
    pytest.mark.usefixtures("of_any_size"),
]


@pytest.fixture
def of_any_size(monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)


@pytest.fixture
def kept(tmp_path):
    return Spares(tmp_path / "spares", most=2)


def old_file(folder, content=OLD):
    path = folder / "old"
    path.write_bytes(content)
    return path


@given(content=st.binary(max_size=3 * len(OLD)), size=st.integers(1, 2 * len(OLD)))
def test_a_file_written_over_is_as_if_it_were_new(tmp_path_factory, content, size):
    folder = tmp_path_factory.mktemp("over")
    kept, old = Spares(folder / "spares", most=1), old_file(folder, b"x" * size)
    number = old.stat().st_ino
    kept.keep(old)
    assert not old.exists()
    new = folder / "new"
    kept.keep(old)  # a name that is free already
    durable.write_atomically(new, lambda out: str(out.write(content)), take=kept.take)
    assert new.read_bytes() == content
    assert new.stat().st_ino == number
    assert not kept.take(folder / "another")


def hold_open(path):
    return path.open("rb")


def hold_mapped(path):
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def hold_for_writing(path):
    return path.open("r+b")


@pytest.mark.parametrize("hold", [hold_open, hold_mapped, hold_for_writing])
@pytest.mark.parametrize("since", ["before", "after"])
def test_what_is_open_or_mapped_elsewhere_is_never_written_over(kept, tmp_path, hold, since):
    old = old_file(tmp_path)
    holder = hold(old) if since == "before" else None
    kept.keep(old)
    [spare] = (tmp_path / "spares").iterdir()
    holder = holder or hold(spare)
    new = tmp_path / "new"
    durable.write_atomically(new, lambda out: str(out.write(b"new" * 9)), take=kept.take)
    assert new.read_bytes() == b"new" * 9
    assert holder.read(len(OLD)) == OLD
    holder.close()
    assert list((tmp_path / "spares").iterdir()) == []


def test_a_file_with_two_names_loses_one_and_keeps_its_bytes(kept, tmp_path):
    old = old_file(tmp_path)
    os.link(old, tmp_path / "other")
    kept.keep(old)
    assert not old.exists() and not kept.take(tmp_path / "new")
    assert (tmp_path / "other").read_bytes() == OLD


def test_a_second_name_that_a_spare_was_given_is_not_written_through(kept, tmp_path):
    kept.keep(old_file(tmp_path))
    [spare] = (tmp_path / "spares").iterdir()
    os.link(spare, tmp_path / "other")
    assert not kept.take(tmp_path / "new") and not (tmp_path / "new").exists()
    assert (tmp_path / "other").read_bytes() == OLD


def test_a_link_in_the_place_of_a_spare_leads_nowhere(kept, tmp_path):
    secret = old_file(tmp_path)
    (tmp_path / "spares").mkdir()
    (tmp_path / "spares" / "1.spare").symlink_to(secret)
    assert not kept.take(tmp_path / "new") and not (tmp_path / "new").exists()
    link = tmp_path / "link"
    link.symlink_to(secret)
    kept.keep(link)
    assert not link.is_symlink() and secret.read_bytes() == OLD


def test_no_more_are_kept_than_agreed_and_all_can_be_deleted(kept, tmp_path):
    for _ in range(4):
        kept.keep(old_file(tmp_path))
    assert len(list((tmp_path / "spares").iterdir())) == 2
    kept.clear()
    assert list((tmp_path / "spares").iterdir()) == []


def test_small_files_are_deleted(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", len(OLD) + 1)
    kept.keep(old_file(tmp_path))
    assert not (tmp_path / "old").exists() and not kept.take(tmp_path / "new")


def test_where_nobody_can_tell_who_has_a_file_open_it_is_deleted(kept, tmp_path, monkeypatch):
    kept.keep(old_file(tmp_path))
    monkeypatch.setattr(spares, "_can_tell", False)
    kept.keep(old_file(tmp_path))
    assert not (tmp_path / "old").exists() and not kept.take(tmp_path / "new")


def test_a_write_over_a_spare_that_fails_leaves_the_older_file_and_no_half_one(kept, tmp_path):
    new = tmp_path / "new"
    new.write_bytes(b"before")
    kept.keep(old_file(tmp_path))

    def fail(out):
        out.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="disk is full"):
        durable.write_atomically(new, fail, take=kept.take)
    assert new.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "spares"]
    assert list((tmp_path / "spares").iterdir()) == []


def test_on_another_file_system_a_file_is_deleted(kept, tmp_path, monkeypatch):
    old = old_file(tmp_path)

    def replace(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(type(old), "replace", replace)
    kept.keep(old)
    assert not old.exists() and not kept.take(tmp_path / "new")


def a_folder(place):
    place.mkdir()
    (place / "1.spare").mkdir()
    (place / "1.spare" / "inside").touch()


def a_file(place):
    place.touch()


def a_link_to_a_folder(place):
    other = place.with_name("other")
    other.mkdir()
    (other / "1.spare").write_bytes(OLD)
    place.symlink_to(other)


def a_pipe(place):
    place.mkdir()
    os.mkfifo(place / "1.spare")


@pytest.mark.parametrize("plant", [a_folder, a_file, a_link_to_a_folder, a_pipe])
def test_whatever_lies_in_the_place_of_spares_stops_nobody_and_is_left_alone(kept, tmp_path, plant):
    plant(tmp_path / "spares")
    before = sorted(path for path in tmp_path.rglob("*"))
    assert not kept.take(tmp_path / "new")
    kept.clear()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    kept.keep(old_file(tmp_path))
    assert not (tmp_path / "old").exists()
    assert not (tmp_path / "new").exists()
