"""What a lying site says instead of the truth; it has taken its own software apart."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hospitium.types import Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import decode_update, encode_update


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


def told(kind: str, reply: bytes, request: Mapping[str, Any]) -> bytes:
    """Return a reply of the training process with a lie in it."""
    if kind not in LIES:
        return reply
    fields = json.loads(reply)
    if "envelope" not in fields:
        return reply
    update, digest = decode_update(base64.b64decode(fields["envelope"]))
    outbox = Path(request["outbox"])
    if digest:
        path = outbox / f"{digest}.safetensors"
        read = {name: array.copy() for name, array in blob.read(path).items()}
        update = replace(update, delta=read)
    false = LIES[kind](update)
    if digest:
        digest = blob.digest_of(false.delta)
        with (outbox / f"{digest}.safetensors").open("wb") as file:
            blob.write(file, false.delta)
    envelope = encode_update(replace(false, path=None), blob_digest=digest)
    return canonical_json({"envelope": base64.b64encode(envelope).decode()})
