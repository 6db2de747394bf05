"""Figures that tests measured, and the page that is written from them.

    HOSPITIUM_FIGURES=1 .venv/bin/python -m pytest tests/survival -n 0 -m "ci or slow"

Each test leaves its figure below ``build/survival``, and with it the page is written anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "survival"
PAGE = ROOT / "docs" / "results" / "survival.md"


def figure(name: str, text: str) -> None:
    """Keep what a test measured, where figures are wanted."""
    if os.environ.get("HOSPITIUM_FIGURES"):
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{name}.json").write_text(json.dumps(text))


ROWS = (
    (
        "site_killed",
        "A site is killed (`kill -9`) in mid-round",
        "FLARE 2.9: the round waited 657 s",
        "its deadline + 10 s at most; the site is taken back when it returns",
        "test_site_gone.py",
    ),
    (
        "centre_killed",
        "The coordinator, with its hub, is killed at random moments",
        "FLARE and Flower: the run is lost",
        "started again, it ends with the bits of an undisturbed run",
        "test_centre_gone.py",
    ),
    (
        "late_site",
        "A site comes late: its agent starts, or its approval comes, after round 3",
        "FLARE: never taken in",
        "takes part from the next round",
        "test_late_site.py",
    ),
    (
        "quorum",
        "Fewer sites than the quorum are there",
        "FLARE: 6 of 8 rounds were formed from one hospital",
        "no aggregate below quorum; the run waits and goes on when sites return",
        "test_site_gone.py",
    ),
    (
        "upload",
        "A site's agent is killed before, during and after its upload",
        "",
        "the same bytes are sent again, nothing is trained twice, same bits",
        "test_site_upload.py",
    ),
    (
        "store",
        "The hub's whole transfer store is lost in mid-round, while it is down, and while it runs",
        "",
        "same bits",
        "test_centre_gone.py",
    ),
    (
        "line_8",
        "8 MB over 10 Mbit/s, cut five times",
        "",
        "what had arrived is not sent again: 1.1 x its size at most, and the chunk that was cut",
        "test_slow_line.py",
    ),
    (
        "line_760",
        "760 MB over 10 Mbit/s, cut five times each way",
        "",
        "1.1 x its size at most, each way",
        "test_slow_line.py",
    ),
    (
        "outage",
        "The hub is away for a while",
        "",
        "every site comes back by itself, and none floods it",
        "test_centre_gone.py",
    ),
    (
        "skew",
        "The clocks of two sites are a day ahead and a day behind",
        "",
        "durations do not notice; what expires has a day of grace",
        "test_clocks.py",
    ),
    (
        "window",
        "A site's hours begin after the round did",
        "",
        "the round waits, within its deadline, and closes with that site",
        "test_clocks.py",
    ),
    (
        "disk",
        "The disk is full at a site, then at the coordinator",
        "",
        "it is said, nothing is lost, and all goes on when there is space",
        "test_disk_full.py",
    ),
    (
        "nats",
        "On a NATS cluster: each of 3 NATS servers and 2 hub replicas is killed in turn, then all "
        "servers at once with all that they stored",
        "",
        "same bits",
        "test_nats_killed.py",
    ),
    (
        "chaos_short",
        "A coordinator and four sites, killed, stopped and cut at random, 2 min with all",
        "",
        "the run ends, with the bits of an undisturbed run of the same participation",
        "test_chaos.py",
    ),
    (
        "chaos",
        "The same for 10 min",
        "",
        "it goes on, and every round has the bits of an undisturbed run of the same participation",
        "test_chaos.py",
    ),
)

_HEAD = """# What a run survives

Real processes on one machine: `hospitium coordinator up` and one `hospitium site up` for each
site, over TLS, each site behind a proxy of its own that can be cut, shut and slowed down. The model
is tiny, so that a round takes parts of a second. "Same bits" is the SHA-256 of the params after
every round, against the same plan and sites in one process in which nothing goes wrong.

The figures of the peers are from our own trials of NVIDIA FLARE 2.9 and Flower; a dash says that
there was none. Ours are written here by the tests:

```console
HOSPITIUM_FIGURES=1 .venv/bin/python -m pytest tests/survival -n 0 --timeout 7200 -m "ci or slow"
```

| fault | peers | promised | measured | test in `tests/survival` |
|---|---|---|---|---|
"""


def write_page() -> None:
    """Write the page from every figure that is kept, where figures are wanted."""
    if os.environ.get("HOSPITIUM_FIGURES") and KEPT.is_dir():
        kept = {path.stem: json.loads(path.read_text()) for path in KEPT.glob("*.json")}
        lines = []
        for name, fault, peers, promised, test in ROWS:
            found = kept.get(name, "not measured")
            lines.append(f"| {fault} | {peers or '-'} | {promised} | {found} | `{test}` |")
        PAGE.write_text(_HEAD + "\n".join(lines) + "\n")
