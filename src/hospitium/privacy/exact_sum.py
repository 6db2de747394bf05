"""A weighted sum of updates as exact integers: any order of arrival gives the same bits.

Each value ``x`` of an update of weight ``w`` becomes the integer ``round(x * S * w)`` at a public
power of two ``S``, and integers add exactly. Rounding uses the add-magic-constant trick: a float64
plus ``1.5 * 2**52`` holds its own rounded integer in its low bits, so that the conversion costs one
addition, and the constant's own bits are taken out once, at the end. Reading, the finite check, the
norm check and the addition are one pass over blocks that stay in cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hospitium.errors import UpdateError
from hospitium.types import Params
from hospitium.wire.blob import DTYPES, Manifest, num_values

WEIGHT_ONE = 1 << 20
"""The integer that stands for an aggregation weight of 1."""

NORM_TOLERANCE = 1.001
"""Float32 rounding may leave a clipped update this much above its bound."""

_MAGIC = float(3 << 51)
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.int64))
_BLOCK = 1 << 15
_ROW = 1 << 13

_Span: TypeAlias = tuple[str, int, int, int]
"""Name of an array, where a block begins in it, where in the sum, and its length."""

_Done: TypeAlias = tuple[int, float]
"""How many blocks were added, and the sum of their squares."""


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
        self._total = np.zeros(num_values(manifest), np.int64)
        self._spans = _spans(manifest, num_threads=_num_threads(self._total.size))
        self._num_added = 0
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
        factor = self._scale * (weight / WEIGHT_ONE)
        limit = (self._max_norm * NORM_TOLERANCE * factor) ** 2
        done = self._each(lambda spans: self._put(delta, spans, factor=factor, limit=limit))
        squares = sum(part for _, part in done)
        if squares <= limit:
            self._num_added += 1
            self.sum_weight += weight
            return
        for spans, (num_blocks, _) in zip(self._spans, done, strict=True):
            self._take_out(delta, spans, factor=factor, num_blocks=num_blocks)
        if math.isfinite(squares):
            raise UpdateError(
                "norm",
                f"its norm is above the bound of {self._max_norm:.4g}. Nothing of it was added.",
            )
        raise UpdateError("non_finite", "it holds a NaN or an infinity. Nothing of it was added.")

    def mean(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weighted mean change as float32, in the manifest's shapes."""
        assert self.sum_weight > 0, "nothing was added"
        divisor = self._scale * (self.sum_weight / WEIGHT_ONE)
        offset = np.int64(_wrapped(self._num_added * _MAGIC_BITS))
        mean: dict[str, npt.NDArray[Any]] = {
            name: np.empty(shape, DTYPES[dtype]) for name, dtype, shape in self._manifest
        }
        for name, at, start, length in (span for spans in self._spans for span in spans):
            whole = self._total[start : start + length] - offset
            mean[name].reshape(-1)[at : at + length] = whole / divisor
        return mean

    def _each(self, work: Callable[[list[_Span]], _Done]) -> list[_Done]:
        """Do this for each thread's spans; NumPy gives up the interpreter lock on every block."""
        if len(self._spans) == 1:
            return [work(self._spans[0])]
        with ThreadPoolExecutor(len(self._spans)) as pool:
            return list(pool.map(work, self._spans))

    def _put(self, delta: Params, spans: list[_Span], *, factor: float, limit: float) -> _Done:
        """Add block by block; return how many were added, and the sum of squares that was seen.

        A block is looked at before it is added: adding stops at the first block that takes the
        square sum above the limit or makes it NaN, and that block is not added.
        """
        buffer = np.empty(_BLOCK, np.float64)
        squares = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for num_blocks, (name, at, start, length) in enumerate(spans):
                block = _scaled(delta[name], at, factor=factor, out=buffer[:length])
                squares += _sum_of_squares(block)
                if not squares <= limit:
                    return num_blocks, squares
                block += _MAGIC
                total = self._total[start : start + length]
                np.add(total, block.view(np.int64), out=total)
        return len(spans), squares

    def _take_out(
        self, delta: Params, spans: list[_Span], *, factor: float, num_blocks: int
    ) -> None:
        """Subtract exactly what `_put` added in its first blocks."""
        buffer = np.empty(_BLOCK, np.float64)
        for name, at, start, length in spans[:num_blocks]:
            block = _scaled(delta[name], at, factor=factor, out=buffer[:length])
            block += _MAGIC
            total = self._total[start : start + length]
            np.subtract(total, block.view(np.int64), out=total)


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


def _scaled(
    array: npt.NDArray[Any], at: int, *, factor: float, out: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Write ``factor`` times one block of a float32 array to ``out``, in float64."""
    flat = array.reshape(-1)[at : at + out.size]
    np.multiply(flat, factor, out=out, dtype=np.float64)
    return out


def _sum_of_squares(block: npt.NDArray[np.float64]) -> float:
    """Return ``block @ block`` in rows short enough that BLAS does not wake its own threads."""
    whole = block.size - block.size % _ROW
    rows, rest = block[:whole].reshape(-1, _ROW), block[whole:]
    return float(np.vecdot(rows, rows).sum()) + float(rest @ rest)


def _spans(manifest: Manifest, *, num_threads: int) -> list[list[_Span]]:
    """Cut all arrays into blocks, and the blocks into one list per thread."""
    spans: list[_Span] = []
    start = 0
    for name, _, shape in manifest:
        size = math.prod(shape)
        spans += [(name, at, start + at, min(_BLOCK, size - at)) for at in range(0, size, _BLOCK)]
        start += size
    share = -(-len(spans) // num_threads) or 1
    return [spans[at : at + share] for at in range(0, len(spans), share)] or [[]]


def _num_threads(size: int) -> int:
    """Two threads for a large model where there are two cores: more would only wait for memory."""
    return 2 if size >= 1 << 20 and (os.cpu_count() or 1) > 1 else 1
