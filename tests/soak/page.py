"""Writes what a soak came to, where figures are wanted (``HOSPITIUM_FIGURES=1``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import Sample, growth, most

PAGE = Path(__file__).parents[2] / "docs" / "results" / "soak.md"

_HEAD = """# Fifty sites for {rounds} rounds on one machine

`hospitium coordinator up` as a process of its own, over TLS on loopback, and {sites} agents of
sites, each with its own keys, folder, policy, approval, record of what left, and eye on the
coordinator's log. The agents are threads of two processes; every process of the machine shares two
cores. A task is trained for real: two steps of the logistic model on 8 x 8 images (65 parameters),
in a training process that the agents of one process share. All files are in memory.

```console
HOSPITIUM_FIGURES=1 .venv/bin/python -m pytest tests/soak -n 0 -s
```

The run ended by itself after {minutes:.0f} min, every round closed; updates that were missing:
{missing}. {rate:.1f} s a round, {site_cpu:.0f} ms of processor time for each answer at the sites
and {centre_cpu:.0f} ms at the coordinator. Other work ran on the machine meanwhile.

| held | at round {first} | at round {rounds} | most | bound | grew in a round | bound |
|---|---|---|---|---|---|---|
"""

_ROWS = (
    ("coordinator_mb", "coordinator and hub, one process: memory", "MB"),
    ("coordinator_threads", "the same: threads", ""),
    ("coordinator_files", "the same: open files and connections", ""),
    ("hub_kb", "the hub's transfer store on disk", "KB"),
    ("hub_count", "the same: files", ""),
    ("params_kb", "models kept of the run", "KB"),
    ("home_kb", "all else in the coordinator's folder", "KB"),
    ("ledger_kb", "the run's ledger with its log: a record, it grows", "KB"),
    ("agents_mb", "agents of all sites, two processes: memory", "MB"),
    ("agents_files", "the same: open files and connections", ""),
    ("record_kb", "one site's record of what left: it grows", "KB"),
    ("work_kb", "all else in one site's folder, with what it saw of the log", "KB"),
)

_FOOT = """
Growth is the median slope between any two samples from round {warm_up} on (Theil and Sen); a sample
was taken every ten rounds. What is a record grows by a fixed amount for each site and round, and is
never deleted: {ledger:.1f} KB in the coordinator's ledger, {record:.1f} KB in the site's record.
Memory grew by {centre:.1f} KB at the coordinator and {site:.1f} KB at the agent for each site and
round; a part of it is where in the records things are. The hub's store grows with the proofs in its
tasks, by the logarithm of the log's length.
"""


def write_page(
    samples: Sequence[Sample],
    reasons: Mapping[str, int],
    *,
    warm_up: int,
    num_sites: int,
    limits: Mapping[str, float],
    growth_limits: Mapping[str, float],
) -> None:
    """Write the page from the samples of one run, and from why updates were missing in it."""
    if not os.environ.get("HOSPITIUM_FIGURES"):
        return
    first, last = samples[0], samples[-1]
    num_answers = num_sites * (last["round"] - first["round"])
    spent = {name: last[name] - first[name] for name in ("agents_cpu_s", "coordinator_cpu_s")}
    slopes = _slopes(samples, warm_up)
    listed = "; ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()))
    text = _HEAD.format(
        missing=listed or "none",
        rounds=int(last["round"]),
        sites=num_sites,
        minutes=last["seconds"] / 60,
        rate=(last["seconds"] - first["seconds"]) / (last["round"] - first["round"]),
        site_cpu=1000 * spent["agents_cpu_s"] / num_answers,
        centre_cpu=1000 * spent["coordinator_cpu_s"] / num_answers,
        first=int(first["round"]),
        warm_up=warm_up,
    )
    for name, words, unit in _ROWS:
        cells = [
            words,
            *(f"{sample[name]:.0f} {unit}" for sample in (first, last)),
            f"{most(samples, name):.0f} {unit}",
            f"{limits[name]:.0f} {unit}" if name in limits else "-",
            f"{slopes[name]:.3f} {unit}",
            f"{growth_limits[name]:.3f} {unit}",
        ]
        text += f"| {' | '.join(cell.strip() for cell in cells)} |\n"
    text += _FOOT.format(
        warm_up=warm_up,
        ledger=slopes["ledger_kb"] / num_sites,
        record=slopes["record_kb"],
        centre=1024 * slopes["coordinator_mb"] / num_sites,
        site=1024 * slopes["agents_mb"] / num_sites,
    )
    PAGE.write_text(text, encoding="utf-8")


def _slopes(samples: Sequence[Sample], warm_up: int) -> dict[str, float]:
    warm = [sample for sample in samples if sample["round"] >= warm_up]
    used = warm if len(warm) > 1 else samples
    return {name: growth(used, name) for name, _, _ in _ROWS}
