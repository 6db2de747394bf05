"""A weighted sum of updates as exact integers: any order of arrival gives the same bits.

Each value ``x`` of an update of weight ``w`` becomes the integer ``round(x * w * S)`` at a public
power of two ``S``, and integers add exactly. Rounding uses the add-magic-constant trick: a float64
plus ``1.5 * 2**52 / S`` holds that integer in its low bits (``x * w`` itself is exact in float64),
so that the conversion costs one addition, and the constant's own bits are taken out once, at the
end. Reading, the finite check, the norm check and the addition are one pass over blocks that stay
in cache. The mean takes the place of the sum, in memory that is lent from round to round.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium import buffers
from hospitium.errors import UpdateError
from hospitium.privacy.clipping import l2_norm
from hospitium.types import Params
from hospitium.wire.blob import Manifest, num_values

WEIGHT_ONE = 1 << 20
"""The integer that stands for an aggregation weight of 1."""

NORM_TOLERANCE = 1.001
"""Float32 rounding may leave a clipped update this much above its bound."""

_MAGIC = float(3 << 51)
_BLOCK = 1 << 18
_ROW = 1 << 13
_MAX_THREADS = 4

_ROUGH = 1e-3
"""More than a float32 sum of squares can be off: ``_ROW`` roundings of ``2**-24`` make half."""

_LEAST_ROUGH_LIMIT = 1e-20
"""Below this limit squares may underflow in float32, and only float64 is asked."""

_Span: TypeAlias = tuple[str, int, int, int]
"""Name of an array, where a block begins in it, where in the sum, and its length."""

_Todo: TypeAlias = deque[_Span]
"""The blocks that no thread has taken yet."""


class ExactSum:
    """The running sum of the weighted updates of one round; memory is two models, whatever N is.

    Args:
        manifest: Names, dtypes (float32) and shapes of the params.
        max_norm: The L2 bound of a single update; one above it is refused.
        max_sites: The most updates that will be added.
    """

    def __init__(self, manifest: Manifest, *, max_norm: float, max_sites: int) -> None:
        if any(dtype != "F32" for _, dtype, _ in manifest):
            raise TypeError(f"params must be float32 to be summed, found {manifest}")
        self._manifest = manifest
        self._max_norm = max_norm
        self._scale = scale_for(max_norm=max_norm, max_sites=max_sites)
        self._magic = _MAGIC / self._scale
        self._total = buffers.lend(8 * num_values(manifest)).view(np.int64)
        self._spans = list(_spans(manifest))
        self._num_threads = _num_threads(self._total.size)
        self._num_added = 0
        self._is_over = False
        self.sum_weight = 0

    def add(self, delta: Params, *, weight: int) -> None:
        """Add ``weight / WEIGHT_ONE`` times this change, or raise and leave the sum untouched.

        Args:
            delta: Arrays of exactly the manifest's names and shapes; the caller has checked.
            weight: 1 to ``WEIGHT_ONE``.

        Raises:
            UpdateError: A value is not finite (``non_finite``), or the norm is above the bound
                (``norm``). What had been added of it is taken out again, exactly.
        """
        assert 1 <= weight <= WEIGHT_ONE, weight
        assert not self._is_over, "the mean was taken"
        share = weight / WEIGHT_ONE
        rough = sum(self._each(lambda todo: self._put(delta, todo, share=share)))
        bound = self._max_norm * NORM_TOLERANCE
        norm = 0.0 if _is_surely_within(rough, bound=bound) else l2_norm(delta)
        if norm <= bound:
            self._num_added += 1
            self.sum_weight += weight
            return
        self._each(lambda todo: self._put(delta, todo, share=share, take_out=True))
        if math.isfinite(norm):
            raise UpdateError(
                "norm",
                f"its norm is above the bound of {self._max_norm:.4g}. Nothing of it was added.",
            )
        raise UpdateError("non_finite", "it holds a NaN or an infinity. Nothing of it was added.")

    def mean(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weighted mean change as float32, in the manifest's shapes.

        It is written where the sum was: this is the end of the sum.
        """
        assert self.sum_weight > 0, "nothing was added"
        assert not self._is_over, "the mean was taken"
        self._is_over = True
        values = self._total.view(np.float32)
        for wave in _waves(self._spans):
            self._each(lambda todo: self._take_mean(values, todo), wave)
        ends = itertools.accumulate(math.prod(shape) for _, _, shape in self._manifest)
        return {
            name: values[end - math.prod(shape) : end].reshape(shape)
            for (name, _, shape), end in zip(self._manifest, ends, strict=True)
        }

    def _each(
        self, work: Callable[[_Todo], float], spans: Sequence[_Span] | None = None
    ) -> list[float]:
        """Do this to all blocks, or these, in threads: NumPy gives up the lock for each.

        This thread is one of them and all take from one line: a core that is busy with something
        else delays nothing but the block that it holds.
        """
        todo = deque(self._spans if spans is None else spans)
        if self._num_threads == 1:
            return [work(todo)]
        with ThreadPoolExecutor(self._num_threads - 1) as pool:
            others = [pool.submit(work, todo) for _ in range(self._num_threads - 1)]
            return [work(todo), *(other.result() for other in others)]

    def _put(self, delta: Params, todo: _Todo, *, share: float, take_out: bool = False) -> float:
        """Add these blocks, or take exactly them out; return their sum of squares, roughly.

        What is not finite turns into integers too: always the same ones, so that they come out.
        """
        combine = np.subtract if take_out else np.add
        is_first = self._num_added == 0 and not take_out  # what the memory holds is nobody's
        buffer = np.empty(_BLOCK, np.float64)
        squares, last, flat = 0.0, "", np.empty(0, np.float32)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for name, at, start, length in _taken(todo):
                if name != last:
                    last, flat = name, delta[name].reshape(-1)
                values, block = flat[at : at + length], buffer[:length]
                squares += _rough_squares(values)
                np.copyto(block, values)
                if share != 1.0:
                    block *= share
                block += self._magic
                total = self._total[start : start + length]
                if is_first:
                    total[:] = block.view(np.int64)
                else:
                    combine(total, block.view(np.int64), out=total)
        return squares

    def _take_mean(self, values: npt.NDArray[np.float32], todo: _Todo) -> float:
        """Write these blocks of the mean."""
        divisor = self._scale * (self.sum_weight / WEIGHT_ONE)
        magic_bits = int(np.float64(self._magic).view(np.int64))
        offset = np.int64(_wrapped(self._num_added * magic_bits))
        for _, _, start, length in _taken(todo):
            whole = self._total[start : start + length] - offset
            values[start : start + length] = whole / divisor
        return 0.0


def scale_for(*, max_norm: float, max_sites: int) -> float:
    """Return the public power of two at which updates of this norm are summed.

    It is the largest for which neither one value (2^51, where the magic constant ends) nor the sum
    of ``max_sites`` values (2^62) can overflow.

    Example:
        >>> math.log2(scale_for(max_norm=1.0, max_sites=20))
        50.0
    """
    assert 0 < max_norm < math.inf and max_sites >= 1, (max_norm, max_sites)
    bound = max_norm * NORM_TOLERANCE
    exponent = min(51.0 - math.log2(bound), 62.0 - math.log2(bound) - math.log2(max_sites))
    return 2.0 ** math.floor(exponent)


def _wrapped(number: int) -> int:
    """Return an integer as int64 arithmetic would hold it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _rough_squares(values: npt.NDArray[np.float32]) -> float:
    """Return the sum of squares to within ``_ROUGH``, or inf or NaN: float32 is fast.

    Rows are short: that bounds the rounding, and BLAS does not wake its own threads for them.
    """
    whole, squares = values.size - values.size % _ROW, 0.0
    if whole:
        rows = values[:whole].reshape(-1, _ROW)
        squares += float(np.add.reduce(np.vecdot(rows, rows), dtype=np.float64))
    if whole < values.size:
        squares += float(np.vecdot(values[whole:], values[whole:]))
    return squares


def _is_surely_within(squares: float, *, bound: float) -> bool:
    """Whether a rough sum of squares settles that the norm is within the bound."""
    limit = bound * bound
    return limit >= _LEAST_ROUGH_LIMIT and squares <= limit * (1 - _ROUGH)


def _spans(manifest: Manifest) -> Iterator[_Span]:
    """Cut all arrays into blocks."""
    start = 0
    for name, _, shape in manifest:
        size = math.prod(shape)
        for at in range(0, size, _BLOCK):
            yield name, at, start + at, min(_BLOCK, size - at)
        start += size


def _waves(spans: Sequence[_Span]) -> Iterator[list[_Span]]:
    """Cut blocks into waves whose float32 results lie before the integers of all that come.

    A block's result takes half the room and half the way: blocks from ``a`` on write nothing behind
    ``a`` as long as they end at ``2 * a`` at the latest. One alone reads before it writes.
    """
    wave: list[_Span] = []
    for span in spans:
        if wave and span[2] + span[3] > 2 * wave[0][2]:
            yield wave
            wave = []
        wave.append(span)
    if wave:
        yield wave


def _taken(todo: _Todo) -> Iterator[_Span]:
    """Take blocks from a line that other threads take from too, until it is empty."""
    with suppress(IndexError):
        while True:
            yield todo.popleft()


def _num_threads(size: int) -> int:
    """One thread per core for a large model, but not so many that they only wait for memory."""
    return min(_MAX_THREADS, os.cpu_count() or 1) if size >= 1 << 20 else 1
