"""What a broken or hostile site may send, and the reason for which it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hospitium.algorithms.norm_bound import NORM_SUM, NUM_BINS
from hospitium.types import Params, Update


def _params(change: Callable[[Params], Params]) -> Callable[[Update], Update]:
    return lambda update: replace(update, delta=change(update.delta))


def _sums(**sums: object) -> Callable[[Update], Update]:
    return lambda update: replace(update, sums={**update.sums, **sums})


def _fields(**values: object) -> Callable[[Update], Update]:
    return lambda update: replace(update, **values)


def _with_last(value: float) -> Callable[[Params], Params]:
    return lambda delta: {**delta, "w": np.append(delta["w"][:-1], np.float32(value))}


LIES: Mapping[str, tuple[str, Callable[[Update], Update]]] = {
    "a NaN": ("non_finite", _params(_with_last(np.nan))),
    "an infinity": ("non_finite", _params(_with_last(-np.inf))),
    "a change times 10^9": (
        "norm",
        _params(lambda delta: {name: array * np.float32(1e9) for name, array in delta.items()}),
    ),
    "a wrong shape": ("header", _params(lambda delta: {**delta, "w": delta["w"].reshape(2, 2)})),
    "a wrong name": ("header", _params(lambda delta: {"w": delta["w"], "c": delta["b"]})),
    "a name too many": ("header", _params(lambda delta: {**delta, "c": delta["b"]})),
    "a wrong dtype": (
        "header",
        _params(lambda delta: {name: array.astype(np.float64) for name, array in delta.items()}),
    ),
    "no params": ("header", _params(lambda delta: {})),
    "a weight of 10^9 cases": ("weight", _fields(num_cases=10**9)),
    "a negative number of cases": ("weight", _fields(num_cases=-8)),
    "a negative count": ("fields", _sums(loss=(-5, 1))),
    "a float for a count": ("fields", _sums(loss=(5.0, 1))),
    "a bool for a count": ("fields", _sums(loss=(5, True))),
    "sums of another length": ("fields", _sums(loss=(5, 1, 1))),
    "sums of another name": ("fields", _sums(patients=(5,))),
    "a norm of another length": ("fields", _sums(**{NORM_SUM: (1, 0, 0)})),
    "many norms at once": ("fields", _sums(**{NORM_SUM: (*[0] * (NUM_BINS - 1), 10**6)})),
    "a stale round": (
        "round",
        lambda update: replace(update, round_number=update.round_number - 1),
    ),
    "a round to come": (
        "round",
        lambda update: replace(update, round_number=update.round_number + 1),
    ),
    "other base params": ("base", _fields(base_digest="0" * 64)),
    "another run": ("plan", _fields(run_id="other")),
    "another plan": ("plan", _fields(plan_digest="0" * 64)),
}
