"""The record of what left: how long an entry takes, how fast a record is verified, a large update.

The floor of an append is one synced write of the same bytes; that of verifying, hashing every line
once; that of an update of 760 MB, reading it and hashing it once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.rows import Row, best_of
from hospitium.operations.audit_bundles import VERSION, write_bundle
from hospitium.operations.audit_bundles import Row as BundleRow
from hospitium.site.departures import Departures
from hospitium.site.egress import Egress
from hospitium.state.leaf_log import FILE, Signer
from hospitium.wire.canonical import canonical_json
from hospitium.wire.checkpoints import site_origin
from hospitium.wire.signing import SigningKey

ORIGIN = site_origin("bench", "oslo")
APPEND_MS, VERIFY_S = 10.0, 1.0
"""What `shared/specs/trust.md` asks: of one entry, and of 10,000."""


def rows(*, small: bool) -> Iterator[Row]:
    """Measure on the disk that holds temporary files."""
    key, count = SigningKey.generate(), 100 if small else 10_000
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as name:
        folder = Path(name)
        signer = Signer(origin=ORIGIN, key=lambda: key)
        egress = Egress(Departures(folder / "log", signer=signer), destination="bench")
        yield _append(egress, folder)
        with patch.object(os, "fsync"):  # to have them at once; the append was measured
            for n in range(egress.departures.log.size, count):
                egress.departures.record("enrolment", _facts(n))
        yield _verify(folder, key, count)
        yield _update(folder, key, size_bytes=(760 << 20) // (100 if small else 1))


def _append(egress: Egress, folder: Path) -> Row:
    numbers = iter(range(1000))
    path = folder / "plain"
    line = b"x" * 700 + b"\n"

    def plain() -> None:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    append_s, plain_s = best_of(
        20, lambda: egress.departures.record("enrolment", _facts(next(numbers))), plain
    )
    return Row(
        name="log_append_ms",
        value=1e3 * append_s,
        unit="ms",
        floor=1e3 * plain_s,
        target=APPEND_MS / (1e3 * plain_s),
    )


def _verify(folder: Path, key: SigningKey, count: int) -> Row:
    lines = (folder / "log" / FILE).read_text("utf-8").splitlines()
    head: BundleRow = {
        "record": "bundle", "version": VERSION, "side": "site", "federation": "bench",
        "name": "oslo", "origin": ORIGIN, "officers": [], "threshold": 1,
        "key": key.public.hex(), "is_signed": True, "exported_utc": "",
    }  # fmt: skip
    path = folder / "bundle.jsonl"
    write_bundle([head, *({"record": "leaf", "line": line} for line in lines)], path)
    verifier = _verifier()

    def verify() -> None:
        (bundle,) = verifier.verified([str(path)])
        assert bundle.size == count and not bundle.found

    verify_s, plain_s = best_of(
        3, verify, lambda: [hashlib.sha256(line.encode()).digest() for line in lines]
    )
    per_10k = 10_000 / count
    return Row(
        name="verify_10k_entries_s",
        value=verify_s * per_10k,
        unit="s",
        floor=plain_s * per_10k,
        target=VERIFY_S / (plain_s * per_10k),
    )


def _update(folder: Path, key: SigningKey, *, size_bytes: int) -> Row:
    """Hash a file as it leaves, sign its digest, and check both as its receiver does."""
    path = folder / "update"
    with path.open("wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(os.urandom(1 << 20))

    def digest() -> bytes:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def leave() -> None:
        statement = canonical_json({"kind": "update", "sha256": digest().hex()})
        signature = key.sign(statement)
        key.public.verify(signature, canonical_json({"kind": "update", "sha256": digest().hex()}))

    leave_s, plain_s = best_of(2, leave, digest)
    return Row(name="hash_sign_check_760mb_s", value=leave_s, unit="s", floor=plain_s)


def _facts(n: int) -> dict[str, Any]:
    return {"bytes": n, "sha256": hashlib.sha256(b"%d" % n).hexdigest(), "destination": "bench"}


def _verifier() -> Any:
    path = Path(__file__).parents[1] / "verifier" / "hospitium_verify.py"
    spec = importlib.util.spec_from_file_location("hospitium_verify", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
