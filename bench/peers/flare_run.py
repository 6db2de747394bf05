"""One measurement of NVIDIA FLARE, in FLARE's own environment; prints one JSON line at the end.

``python flare_run.py FOLDER NUM_SITES NUM_VALUES NUM_ROUNDS``. FLARE's own provisioning makes a
server and N sites with certificates, each starts as processes of its own by FLARE's start scripts,
and the stock FedAvg recipe for NumPy models runs over them. A round's time is from the moment that
the first site has a model to the moment that the first site has the next one.
"""

import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

PATIENCE_S = 900


def main() -> None:
    """Run one job and print the times of its rounds, and the memory of the server's processes."""
    folder = Path(sys.argv[1]).resolve()
    num_sites, num_values, num_rounds = (int(text) for text in sys.argv[2:5])
    # FLARE keeps settings in the home folder and takes its workspace from the environment.
    os.environ |= {"HOME": str(folder), "NVFLARE_POC_WORKSPACE": str(folder / "poc")}
    from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
    from nvflare.recipe.poc_env import PocEnv

    times = folder / "times"
    times.mkdir()
    first = folder / "model.npy"
    np.save(first, np.random.default_rng(7).random(num_values, np.float32))
    recipe = NumpyFedAvgRecipe(
        name="idle",
        initial_ckpt=str(first),
        min_clients=num_sites,
        num_rounds=num_rounds,
        train_script=str(Path(__file__).with_name("flare_site.py")),
        train_args=str(times),
    )
    env = PocEnv(num_clients=num_sites)
    peaks: dict[int, float] = {}
    is_over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folder / "poc", peaks, is_over))
    watcher.start()
    try:
        recipe.execute(env)
        _wait_for(times, num_sites=num_sites, num_rounds=num_rounds)
    finally:
        is_over.set()
        watcher.join()
        env.stop()
    print(json.dumps({"rounds": _rounds(times), "peak_mb": sum(peaks.values())}))


def _wait_for(times: Path, *, num_sites: int, num_rounds: int) -> None:
    """Return once every site has had the model of the last round."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        counts = [len(path.read_text().split()) for path in times.glob("*.times")]
        if len(counts) == num_sites and min(counts) >= num_rounds:
            return
        time.sleep(0.2)
    raise TimeoutError(f"the rounds did not end in {PATIENCE_S} s")


def _rounds(times: Path) -> list[float]:
    """Return how long each round took, from the times at which sites had the models."""
    lists = [[float(line) for line in path.read_text().split()] for path in times.glob("*.times")]
    firsts = [min(row) for row in zip(*lists, strict=False)]
    return [after - before for before, after in itertools.pairwise(firsts)]


def _watch(workspace: Path, peaks: dict[int, float], is_over: threading.Event) -> None:
    """Note the peak memory of each of the server's processes, in MB."""
    while not is_over.wait(0.2):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
                if any(word.startswith(str(workspace)) and "/server" in word for word in words):
                    status = (process / "status").read_text().splitlines()
                    peak = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
                    peaks[int(process.name)] = sum(peak) * 1024e-6
            except (OSError, UnicodeDecodeError):
                continue


if __name__ == "__main__":
    started = time.time()
    main()
