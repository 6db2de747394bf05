"""``hospitium doctor`` as a hospital's engineer runs it, behind the proxies that hospitals have."""

import json
import sys
import time
from datetime import UTC, datetime

import pytest
from carried import NAME, Federation
from namespaces import HUB_ADDRESS, HUB_NAME
from proxies import PASSWORD

from hospitium.operations.coordinating import begin_federation
from hospitium.site.line import keep_line

pytestmark = pytest.mark.slow
SITE = "oslo"
HOSPITIUM = (sys.executable, "-m", "hospitium.cli.main", "--home")


@pytest.fixture
def north(network, tmp_path):
    """A federation with one site, and its coordinator on the hub's machine."""
    federation = Federation(folder=tmp_path)
    address = f"https://{HUB_NAME}"
    begin_federation(
        federation.coordinator, NAME, addresses=[address], now=datetime.now(UTC),
        officer_key=tmp_path / "officer.key",
    )  # fmt: skip
    request, words = federation.ask(SITE)
    (tmp_path / "oslo.request").write_bytes(request)
    home = tmp_path / "coordinator"
    done = network.hub.run(
        *HOSPITIUM, home, "coordinator", "admit", SITE, "--request", tmp_path / "oslo.request",
        "--words", words, "--officer-key", tmp_path / "officer.key",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    federation.carry(SITE)
    process = network.start(network.hub, [*HOSPITIUM, home, "coordinator", "up"])
    while network.hub.run(sys.executable, "-c", CONNECT).returncode:
        assert process.poll() is None
        time.sleep(0.2)
    return federation


CONNECT = f"import socket; socket.create_connection(('{HUB_ADDRESS}', 443), timeout=2)"


@pytest.fixture
def hub_ca(north):
    folder = north.coordinator.folder / "coordinator" / NAME
    return json.loads((folder / "settings.json").read_bytes())["tls_ca"].encode()


@pytest.fixture
def doctor(north, tmp_path):
    """Return a function that runs doctor on a machine, by a proxy; and what it says by check."""

    def run(machine, *, proxy="", ca_bundle=b"", options=()):
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes(ca_bundle)
        folder = north.place(SITE).folder
        keep_line(folder, proxy=proxy, ca_bundle=bundle if ca_bundle else None)
        done = machine.run(*HOSPITIUM, north.site(SITE).folder, "doctor", "--json", *options)
        assert done.returncode in (0, 3), done.stderr
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        is_failed = any(check["status"] == "FAIL" for check in checks.values())
        assert done.returncode == (3 if is_failed else 0)
        return checks

    return run


def on_the_way(checks):
    names = ("proxy", "dns", "tcp", "connect", "tls", "hub", "clock", "identity", "payload",
             "download", "long poll")  # fmt: skip
    return {name: checks[name]["status"] for name in names if checks[name]["status"] != "PASS"}


def test_behind_a_squid_that_allows_connect_only(doctor, behind, network):
    site, proxy = behind("connect_only")
    checks = doctor(site)  # directly: there is no way
    assert checks["dns"]["status"] == "FAIL" and HUB_NAME in checks["dns"]["found"]
    assert checks["tls"]["found"] == "not looked at: dns failed"
    assert on_the_way(doctor(site, proxy=proxy.url)) == {}
    network.unplug(network.hub)
    checks = doctor(site, proxy=proxy.url)
    assert checks["connect"]["status"] == "FAIL"
    assert "still waits for the other end" in checks["connect"]["found"]
    assert checks["connect"]["who"] == "coordinating centre"


def test_a_squid_with_a_login(doctor, behind):
    site, proxy = behind("login")
    checks = doctor(site, proxy=proxy.url_without_login)
    assert checks["connect"]["status"] == "FAIL"
    assert "wants a login; it offers Basic (407)" in checks["connect"]["found"]
    checks = doctor(site, proxy=proxy.url)
    assert on_the_way(checks) == {}
    assert not any(PASSWORD in check["found"] for check in checks.values())


def test_a_squid_that_opens_tls_and_caps_bodies(doctor, behind, hub_ca):
    site, proxy = behind("inspecting", hub_ca=hub_ca)
    named = "A proxy opens TLS here; issuer is Hospital Proxy CA"
    checks = doctor(site, proxy=proxy.url)
    assert checks["tls"]["status"] == "FAIL" and named in checks["tls"]["found"]
    checks = doctor(site, proxy=proxy.url, ca_bundle=proxy.ca)
    assert on_the_way(checks) == {"tls": "WARN", "payload": "WARN"}
    assert named in checks["tls"]["found"]
    assert "bodies of 4 MiB are refused" in checks["payload"]["found"]
    assert "2 MiB pass" in checks["payload"]["found"]
