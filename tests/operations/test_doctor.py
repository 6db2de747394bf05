"""What doctor finds without a network: the machine, the home folder, lists, policies, proxies."""

import os
import socket
import sys
import threading
from datetime import timedelta
from pathlib import PurePosixPath

import pytest
from carried import NAME, NOW, Federation

from hospitium.errors import UsageError
from hospitium.operations import doctor_hops as hops
from hospitium.operations import doctor_machine, doctor_site
from hospitium.operations.coordinating import revoke_site
from hospitium.operations.desks import existing
from hospitium.operations.doctor import is_centre
from hospitium.operations.doctor_checks import completed, failed, passed
from hospitium.operations.doctor_coordinator import check_coordinator, check_runs
from hospitium.operations.doctor_hops import HopError, Place, Proxy
from hospitium.operations.enrolment import joined
from hospitium.state.home import Home

posix = pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    federation = Federation(folder=tmp_path_factory.mktemp("north")).begin()
    federation.admit("oslo")
    federation.admit("bergen")
    return federation


def found(checks):
    return {check.name: check for check in checks}


def test_checks_behind_one_that_failed_say_which():
    made = [passed("a", "well"), failed("b", "broken", remedy="mend it", who="engineer")]
    later = completed(made, ("a", "b", "c"))
    assert [check.status for check in later] == ["PASS", "FAIL", "SKIP"]
    assert later[2].found == "not looked at: b failed"


# --- this machine --------------------------------------------------------------------------------


def test_the_package_is_as_delivered_and_whole():
    checks = found(doctor_machine.check_package("coordinator"))
    assert {name: check.status for name, check in checks.items()} == {
        "versions": "PASS", "packages": "PASS", "files": "PASS",
    }  # fmt: skip
    assert sys.version.split()[0] in checks["versions"].found


def test_a_package_that_is_missing_is_named(monkeypatch):
    wanted = ["fastapi>=0.1; extra == 'coordinator'", 'no-such-package>=1; extra == "coordinator"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    check = found(doctor_machine.check_package("coordinator"))["packages"]
    assert (check.status, check.found) == ("FAIL", "not installed: no-such-package")


@posix
@pytest.mark.parametrize(
    ("mode", "status"), [(0o700, "PASS"), (0o750, "WARN"), (0o770, "FAIL"), (0o777, "FAIL")]
)
def test_who_else_may_use_the_home_folder(tmp_path, mode, status):
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(mode)
    check = found(doctor_machine.check_home(Home(folder)))["home"]
    assert check.status == status
    assert status == "PASS" or "chmod 700" in check.remedy


def test_a_home_that_is_not_there_yet_is_well_and_stays_away(tmp_path):
    home = Home(tmp_path / "deep" / "home")
    assert {check.status for check in doctor_machine.check_home(home)} <= {"PASS", "WARN"}
    assert not (tmp_path / "deep").exists()


def test_the_innermost_mount_counts(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "40 22 0:50 / /srv/share\\040one rw shared:1 - nfs4 nas:/x rw\n"
        "41 40 8:2 / /srv/share\\040one/local rw - xfs /dev/sdb rw\n"
    )

    kinds = {"/srv": "ext4", "/srv/share one/a": "nfs4", "/srv/share one/local/b": "xfs"}
    for place, kind in kinds.items():
        assert doctor_machine.mounted_kind(PurePosixPath(place), table) == kind


def test_a_network_share_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "_file_system", lambda folder: "cifs")
    check = found(doctor_machine.check_home(Home(tmp_path)))["disk"]
    assert check.status == "FAIL" and "network share (cifs)" in check.found


@pytest.mark.parametrize(
    ("free", "status"), [(10**8, "FAIL"), (5 * 10**9, "WARN"), (10**11, "PASS")]
)
def test_free_space(tmp_path, monkeypatch, free, status):
    usage = type(doctor_machine.shutil.disk_usage(tmp_path))(free * 2, free, free)
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda place: usage)
    assert found(doctor_machine.check_home(Home(tmp_path)))["space"].status == status


def test_a_damaged_database_is_named_and_left_as_it_is(begun, tmp_path):
    home = Home(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    path = tmp_path / "runs" / "a" / "ledger.sqlite"
    path.write_bytes(b"SQLite format 3\x00" + b"\x07" * 4096)
    before = path.read_bytes()
    check = doctor_machine.check_databases(home)
    assert check.status == "FAIL" and "runs/a/ledger.sqlite" in check.found
    assert check_runs(home).status == "FAIL"
    assert path.read_bytes() == before
    assert doctor_machine.check_databases(begun.coordinator).status == "PASS"


def test_it_knows_a_coordinating_centre_from_a_site(begun, tmp_path):
    assert is_centre(begun.coordinator)
    assert not is_centre(begun.site("oslo")) and not is_centre(Home(tmp_path))
    with pytest.raises(UsageError, match="coordinating centre and no site"):
        joined(begun.coordinator, None)


# --- a federation at a site ----------------------------------------------------------------------


def test_a_member_with_a_complete_policy_is_well(begun):
    checks = found(doctor_site.check_membership(begun.place("oslo"), now=NOW))
    assert {check.status for check in checks.values()} == {"PASS"}
    assert set(checks) == {"keys", "member list", "policy", "work"}


@pytest.mark.parametrize(
    ("days", "status"), [(0, "PASS"), (340, "WARN"), (364, "WARN"), (367, "FAIL")]
)
def test_a_list_that_ends_soon_or_has_ended(begun, days, status):
    now = NOW + timedelta(days=days)
    checks = found(doctor_site.check_membership(begun.place("oslo"), now=now))
    assert checks["member list"].status == status


def test_an_agreement_that_has_ended_is_for_the_approver(begun):
    path = begun.place("bergen").folder / "policy.toml"
    path.write_text(path.read_text().replace("2999-12-31", "2020-12-31"))
    check = found(doctor_site.check_membership(begun.place("bergen"), now=NOW))["policy"]
    assert (check.status, check.who) == ("FAIL", "approver")
    assert "ended on 2020-12-31" in check.found


@posix
def test_a_key_that_others_can_read_fails(tmp_path):
    federation = Federation(folder=tmp_path).begin()
    federation.admit("oslo")
    place = federation.place("oslo")
    for path in (place.folder / "keys").rglob("*.key"):
        path.chmod(0o644)
    checks = found(doctor_site.check_membership(place, now=NOW))
    assert checks["keys"].status == "FAIL" and "mode 0644" in checks["keys"].found


def test_a_site_off_its_own_list_and_a_paused_one(tmp_path):
    federation = Federation(folder=tmp_path).begin()
    federation.admit("oslo")
    place = federation.place("oslo")
    place.pause()
    revoke_site(federation.coordinator, NAME, "oslo", now=NOW)
    federation.carry("oslo")
    checks = found(doctor_site.check_membership(place, now=NOW))
    assert checks["member list"].status == "FAIL"
    assert checks["member list"].who == "coordinating centre"
    assert checks["work"].status == "WARN"


# --- the coordinating centre ---------------------------------------------------------------------


def test_the_centre_is_told_of_the_officers_key_and_of_whom_a_plan_waits_for(begun, monkeypatch):
    monkeypatch.setattr(hops, "connect", refuse)
    begun.offer("oslo")
    desk = existing(begun.coordinator, NAME)
    checks = found(check_coordinator(begun.coordinator, desk, now=NOW))
    assert checks["officer"].status == "WARN"
    assert checks["port"].status in ("WARN", "FAIL") and "443" in checks["port"].found
    assert checks["sites"].status == "WARN"
    assert "waits for bergen, oslo" in checks["sites"].found
    assert checks["room"].status in ("PASS", "WARN") and "2 sites" in checks["room"].found


def refuse(place, *, timeout_s):
    raise HopError("refused", "the connection was refused")


# --- proxies -------------------------------------------------------------------------------------

URL = "https://hub.example.org/north"


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_settings_come_before_the_environment(no_proxies, monkeypatch):
    assert hops.find_proxy(URL, setting="") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://env.example:3128")
    proxy = hops.find_proxy(URL, setting="")
    assert (str(proxy.place), proxy.said_by) == ("env.example:3128", "the environment")
    proxy = hops.find_proxy(URL, setting="http://u:p%40ss@set.example:8080")
    assert (str(proxy.place), proxy.said_by) == ("set.example:8080", "the settings")
    assert proxy.login == "u:p@ss" and "p@ss" not in proxy.said_by
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert hops.find_proxy(URL, setting="") is None


def test_a_proxy_that_names_no_host_is_an_error(no_proxies):
    with pytest.raises(ValueError, match="names no host"):
        hops.find_proxy(URL, setting="http://")


@pytest.mark.parametrize(
    ("answer", "status", "text", "logins"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, "OK", ()),
        (
            b"HTTP/1.0 403 Forbidden\r\n\r\n<html><style>x{}</style><p>Blocked&nbsp;by <b>IT</b>",
            403, "Forbidden: Blocked by IT", (),
        ),
        (
            b"HTTP/1.1 407 Login\r\nproxy-authenticate: NTLM\r\nProxy-Authenticate: Negotiate x\r\n"
            b"Proxy-Authenticate:\r\n\r\n",
            407, "Login", ("NTLM", "Negotiate"),
        ),
    ],
)  # fmt: skip
def test_what_a_proxy_answers_is_read(answer, status, text, logins):
    tunnel = asked(answer)
    assert (tunnel.status, tunnel.text, tunnel.logins) == (status, text, logins)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 2\r\n\r\n"])
def test_what_is_no_proxy_is_called_so(answer):
    with pytest.raises(HopError) as error:
        asked(answer)
    assert error.value.kind == "closed"


def asked(answer):
    near, far = socket.socketpair()
    proxy = Proxy(place=Place(host="p", port=1), scheme="http", login="u:p", said_by="the settings")
    with near, far:
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        reader = threading.Thread(target=far.recv, args=(4096,))
        reader.start()
        try:
            return hops.ask_tunnel(near, proxy, Place(host="hub.example.org", port=443))
        finally:
            reader.join()
