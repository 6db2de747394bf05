"""The backend of several hubs: a NATS JetStream cluster that no site can reach.

Nothing in the cluster is the only copy. What the coordinator put it puts anew when streams are
gone or have lost their end; sites keep what they sent until the run has gone on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hospitium.engines.hub.listeners import Listeners
from hospitium.engines.hub.nats_blobs import NatsBlobs
from hospitium.engines.hub.nats_putting import Putting
from hospitium.engines.hub.nats_settings import NatsSettings
from hospitium.engines.hub.nats_streams import ANSWERS, KINDS, TASKS, Streams
from hospitium.engines.hub.nats_tasks import NatsTasks
from hospitium.engines.hub.nats_uploads import NatsUploads
from hospitium.errors import CorruptedError, HospitiumError, HubError, StateConflictError
from hospitium.state import durable
from hospitium.state.hub_store import OpenTask, StoredAnswer
from hospitium.state.spares import Spares
from hospitium.state.unfinished import NotNextError, Shape

WATCH_S = 1.0
"""How often a hub looks whether streams changed that nobody told it of."""

_Found = TypeVar("_Found")


class NatsBackend:
    """What is on its way, in a cluster; any number of hubs and one coordinator may share it.

    Calls that are made while the cluster is away wait until it is back, for as long as the
    settings say.

    Args:
        settings: Which cluster.
        folder: For copies of files on this machine; on the coordinator's it is on the file system
            of the runs, so that files move by renaming.

    Raises:
        HubError: The cluster was away for too long.
        EngineError: It cannot serve this hub.
    """

    def __init__(self, settings: NatsSettings, folder: Path) -> None:
        self.spares = Spares(folder / "spares", most=0)
        self._settings = settings
        self._listeners = Listeners()
        self._changed = threading.Condition()
        self._fetched: dict[str, list[StoredAnswer]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._away_since: float | None = None
        self._streams = Streams(settings, on_note=self._on_note)
        self._link = self._streams.link
        self._tasks = NatsTasks(self._streams)
        self._blobs = NatsBlobs(self._streams, folder)
        self._uploads = NatsUploads(self._streams, folder)
        self._putting = Putting(self._streams, self._tasks, self._blobs, self._uploads)
        try:
            self._wait(self._start)
        except BaseException:
            self._link.close()
            raise
        self._link.spawn(self._watch)

    @property
    def num_violations(self) -> int:
        """How often the cluster said that this hub may not do what it did."""
        return self._link.num_violations

    # --- the coordinator's side -----------------------------------------------------------------

    def enqueue(self, tasks: Sequence[OpenTask], *, blob: Path) -> None:
        """Put the blob and the tasks, delete what belongs to earlier ones, wake who waits."""
        for digest in {task.blob for task in tasks}:
            self._blobs.link(blob, digest)

        for old in self._wait(lambda: self._putting.put(tasks, blob)):
            durable.delete(self._uploads.path(old.site_id, old.found))
        self._listeners.wake({task.site_id for task in tasks})

    def withdraw(self, nonce: str, *, site_ids: Collection[str]) -> None:
        """Close a task for these sites, and let go of their files that were moved away."""
        taken = [
            answer
            for answer in self._fetched.pop(nonce, [])
            if not self._uploads.path(answer.site_id, answer.found).exists()
        ]
        self._wait(lambda: self._putting.withdraw(nonce, site_ids=set(site_ids), taken=taken))

    def forget(self, run_id: str) -> None:
        """Delete what belongs to a run that is over, in the cluster and here."""
        for old in self._wait(lambda: self._putting.forget(run_id)):
            durable.delete(self._uploads.path(old.site_id, old.found))

    def answers(self, nonce: str, *, after: int, wait_s: float) -> list[StoredAnswer]:
        """Return what came after a number, or wait for it; an outage is waited out."""
        until = time.monotonic() + wait_s
        while True:
            found = self._answers_now(nonce, after)
            left_s = until - time.monotonic()
            if found or left_s <= 0:
                return found
            with self._changed:
                self._changed.wait(min(left_s, WATCH_S))

    def received(self, answer: StoredAnswer) -> Path:
        """Return the file that came with an answer, fetched; none is there if it was lost."""
        self._wait(lambda: self._uploads.fetch(answer.site_id, answer.found))
        self._fetched.setdefault(answer.nonce, []).append(answer)
        return self._uploads.path(answer.site_id, answer.found)

    def drop_answer(self, answer: StoredAnswer) -> None:
        """Forget an answer whose file is gone, with what is left of the file."""

        async def drop() -> None:
            await self._tasks.drop(answer)
            if answer.found:
                await self._uploads.forget(answer.site_id, answer.found)

        self._wait(drop)

    # --- a site's side --------------------------------------------------------------------------

    def tasks(self, site_id: str, *, after: int) -> list[OpenTask]:
        """Return a site's open and unanswered tasks."""
        return self._ask(lambda: self._tasks.waiting(site_id, after=after))

    def listen(self, site_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` whenever tasks were put for a site; now and then for no reason."""
        return self._listeners.add(site_id, wake)

    def open_task(self, site_id: str, nonce: str) -> OpenTask | None:
        """Return one open task of a site."""
        return self._ask(lambda: self._tasks.one(site_id, nonce))

    def blob_size(self, site_id: str, digest: str) -> int | None:
        """Return the size of a blob that an open task of this site names; it is copied here."""

        async def size() -> int | None:
            for task, size in await self._tasks.of_site(site_id):
                if task.blob == digest:
                    await self._blobs.fetch(digest, size)
                    return size
            return None

        return self._ask(size)

    def read(self, digest: str, *, start: int, size: int) -> bytes:
        """Return some bytes of a blob, from this hub's copy."""
        try:
            with self._blobs.path(digest).open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError as error:
            raise CorruptedError(
                f"{digest[:12]}…: the blob was withdrawn while it was read. Nothing is wrong "
                "at the site: ask for the tasks again."
            ) from error

    def upload_bytes(self, site_id: str) -> int:
        """Return the largest file that an open task of this site asks for."""

        async def most() -> int:
            tasks = await self._tasks.of_site(site_id)
            return max((task.upload_bytes for task, _ in tasks), default=0)

        return self._ask(most)

    def chunks(self, site_id: str, upload_id: str) -> tuple[Shape, list[int]] | None:
        """Return which chunks of an upload are here."""
        return self._ask(lambda: self._uploads.chunks(site_id, upload_id))

    def put_chunk(
        self,
        site_id: str,
        upload_id: str,
        shape: Shape,
        index: int,
        pieces: Sequence[bytes],
        *,
        sha256: bytes,
        is_through: bool = False,
    ) -> None:
        """Store a chunk; a conflict is noted, without its bytes.

        Another hub may have what came before: each chunk is looked at by itself.
        """
        if is_through:
            raise NotNextError

        async def put() -> None:
            try:
                await self._uploads.put(site_id, upload_id, shape, index, pieces, sha256=sha256)
            except StateConflictError:
                place = f"{upload_id}/{index}"
                await self._tasks.conflict(site_id, place, sha256.hex(), b"")
                raise

        self._ask(put)

    def finish_upload(self, site_id: str, upload_id: str) -> str | None:
        """Return the SHA-256 of a whole upload."""
        return self._ask(lambda: self._uploads.finish(site_id, upload_id))

    def answer(self, answer: StoredAnswer) -> StoredAnswer:
        """Take an answer and wake the coordinator."""

        async def take() -> StoredAnswer:
            stored = await self._tasks.answer(answer)
            await self._streams.tell("answer", answer.nonce)
            return stored

        stored = self._ask(take)
        with self._changed:
            self._changed.notify_all()
        return stored

    def stored_answer(self, site_id: str, sha256: str) -> StoredAnswer | None:
        """Return an answer that was taken."""
        return self._ask(lambda: self._tasks.stored(site_id, sha256))

    def conflicts(self, site_id: str) -> list[tuple[str, str]]:
        """Return place and SHA-256 of what a site sent for places that were taken."""
        return self._ask(lambda: self._tasks.conflicts(site_id))

    def conflicting(self, site_id: str, place: str, sha256: str) -> bytes:
        """Return the bytes of a statement that was refused as a conflict."""
        return self._ask(lambda: self._tasks.conflicting(site_id, place, sha256))

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        self._link.close()

    # --- inside ---------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], Coroutine[Any, Any, _Found]]) -> _Found:
        """Do something for a site."""
        return self._link.call(work, within_s=self._settings.request_s)

    def _wait(self, work: Callable[[], Coroutine[Any, Any, _Found]]) -> _Found:
        """Do something for the coordinator."""
        return self._link.call(work, within_s=self._settings.patience_s)

    def _answers_now(self, nonce: str, after: int) -> list[StoredAnswer]:
        """Return what is there; nothing while the cluster is away, but not for ever."""
        try:
            found = self._link.call(
                lambda: self._tasks.answers(nonce, after=after), within_s=WATCH_S
            )
        except HubError:
            self._away_since = self._away_since or time.monotonic()
            if time.monotonic() - self._away_since > self._settings.patience_s:
                raise
            return []
        self._away_since = None
        return found

    async def _start(self) -> None:
        await self._streams.ensure()
        self._seen = await self._states()
        self._blobs.forget_copies(but=await self._tasks.blobs())

    async def _states(self) -> dict[str, tuple[str, int]]:
        return {kind: await self._streams.state(kind) for kind in KINDS}

    async def _watch(self) -> None:
        """Look at the streams now and then: notes get lost, and so do streams."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self._link.bounded(self._look, within_s=self._settings.patience_s)
            except HospitiumError:
                continue  # calls that wait for it say so

    async def _look(self) -> None:
        before, now = self._seen, await self._states()
        if any(now[kind][0] != before[kind][0] or now[kind][1] < before[kind][1] for kind in now):
            await self._putting.put_anew()
            now = await self._states()
        self._seen = now
        if now[TASKS] != before[TASKS]:
            self._listeners.wake(None)
        if now[ANSWERS] != before[ANSWERS]:
            with self._changed:
                self._changed.notify_all()

    def _on_note(self, words: Sequence[str]) -> None:
        """Wake whom a note is for; after a reconnection, which has no words, everybody."""
        if not words or words[0] == "answer":
            with self._changed:
                self._changed.notify_all()
        if not words or words[0] == "task":
            self._listeners.wake(set(words[1:]) if words else None)
