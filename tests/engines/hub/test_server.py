"""A server that ends leaves nothing open, and one that serves is not held up."""

import gc
import socket
import ssl
import threading
import time
import warnings
from contextlib import suppress

import httpx
import pytest
from hub_federation import Running

from hospitium.engines.hub.server import HubServer, Tls


@pytest.fixture
def running(tmp_path):
    running = Running(place=tmp_path, site_ids=["site-1"])
    yield running
    running.stop()


def trust(running):
    return ssl.create_default_context(cafile=str(running.ca))


def plain(running, data=b""):
    line = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    line.sendall(data)
    return line


def over_tls(running, data=b""):
    line = trust(running).wrap_socket(plain(running), server_hostname="127.0.0.1")
    line.sendall(data)
    return line


def idle(running):
    line = over_tls(running, b"GET /v1/challenge HTTP/1.1\r\nhost: x\r\n\r\n")
    assert line.recv(100).startswith(b"HTTP/1.1 200")
    return line


PEERS = {
    "says nothing": plain,
    "half a handshake": lambda running: plain(running, b"\x16\x03\x01\x02\x00\x01"),
    "idle": idle,
    "half a request": lambda running: over_tls(running, b"GET /v1/cha"),
    "half a body": lambda running: over_tls(
        running, b"GET /v1/challenge HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nabc"
    ),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_server_that_stops_leaves_no_connection_open(running, peer, caplog):
    lines = [PEERS[peer](running) for _ in range(3)]
    time.sleep(0.1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        running.stop()
        gc.collect()
    assert not [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)]
    assert "timeout graceful shutdown exceeded" not in caplog.text  # nobody was waited for
    assert not running.server._thread.is_alive()
    for line in lines:
        line.close()


def test_a_server_that_stops_while_peers_come_leaves_no_connection_open(running):
    lines = []

    def come():
        while len(lines) < 200:
            try:
                lines.append(plain(running))
            except OSError:
                return
            time.sleep(0.002)

    coming = threading.Thread(target=come)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        coming.start()
        running.stop()
        gc.collect()
    coming.join()
    assert not [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)]
    for line in lines:
        line.close()


def test_an_answer_is_not_held_back_by_the_operating_system(running):
    with httpx.Client(base_url=running.url, verify=trust(running)) as http:
        http.get("/v1/challenge")
        [line] = running.server._server.server_state.connections
        sends_at_once = line.transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY
        )
    assert sends_at_once  # else the body waits 40 ms until the head is acknowledged


def is_served(running):
    with over_tls(running) as line, suppress(OSError):
        line.sendall(b"GET /v1/challenge HTTP/1.1\r\nhost: x\r\n\r\n")
        return line.recv(100).startswith(b"HTTP/1.1 200")
    return False


def own_server(running, **options):
    tls = Tls(certificate=running.place / "server.pem", key=running.place / "server.key")
    server = HubServer(running.hub, tls=tls, **options)
    server.start()
    return server


def test_a_peer_that_never_asks_is_given_up(running):
    server = own_server(running, head_s=0.2)
    running.port, port = server.port, running.port
    for line in (over_tls(running), over_tls(running, b"GET /v1/cha")):
        with line:
            assert line.recv(10) == b""
    with idle(running) as line:
        time.sleep(0.3)
        line.sendall(b"GET /v1/challenge HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.recv(1000)
    running.port = port
    server.stop()


@pytest.mark.timeout(60)
def test_an_address_holds_only_so_many_connections(running):
    server = own_server(running, per_address=3)
    running.port, port = server.port, running.port
    lines = [idle(running) for _ in range(3)]
    assert not is_served(running)
    lines.pop().close()
    while not is_served(running):  # once the server has seen it
        time.sleep(0.02)
    for line in lines:
        line.close()
    running.port = port
    server.stop()
