"""Planted faults of the network: each is named by exactly the check that it is a matter of."""

import re
import socket
from datetime import UTC, datetime, timedelta

import pytest
from carried import NAME
from doctored import SITE, Doctored, free_port
from faulty_proxy import Fault, FaultyProxy

from hospitium.operations.coordinating import revoke_site
from hospitium.operations.doctor_way import NETWORK

pytestmark = pytest.mark.ci


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = Doctored(folder=tmp_path)
    yield made
    made.stop()


def trouble(checks):
    """Return the checks of the network that do not pass; who is silent is out of scope."""
    assert list(checks) == list(NETWORK)
    wrong = {name: check.status for name, check in checks.items()}
    wrong = {name: status for name, status in wrong.items() if status in ("WARN", "FAIL")}
    if wrong.get("standing") == "WARN":  # no agent runs here
        assert "the last signed heartbeat came never" in checks["standing"].found
        del wrong["standing"]
    return wrong


def only(checks, name, status="FAIL"):
    """Return the one check that is wrong; those behind one that failed were not made."""
    assert trouble(checks) == {name: status}, checks
    found = checks[name]
    assert found.remedy and found.who
    if status == "FAIL" and name not in ("clock", "payload"):
        behind = NETWORK[NETWORK.index(name) + 1 :]
        assert {checks[later].status for later in behind} <= {"SKIP"}
        assert all(f"{name} failed" in checks[later].found for later in behind)
    return found


def test_nothing_is_wrong_where_nothing_is(site):
    checks = site.serve().examine()
    assert trouble(checks) == {}
    assert [n for n in NETWORK if checks[n].status == "SKIP"] == ["connect", "idle"]
    assert "TLSv1.3, issued by Centre of the north as the invite says" in checks["tls"].found
    assert {check.status for check in checks.values()} <= {"PASS", "WARN", "SKIP"}


def test_nothing_is_wrong_behind_a_good_proxy(site):
    site.serve()
    with FaultyProxy() as proxy:
        site.by_proxy(proxy.url)
        checks = site.examine()
    assert trouble(checks) == {}
    assert checks["connect"].status == "PASS"
    assert set(proxy.asked) == {f"CONNECT localhost:{site.port} HTTP/1.1"}


def test_a_name_that_does_not_resolve(tmp_path):
    site = Doctored(folder=tmp_path, host="hub.hospitium.invalid")
    found = only(site.examine(), "dns")
    assert "hub.hospitium.invalid" in found.found
    assert found.who == "hospital IT"


def test_a_port_that_drops(site):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", site.port))
        silent.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # the queue is full: what comes now is dropped
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", site.port))
        try:
            found = only(site.examine(), "tcp")
        finally:
            for one in waiting:
                one.close()
    assert "nothing came back in 2 s; a firewall drops it" in found.found
    assert found.who == "hospital IT"


def test_a_hub_that_is_down(site):
    found = only(site.examine(), "tcp")
    assert "refused" in found.found
    assert found.who == "coordinating centre"


@pytest.mark.parametrize(
    ("methods", "who"),
    [(('Basic realm="h"', "Negotiate"), "engineer"), (("Negotiate", "NTLM"), "hospital IT")],
)
def test_a_proxy_that_wants_a_login(site, methods, who):
    site.serve()
    with FaultyProxy(Fault(login="hospitium:s3cret", methods=methods)) as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(), "connect")
    assert ", ".join(method.split()[0] for method in methods) in found.found
    assert "407" in found.found and found.who == who


def test_a_login_that_is_right_passes_and_one_that_is_wrong_is_named(site):
    site.serve()
    with FaultyProxy(Fault(login="hospitium:s3cret")) as proxy:
        site.by_proxy(proxy.url, login="hospitium:s3cret")
        assert trouble(site.examine()) == {}
        site.by_proxy(proxy.url, login="hospitium:wrong")
        checks = site.examine()
    assert "did not take the login that is set" in only(checks, "connect").found
    assert not any("wrong" in check.found for check in checks.values())


def test_a_proxy_that_refuses_connect(site):
    site.serve()
    with FaultyProxy(Fault(refuse="403 Forbidden")) as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(), "connect")
    assert "403 Forbidden: This site is blocked by the firewall team." in found.found
    assert found.who == "hospital IT"


def test_a_hub_that_is_down_behind_a_proxy_that_works(site):
    with FaultyProxy() as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(), "connect")
    assert f"works and does not reach localhost:{site.port}: 503" in found.found
    assert found.who == "coordinating centre"


def test_a_proxy_that_is_not_there(site):
    site.serve()
    site.by_proxy(f"http://127.0.0.1:{free_port()}")
    found = only(site.examine(), "tcp")
    assert "of the settings" in found.found and found.who == "hospital IT"


def test_a_proxy_that_opens_tls_and_is_not_trusted(site):
    site.serve()
    _, server = site.other_ca("Hospital inspection CA")
    with FaultyProxy(Fault(opens_tls=server, trusts=site.ca)) as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(), "tls")
    assert "A proxy opens TLS here; issuer is Hospital inspection CA" in found.found
    assert found.who == "engineer"


def test_a_proxy_that_opens_tls_and_is_trusted_is_tolerated(site):
    site.serve()
    ca, server = site.other_ca("Hospital inspection CA")
    with FaultyProxy(Fault(opens_tls=server, trusts=site.ca)) as proxy:
        site.by_proxy(proxy.url, ca_bundle=ca)
        found = only(site.examine(), "tls", "WARN")
    assert "A proxy opens TLS here; issuer is Hospital inspection CA" in found.found
    assert "stays signed end to end" in found.remedy


def test_a_body_cap_of_2_mb(site):
    site.serve()
    ca, server = site.other_ca("Hospital inspection CA")
    fault = Fault(opens_tls=server, trusts=site.ca, max_body=2_000_000)
    with FaultyProxy(fault) as proxy:
        site.by_proxy(proxy.url, ca_bundle=ca)
        checks = site.examine()
    assert trouble(checks) == {"tls": "WARN", "payload": "WARN"}
    found = checks["payload"].found
    assert "bodies of 2 MiB are refused (413 Request Entity Too Large); 1 MiB pass" in found


def test_a_body_cap_below_the_pieces_that_are_sent(site):
    site.serve()
    ca, server = site.other_ca("Hospital inspection CA")
    with FaultyProxy(Fault(opens_tls=server, trusts=site.ca, max_body=300_000)) as proxy:
        site.by_proxy(proxy.url, ca_bundle=ca)
        checks = site.examine()
    assert trouble(checks) == {"tls": "WARN", "payload": "FAIL"}
    assert "bodies of 512 KiB are refused" in checks["payload"].found
    assert "256 KiB pass, and this site sends 1 MiB each" in checks["payload"].found
    assert "limits.mbit_per_s = 4.9" in checks["payload"].remedy


def test_connections_that_are_cut_when_they_are_idle(site, monkeypatch):
    monkeypatch.setattr("hospitium.operations.doctor_hub.LONG_POLL_S", 3)
    site.serve()
    with FaultyProxy(Fault(idle_s=4.0)) as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(is_long=True, idle_s=8.0), "idle", "WARN")
    assert re.search("cut after [4-7] s", found.found)  # a busy machine cuts late, never early


def test_connections_that_are_cut_while_a_poll_waits(site, monkeypatch):
    monkeypatch.setattr("hospitium.operations.doctor_hub.LONG_POLL_S", 4)
    site.serve()
    with FaultyProxy(Fault(idle_s=2.0)) as proxy:
        site.by_proxy(proxy.url)
        checks = site.examine(is_long=True, idle_s=5.0)
    assert trouble(checks) == {"long poll": "FAIL", "idle": "WARN"}
    assert re.search("a request that waits 4 s was ended after [23] s", checks["long poll"].found)
    assert "5 s are the least" in checks["long poll"].remedy


def test_polls_that_are_cut_and_may_be_shorter_stop_no_work(site, monkeypatch):
    monkeypatch.setattr("hospitium.operations.doctor_hub.LONG_POLL_S", 4)
    monkeypatch.setattr("hospitium.operations.doctor_hub.LEAST_S", 1)
    site.serve()
    with FaultyProxy(Fault(idle_s=2.0)) as proxy:
        site.by_proxy(proxy.url)
        found = only(site.examine(is_long=True, idle_s=0.0), "long poll", "WARN")
    assert "the agent asks for shorter waits" in found.remedy


@pytest.mark.parametrize("minutes", [5, -5])
def test_a_clock_that_is_five_minutes_off(site, minutes):
    found = only(site.serve().examine(ahead=timedelta(minutes=minutes)), "clock")
    side = "ahead of" if minutes > 0 else "behind"
    assert re.search(rf"clock is (299|300|301) s {side} the coordinator's", found.found)
    assert found.who == "engineer"


def test_a_site_that_was_revoked(site):
    site.serve()
    keys = [site.folder / "officer.key"]
    now = datetime.now(UTC)
    revoke_site(site.federation.coordinator, NAME, SITE, officer_keys=keys, now=now)
    found = only(site.examine(), "identity")
    assert "the site was revoked or cut off" in found.found
    assert found.who == "coordinating centre"


def test_a_certificate_that_has_expired(tmp_path):
    site = Doctored(folder=tmp_path, made=datetime.now(UTC) - timedelta(days=500)).serve()
    found = only(site.examine(), "tls")
    site.stop()
    assert "expired" in found.found and "Centre of the north" in found.found
    assert found.who == "coordinating centre"


def test_a_certificate_for_another_name(tmp_path):
    site = Doctored(folder=tmp_path, named="elsewhere.example.org").serve()
    found = only(site.examine(), "tls")
    site.stop()
    assert "is for elsewhere.example.org" in found.found
    assert found.who == "coordinating centre"


def test_something_that_speaks_no_tls(site):
    with FaultyProxy() as other:
        site.by_proxy("")
        listener = socket.create_server(("127.0.0.1", site.port))
        other._start(_answer_plainly, listener)
        found = only(site.examine(), "tls")
        listener.close()
    assert found.who == "hospital IT"


def _answer_plainly(listener):
    for _ in range(2):
        line, _ = listener.accept()
        with line:
            line.recv(1)
            line.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
