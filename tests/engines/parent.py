"""Run by a test that kills it: starts one worker, says its process, and waits."""

import json
import sys
import time
from pathlib import Path

import handlers

from hospitium.engines.workers import WorkerPool

if __name__ == "__main__":
    pool = WorkerPool(handlers.obey, num_workers=1)
    pid = json.loads(pool.submit(b'"tell"', deadline_s=60).result())["pid"]
    if sys.argv[1] == "busy":
        pool.submit(b"60.0", deadline_s=60)
        time.sleep(0.2)
    place = Path(sys.argv[2])
    place.with_suffix(".new").write_text(str(pid))
    place.with_suffix(".new").rename(place)
    time.sleep(60)
