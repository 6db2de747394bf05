"""A coordinator that gives one site another model than the others, and signs that too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hospitium.engines.hub.messages import Ask
from hospitium.state.hub_store import OpenTask
from hospitium.types import Task
from hospitium.wire import blob
from hospitium.wire.envelope import encode_task


class _Tampered:
    """A backend into which other tasks are put for some sites."""

    def __init__(self, engine: Any, task: Task, deceived: Collection[str]) -> None:
        self._engine, self._task, self._deceived = engine, task, deceived
        self._backend = engine._backend

    def enqueue(self, tasks: list[OpenTask], *, blob: Path) -> None:
        """Put tasks, with another model in those of the deceived sites."""
        changed = [self._changed(one) if one.site_id in self._deceived else one for one in tasks]
        self._backend.enqueue(changed, blob=blob)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def _changed(self, one: OpenTask) -> OpenTask:
        params = {name: array + np.float32(0.5) for name, array in self._task.params.items()}
        task = replace(self._task, params=params, base_digest=blob.digest_of(params))
        key = self._engine._key
        ask = Ask.opened(one.envelope, key=key.public, site_id=one.site_id)
        path = self._backend._blob(task.base_digest)
        path.unlink(missing_ok=True)  # where all was lost, a second name of the true model
        with path.open("wb") as file:
            blob.write(file, params)
        false = replace(ask, task=encode_task(task), blob=task.base_digest)
        return replace(one, envelope=false.signed(key), blob=task.base_digest)


def putting(deceived: Collection[str], real: Callable[..., str]) -> Callable[..., str]:
    """Return `HubEngine._put` for a coordinator that deceives these sites (often none)."""

    def put(self: Any, task: Task, site_ids: Any, **more: Any) -> str:
        if not deceived or task.purpose != "train":
            return real(self, task, site_ids, **more)
        backend = self._backend
        self._backend = _Tampered(self, task, deceived)
        try:
            return real(self, task, site_ids, **more)
        finally:
            self._backend = backend

    return put
