"""A site that does no local work: it answers each task with small random numbers, at once.

It runs in the engine's own worker processes and goes through the site's own way out, so that all
that a round costs apart from training is there: hashing, writing, syncing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import model
from bench.stopwatch import Stopwatch
from hospitium.algorithms.norm_bound import NORM_SUM, norm_sum
from hospitium.privacy.clipping import l2_norm
from hospitium.site import egress
from hospitium.types import Update
from hospitium.wire import blob
from hospitium.wire.blob import Manifest
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import decode_task

TIMES = "times.jsonl"
"""Where in a site's folder it is written when its serialisation began and ended."""


def answer_request(request: bytes) -> bytes:
    """Answer one task for one site, and note when arrays were hashed, written and read."""
    fields = json.loads(request)
    watch = Stopwatch()
    with watch.watching():
        params = blob.read(Path(fields["params"]))
        task = decode_task(base64.b64decode(fields["task"]), params=params)
        delta, norm = _change(blob.manifest_of(params))
        update = Update(
            run_id=task.run_id,
            round_number=task.round_number,
            site_id=fields["site_id"],
            plan_digest=task.plan_digest,
            base_digest=task.base_digest,
            num_cases=fields["num_cases"],
            delta={**delta, "bias": _own_bias(delta["bias"], fields["site_id"])},
            sums={NORM_SUM: norm_sum(norm)},
        )
        envelope, _ = egress.prepare(
            replace(update, num_steps=1),
            task=task,
            outbox=Path(fields["outbox"]),
            is_sealed=fields.get("is_sealed", False),
        )
    with (Path(fields["folder"]) / TIMES).open("a") as file:
        file.write(json.dumps(watch.intervals) + "\n")
    return canonical_json({"envelope": base64.b64encode(envelope).decode()})


@lru_cache(maxsize=1)
def _change(manifest: Manifest) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Draw a change once for each worker: drawing is no work of the round's."""
    delta = model.draw(manifest, seed=1)
    return delta, l2_norm(delta)


def _own_bias(bias: npt.NDArray[Any], site_id: str) -> npt.NDArray[Any]:
    """Make each site's update a file of its own."""
    return np.full_like(bias, 1e-5 * int(site_id.rsplit("-", 1)[1]))
