"""What the worker processes of the engines under test do: they import this, and little else."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import acts
from acts import Scene, Sent

from hospitium.engines.site_worker import public_words
from hospitium.site.egress import prepare, unsealed_path
from hospitium.wire import blob
from hospitium.wire.envelope import decode_task

NUM_WORKERS = 2


def handle(request: bytes) -> bytes:
    """Act as a site does, in a worker process; the wire is that of the real handler."""
    fields = json.loads(request)
    if "warm" in fields:
        return _wait_for_all(Path(fields["warm"]))
    return public_words(lambda: _act(fields), Path(fields["folder"]))


def _act(fields: Mapping[str, Any]) -> str:
    task = decode_task(base64.b64decode(fields["task"]), params=blob.read(Path(fields["params"])))
    folder, outbox = Path(fields["folder"]), Path(fields["outbox"])
    is_sealed = fields.get("is_sealed", False)
    act = getattr(acts, (folder / "act").read_text())
    done = act(Scene(task=task, site_id=fields["site_id"], place=folder.parent))
    if isinstance(done, Sent):
        outbox.mkdir(parents=True, exist_ok=True)
        if done.file is not None:
            own = outbox / f"{done.digest}.safetensors"
            (unsealed_path(outbox, task) if is_sealed else own).write_bytes(done.file)
        return base64.b64encode(done.envelope).decode()
    envelope, _ = prepare(done, task=task, outbox=outbox, is_sealed=is_sealed)
    return base64.b64encode(envelope).decode()


def _wait_for_all(place: Path) -> bytes:
    (place / f"warm-{os.getpid()}").touch()
    until = time.monotonic() + 50
    while len(list(place.glob("warm-*"))) < NUM_WORKERS and time.monotonic() < until:
        time.sleep(0.005)
    return b"{}"
