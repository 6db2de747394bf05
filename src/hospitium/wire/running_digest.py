"""A SHA-256 over a stream that also says what it was at each MiB on the way.

Whoever writes a file can so say the digest of its beginning up to any MiB, for requests that carry
it piece by piece, without reading it again.
"""

from __future__ import annotations

import hashlib

STEP_BYTES = 1 << 20


class RunningDigest:
    """The SHA-256 of what was added, with its value at every multiple of `STEP_BYTES`."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._marks: list[str] = []

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes."""
        view, at = memoryview(data), 0
        while at < len(view):
            end = at + min(len(view) - at, STEP_BYTES - self._size % STEP_BYTES)
            self._sha256.update(view[at:end])
            self._size += end - at
            at = end
            if self._size % STEP_BYTES == 0:
                self._marks.append(self._sha256.hexdigest())

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        return self._sha256.hexdigest()

    def through(self) -> dict[int, str]:
        """Return, by size, the digest of the first so many bytes, and that of all of them."""
        marks = {(n + 1) * STEP_BYTES: digest for n, digest in enumerate(self._marks)}
        return {**marks, self._size: self.hexdigest()}
