"""``python -m bench [--only GROUP] [--small]``: JSON lines to standard output, words to stderr."""

from __future__ import annotations

import argparse
import os
import time
from importlib import import_module

from bench.rows import load, machine, say

GROUPS = {
    "aggregation": "bench.aggregation",
    "memory": "bench.memory",
    "round_overhead": "bench.round_overhead",
    "hub": "bench.hub",
    "gate": "bench.gate",
    "record": "bench.record",
    "imaging_reading": "bench.imaging_reading",
    "imaging_pipeline": "bench.imaging_pipeline",
    "imaging_scan": "bench.imaging_scan",
}
"""Each group by name: a module with ``rows(*, small) -> Iterator[Row]``. Add yours here."""


def main() -> None:
    """Run the groups asked for, and print each row as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=sorted(GROUPS), help="one group instead of all")
    parser.add_argument(
        "--small", action="store_true", help="a hundredth of the size: to see that it runs"
    )
    asked = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # floors are plain loops of one core
    say(f"{machine()}; `ratio` is value / floor, `target` its bar")
    for group in [asked.only] if asked.only else GROUPS:
        started = time.perf_counter()
        say(f"-- {group}")
        for row in import_module(GROUPS[group]).rows(small=asked.small):
            print(row.as_json(), flush=True)
            say(row.as_text())
        say(f"-- {group} took {time.perf_counter() - started:.0f} s, load {load()}")


if __name__ == "__main__":
    main()
