"""A site behind another's proxy: one that wants a login, and one that opens TLS."""

from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import pytest
from carried import NAME
from connected import Net, hurry, soon
from faulty_proxy import Fault, FaultyProxy

from hospitium.engines.hub.client import HubClient
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.transport import HubTransport, connection_of
from hospitium.errors import HubError, UsageError
from hospitium.operations import enrolment
from hospitium.operations.site_answering import isolated_pool
from hospitium.operations.site_serving import serve_once, set_line
from hospitium.site.line import keep_line
from hospitium.wire.certificates import make_authority, make_server_certificate

pytestmark = pytest.mark.ci


@pytest.fixture
def net(tmp_path, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr(enrolment, "PATIENCE_S", 0.5)
    net = Net(tmp_path)
    yield net
    net.stop()


def test_a_proxy_that_wants_a_login_gets_it_and_says_what_it_wants(net):
    (net.folder / "login").write_text("kari:s3cret")
    with FaultyProxy(Fault(login="kari:s3cret")) as proxy:
        with pytest.raises(HubError, match="407"):
            net.join("oslo", proxy=proxy.url)
        found = net.join("oslo", proxy=proxy.url, proxy_login=net.folder / "login")
        assert found["is_sent"] and all(line.startswith("CONNECT") for line in proxy.asked)
    with pytest.raises(HubError, match="no answer"):
        serve_once(net.home("oslo"))  # the proxy is the only way


def test_a_proxy_that_opens_tls_is_passed_with_its_certificate_and_not_without(net):
    now = datetime.now(UTC)
    opener = make_authority("Hospital proxy", now=now)
    server = make_server_certificate(opener, ["https://127.0.0.1"], now=now)
    both, bundle = net.folder / "opens.pem", net.folder / "proxy.pem"
    both.write_bytes(server.both)
    bundle.write_bytes(opener.certificate)
    fault = Fault(opens_tls=both, trusts=net.folder / "ca.pem", max_body=2 << 20)
    with FaultyProxy(fault) as proxy:
        with pytest.raises(HubError, match="CERTIFICATE_VERIFY_FAILED"):
            net.join("oslo", proxy=proxy.url)
        assert net.join("oslo", proxy=proxy.url, ca_bundle=bundle)["is_sent"]


def test_the_way_is_kept_and_the_next_address_is_tried(net):
    net.admit("oslo")
    place = net.place("oslo")
    shown = set_line(
        net.home("oslo"), NAME, proxy="http://a:b@127.0.0.1:1", proxy_login=None, ca_bundle=None
    )
    assert shown == "http://127.0.0.1:1" and connection_of(place).proxy == "http://a:b@127.0.0.1:1"
    pool = isolated_pool(net.home("oslo"), connection_of(place))
    assert not any("a:b" in address for address in pool._setup.addresses)
    pool.close()
    keep_line(place.folder, proxy="")
    good = connection_of(place, patience_s=10.0)
    client = HubClient(
        replace(good, url="https://127.0.0.1:1/north", others=(good.url,)), key=place.request_key()
    )
    assert len(client.members(after=0)) == 2
    client.close()


def test_a_bundle_without_certificates_is_named(net):
    net.admit("oslo")
    place = net.place("oslo")
    (net.folder / "b.pem").write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    keep_line(place.folder, ca_bundle=net.folder / "b.pem")
    with pytest.raises(UsageError, match="ca-bundle"):
        HubTransport(place)


def test_a_slow_line_is_not_used_faster_than_the_policy_says(net):
    net.admit("oslo")
    plan = net.offer()
    serve_once(net.home("oslo"))
    net.approve("oslo", plan)
    place = net.place("oslo")
    client = HubClient(
        connection_of(place, mbit_per_s=4.0), key=place.request_key(), pace=Pace(500_000.0)
    )
    begun = monotonic()
    assert client.echo(b"x" * 600_000)["bytes"] == 600_000
    up_s = monotonic() - begun
    assert len(client.echo_back(600_000)) == 600_000
    down_s = monotonic() - begun - up_s
    client.close()
    assert up_s > 0.9 and down_s > 0.9


def test_the_agent_goes_through_the_proxy_for_tasks_too(net):
    net.admit("oslo")
    plan = net.offer()
    with FaultyProxy() as proxy:
        keep_line(net.place("oslo").folder, proxy=proxy.url)
        serve_once(net.home("oslo"))
        net.approve("oslo", plan)
        with net.attended("oslo"):
            soon(lambda: "oslo" in net.desk.standing(plan.digest))
            [update] = net.ask(net.task(plan), "oslo")
            assert update.delta and len(proxy.asked) >= 2
