import os
import stat

import pytest

from hospitium.engines.hub.run_keys import FILE, delete_run_key, run_key
from hospitium.errors import KeyFileError

POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has access lists instead of modes")


def test_a_run_has_one_key_until_it_is_deleted(tmp_path):
    first = run_key(tmp_path)
    assert run_key(tmp_path).public == first.public
    delete_run_key(tmp_path)
    delete_run_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert run_key(tmp_path).public != first.public


@POSIX
def test_nobody_else_can_read_it(tmp_path):
    run_key(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(KeyFileError, match="0640"):
        run_key(tmp_path)


@POSIX
def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    run_key(tmp_path / "a")
    (tmp_path / FILE).symlink_to(tmp_path / "a" / FILE)
    with pytest.raises(KeyFileError, match="not used"):
        run_key(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"00", b"x" * 64, "ø".encode(), b"0" * 200])
def test_a_damaged_key_is_refused_without_showing_it(tmp_path, damage):
    run_key(tmp_path)
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(KeyFileError, match="damaged") as caught:
        run_key(tmp_path)
    assert "x" * 64 not in str(caught.value) and caught.value.__cause__ is None
