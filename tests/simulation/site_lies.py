"""What a lying site says instead of the truth; it has taken its own software apart."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hospitium.site.egress import unsealed_path
from hospitium.types import Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import decode_task, decode_update, encode_update


def _scaled(update: Update, factor: float) -> Update:
    return replace(
        update, delta={name: array * np.float32(factor) for name, array in update.delta.items()}
    )


def _with(update: Update, value: float) -> Update:
    def put(array: Any) -> Any:
        array = array.copy()
        array.reshape(-1)[-1:] = np.float32(value)
        return array

    return replace(update, delta={name: put(array) for name, array in update.delta.items()})


LIES: Mapping[str, Callable[[Update], Update]] = {
    "nan": lambda update: _with(update, np.nan),
    "infinity": lambda update: _with(update, np.inf),
    "huge": lambda update: _scaled(update, 1e9),
    "wrong base": lambda update: replace(update, base_digest="0" * 64),
    "stale round": lambda update: replace(update, round_number=max(1, update.round_number - 1)),
    "later round": lambda update: replace(update, round_number=update.round_number + 1),
    "wrong weight": lambda update: replace(update, num_cases=update.num_cases * 10),
    "other's identity": lambda update: replace(
        update, site_id="kiel" if update.site_id != "kiel" else "oslo"
    ),
    "other run": lambda update: replace(update, run_id="another"),
    "sign flipped": lambda update: _scaled(update, -1.0),
}
"""How an update is changed; of these, only a flipped sign is within what a site may send."""

ACCEPTABLE = ("sign flipped", "second", "impersonate")
"""Lies that no check of one update can find, or that leave the first answer as it is."""


def written(request: Mapping[str, Any]) -> Path | None:
    """Return the file of the change that the training process wrote, as the agent seals it next."""
    task = decode_task(base64.b64decode(request["task"]), params={})
    path = unsealed_path(Path(request["outbox"]), task)
    return path if task.purpose == "train" and path.is_file() else None


def told(kind: str, reply: bytes, request: Mapping[str, Any]) -> bytes:
    """Return a reply of the training process with a lie in it."""
    if kind not in LIES:
        return reply
    fields = json.loads(reply)
    if "envelope" not in fields:
        return reply
    update, _ = decode_update(base64.b64decode(fields["envelope"]))
    path = written(request)
    if path is not None:
        read = {name: array.copy() for name, array in blob.read(path).items()}
        update = replace(update, delta=read)
    false = LIES[kind](update)
    if path is not None:
        with path.open("wb") as file:
            blob.write(file, false.delta)
    envelope = encode_update(replace(false, path=None), blob_digest="")
    return canonical_json({"envelope": base64.b64encode(envelope).decode()})
