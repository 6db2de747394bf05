"""A site's agent: take a task, answer it, hand the answer in, keep it until the receipt is here.

An answer is on disk before its first byte leaves. A task that is asked again is answered with the
same bytes; it is never trained again.
"""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hospitium.engines.hub.answers import Answers, Kept
from hospitium.engines.hub.client import Connection, HubClient, StoppedError
from hospitium.engines.hub.messages import Ask, Receipt, Reply
from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import EngineError, HospitiumError, HubError, UpdateError
from hospitium.plan import Plan
from hospitium.state import durable
from hospitium.types import Task
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import decode_task
from hospitium.wire.signing import SigningKey, VerifyKey

MAX_WAIT_S = 50
KEPT_MODELS = 2


@dataclass(frozen=True, kw_only=True)
class Approved:
    """A plan that this site takes part in, and what it is answered with."""

    plan: Plan
    cases: Path
    num_cases: int
    plugin: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SiteKeys:
    """A site's two keys, and the coordinator's, which came with the member list."""

    request: SigningKey
    signing: SigningKey
    coordinator: VerifyKey


class SiteLoop:
    """One site's agent, for one coordinator; `run` lasts until it is stopped.

    Args:
        site_id: What this site is called.
        keys: Its keys.
        connection: How to reach the hub.
        folder: Its own state: answers, models, ``egress.jsonl``, ``site.log``.
        pool: Where tasks are answered, in processes without keys.
        approved: Says what was agreed under a plan's digest; None: nothing; a task is refused.
        wait_s: Length of a long poll.
    """

    def __init__(
        self,
        *,
        site_id: str,
        keys: SiteKeys,
        connection: Connection,
        folder: Path,
        pool: WorkerPool,
        approved: Callable[[str], Approved | None],
        wait_s: int = MAX_WAIT_S,
    ) -> None:
        self._site_id = site_id
        self._keys = keys
        self._connection = connection
        self._folder = durable.make_folder(folder)
        self._answers = Answers(folder)
        self._models = durable.make_folder(folder / "models")
        self._pool = pool
        self._approved = approved
        self._wait_s = wait_s
        self._stop = threading.Event()
        self._asks: queue.Queue[Ask | None] = queue.Queue()
        self._verified: set[str] = set()

    def run(self) -> None:
        """Poll and answer until `stop`; the network may come and go."""
        worker = threading.Thread(target=self._work, name=f"{self._site_id}-work", daemon=True)
        worker.start()
        client = self._client()
        try:
            with suppress(StoppedError):
                self._poll(client)
        finally:
            client.close()
            self._asks.put(None)
            worker.join()

    def stop(self) -> None:
        """End `run` soon; what is under way is kept on disk and goes on at the next start."""
        self._stop.set()

    # --- asking for tasks -----------------------------------------------------------------------

    def _poll(self, client: HubClient) -> None:
        """Put each task in line that the coordinator signed for this site."""
        after = 0
        while not self._stop.is_set():
            try:
                waiting = client.tasks(after=after, wait_s=self._wait_s)
            except HubError as error:
                self._log(f"the hub refused: {error}")
                self._stop.wait(self._connection.longest_pause_s)
                continue
            for task in waiting:
                after = task.n
                try:
                    self._asks.put(
                        Ask.opened(task.envelope, key=self._keys.coordinator, site_id=self._site_id)
                    )
                except UpdateError as error:
                    self._log(f"a task was refused ({error.reason}): {error}")

    # --- answering ------------------------------------------------------------------------------

    def _work(self) -> None:
        """Answer one task after the other; whatever goes wrong with one, the next is answered."""
        client = self._client()
        try:
            while (ask := self._asks.get()) is not None and not self._stop.is_set():
                try:
                    self._answer(client, ask)
                except (StoppedError, EngineError):
                    return
                except (HospitiumError, OSError) as error:
                    self._log(f"a task was not answered: {type(error).__name__}: {error}")
        finally:
            client.close()

    def _answer(self, client: HubClient, ask: Ask) -> None:
        """Answer a task from disk, or by working; then hand the answer in."""
        kept = self._answers.find(ask.task)
        if kept is None:
            kept = self._made(client, ask)
        reply = Reply(kind=kept.kind, nonce=ask.nonce, content=kept.content)
        statement = reply.signed(self._keys.signing)
        try:
            receipt = self._hand_in(client, kept, statement)
        except HubError as error:
            self._log(f"the hub did not take an answer ({error.reason}): {error}")
            return
        Receipt.opened(
            receipt, key=self._keys.coordinator, site_id=self._site_id, statement=statement
        )
        self._answers.receipted(ask.task, receipt)

    def _hand_in(self, client: HubClient, kept: Kept, statement: bytes) -> bytes:
        if kept.file is None:
            return client.send(statement)
        return client.upload(kept.file, kept.file.stem, statement)

    def _made(self, client: HubClient, ask: Ask) -> Kept:
        """Work on a task; an answer is kept before it is handed in, an error is not."""
        task = decode_task(ask.task, params={})
        approved = self._approved(task.plan_digest)
        if approved is None:
            return _error("the site has not agreed to this plan")
        self._answers.delete_before(task.run_id, task.round_number)
        model = self._model(client, ask)
        try:
            request = self._request(task, ask, approved=approved, model=model)
            reply = json.loads(self._result(self._pool.submit(request, deadline_s=ask.deadline_s)))
        except TimeoutError:
            return _error("the site did not answer in time")
        except WorkerDiedError as error:
            return _error(f"the site's training died: {error}")
        if "error" in reply:
            return _error(str(reply["error"]))
        envelope = base64.b64decode(reply["envelope"])
        return self._answers.keep(ask.task, task=task, envelope=envelope, file=self._file(envelope))

    def _result(self, future: Future[bytes]) -> bytes:
        """Wait for the worker, or until this site is stopped."""
        while True:
            try:
                return future.result(timeout=0.5)
            except TimeoutError:
                if future.done():
                    return future.result()
                if self._stop.is_set():
                    raise StoppedError from None

    def _file(self, envelope: bytes) -> Path | None:
        """Return the file that an envelope names, if it is there."""
        match = re.search(rb'"blob":"([0-9a-f]{64})"', envelope)
        path = self._answers.outbox / f"{match[1].decode()}.safetensors" if match else None
        return path if path is not None and path.is_file() else None

    def _model(self, client: HubClient, ask: Ask) -> Path:
        """Return the file of a task's params, fetched unless it is here; keep the last two."""
        path = self._models / f"{ask.blob}.safetensors"
        if ask.blob not in self._verified:
            path.unlink(missing_ok=True)  # of an earlier process: it is a cache, not synced
        if not path.exists():
            client.fetch(ask.blob, path, size_bytes=ask.blob_bytes)
        self._verified.add(ask.blob)
        others = sorted(
            (item for item in self._models.iterdir() if item != path),
            key=lambda item: item.stat().st_mtime,
        )
        for old in others[: max(0, len(others) - KEPT_MODELS + 1)]:
            old.unlink(missing_ok=True)
            self._verified.discard(old.stem)
        return path

    def _request(self, task: Task, ask: Ask, *, approved: Approved, model: Path) -> bytes:
        """Return what a worker is told; there is no key in it."""
        return canonical_json(
            {
                "task": base64.b64encode(ask.task).decode(),
                "params": str(model),
                "outbox": str(self._answers.outbox),
                "plan": approved.plan.as_dict(),
                "site_id": self._site_id,
                "cases": str(approved.cases),
                "folder": str(self._folder),
                "num_cases": approved.num_cases,
                "plugin": str(approved.plugin or ""),
            }
        )

    def _client(self) -> HubClient:
        return HubClient(self._connection, key=self._keys.request, stop=self._stop, log=self._log)

    def _log(self, text: str) -> None:
        """Tell the site's own staff."""
        with suppress(OSError), (self._folder / "site.log").open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def _error(words: str) -> Kept:
    """Return words that may travel, as an answer that is not kept."""
    kind: Literal["error"] = "error"
    return Kept(kind=kind, content=words.encode()[:500], file=None)
