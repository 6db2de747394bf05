"""The engines that keep the contract of `hospitium.types.Engine`. A new one is added here only.

A `Kind` starts an engine whose sites behave as the acts say. ``crosses_processes`` is true where
sites live in processes of their own and send bytes: then they may hang, die and send anything.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from acts import Act, Scene, Sent
from handling import NUM_WORKERS, handle
from hub_federation import Running

from hospitium.engines.hub import answers, site_work
from hospitium.engines.hub.site_loop import Approved
from hospitium.engines.in_process import InProcess, LocalSite
from hospitium.engines.workers import WorkerPool
from hospitium.errors import UpdateError
from hospitium.plan import Plan
from hospitium.state.store import Store
from hospitium.testing.fakes import DirectEngine
from hospitium.types import Answer, Engine, Task, Update
from hospitium.wire.canonical import digest
from hospitium.wire.envelope import binding_of, decode_update, encode_update


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of engine.

    Attributes:
        name: What the tests call it.
        start: Starts it: a folder, what each site does, and whether it is to be all alone, so that
            closing it must stop everything.
        crosses_processes: See the top of this file.
    """

    name: str
    start: Callable[..., Engine]
    crosses_processes: bool


def _direct(place: Path, cast: Mapping[str, Act], *, alone: bool) -> Engine:
    def site(site_id: str, act: Act) -> Callable[[Task], Answer]:
        def call(task: Task) -> Answer:
            answer = act(Scene(task=task, site_id=site_id, place=place))
            assert not isinstance(answer, Sent)
            return answer

        return call

    return DirectEngine(sites={site_id: site(site_id, act) for site_id, act in cast.items()})


def _in_process(place: Path, cast: Mapping[str, Act], *, alone: bool) -> Engine:
    sites = []
    for site_id, act in cast.items():
        folder = place / site_id
        folder.mkdir(exist_ok=True)
        (folder / "act").write_text(act.__name__)
        sites.append(LocalSite(site_id=site_id, cases=folder, folder=folder, num_cases=10))
    if not alone:
        _warm(_shared_pool(), place)
    return InProcess(
        Plan(),
        sites=sites,
        store=Store(place / "store"),
        pool=None if alone else _shared_pool(),
        handler=handle,
    )


def _hub(place: Path, cast: Mapping[str, Act], *, alone: bool) -> Engine:
    """Start a real hub over TLS; each site's agent dials in and has its tasks done by workers."""
    if not alone:
        _warm(_shared_pool(), place)
    pool = WorkerPool(handle, num_workers=NUM_WORKERS) if alone else _shared_pool()
    running = Running(place=place, site_ids=sorted(cast))
    for site_id, act in cast.items():
        folder = place / site_id
        folder.mkdir(exist_ok=True)
        (folder / "act").write_text(act.__name__)
        approved = Approved(plan=Plan(), cases=folder, num_cases=10)
        running.join(site_id, pool=pool, approved=lambda _, it=approved: it, folder=folder)

    lies = [
        patch.object(site_work, "inspect", _inspect_nothing),
        patch.object(site_work.blob, "Exactly", lambda file, manifest: file),
        patch.object(answers, "binding_of", _bound_to_anything),
        patch.object(answers, "encode_update", _with_what_is_promised),
    ]
    for lie in lies:
        lie.start()

    def stop() -> None:
        if alone:
            pool.close()
        running.stop()
        for lie in lies:
            lie.stop()

    return running.engine(Store(place / "store"), on_close=stop)


@dataclass(frozen=True, kw_only=True)
class _Said(Update):
    """An update of which the acts said, in these bytes, what it is."""

    envelope: bytes


def _inspect_nothing(envelope: bytes, *, task: Task, **rest: Any) -> _Said:
    """Let out whatever the acts say, as the agent of a site would whose people wish to lie."""
    return _Said(
        envelope=envelope,
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=rest["site_id"],
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=rest["num_cases"],
        delta={},
    )


def _bound_to_anything(said: _Said) -> str:
    """Seal whatever there is, for whatever it says."""
    with suppress(UpdateError):
        return binding_of(decode_update(said.envelope)[0])
    return digest(said.envelope)


def _with_what_is_promised(said: _Said, *, blob_digest: str) -> bytes:
    """Leave an envelope as it is, but for one that names no file yet."""
    with suppress(UpdateError):
        update, promised = decode_update(said.envelope)
        if not promised:
            return encode_update(update, blob_digest=blob_digest)
    return said.envelope


@cache
def _shared_pool() -> WorkerPool:
    """Start processes once for all tests: that is what takes time."""
    pool = WorkerPool(handle, num_workers=NUM_WORKERS)
    atexit.register(pool.close)
    return pool


def _warm(pool: WorkerPool, place: Path) -> None:
    """Have every worker up before a short deadline begins."""
    request = json.dumps({"warm": str(place)}).encode()
    for future in [pool.submit(request, deadline_s=60) for _ in range(NUM_WORKERS)]:
        future.result()


KINDS = (
    Kind(name="direct", start=_direct, crosses_processes=False),
    Kind(name="in_process", start=_in_process, crosses_processes=True),
    Kind(name="hub", start=_hub, crosses_processes=True),
)
