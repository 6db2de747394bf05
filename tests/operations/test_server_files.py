"""The coordinator's certificate: its own authority, one of its own, or a public one."""

import json
import ssl
import stat
from datetime import timedelta

import pytest
from carried import NAME, NOW, Federation

from hospitium.errors import UsageError
from hospitium.operations.coordinating import begin_federation, invite_site
from hospitium.operations.server_files import authority_of, server_files
from hospitium.state.home import Home
from hospitium.wire.certificates import is_good
from hospitium.wire.invites import read_invite

ADDRESS = ["https://hub.example.org:8443"]


def settings(home, name=NAME):
    path = home.folder / "coordinator" / name / "settings.json"
    return json.loads(path.read_bytes())


def test_by_default_an_authority_is_made_and_goes_with_the_invite(tmp_path):
    north = Federation(folder=tmp_path).begin(ADDRESS[0])
    home = north.coordinator
    invite = read_invite(north.invite("oslo").read_bytes(), now=NOW)
    assert invite.tls_ca == authority_of(home, now=NOW) == settings(home)["tls_ca"]
    certificate, key = server_files(home, ADDRESS, now=NOW)
    assert is_good(certificate.read_bytes(), ADDRESS, authority=invite.tls_ca.encode(), now=NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for path in (home.folder / "coordinator" / "_server").glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_certificate_stays_until_it_is_old_or_the_hosts_are_others(tmp_path):
    home = Home(tmp_path)
    first = server_files(home, ADDRESS, now=NOW)[0].read_bytes()
    assert server_files(home, ADDRESS, now=NOW + timedelta(days=30))[0].read_bytes() == first
    other = server_files(home, [*ADDRESS, "https://192.0.2.7"], now=NOW)[0].read_bytes()
    assert other != first
    later = NOW + timedelta(days=390)
    assert server_files(home, [*ADDRESS, "https://192.0.2.7"], now=later)[0].read_bytes() != other


def test_a_certificate_of_ones_own_is_served_and_its_ca_must_be_named(tmp_path):
    made = Home(tmp_path / "made")
    certificate, key = server_files(made, ADDRESS, now=NOW)
    home = Home(tmp_path / "home")
    given = {"addresses": ADDRESS, "now": NOW, "server": (certificate, key)}
    with pytest.raises(UsageError, match="--tls-ca, or --public-ca"):
        begin_federation(home, NAME, **given)
    with pytest.raises(UsageError, match="one of --tls-ca and --public-ca"):
        begin_federation(home, NAME, **given, tls_ca=certificate, is_public_ca=True)
    begin_federation(home, NAME, **given, is_public_ca=True)
    assert settings(home)["tls_ca"] == ""
    assert server_files(home, ADDRESS, now=NOW) == (certificate.resolve(), key.resolve())
    with pytest.raises(UsageError, match="needs a certificate and its key"):
        begin_federation(
            home, "south", addresses=ADDRESS, now=NOW, is_public_ca=True,
            server=(tmp_path / "nothing", key),
        )  # fmt: skip


def test_two_federations_of_a_home_have_one_authority(tmp_path):
    home = Home(tmp_path)
    for name in ("north", "south"):
        begin_federation(home, name, addresses=ADDRESS, now=NOW)
        invite_site(home, name, "oslo", out=tmp_path / f"{name}.invite", now=NOW)
    assert settings(home, "north")["tls_ca"] == settings(home, "south")["tls_ca"]
