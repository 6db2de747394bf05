"""Peers that take their time, and heads that are too large: the real server gives them up."""

import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest
from desks import Centre
from hub_federation import Running

from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.server import HEAD_S, HubServer, Tls

pytestmark = pytest.mark.ci

SHORT_S = 0.3
GET = b"GET /v1/challenge HTTP/1.1\r\nhost: x\r\n"


@contextmanager
def serving(tmp_path, *, head_s, body_s):
    """Give a hub whose server waits so long for a head, and for a body."""
    centre = Centre(folder=tmp_path / "centre")
    running = Running(
        place=tmp_path, site_ids=["oslo"], limits=Limits(body_s=body_s), office=Office(centre.desk),
        backend=LocalBackend(tmp_path / "hub"),
    )  # fmt: skip
    tls = Tls(certificate=tmp_path / "server.pem", key=tmp_path / "server.key")
    server = HubServer(running.hub, tls=tls, head_s=head_s)
    server.start()
    running.port, port = server.port, running.port
    yield running
    server.stop()
    running.port = port
    running.stop()


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path, head_s=SHORT_S, body_s=0.5) as running:
        yield running


def connected(served):
    context = ssl.create_default_context(cafile=str(served.ca))
    plain = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def is_answered(line):
    """Ask for a challenge, and return whether the whole of one came."""
    line.sendall(GET + b"\r\n")
    found = b""
    while b"}" not in found and (piece := line.recv(4096)):
        found += piece
    return found.startswith(b"HTTP/1.1 200")


def require_closed(line, drip, every_s=0.05, most_s=20.0):
    """Send a byte now and then until the server has closed the connection.

    After ``most_s`` it is a failure: less than the time that the hub gives where nothing is said.
    """
    assert most_s < min(HEAD_S, Limits().body_s)
    stop = threading.Event()

    def dripping():
        for at in range(10_000):
            if stop.wait(every_s):
                return
            try:
                line.sendall(drip[at % len(drip) :][:1])
            except OSError:
                return

    thread = threading.Thread(target=dripping, daemon=True)
    thread.start()
    line.settimeout(most_s)
    try:
        while line.recv(4096):
            continue
    except ConnectionError:
        pass
    except ssl.SSLError:
        pass
    finally:
        stop.set()
        thread.join(timeout=5)


def test_a_head_that_comes_byte_by_byte_is_given_up(served):
    with connected(served) as line:
        line.sendall(b"GET /v1/cha")
        require_closed(line, drip=b"x")


def test_the_second_head_of_a_connection_has_no_more_time_than_the_first(served):
    """Whoever had one answer could hold the connection for good, a byte at a time."""
    with connected(served) as line:
        assert is_answered(line)
        line.sendall(b"GET /v1/cha")
        require_closed(line, drip=b"x")


def test_a_body_that_was_refused_is_not_waited_for(served):
    """Nobody signed the request: its answer is there, and its body may not come for ever."""
    with connected(served) as line:
        line.sendall(b"POST /v1/said HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 401")
        require_closed(line, drip=b"x")


def test_an_enrolment_that_comes_byte_by_byte_is_given_up(served):
    with connected(served) as line:
        line.sendall(b"POST /v1/enrolments HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n")
        require_closed(line, drip=b"[")


def test_an_idle_connection_after_an_answer_is_kept_as_before(served):
    with connected(served) as line:
        for _ in range(3):
            assert is_answered(line)
            time.sleep(2 * SHORT_S)


def test_many_slow_peers_do_not_stop_a_quick_one(tmp_path):
    """It is answered while the server still waits for those that it did not refuse at once."""
    head = b"POST /v1/enrolments HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n["
    with serving(tmp_path, head_s=HEAD_S, body_s=Limits().body_s) as served:
        lines = [connected(served) for _ in range(30)]
        for line in lines:
            line.sendall(head)
        with connected(served) as quick:
            assert is_answered(quick)
        words = [word_of(line) for line in lines]
    assert "" in words and set(words) <= {"", "HTTP/1.1 429"}


def word_of(line):
    """Return how an answer begins that is there, if one is, and end the connection."""
    line.settimeout(0.0)
    with line:
        try:
            return line.recv(12).decode() or "closed"
        except ssl.SSLWantReadError:
            return ""


HEADS = {
    "a hundred headers": GET + b"".join(b"x-%d: y\r\n" % n for n in range(100)) + b"\r\n",
    "a header of 100 KB": GET + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
    "a path of 100 KB": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "two lengths": (
        b"POST /v1/said HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
    ),
    "a length that is none": b"POST /v1/said HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n",
    "both ways to say a length": (
        b"POST /v1/said HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    ),
    "another transfer encoding": (
        b"POST /v1/said HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n"
    ),
    "a null byte": b"GET /v1/\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_strange_head_is_refused_and_the_server_goes_on(served, name):
    with connected(served) as line:
        try:
            line.sendall(HEADS[name])
            status = int(line.recv(4096)[9:12] or 0)
        except OSError:
            assert len(HEADS[name]) > 1 << 16, "it hung up on a head that it could have read"
        else:
            assert 400 <= status < 500 or status == 501, (name, status)
    with connected(served) as line:
        assert is_answered(line)
