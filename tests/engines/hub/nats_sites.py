"""What a worker does for a least-squares site: it may be told to wait for a word in a file."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path

from hospitium.algorithms.norm_bound import NORM_SUM
from hospitium.engines.site_worker import public_words
from hospitium.site.egress import prepare
from hospitium.testing.fakes import least_squares_sites
from hospitium.wire import blob
from hospitium.wire.envelope import decode_task


def fit(request: bytes) -> bytes:
    """Answer one task; where the site's folder has a file ``hold-ROUND``, once it is gone."""
    fields = json.loads(request)
    if "warm" in fields:
        return b"{}"
    return public_words(lambda: _fit(fields), Path(fields["folder"]))


def _fit(fields: dict[str, str]) -> str:
    task = decode_task(base64.b64decode(fields["task"]), params=blob.read(Path(fields["params"])))
    cases = Path(fields["cases"])
    (cases / f"asked-{task.round_number}").touch()
    while (cases / f"hold-{task.round_number}").exists():
        time.sleep(0.01)
    sites = {site.site_id: site for site in least_squares_sites()}
    update = sites[fields["site_id"]](task)
    update = replace(update, sums={NORM_SUM: update.sums[NORM_SUM]})  # its loss may not leave
    envelope, _ = prepare(
        update, task=task, outbox=Path(fields["outbox"]), is_sealed=fields["is_sealed"]
    )
    return base64.b64encode(envelope).decode()
