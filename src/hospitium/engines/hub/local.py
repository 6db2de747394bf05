"""The default backend: SQLite and a folder, in one process with the coordinator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from hospitium.engines.hub.listeners import Listeners
from hospitium.errors import CorruptedError, StateConflictError
from hospitium.state import durable
from hospitium.state.hub_store import HubStore, OpenTask, StoredAnswer
from hospitium.state.spares import Spares
from hospitium.state.unfinished import Shape
from hospitium.state.uploads import Uploads

MAX_SPARES = 16
"""With more sites than this some updates are written to new files."""


class LocalBackend:
    """What is on its way, in a folder. All that matters is on disk before a call returns.

    A folder that is lost while this runs is made anew, with the tasks that wait for answers still.

    Args:
        folder: The hub's folder; on the file system of the runs, so that files move by renaming.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = durable.make_folder(folder / "blobs")
        self._store = HubStore(folder)
        self.spares = Spares(folder / "spares", most=MAX_SPARES)
        self._uploads = Uploads(folder, spares=self.spares)
        self._lost: list[HubStore] = []
        self._must_put = False
        self._asked: dict[str, tuple[dict[str, OpenTask], Path]] = {}
        self._listeners = Listeners()
        self._changed = threading.Condition()
        self._enqueuing = threading.Lock()
        self._delete_unused_blobs()
        self._uploads.keep_only(self._store.files())
        self.spares.clear()

    # --- the coordinator's side -----------------------------------------------------------------

    def enqueue(self, tasks: Sequence[OpenTask], *, blob: Path) -> None:
        """Link the blob, put the tasks, delete what belongs to earlier ones, wake who waits."""
        with self._enqueuing:
            self._mend()
            self._remember(tasks, blob)
            self._put(tasks, blob)
        self._listeners.wake({task.site_id for task in tasks})

    def withdraw(self, nonce: str, *, site_ids: Collection[str]) -> None:
        """Close a task for these sites."""
        with self._enqueuing:
            asked, _ = self._asked.get(nonce, ({}, Path()))
            for site_id in site_ids:
                asked.pop(site_id, None)
            if not asked:
                self._asked.pop(nonce, None)
            self._store.withdraw(nonce, site_ids=site_ids)

    def forget(self, run_id: str) -> None:
        """Delete what belongs to a run that is over."""
        with self._enqueuing:
            self._forget(run_id, but="")
            self._delete_unused_blobs()
            self.spares.clear()

    def answers(self, nonce: str, *, after: int, wait_s: float) -> list[StoredAnswer]:
        """Return what came after a number, or wait for it."""
        until = time.monotonic() + wait_s
        with self._enqueuing:
            lost = self._mend()
        self._listeners.wake({task.site_id for task in lost})
        with self._changed:
            while not (found := self._store.answers(nonce, after=after)):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
        return found

    def received(self, answer: StoredAnswer) -> Path:
        """Return the file that came with an answer."""
        return self._uploads.received(answer.site_id, answer.found)

    def drop_answer(self, answer: StoredAnswer) -> None:
        """Forget an answer whose file is gone."""
        self._store.drop_answer(answer)

    # --- a site's side --------------------------------------------------------------------------

    def tasks(self, site_id: str, *, after: int) -> list[OpenTask]:
        """Return a site's open and unanswered tasks."""
        return self._store.tasks(site_id, after=after)

    def listen(self, site_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` whenever tasks were put for a site."""
        return self._listeners.add(site_id, wake)

    def open_task(self, site_id: str, nonce: str) -> OpenTask | None:
        """Return one open task of a site."""
        return self._store.open_task(site_id, nonce)

    def blob_size(self, site_id: str, digest: str) -> int | None:
        """Return the size of a blob that an open task of this site names."""
        if not self._store.names_blob(site_id, digest):
            return None
        try:
            return self._blob(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, *, start: int, size: int) -> bytes:
        """Return some bytes of a blob."""
        try:
            with self._blob(digest).open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError as error:
            raise CorruptedError(
                f"{digest[:12]}…: the blob was withdrawn while it was read. Nothing is wrong "
                "at the site: ask for the tasks again."
            ) from error

    def upload_bytes(self, site_id: str) -> int:
        """Return the largest file that an open task of this site asks for."""
        return self._store.upload_bytes(site_id)

    def chunks(self, site_id: str, upload_id: str) -> tuple[Shape, list[int]] | None:
        """Return which chunks of an upload are here."""
        return self._uploads.chunks(site_id, upload_id)

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
        """Write a chunk; a conflict is noted, without its bytes."""
        try:
            self._uploads.put(
                site_id, upload_id, shape, index, pieces, sha256=sha256, is_through=is_through
            )
        except StateConflictError:
            self._store.conflict(site_id, f"{upload_id}/{index}", sha256.hex(), b"")
            raise

    def finish_upload(self, site_id: str, upload_id: str) -> str | None:
        """Make an upload durable."""
        return self._uploads.finish(site_id, upload_id)

    def answer(self, answer: StoredAnswer) -> StoredAnswer:
        """Take an answer and wake the coordinator."""
        stored = self._store.answer(answer)
        with self._changed:
            self._changed.notify_all()
        return stored

    def stored_answer(self, site_id: str, sha256: str) -> StoredAnswer | None:
        """Return an answer that was taken."""
        return self._store.stored_answer(site_id, sha256)

    def conflicts(self, site_id: str) -> list[tuple[str, str]]:
        """Return place and SHA-256 of what a site sent for places that were taken."""
        return self._store.conflicts(site_id)

    def conflicting(self, site_id: str, place: str, sha256: str) -> bytes:
        """Return the bytes of a statement that was refused as a conflict."""
        return self._store.conflicting(site_id, place, sha256)

    def close(self) -> None:
        """Close the database."""
        for store in (*self._lost, self._store):
            store.close()

    # --- inside ---------------------------------------------------------------------------------

    def _remember(self, tasks: Sequence[OpenTask], blob: Path) -> None:
        """Keep in mind what is asked, to ask it anew where all is lost."""
        for task in tasks:
            self._asked.setdefault(task.nonce, ({}, blob))[0][task.site_id] = task

    def _put(self, tasks: Sequence[OpenTask], blob: Path) -> None:
        for digest in sorted({task.blob for task in tasks}):
            if not self._blob(digest).exists():
                durable.link(blob, self._blob(digest))
        for run_id, nonce in sorted({(task.run_id, task.nonce) for task in tasks}):
            self._forget(run_id, but=nonce)
        self._store.put_tasks(tasks)
        self._delete_unused_blobs()

    def _forget(self, run_id: str, *, but: str) -> None:
        for nonce, (asked, _) in list(self._asked.items()):
            if nonce != but and any(one.run_id == run_id for one in asked.values()):
                del self._asked[nonce]
        for old in self._store.forget(run_id, but=but):
            if old.found:
                self._uploads.discard(old.site_id, old.found)

    def _mend(self) -> list[OpenTask]:
        """Begin anew where the folder was lost; return the tasks that were put once more.

        Sites have kept what they answered. What cannot be made anew now, on a disk that is full, is
        made the next time.
        """
        if not self._store.is_there():
            blobs = durable.make_folder(self._folder / "blobs")
            uploads = Uploads(self._folder, spares=self.spares)
            store = HubStore(self._folder)
            self._lost.append(self._store)
            self._blobs, self._uploads, self._store = blobs, uploads, store
            self._must_put = True
        if not self._must_put:
            return []
        for asked, blob in list(self._asked.values()):
            self._put(list(asked.values()), blob)
        self._must_put = False
        return [task for asked, _ in self._asked.values() for task in asked.values()]

    def _blob(self, digest: str) -> Path:
        assert len(digest) == 64 and digest.isalnum(), digest
        return self._blobs / f"{digest}.safetensors"

    def _delete_unused_blobs(self) -> None:
        """Delete the blobs that no open task names."""
        used = self._store.blobs()
        for path in sorted(self._blobs.iterdir()):
            if path.stem not in used:
                self.spares.keep(path)
