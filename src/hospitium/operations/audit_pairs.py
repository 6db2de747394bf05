"""Whether the records of two sides hold together: what one has and the other does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hospitium.errors import TrustError
from hospitium.operations.audit_checks import Record, time_of
from hospitium.wire.checkpoints import open_checkpoint

APART = timedelta(hours=24)
"""How far the clocks of two sides may differ, and a message may be on its way."""


def check_together(site: Record, run: Record) -> None:
    """Look for gaps between a site's record and the coordinator's log of one run."""
    for seen in site.shown:
        if seen.origin == run.origin and not run.has_root(seen.size, seen.root):
            run.find("fork", seen.size, f"{site.name} was shown another history")
    own = {
        (leaf["round_number"], leaf["params_sha256"]): leaf
        for leaf in site.leaves
        if leaf["kind"] == "update" and leaf["run_id"] == run.name
    }
    for n, leaf in enumerate(run.leaves):
        if leaf["kind"] == "received" and leaf["site_id"] == site.name:
            _check_received(site, run, n, mine=own.get((leaf["round_number"], leaf["digest"])))
    told = {leaf.get("round_number") for leaf in run.leaves if leaf.get("site_id") == site.name}
    for row in site.rows["departed"]:
        mine = site.leaves[row["n"]] if row["n"] < len(site.leaves) else {}
        is_taken = bool(row["receipt"]) and mine.get("kind") == "update"
        if is_taken and mine["run_id"] == run.name and mine["round_number"] not in told:
            site.find("gap", row["n"], "it has a receipt, and the run has no entry of it")


def _check_received(site: Record, run: Record, n: int, *, mine: Mapping[str, Any] | None) -> None:
    """Check an update that the coordinator received against the site's entry of it."""
    leaf = run.leaves[n]
    if mine is None:
        run.find("gap", n, f"{site.name} has no entry of this update")
    elif abs(time_of(leaf) - time_of(mine)) > APART:
        site.find("clock", mine["n"], "its time is more than a day off the coordinator's")
    if leaf.get("checkpoint"):
        _check_checkpoint(site, run, n, leaf["checkpoint"])


def _check_checkpoint(site: Record, run: Record, n: int, note: str) -> None:
    """Check a site's record against the checkpoint of it that came with an update."""
    try:
        told = open_checkpoint(note, *site.keys.get(site.name, ()), origin=site.origin)
    except TrustError:
        run.find("entry", n, f"the checkpoint of {site.name} in it does not hold")
        return
    if told.size > site.num_entries:
        site.find("truncated", site.num_entries, f"{told.size} entries were signed")
    elif not site.has_root(told.size, told.root):
        site.find("fork", told.size, "the coordinator was shown another history")


def check_alike(one: Record, other: Record) -> None:
    """Look for what two sides must say alike and do not.

    That is a member list of one epoch, the history of one log at one size, and what one round
    trained on.
    """
    for (name, of), (what, n) in one.alike.items():
        if other.alike.get((name, of), (what, n))[0] != what:
            one.find(name, n, f"the record of {other.name} says otherwise")
