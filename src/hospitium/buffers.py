"""Large pieces of memory that are handed out again and again: only new memory is slow.

The first touch of a page costs a fault, and on a virtual machine that gives free pages back to its
host more than anything that is done in it. A round needs the same few pieces as the round before.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 1 << 22
"""Smaller pieces come from the allocator, which keeps such memory itself."""

MOST_IDLE = 3
"""A round has use for a sum, an update and new params."""

_M_ARENA_MAX = -8
"""Of mallopt(3)."""

_STEP_BYTES = 1 << 21
_ALIGN = 64
_MOST_ROOM = 1.25
"""A piece is handed out for what fills most of it."""

_idle: deque[mmap.mmap] = deque()
_taking = threading.Lock()


def share_one_arena() -> None:
    """Have all threads of this process allocate from one place, where the C library is GNU's.

    Otherwise each keeps what it freed for itself: with pieces of uploads that go from thread to
    thread this was 35 MB of a coordinator's memory. To be called before threads are started.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def lend(size_bytes: int) -> npt.NDArray[np.uint8]:
    """Return memory of this size, not zeroed; it comes back when no array in it is left.

    Where nothing that is idle fits, all of it is given up for what is made anew, and never more
    than `MOST_IDLE` pieces are kept.
    """
    if size_bytes < LEAST_BYTES:
        return np.empty(size_bytes, np.uint8)
    piece = _idle_piece(size_bytes) or _new_piece(size_bytes)
    # Whatever is made of this object holds on to it: when it goes, nobody uses the piece.
    lent = (ctypes.c_ubyte * size_bytes).from_buffer(piece)
    weakref.finalize(lent, _come_back, piece).atexit = False
    return np.frombuffer(memoryview(lent), np.uint8)


def lend_like(params: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of the same names, dtypes and shapes in one piece of memory, not zeroed."""
    sizes = {name: -(-array.nbytes // _ALIGN) * _ALIGN for name, array in params.items()}
    memory, at, arrays = lend(sum(sizes.values())), 0, {}
    for name, array in params.items():
        arrays[name] = memory[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        at += sizes[name]
    return arrays


def give_up() -> None:
    """Give idle memory back to the system."""
    with _taking:
        _idle.clear()


def _come_back(piece: mmap.mmap) -> None:
    """Keep a piece that nobody uses any more; the one that was idle longest makes room."""
    _idle.append(piece)
    while len(_idle) > MOST_IDLE:
        with suppress(IndexError):
            _idle.popleft()


def _idle_piece(size_bytes: int) -> mmap.mmap | None:
    """Take the smallest idle piece that fits; where none does, let go of all."""
    with _taking:
        pieces: list[mmap.mmap] = []
        with suppress(IndexError):
            while True:  # others may come back meanwhile
                pieces.append(_idle.popleft())
        fitting = [piece for piece in pieces if size_bytes <= len(piece) <= size_bytes * _MOST_ROOM]
        if not fitting:
            return None
        found = min(fitting, key=len)
        _idle.extend(piece for piece in pieces if piece is not found)
        return found


def _new_piece(size_bytes: int) -> mmap.mmap:
    size = -(-size_bytes // _STEP_BYTES) * _STEP_BYTES
    if not hasattr(mmap, "MAP_PRIVATE"):  # pragma: no cover (Windows)
        return mmap.mmap(-1, size)
    piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # not every system has huge pages
        piece.madvise(mmap.MADV_HUGEPAGE)
    return piece
