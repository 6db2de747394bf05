"""What a person can do with the record of their own side: look at it, verify it, export it.

A site has one record for each federation; the coordinator has one for each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from hospitium.operations.audit_bundles import (
    Row,
    note_run,
    read_bundle,
    run_bundle,
    site_bundle,
    write_bundle,
)
from hospitium.operations.audit_checks import Finding, Record
from hospitium.operations.audit_pairs import check_alike, check_together
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.running import open_ledger
from hospitium.state.home import Home
from hospitium.wire.signing import SigningKey


def show_record(home: Home, *, federation: str | None, run_id: str | None) -> dict[str, Any]:
    """Return every entry of a record that can be read, with the size and the root of its log.

    Args:
        home: This installation.
        federation: Of a site's record; None for the only one.
        run_id: Of a run, for the coordinator's record instead.
    """
    record = Record(_own(home, federation=federation, run_id=run_id))
    return {
        "origin": record.origin,
        "side": record.head["side"],
        "name": record.name,
        "size": record.num_entries,
        "root": record.tree.root().hex(),
        "entries": [{"n": n, **leaf} for n, leaf in enumerate(record.leaves)],
    }


def verify_record(
    home: Home, *, federation: str | None, run_id: str | None, others: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return whether a record holds, and together with those of others; never repairs anything.

    Args:
        home: This installation.
        federation: Of a site's record; None for the only one.
        run_id: Of a run, for the coordinator's record instead.
        others: Bundles of other sides.
    """
    bundles = [_own(home, federation=federation, run_id=run_id), *map(read_bundle, others)]
    findings = verify_bundles(bundles)
    return {
        "origin": bundles[0][0]["origin"],
        "name": bundles[0][0]["name"],
        "size": sum(row["record"] == "leaf" for row in bundles[0]),
        "is_signed": bool(bundles[0][0]["origin"]),
        "records": [rows[0]["origin"] for rows in bundles],
        "holds": not findings,
        "findings": [found.as_dict() for found in findings],
    }


def verify_bundles(bundles: Sequence[Sequence[Row]]) -> list[Finding]:
    """Return all that does not hold in some records, each by itself and any two together."""
    records = [Record(rows) for rows in bundles]
    for one, other in combinations(sorted(records, key=lambda it: not it.is_site), 2):
        if one.is_site and not other.is_site:
            other.guard(partial(check_together, one, other))
        check_alike(one, other)
    return [found for record in records for found in record.findings]


def export_record(
    home: Home, *, federation: str | None, run_id: str | None, out: Path
) -> dict[str, Any]:
    """Write a record as a bundle for `verifier/hospitium_verify.py`; return what is in it.

    The coordinator signs the log of its run as it is now, if it holds.
    """
    rows = _own(home, federation=federation, run_id=run_id)
    if run_id is not None and rows[0]["origin"] and not Record(rows).findings:
        federation = str(rows[0]["federation"])
        key = coordinator_key(existing(home, federation))
        sign_log(home.run(run_id), key=key, federation=federation)
        rows = run_bundle(home, run_id)
    return {**write_bundle(rows, out), "holds": not Record(rows).findings}


def sign_log(folder: Path, *, key: SigningKey, federation: str) -> None:
    """Sign the log of a run as it is now, so that nothing of it can be cut off unseen."""
    ledger = open_ledger(folder)
    try:
        note_run(ledger, key=key, federation=federation)
    finally:
        ledger.close()


def _own(home: Home, *, federation: str | None, run_id: str | None) -> list[Row]:
    return site_bundle(home, federation) if run_id is None else run_bundle(home, run_id)
