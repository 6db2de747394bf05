"""A multipart/related answer, cut into its parts as it arrives (RFC 2046 5.1, PS3.18 8.7.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_MAX_HEAD = 1 << 16
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class MultipartError(Exception):
    """The answer is not what it says it is, or ended before its last boundary."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a ``Content-Type`` names.

    Raises:
        MultipartError: It is not multipart/related, or names none.

    Example:
        >>> boundary_of('multipart/related; type="application/dicom"; boundary=a-1')
        b'a-1'
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or found is None:
        raise MultipartError(f"content of type {content_type[:80]!r}, no multipart/related")
    return (found[1] or found[2]).encode()


def parts(chunks: Iterable[bytes], *, boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the content of each part as an iterator over its bytes.

    Memory holds one chunk and a boundary, however large a part is. A part must be read to its end
    before the next one is asked for; what was not read is passed over.

    Raises:
        MultipartError: The answer ended before its last boundary, so a part may be cut off.
    """
    reader = _Reader(chunks)
    reader.skip_past(b"--" + boundary)
    while not reader.starts_with(b"--"):
        reader.skip_past(b"\r\n\r\n", limit=_MAX_HEAD)
        content = reader.until(b"\r\n--" + boundary)
        yield content
        for _ in content:
            pass


class _Reader:
    """A window over arriving bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data = bytearray()

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise MultipartError("the answer ended before its last boundary")
        self._data += chunk

    def starts_with(self, mark: bytes) -> bool:
        """Return whether the next bytes are these, without passing over them."""
        while len(self._data) < len(mark):
            self._more()
        return self._data.startswith(mark)

    def skip_past(self, mark: bytes, *, limit: int = 1 << 30) -> None:
        """Pass over everything up to a mark, and the mark."""
        skipped = 0
        for chunk in self.until(mark):
            skipped += len(chunk)
            if skipped > limit:
                raise MultipartError("the head of a part has no end")

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Yield the bytes before a mark, and pass over it."""
        while (at := self._data.find(mark)) < 0:
            safe = len(self._data) - len(mark) + 1  # the mark may have begun
            if safe > 0:
                yield bytes(self._data[:safe])
                del self._data[:safe]
            self._more()
        if at:
            yield bytes(self._data[:at])
        del self._data[: at + len(mark)]
