import os
import stat

import pytest

from hospitium.errors import CorruptedError, UsageError
from hospitium.site.line import Line, keep_line, read_line

PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_nothing_said_is_no_proxy_and_no_bundle(tmp_path):
    assert read_line(tmp_path) == Line(proxy="", ca_bundle="")


def test_what_was_said_is_kept_and_the_rest_stays_as_it_was(tmp_path):
    (tmp_path / "proxy.pem").write_bytes(PEM)
    keep_line(tmp_path, proxy="http://proxy.oslo:3128")
    keep_line(tmp_path, ca_bundle=tmp_path / "proxy.pem")
    (tmp_path / "proxy.pem").unlink()
    found = read_line(tmp_path)
    assert found.proxy == "http://proxy.oslo:3128"
    assert (tmp_path / found.ca_bundle).read_bytes() == PEM
    assert keep_line(tmp_path, proxy="").proxy == ""


def test_a_login_of_a_file_is_put_in_and_never_shown(tmp_path):
    (tmp_path / "login").write_text("kari:p@ss/word\n")
    line = keep_line(tmp_path, proxy="http://proxy.oslo:3128", proxy_login=tmp_path / "login")
    assert line.proxy == "http://kari:p%40ss%2Fword@proxy.oslo:3128"
    assert line.proxy_shown == "http://proxy.oslo:3128" and "kari" not in repr(line)


@pytest.mark.skipif(os.name == "nt", reason="access lists do the same there")
def test_a_login_lies_with_the_keys_and_nobody_else_can_read_it(tmp_path):
    keep_line(tmp_path, proxy="http://kari:secret@proxy.oslo:3128")
    [path] = [p for p in tmp_path.rglob("*") if p.is_file() and b"secret" in p.read_bytes()]
    assert path.parent == tmp_path / "keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("address", ["proxy", "ftp://proxy:21", "http://", "http://proxy:x"])
def test_an_address_that_is_none_changes_nothing(tmp_path, address):
    keep_line(tmp_path, proxy="http://proxy.oslo:3128")
    with pytest.raises(UsageError, match="http://host:port"):
        keep_line(tmp_path, proxy=address)
    assert read_line(tmp_path).proxy == "http://proxy.oslo:3128"


def test_files_that_are_none_change_nothing(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for options in (
        {"ca_bundle": tmp_path / "empty"},
        {"ca_bundle": tmp_path / "missing"},
        {"proxy": "http://proxy:1", "proxy_login": tmp_path / "empty"},
    ):
        with pytest.raises(UsageError, match="Nothing was changed"):
            keep_line(tmp_path, **options)
    assert read_line(tmp_path) == Line()


def test_a_damaged_file_says_how_to_mend_it(tmp_path):
    keep_line(tmp_path, proxy="http://proxy.oslo:3128")
    (tmp_path / "keys" / "line.json").write_bytes(b"{")
    with pytest.raises(CorruptedError, match="site up --proxy"):
        read_line(tmp_path)
