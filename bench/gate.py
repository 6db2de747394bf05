"""The gate for a params file: its header is compared with the manifest's, its values are looked at.

One core. The floor of the values is a plain ``np.dot`` over the same memory; the peer is the stock
safetensors library, which parses the header, copies the arrays and looks at no value.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from bench import model
from bench.rows import Row, best_of
from hospitium.privacy.clipping import l2_norm
from hospitium.types import Params
from hospitium.wire import blob

REPEATS = 30
LEAST_GBPS = 3.0
"""What `shared/specs/trust.md` asks of a core."""


def rows(*, small: bool) -> Iterator[Row]:
    """Measure a file of 94 MB and 159 arrays in the page cache, all in turns on one core."""
    manifest = model.manifest(small=small)
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        path = model.write(Path(folder) / "update.safetensors", model.draw(manifest, seed=1))
        params = blob.read(path)
        gate_s, plain_s, stock_s = best_of(
            REPEATS,
            lambda: _gate(path, manifest),
            lambda: _plain(params),
            lambda: load_file(path),
        )
        header_s, keys_s = best_of(
            10 * REPEATS, lambda: blob.read(path, manifest=manifest), lambda: _keys(path)
        )
        size_gb = path.stat().st_size / 1e9
    yield Row(
        name="safetensors_gate_gbps",
        value=size_gb / gate_s,
        unit="GB/s",
        floor=size_gb / plain_s,
        target=LEAST_GBPS * plain_s / size_gb,
        better="higher",
    )
    yield Row(name="safetensors_gate_vs_stock_load", value=gate_s, unit="s", floor=stock_s)
    yield Row(name="header_gate_us", value=1e6 * header_s, unit="us", floor=1e6 * keys_s)


def _gate(path: Path, manifest: blob.Manifest) -> None:
    """Read a file whose manifest is known; look at each value: finite, and the norm of all."""
    assert np.isfinite(l2_norm(blob.read(path, manifest=manifest)))


def _plain(params: Params) -> None:
    """Read the same memory once."""
    for array in params.values():
        flat = array.reshape(-1)
        np.dot(flat, flat)


def _keys(path: Path) -> None:
    """Have the stock library parse the header."""
    with safe_open(path, "np") as file:
        assert len(file.keys()) > 0
