"""A site of NVIDIA FLARE that does no local work; FLARE runs it, in FLARE's own environment.

It answers each model with a change of the same shape, drawn once, and notes when the model came.
"""

import sys
import time
from pathlib import Path

import numpy as np
import nvflare.client as flare


def main() -> None:
    """Answer models until the job is over."""
    flare.init()
    site = flare.get_site_name()
    change = None
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        with (Path(sys.argv[1]) / f"{site}.times").open("a") as file:
            file.write(f"{time.time()}\n")
        if change is None:
            draw = np.random.default_rng(1).random
            change = {
                name: draw(np.shape(array), np.float32) * np.float32(1e-4)
                for name, array in model.params.items()
            }
        flare.send(
            flare.FLModel(params=change, params_type=flare.ParamsType.DIFF, metrics={"loss": 1.0})
        )


if __name__ == "__main__":
    main()
