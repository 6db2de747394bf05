"""How a site makes the answer to a task: fetch the model, have a worker train, keep the answer."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hospitium.engines.hub.agreed import Approved, LaterError
from hospitium.engines.hub.answers import Answers, Kept
from hospitium.engines.hub.client import HubClient, StoppedError
from hospitium.engines.hub.downloading import Download
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.engines.site_worker import read_reply
from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import CorruptedError, SiteError, UpdateError
from hospitium.site.consent import REFUSALS
from hospitium.site.egress import inspect, unsealed_path
from hospitium.site.leaving import Departure, facts_of, words_of
from hospitium.site.public_words import closed
from hospitium.state import durable
from hospitium.types import Json, Task, Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json

KEPT_MODELS = 2

TEMPORARY = "tmp"

WRITTEN = ("outbox", "runs", TEMPORARY)
"""Folders of a site in which its training process writes; all others are its agent's."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a site's policy says about when, how long and how much; the default is no limit.

    Attributes:
        closed: Why no task is begun now: ``paused``, ``window`` or ``limits``; "" if one may be.
        seconds: How long a task may take, at most.
        worked: Told how long one took.
        fits: Whether a file of so many bytes may leave: ``now``, ``later`` (another day) or
            ``never``.
    """

    closed: Callable[[], str] = lambda: ""
    seconds: Callable[[], float] = lambda: float("inf")
    worked: Callable[[float], None] = lambda seconds: None
    fits: Callable[[int], Literal["now", "later", "never"]] = lambda size_bytes: "now"


class Workbench:
    """Makes answers for one site; `stop` ends a wait for a worker.

    Args:
        site_id: What the site is called.
        folder: Its own state: answers, models, one folder for each run.
        pool: Where tasks are answered, in processes without keys.
        rules: What its policy says.
        stop: Set when the site is to end.
    """

    def __init__(
        self,
        *,
        site_id: str,
        folder: Path,
        pool: WorkerPool,
        rules: Rules,
        stop: threading.Event,
    ) -> None:
        self._site_id = site_id
        self._folder = folder
        self.answers = Answers(folder)
        self._models = durable.make_folder(folder / "models")
        self._pool = pool
        self._rules = rules
        self._stop = stop
        self._verified: set[str] = set()

    def make(self, client: HubClient, ask: Ask, task: Task, approved: Approved) -> Kept:
        """Work on a task that the site has agreed to; the answer is kept before it is handed in.

        Args:
            client: To fetch the model with.
            ask: What came.
            task: The same, read; without its params.
            approved: What was agreed.

        Raises:
            SiteError: It was not worked on. The public text is for the coordinator.
            LaterError: The update would be more than what may leave today.
        """
        if task.purpose == "train" and self.answers.has_other(ask.task, task=task):
            raise SiteError(REFUSALS["seat"])
        when = self._rules.fits(ask.blob_bytes if task.purpose == "train" else 0)
        if when == "never":
            raise SiteError(REFUSALS["limits"])
        if when == "later":
            raise LaterError
        self.answers.delete_before(task.run_id, task.round_number)
        model = self._model(client, ask)
        request = self._request(task, ask, approved=approved, model=model)
        begun = time.monotonic()
        try:
            reply = read_reply(self._reply(request, ask, approved))
        except TimeoutError as error:
            raise SiteError("the site did not answer in time") from error
        except WorkerDiedError as error:
            raise SiteError(f"the site's training died: {error}") from error
        except UpdateError as error:
            raise SiteError("the site's training answered what cannot be read") from error
        finally:
            self._rules.worked(time.monotonic() - begun)
        task = replace(task, params=blob.read(model))
        return self._kept(task, ask, reply, approved=approved)

    # --- inside ---------------------------------------------------------------------------------

    def _reply(self, request: bytes, ask: Ask, approved: Approved) -> bytes:
        """Wait for the worker, or until this site is stopped."""
        future: Future[bytes] = self._pool.submit(
            request,
            deadline_s=min(ask.deadline_s, self._rules.seconds()),
            must_be_cut_off=approved.must_be_cut_off,
        )
        while True:
            try:
                return future.result(timeout=0.5)
            except TimeoutError:
                if future.done():
                    return future.result()
                if self._stop.is_set():
                    raise StoppedError from None

    def _kept(self, task: Task, ask: Ask, reply: Mapping[str, str], *, approved: Approved) -> Kept:
        """Keep what a worker answered, once it is known to be what may leave."""
        if "error" in reply:
            raise SiteError(reply["error"])
        envelope, is_sealed = base64.b64decode(reply["envelope"]), bool(ask.run_key)
        path = self._path(envelope, task, is_sealed=is_sealed)
        try:
            with self.answers.opened(path) as file:
                update = inspect(
                    envelope,
                    has_file=file is not None,
                    task=task,
                    site_id=self._site_id,
                    num_cases=approved.num_cases,
                    is_sealed=is_sealed,
                )
                change = file and blob.Exactly(file, blob.manifest_of(task.params))
                made = self.answers.made(
                    ask.task, update=update, change=change, run_key=ask.run_key
                )
            kept = replace(made, facts=self._facts(made, update, task, ask, approved))
            self.answers.keep(ask.task, kept, task=task, run_key=ask.run_key)
        except (UpdateError, CorruptedError) as error:
            raise SiteError("egress refused an answer that is not of its form") from error
        finally:
            self.answers.let_go(path)
        return kept

    def _facts(
        self, made: Kept, update: Update, task: Task, ask: Ask, approved: Approved
    ) -> Mapping[str, Json]:
        """Return what the site's record is to say of an answer."""
        return facts_of(
            update,
            envelope=made.content,
            params_sha256=promised_blob(made.content),
            num_arrays=0 if made.file is None else len(task.params),
            plan=approved.plan,
            consent=approved.consent,
            nonce=ask.nonce,
            members_digest=ask.members_digest,
            is_sealed=bool(ask.run_key),
        )

    def _path(self, envelope: bytes, task: Task, *, is_sealed: bool) -> Path:
        """Return where a worker writes the file of the change, if it writes one."""
        if is_sealed and task.purpose == "train":
            return unsealed_path(self.answers.outbox, task)
        return self.answers.outbox / f"{promised_blob(envelope)}.safetensors"

    def _model(self, client: HubClient, ask: Ask) -> Path:
        """Return the file of a task's params, fetched unless it is here; keep the last two."""
        path = self._models / f"{ask.blob}.safetensors"
        if ask.blob not in self._verified:
            path.unlink(missing_ok=True)  # of an earlier process: it is a cache, not synced
        if not path.exists():
            take = self.answers.spares.take
            client.fetch(ask.blob, path, size_bytes=ask.blob_bytes, take=take)
        self._verified.add(ask.blob)
        Download.sweep(self._models, but=ask.blob)
        others = sorted(
            (item for item in self._models.glob("*.safetensors") if item != path),
            key=lambda item: item.stat().st_mtime,
        )
        for old in others[: max(0, len(others) - KEPT_MODELS + 1)]:
            self.answers.spares.keep(old)
            self._verified.discard(old.stem)
        return path

    def _request(self, task: Task, ask: Ask, *, approved: Approved, model: Path) -> bytes:
        """Return what a worker is told; there is no key in it."""
        return canonical_json(
            {
                "task": base64.b64encode(ask.task).decode(),
                "params": str(model),
                "outbox": str(self.answers.outbox),
                "plan": approved.plan.as_dict(),
                "site_id": self._site_id,
                "cases": str(approved.cases),
                "folder": str(self._folder),
                "state": str(durable.make_folder(self._folder / "runs" / task.run_id)),
                "num_cases": approved.num_cases,
                "plugin": str(approved.plugin or ""),
                "is_sealed": bool(ask.run_key),
            }
        )


def promised_blob(envelope: bytes) -> str:
    """Return the digest of the file that an update's envelope names; "" for none."""
    match = re.search(rb'"blob":"([0-9a-f]{64})"', envelope)
    return match[1].decode() if match else ""


def reply_of(ask: Ask, kept: Kept) -> Reply:
    """Return an answer as what is signed."""
    return Reply(kind=kept.kind, nonce=ask.nonce, content=kept.content, sealed=kept.sealed)


def departure_of(ask: Ask, kept: Kept) -> Departure:
    """Return an answer as what is to leave."""
    if kept.kind == "update":
        kind: Literal["update", "scores"] = "scores" if kept.file is None else "update"
        return Departure(
            kind=kind, content=kept.content, facts=kept.facts, file=kept.file, sha256=kept.sha256
        )
    return words_of(kept.content, ask.nonce)


def error_words(words: str) -> Kept:
    """Return words as they may travel, as an answer that is not kept."""
    kind: Literal["error"] = "error"
    return Kept(kind=kind, content=closed(words).encode(), file=None)
