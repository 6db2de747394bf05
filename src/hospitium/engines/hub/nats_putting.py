"""What a coordinator puts into the cluster, kept in mind so that it can be put anew."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hospitium.engines.hub.nats_blobs import NatsBlobs
from hospitium.engines.hub.nats_streams import Streams
from hospitium.engines.hub.nats_tasks import NatsTasks
from hospitium.engines.hub.nats_uploads import NatsUploads
from hospitium.state.hub_store import OpenTask, StoredAnswer


@dataclass(kw_only=True)
class _Put:
    """What was put under one nonce and not withdrawn."""

    blob: Path
    tasks: dict[str, OpenTask]


class Putting:
    """Puts tasks with their blobs, one after the other; all methods are coroutines."""

    def __init__(
        self, streams: Streams, tasks: NatsTasks, blobs: NatsBlobs, uploads: NatsUploads
    ) -> None:
        self._streams = streams
        self._tasks = tasks
        self._blobs = blobs
        self._uploads = uploads
        self._kept: dict[str, _Put] = {}
        self._writing = asyncio.Lock()

    async def put(self, tasks: Sequence[OpenTask], blob: Path) -> list[StoredAnswer]:
        """Put tasks, delete what belongs to earlier ones; return deleted answers with files."""
        async with self._writing:
            forgotten = await self._forget_others(tasks)
            for task in tasks:
                kept = self._kept.setdefault(task.nonce, _Put(blob=blob, tasks={}))
                kept.tasks[task.site_id] = task
            await self._put(tasks, blob)
            await self._uploads.sweep(answered=await self._tasks.files())
            await self._blobs.keep_only(await self._tasks.blobs())
            return forgotten

    async def forget(self, run_id: str) -> list[StoredAnswer]:
        """Delete what belongs to a run that is over; return deleted answers with files."""
        async with self._writing:
            forgotten = await self._forget(run_id, but="")
            await self._blobs.keep_only(await self._tasks.blobs())
            return forgotten

    async def put_anew(self) -> None:
        """Put all that was put and not withdrawn, as it was."""
        async with self._writing:
            for kept in self._kept.values():
                if kept.blob.is_file():
                    await self._put(list(kept.tasks.values()), kept.blob)

    async def withdraw(
        self, nonce: str, *, site_ids: Collection[str], taken: Sequence[StoredAnswer]
    ) -> None:
        """Close a task for these sites; delete files in the cluster that the coordinator took."""
        async with self._writing:
            if (kept := self._kept.get(nonce)) is not None:
                for site_id in site_ids:
                    kept.tasks.pop(site_id, None)
                if not kept.tasks:
                    del self._kept[nonce]
            await self._tasks.withdraw(nonce, site_ids=site_ids)
            for answer in taken:
                await self._uploads.forget(answer.site_id, answer.found)

    async def _put(self, tasks: Sequence[OpenTask], blob: Path) -> None:
        for digest in sorted({task.blob for task in tasks}):
            await self._blobs.put(blob, digest)
        await self._tasks.put(tasks, blob_bytes=blob.stat().st_size)
        for site_id in sorted({task.site_id for task in tasks}):
            await self._streams.tell("task", site_id)

    async def _forget_others(self, tasks: Sequence[OpenTask]) -> list[StoredAnswer]:
        forgotten = []
        for run_id, nonce in sorted({(task.run_id, task.nonce) for task in tasks}):
            forgotten += await self._forget(run_id, but=nonce)
        return forgotten

    async def _forget(self, run_id: str, *, but: str) -> list[StoredAnswer]:
        for nonce, kept in list(self._kept.items()):
            if nonce != but and any(task.run_id == run_id for task in kept.tasks.values()):
                del self._kept[nonce]
        forgotten = [old for old in await self._tasks.forget(run_id, but=but) if old.found]
        for old in forgotten:
            await self._uploads.forget(old.site_id, old.found)
        return forgotten
