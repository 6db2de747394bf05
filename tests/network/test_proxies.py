import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from namespaces import HUB_ADDRESS, HUB_NAME
from proxies import PASSWORD, USER

from hospitium.wire.certificates import make_authority, make_server_certificate

pytestmark = pytest.mark.ci
HERE = Path(__file__).parent
URL = f"https://{HUB_NAME}/"
LARGE, SMALL = 2_300_000, 1_900_000


@pytest.fixture
def hub_ca(network, tmp_path):
    """Start a server over TLS on the hub's machine; return the certificate of its authority."""
    authority = make_authority("Hub CA", now=datetime.now(UTC))
    addresses = [URL, f"https://{HUB_ADDRESS}"]
    issued = make_server_certificate(authority, addresses, now=datetime.now(UTC))
    (tmp_path / "hub.pem").write_bytes(issued.both)
    for port in (443, 8443):
        network.start(
            network.hub, [sys.executable, HERE / "tls_server.py", tmp_path / "hub.pem", port]
        )
    return authority.certificate


@pytest.fixture
def fetch(network, hub_ca, tmp_path):
    """Return a function that asks the hub from a machine, and returns what came of it."""

    def ask(machine, *, ca=hub_ca, url=URL, **more):
        (tmp_path / "ca.pem").write_bytes(ca)
        told = {"url": url, "ca": str(tmp_path / "ca.pem"), **more}
        done = machine.run(sys.executable, HERE / "fetch.py", json.dumps(told))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    until = time.monotonic() + 20
    while "error" in ask(network.hub) or "error" in ask(network.hub, url=f"{URL[:-1]}:8443/"):
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.1)
    return ask


def test_a_site_without_a_proxy_reaches_the_hub_directly(network, fetch):
    site = network.site("bergen")
    found = fetch(site)
    assert (found["status"], found["issuer"]) == (200, "Hub CA")
    assert json.loads(found["text"])["from"] == site.address


def test_an_unplugged_site_reaches_nothing_until_it_is_plugged_in_again(network, fetch):
    site = network.site("bergen")
    network.unplug(site)
    assert "error" in fetch(site, url=f"https://{HUB_ADDRESS}/")
    network.plug_in(site)
    assert fetch(site)["status"] == 200


@pytest.mark.parametrize("kind", ["connect_only", "inspecting", "login"])
def test_behind_a_proxy_the_hub_is_reached_through_it_alone(fetch, behind, hub_ca, kind):
    site, proxy = behind(kind, hub_ca=hub_ca)
    by_name, by_address = fetch(site), fetch(site, url=f"https://{HUB_ADDRESS}/")
    assert by_name["error"] == by_address["error"] == "ConnectError"
    assert "unreachable" in by_address["text"]
    found = fetch(site, proxy=proxy.url, ca=hub_ca + proxy.ca)
    assert found["status"] == 200, found
    assert json.loads(found["text"])["from"].startswith("10.77.0.")
    assert HUB_NAME in proxy.log()


def test_a_proxy_for_connect_only_passes_nothing_else_and_no_other_port(fetch, behind):
    site, proxy = behind("connect_only")
    whole = fetch(site, proxy=proxy.url, method="PUT", bytes=LARGE)
    assert (whole["status"], whole["issuer"]) == (200, "Hub CA")
    assert fetch(site, proxy=proxy.url, url=f"http://{HUB_NAME}/")["status"] == 403
    other = fetch(site, proxy=proxy.url, url=f"https://{HUB_NAME}:8443/")
    assert other["error"] == "ProxyError" and "403" in other["text"]


def test_an_inspecting_proxy_shows_its_own_certificate(fetch, behind, hub_ca):
    site, proxy = behind("inspecting", hub_ca=hub_ca)
    assert "CERTIFICATE_VERIFY_FAILED" in fetch(site, proxy=proxy.url)["text"]
    found = fetch(site, proxy=proxy.url, ca=proxy.ca)
    assert (found["status"], found["issuer"]) == (200, "Hospital Proxy CA")


def test_an_inspecting_proxy_refuses_a_body_of_more_than_two_megabytes(fetch, behind, hub_ca):
    site, proxy = behind("inspecting", hub_ca=hub_ca)
    through = {"proxy": proxy.url, "ca": proxy.ca, "method": "PUT"}
    small = fetch(site, bytes=SMALL, **through)
    assert json.loads(small["text"])["bytes"] == SMALL
    large = fetch(site, bytes=LARGE, **through)
    assert large.get("status") == 413 or "error" in large, large
    assert "/413" in proxy.log()


def test_an_inspecting_proxy_cuts_what_is_silent_for_too_long(fetch, behind, hub_ca):
    site, proxy = behind("inspecting", hub_ca=hub_ca, idle_s=2)
    through = {"proxy": proxy.url, "ca": proxy.ca}
    assert fetch(site, url=f"{URL}?1", **through)["status"] == 200
    found = fetch(site, url=f"{URL}?6", **through)
    assert found.get("status") in (502, 504) or "error" in found, found


def test_a_proxy_with_a_login_wants_the_right_one(fetch, behind):
    site, proxy = behind("login")
    without = fetch(site, proxy=proxy.url_without_login)
    wrong = fetch(site, proxy=proxy.url.replace(USER, "other"))
    assert without["error"] == wrong["error"] == "ProxyError"
    assert "407" in without["text"] and "407" in wrong["text"]
    assert fetch(site, proxy=proxy.url)["status"] == 200
    assert PASSWORD not in proxy.log()


def test_an_isolated_worker_reaches_not_even_the_proxy(fetch, behind):
    site, proxy = behind("connect_only")
    code = """
import sys
from hospitium.engines.workers import WorkerPool
from hospitium.site.isolation import probe
pool = WorkerPool(probe, num_workers=1, isolated=True, addresses=[sys.argv[1]])
print(probe([sys.argv[1]]), pool.prepare())
pool.close()
"""
    done = site.run(sys.executable, "-c", code, proxy.url)
    assert done.stdout.split() == ["not_cut_off", "cut_off"], done.stderr


def test_namespaces_are_gone_afterwards(network):
    name = network.hub.name
    assert name in _names()
    network.close()
    assert name not in _names() and not Path("/etc/netns", name).exists()


def _names():
    return {path.name for path in Path("/run/netns").iterdir()}
