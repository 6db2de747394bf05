import os
from pathlib import Path

import pytest

from hospitium.errors import KeyFileError, StateConflictError
from hospitium.site.keys import make_key, read_key

NAMES = {"purpose": "site-signing", "federation": "north"}
posix = pytest.mark.skipif(os.name != "posix", reason="modes and links as on Linux")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "signing.key"


def test_a_key_reads_back_the_same_and_is_this_users_alone(path):
    key = make_key(path, **NAMES)
    assert read_key(path, **NAMES).public == key.public
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == ["signing.key"]


def test_a_key_is_never_overwritten(path):
    key = make_key(path, **NAMES)
    with pytest.raises(StateConflictError):
        make_key(path, **NAMES)
    assert read_key(path, **NAMES).public == key.public


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_that_others_can_use_is_refused(path, mode):
    make_key(path, **NAMES)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}"):
        read_key(path, **NAMES)


@posix
def test_a_key_behind_a_link_is_refused(path):
    make_key(path, **NAMES)
    link = path.with_name("link.key")
    link.symlink_to(path)
    with pytest.raises(KeyFileError):
        read_key(link, **NAMES)


@posix
def test_a_folder_or_a_pipe_is_no_key(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="no plain file"):
        read_key(tmp_path / "pipe", **NAMES)
    with pytest.raises(KeyFileError):
        read_key(tmp_path, **NAMES)


@pytest.mark.parametrize(
    "others", [{"purpose": "site-request"}, {"purpose": "officer"}, {"federation": "south"}]
)
def test_a_key_has_one_purpose_in_one_federation(path, others):
    make_key(path, **NAMES)
    with pytest.raises(KeyFileError, match="was not made as"):
        read_key(path, **{**NAMES, **others})


def test_a_missing_key_is_said(path):
    with pytest.raises(KeyFileError, match="not used"):
        read_key(path, **NAMES)


def test_a_damaged_key_is_refused_without_showing_its_content(path):
    seed = make_key(path, **NAMES).to_bytes().hex()
    data = path.read_bytes()
    for damaged in (data[:-2], data + b" ", b"canary-secret", data.replace(b'"north"', b'"a b"')):
        path.write_bytes(damaged)
        with pytest.raises(KeyFileError) as error:
            read_key(path, **NAMES)
        assert error.value.__cause__ is None and error.value.__suppress_context__
        assert "canary" not in str(error.value) and seed not in str(error.value)


def test_the_folder_of_a_key_may_be_somebody_elses_to_choose(tmp_path):
    before = tmp_path.stat().st_mode
    make_key(Path(tmp_path) / "officer.key", purpose="officer", federation="north")
    assert tmp_path.stat().st_mode == before


@posix
def test_a_key_of_another_user_is_refused(path, monkeypatch):
    make_key(path, **NAMES)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(KeyFileError, match="another user"):
        read_key(path, **NAMES)
