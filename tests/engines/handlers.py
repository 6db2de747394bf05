"""What workers do in the tests of the pool: module-level functions, found by their names."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np


def obey(request: bytes) -> bytes:
    """Do what the request says: sleep, die, or tell something about this process."""
    order = json.loads(request)
    if order == "die":
        os._exit(3)
    if isinstance(order, float):
        time.sleep(order)
    told = {
        "pid": os.getpid(),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "threads": _threads_of_a_product(),
        "modules": sorted(name for name in ("torch", "monai") if name in sys.modules),
    }
    return json.dumps(told).encode()


def _threads_of_a_product() -> int:
    """Return how many threads NumPy has beside Python's own."""
    big = np.ones((400, 400))
    big @ big
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()
