"""Reading a long body off a TLS line in large pieces, not record by record.

One read of a TLS socket gives one record, 16 KiB at most, and each of them went through all layers
of the HTTP client: that was more work than everything else a site does with a file that comes.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

ROOM_BYTES = 1 << 18
"""The most that one read gives."""


def read_in_large_pieces(response: httpx.Response) -> None:
    """Let each read of the connection below a response take all records that are there already.

    Nothing waits longer than before: only the first record of a piece is waited for. A line that is
    not TLS over a plain socket is left as it is.

    Args:
        response: One whose body is still to come.
    """
    stream: Any = response.extensions.get("network_stream")
    if stream is None or isinstance(stream.read, _Reader):
        return
    line = stream.get_extra_info("socket")
    is_twice = isinstance(stream.get_extra_info("ssl_object"), ssl.SSLObject)  # TLS within TLS
    if isinstance(line, ssl.SSLSocket) and not is_twice:
        stream.read = _Reader(stream, line)


class _Reader:
    """Reads a stream of the HTTP client; what breaks after the first record shows at the next."""

    def __init__(self, stream: Any, line: ssl.SSLSocket) -> None:
        self._first = stream.read
        self._line = line
        self._room = memoryview(bytearray(ROOM_BYTES))

    def __call__(self, max_bytes: int, timeout: float | None = None) -> bytes:
        first: bytes = self._first(max_bytes, timeout)
        if not first:
            return first
        num_read = 0
        try:
            self._line.settimeout(0.0)
            while num_read < ROOM_BYTES and (
                count := self._line.recv_into(self._room[num_read:], ROOM_BYTES - num_read)
            ):
                num_read += count
        except OSError:  # nothing more is there yet, or the line is cut
            pass
        return b"".join((first, self._room[:num_read]))
