"""A body that is there already is taken in one read, not record by record."""

import socket
import ssl
import threading
from types import SimpleNamespace

import pytest
from throwaway_ca import write_certificates

from hospitium.engines.hub.records import ROOM_BYTES, read_in_large_pieces

RECORD = 1 << 14
CONTENT = bytes(range(256)) * (6 * RECORD // 256)


class Stream:
    """What the HTTP client has below a response, as far as it is asked here."""

    def __init__(self, line, *, tls=None):
        self._facts = {"socket": line, "ssl_object": tls}
        self._line = line

    def get_extra_info(self, name):
        return self._facts[name]

    def read(self, max_bytes, timeout=None):
        self._line.settimeout(timeout)
        return self._line.recv(max_bytes)


def response_on(stream):
    return SimpleNamespace(extensions={"network_stream": stream} if stream else {})


@pytest.fixture
def line(tmp_path):
    """A TLS line on which all of CONTENT lies, and then its end."""
    ca, certificate, key = write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    near, far = socket.socketpair()

    def serve():
        with context.wrap_socket(far, server_side=True) as server:
            server.sendall(CONTENT)

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=ca)
    with client.wrap_socket(near, server_hostname="127.0.0.1") as line:
        thread.join()
        yield line


def test_all_records_that_are_there_come_in_one_read_and_then_the_end(line):
    stream = Stream(line)
    read_in_large_pieces(response_on(stream))
    read_in_large_pieces(response_on(stream))  # the same line, for the next response
    assert stream.read(1 << 16, timeout=5.0) == CONTENT
    assert stream.read(1 << 16, timeout=5.0) == b""


def test_no_read_gives_more_than_there_is_room_for(line, monkeypatch):
    monkeypatch.setattr("hospitium.engines.hub.records.ROOM_BYTES", 2 * RECORD)
    stream = Stream(line)
    read_in_large_pieces(response_on(stream))
    pieces = list(iter(lambda: stream.read(1 << 16, timeout=5.0), b""))
    assert [len(piece) for piece in pieces] == [3 * RECORD, 3 * RECORD]
    assert b"".join(pieces) == CONTENT
    assert ROOM_BYTES > 2 * RECORD


def test_a_line_that_is_no_plain_tls_is_left_as_it_is(line):
    twice = Stream(
        line, tls=ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    )
    plain = Stream(socket.socket())
    for stream in (twice, plain, None):
        read_in_large_pieces(response_on(stream))
    assert twice.read(1 << 16, timeout=5.0) == CONTENT[:RECORD]
    assert plain.read.__func__ is Stream.read
    plain.get_extra_info("socket").close()
