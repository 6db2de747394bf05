"""``python -m bench.peers [--only PEER] [--small]``: rounds of peers beside ours, as JSON lines.

In ``hub_to_*`` rows the value is ours and the floor the peer's, taken one after the other in the
same run, so that ``ratio`` is ours / theirs. ``hub_to_*_round_*`` is the median round of each: a
run costs the sum of its rounds, and a peer's depend on how the intervals meet at which its parts
look for work. ``hub_to_*_quickest_*`` is the quickest of each, with the same bars. ``peer_*`` rows
hold the peer's quickest beside the socket floor.
Nothing is measured at a site but what it costs to be asked and to answer: no local work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.hub_coordinator import measure, write_certificates
from bench.peers.environments import FLARE, FLOWER, Peer
from bench.rows import Row, load, machine, say

NUM_ROUNDS = 12
CASES = {
    "flare": (("23m_n2", 23_000_000, 2), ("23m_n8", 23_000_000, 8), ("1m_n2", 1_000_000, 2)),
    "flower": (("23m_n2", 23_000_000, 2), ("23m_n8", 23_000_000, 8), ("1k_n2", 1_000, 2)),
}
TARGETS = {("flare", 2): 0.75, ("flare", 8): 0.5}
"""Ours / theirs, at the model of 23 M params."""


def main() -> None:
    """Measure each case with the peer and with ours, and print rows as soon as they are there."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--only", choices=("flare", "flower"), help="one peer instead of both")
    parser.add_argument("--small", action="store_true", help="two sites and 1,000 params only")
    asked = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for peer in (FLARE, FLOWER):
        if asked.only in (None, peer.name):
            say(f"-- {peer.package} {peer.version()}; {machine()}")
            for row in _rows(peer, small=asked.small):
                print(row.as_json(), flush=True)
                say(row.as_text())


def _rows(peer: Peer, *, small: bool) -> Iterator[Row]:
    cases = (("1k_n2", 1_000, 2),) if small else CASES[peer.name]
    for name, num_values, num_sites in cases:
        say(f"{name}: load {load()}")
        theirs = _measure_peer(peer, num_sites=num_sites, num_values=num_values)
        say(f"{name}: {peer.name} rounds {[round(took, 2) for took in theirs['rounds']]} s")
        ours = measure(
            num_sites=num_sites, num_values=num_values, num_rounds=NUM_ROUNDS + 1, with_floor=True
        )
        rounds = ours["rounds"][1:]
        say(f"{name}: our rounds {[round(row['round_s'], 2) for row in rounds]} s")
        their_s, our_s = min(theirs["rounds"]), min(row["round_s"] for row in rounds)
        floor_s = min(row["floor_s"] for row in rounds)
        yield Row(name=f"peer_{peer.name}_round_{name}", value=their_s, unit="s", floor=floor_s)
        target = TARGETS.get((peer.name, num_sites)) if name.startswith("23m") else None
        yield Row(
            name=f"hub_to_{peer.name}_quickest_{name}",
            value=our_s,
            unit="s",
            floor=their_s,
            target=target,
        )
        yield Row(
            name=f"hub_to_{peer.name}_round_{name}",
            value=median(row["round_s"] for row in rounds),
            unit="s",
            floor=median(theirs["rounds"]),
            target=target,
        )
        yield Row(
            name=f"hub_to_{peer.name}_rss_{name}",
            value=ours["peak_mb"],
            unit="MB",
            floor=theirs["peak_mb"],
        )


def _measure_peer(peer: Peer, *, num_sites: int, num_values: int) -> dict[str, Any]:
    """Run a peer in its own environment and return what it says."""
    script = Path(__file__).with_name(f"{peer.name}_run.py")
    with tempfile.TemporaryDirectory(prefix="hospitium-peer-") as folder:
        certificates = write_certificates(Path(folder)) if peer is FLOWER else ()
        sizes = [str(number) for number in (num_sites, num_values, NUM_ROUNDS + 1)]
        command = [str(peer.python()), str(script), folder, *sizes, *map(str, certificates)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            log = Path(folder) / "log"
            say(log.read_text()[-3000:] if log.is_file() else done.stdout[-3000:])
            sys.exit(f"{peer.name} did not run; what it said is above")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
