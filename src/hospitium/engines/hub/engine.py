"""The coordinator's side of the hub, as an `Engine`: put the task, wait, gate, yield."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.cosigning import Cosigning
from hospitium.engines.hub.messages import Ask, Reply, nonce_of
from hospitium.engines.hub.openers import Openers
from hospitium.engines.hub.requests import Member
from hospitium.errors import CorruptedError, EngineError, UpdateError
from hospitium.state import durable
from hospitium.state.hub_store import OpenTask, StoredAnswer
from hospitium.state.store import SEALED, Store
from hospitium.types import Answer, Answers, Json, LeftOut, Params, Task, Update
from hospitium.wire import blob
from hospitium.wire.blob import Manifest
from hospitium.wire.envelope import binding_of, decode_update, encode_task
from hospitium.wire.sealing import RunKey, open_sealed, sealed_bytes
from hospitium.wire.signing import SigningKey

WAIT_S = 0.5
"""Longest wait without a look at whether the engine was closed."""


class HubEngine:
    """An engine whose sites are elsewhere and dial in.

    A deadline runs from the moment a task is put. A task that is asked again after a crash is the
    same task: what a site had handed in meanwhile is taken, and what it has on disk fits.

    A sealed file stays in the backend until the next task of the run is put, and gets a second name
    in the store's ``incoming``, under which the ledger takes it over; what is in it is opened in
    memory only.

    Args:
        backend: Where the hub keeps what is on its way.
        members: The sites; looked up each time, so that a revoked site is no longer asked.
        key: The coordinator's signing key: it signs tasks.
        store: The run's store: params are linked from it, updates are moved into it; it is given
            the run's key.
        on_close: Called once at the end; it stops what was started for this engine.
        sites: Says which members are asked; None: all of them.
        members_digest: Says the digest of the member list in force, which each site compares.
        run_key: The run's key: updates come sealed to it; None: they are not sealed.
        cosigning: The run's log: tasks carry it, updates come with a cosignature of it; None: there
            is none, as in a simulation.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        members: Mapping[str, Member],
        key: SigningKey,
        store: Store,
        on_close: Callable[[], None] = lambda: None,
        sites: Callable[[], Collection[str]] | None = None,
        members_digest: Callable[[], str] = lambda: "",
        run_key: RunKey | None = None,
        cosigning: Cosigning | None = None,
    ) -> None:
        self._backend = backend
        self._members = members
        self._key = key
        self._store = store
        self._on_close = on_close
        self._sites = sites
        self._members_digest = members_digest
        self._run_key = run_key
        store.open_with(run_key)
        store.write_over(backend.spares)
        self._cosigning = cosigning
        self._selected: dict[int, list[str]] = {}
        self._closed = threading.Event()

    def select(self, *, round_number: int) -> Sequence[str]:
        """Every member is asked in every round, or every one that takes part in the run."""
        chosen = set(self._members)
        if self._sites is not None:
            chosen &= set(self._sites())
        self._selected = {round_number: sorted(chosen)}
        return sorted(chosen)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Put the task for each site and yield each answer as it arrives, until the deadline."""
        self._require_open()
        asked = {site_id for site_id in site_ids if site_id in self._members}
        for site_id in sorted(set(site_ids) - asked):
            yield LeftOut(site_id=site_id, reason="unknown site")
        if not asked:
            return
        waiting = set(asked)
        until = time.monotonic() + deadline_s
        nonce = self._put(task, sorted(asked), deadline_s=deadline_s)
        opening = Openers(lambda stored: self._answer(task, stored))
        try:
            after = 0
            while waiting and ((left_s := until - time.monotonic()) > 0 or opening):
                wait_s = 0.0 if opening else min(left_s, WAIT_S)
                for stored in self._backend.answers(nonce, after=after, wait_s=wait_s):
                    after = stored.n
                    if stored.site_id in waiting and left_s > 0:
                        opening.add(stored)
                self._require_open()
                for site_id, answer in opening.done():
                    if answer is not None and site_id in waiting:
                        waiting.discard(site_id)
                        yield answer
                    del answer
            if self._cosigning is not None:
                self._cosigning.keep_conflicts(self._backend, nonce, site_ids=asked)
            for site_id in sorted(waiting):
                yield LeftOut(site_id=site_id, reason="deadline")
        finally:
            opening.close()
            if not self._closed.is_set():
                self._backend.withdraw(nonce, site_ids=asked)

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Return who of these is no member any more."""
        members = set(self._members)
        return [LeftOut(site_id=name, reason="members") for name in site_ids if name not in members]

    def close(self) -> None:
        """Stop waiting and let go of the backend; safe to call twice. What is stored stays."""
        if not self._closed.is_set():
            self._closed.set()
            self._on_close()

    # --- inside ---------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise EngineError(
                "The engine was stopped. What sites hand in meanwhile is kept. Go on with "
                "`hospitium run resume RUN`; `hospitium run list` names the runs."
            )

    def _put(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> str:
        """Put the task for these sites, with the file of its params; return its nonce."""
        manifest = blob.manifest_of(task.params)
        self._store.put(task.params, digest=task.base_digest)
        envelope = encode_task(task)
        run_key = "" if self._run_key is None else self._run_key.public
        nonce = nonce_of(envelope, key=self._key, run_key=run_key)
        size = blob.size_of(manifest)
        members_digest = self._members_digest()
        sites = self._selected.get(task.round_number, sorted(site_ids))
        openings: Mapping[str, bytes] = {}
        if self._cosigning is not None:
            openings = self._cosigning.begin(
                task, sites=sites, members_digest=members_digest, site_ids=site_ids
            )
        tasks = [
            OpenTask(
                run_id=task.run_id,
                site_id=site_id,
                nonce=nonce,
                envelope=Ask(
                    site_id=site_id,
                    task=envelope,
                    nonce=nonce,
                    blob=task.base_digest,
                    blob_bytes=size,
                    deadline_s=deadline_s,
                    members_digest=members_digest,
                    num_sites=len(sites),
                    run_key=run_key,
                    opening=openings.get(site_id, b""),
                ).signed(self._key),
                blob=task.base_digest,
                upload_bytes=self._upload_bytes(size) if task.purpose == "train" else 0,
            )
            for site_id in site_ids
        ]
        self._backend.enqueue(tasks, blob=self._store.path(task.base_digest))
        return nonce

    def _upload_bytes(self, size: int) -> int:
        """Return how large a file of this size is on its way."""
        return size if self._run_key is None else sealed_bytes(size)

    def _answer(self, task: Task, stored: StoredAnswer) -> Answer | None:
        """Turn what a site handed in into an answer; None where its file is gone by now."""
        try:
            member = self._members.get(stored.site_id)
            if member is None:
                raise UpdateError("members", f"{stored.site_id} is no longer a member.")
            reply = Reply.opened(stored.statement, key=member.signing_key)
            if reply.kind == "error":
                return LeftOut(site_id=stored.site_id, reason=f"error: {_words(reply.content)}")
            evidence: Mapping[str, Json] = {}
            if self._cosigning is not None:
                evidence = self._cosigning.evidence(stored, reply, key=member.signing_key)
            return replace(self._update(task, stored, reply), evidence=evidence)
        except UpdateError as error:
            return LeftOut(site_id=stored.site_id, reason=error.reason)
        except FileNotFoundError:
            self._ask_again(task, stored)
            return None

    def _ask_again(self, task: Task, stored: StoredAnswer) -> None:
        """Ask a site anew whose file was lost, or was moved just before a crash."""
        open_task = self._backend.open_task(stored.site_id, stored.nonce)
        self._backend.drop_answer(stored)
        if open_task is not None:
            self._backend.enqueue([open_task], blob=self._store.path(task.base_digest))

    def _update(self, task: Task, stored: StoredAnswer, reply: Reply) -> Update:
        """Pass an envelope and its file through the gate; the change stays in the file, mapped."""
        update, promised = decode_update(reply.content)
        if update.site_id != stored.site_id:
            raise UpdateError("identity", f"{stored.site_id} sent an update in another's name.")
        if not promised:
            return update
        if not stored.found:
            raise UpdateError("header", f"{stored.site_id} sent no file with its update.")
        received = self._backend.received(stored)
        manifest = blob.manifest_of(task.params)
        try:
            delta, found = self._opened(received, stored, reply, update, manifest=manifest)
        except CorruptedError as error:
            raise UpdateError(
                "header", f"{stored.site_id} sent a file that is not its model's."
            ) from error
        if found != promised:
            raise UpdateError("blob_digest", f"{stored.site_id} sent a file of another digest.")
        if reply.sealed:
            name = f"{promised}.{binding_of(update)}"
            received = self._linked(received, stored.site_id, name)
        return replace(update, delta=delta, path=str(received))

    def _linked(self, received: Path, site_id: str, name: str) -> Path:
        """Give a sealed file the name under which the ledger takes it over; the backend's stays."""
        path = durable.make_folder(self._store.incoming / site_id) / f"{name}{SEALED}"
        durable.link(received, path)
        return path

    def _opened(
        self,
        received: Path,
        stored: StoredAnswer,
        reply: Reply,
        update: Update,
        *,
        manifest: Manifest,
    ) -> tuple[Params, str]:
        """Return the change and the SHA-256 of its file: mapped, or opened in memory."""
        if bool(reply.sealed) != (self._run_key is not None):
            raise UpdateError(
                "fields", f"{stored.site_id} sent a file that is not sealed as the task says."
            )
        if self._run_key is None:
            return blob.read(received, manifest=manifest), stored.found
        if stored.found != reply.sealed:
            raise UpdateError("blob_digest", f"{stored.site_id} sent a file of another digest.")
        with received.open("rb") as file:
            content, found = open_sealed(file, key=self._run_key, binding=binding_of(update))
        return blob.arrays(content, name=received.name, manifest=manifest), found


def _words(content: bytes) -> str:
    """Return public words of a site as one short line."""
    text = content.decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]
