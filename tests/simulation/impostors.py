"""Lies that need more than another update: a second answer to one task, and another's name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import actors
import numpy as np
from carried import NAME
from machines_of_simulation import Process
from simulated_federation import SITES
from virtual_net import Request

from hospitium.engines.hub.client import HubClient
from hospitium.engines.hub.messages import Reply
from hospitium.engines.hub.transport import connection_of
from hospitium.errors import HospitiumError
from hospitium.site.membership import Membership, membership
from hospitium.types import Update
from hospitium.wire import blob, sealing
from hospitium.wire.envelope import binding_of, decode_update, encode_update
from hospitium.wire.signing import SigningKey, VerifyKey


class Forged:
    """A key that claims to be another's: signatures are those of its holder."""

    def __init__(self, own: SigningKey, claimed: VerifyKey) -> None:
        self._own = own
        self.public = claimed

    def sign(self, data: bytes) -> bytes:
        """Sign with the own key."""
        return self._own.sign(data)


def lie_again(stage: actors.Stage, process: Process, request: Request, run_key: str) -> None:
    """After an answer was handed in: hand in another one, in the own name or in another's."""
    place = membership(process.machine.folder, NAME)
    kind = stage.liars[process.name]
    own = place.signing_key()
    with suppress(HospitiumError, OSError):
        reply = Reply.opened(request.body, key=own.public)
        if reply.kind != "update" or not reply.sealed:
            return
        update, _ = decode_update(reply.content)
        if kind == "second":
            _hand_in(stage, process, place, reply, update, run_key, keys=(place.request_key(), own))
            return
        victim = next(name for name in SITES if name != process.name)
        row = place.members().site(victim)
        keys = (
            Forged(place.request_key(), VerifyKey.from_hex(row.request_key)),
            Forged(own, VerifyKey.from_hex(row.signing_key)),
        )
        false = replace(update, site_id=victim, num_cases=SITES[victim])
        _hand_in(stage, process, place, reply, false, run_key, keys=keys)


def _hand_in(
    stage: actors.Stage, process: Process, place: Membership, reply: Reply, update: Update,
    run_key: str, *, keys: tuple[Any, Any],
) -> None:  # fmt: skip
    """Make another change, seal it, and hand it in."""
    base = (process.name, update.round_number, update.base_digest)
    made = next(iter(stage.made[base].values()))
    delta = {name: array * np.float32(-0.5) for name, array in made.items()}
    folder = place.folder / "work" / "outbox"
    path = folder / f"{blob.digest_of(delta)}.safetensors"
    with path.open("wb") as file:
        blob.write(file, delta)
    if update.site_id == process.name:
        actors.note(stage, process.name, update, path)
    content = encode_update(update, blob_digest=path.stem)
    sealed = _sealed(path, run_key, update)
    other = replace(reply, content=content, sealed=sealed.name if run_key else "")
    client = HubClient(replace(connection_of(place), patience_s=20.0), key=keys[0])
    client.upload(sealed, sealed.name, other.signed(keys[1]))


def _sealed(path: Path, run_key: str, update: Update) -> Path:
    target = path.with_suffix(".second")
    with path.open("rb") as source, target.open("wb") as file:
        digest, _ = sealing.seal(source, file, run_key=run_key, binding=binding_of(update))
    return target.rename(path.with_name(digest))
