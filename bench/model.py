"""The model that is measured with: the arrays of a ResNet-50 without its head, 23.5 M float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.wire import blob
from hospitium.wire.blob import Manifest

_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def manifest(*, small: bool = False) -> Manifest:
    """Return names and shapes of 159 float32 arrays; ``small`` has an eighth of the channels."""
    divide = 8 if small else 1
    shapes = _conv("stem", 3, 64 // divide, side=7)
    inputs = 64 // divide
    for stage, (num_blocks, width) in enumerate(_STAGES):
        width //= divide
        for index in range(num_blocks):
            at = f"stage{stage}.block{index}"
            shapes |= _conv(f"{at}.reduce", inputs, width, side=1)
            shapes |= _conv(f"{at}.spatial", width, width, side=3)
            shapes |= _conv(f"{at}.expand", width, 4 * width, side=1)
            if index == 0:
                shapes |= _conv(f"{at}.shortcut", inputs, 4 * width, side=1)
            inputs = 4 * width
    return tuple((name, "F32", shape) for name, shape in sorted(shapes.items()))


def manifest_of_size(num_values: int) -> Manifest:
    """Return a few arrays of together this many float32 values."""
    rows = num_values // 1000
    return (("bias", "F32", (num_values - rows * 1000,)), ("weight", "F32", (rows, 1000)))


def draw(manifest: Manifest, *, seed: int, scale: float = 1e-4) -> dict[str, npt.NDArray[Any]]:
    """Return small random numbers in these shapes."""
    generator = np.random.default_rng(seed)
    params = {}
    for name, _, shape in manifest:
        values = generator.random(shape, np.float32)
        values -= np.float32(0.5)
        values *= np.float32(scale)
        params[name] = values
    return params


def write(path: Path, params: dict[str, npt.NDArray[Any]]) -> Path:
    """Write params to a file; they stay in the page cache."""
    with path.open("wb") as file:
        blob.write(file, params)
    return path


def _conv(name: str, inputs: int, outputs: int, *, side: int) -> dict[str, tuple[int, ...]]:
    """Return a convolution without bias, and the two vectors of its normalisation."""
    return {
        f"{name}.conv.weight": (outputs, inputs, side, side),
        f"{name}.norm.weight": (outputs,),
        f"{name}.norm.bias": (outputs,),
    }
