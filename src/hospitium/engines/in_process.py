"""All sites of a federation on one machine, sharing a pool of worker processes.

The reference implementation of the `Engine` port: no server and no network, yet every task and
every update crosses a process boundary as canonical bytes and a params file, and passes the gate.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from hospitium.engines.site_worker import answer_request, read_reply
from hospitium.engines.workers import Handler, WorkerDiedError, WorkerPool
from hospitium.errors import CorruptedError, HospitiumError, UpdateError
from hospitium.plan import Plan
from hospitium.site.departures import LOG, Departures
from hospitium.site.egress import Egress
from hospitium.site.leaving import Departure, facts_of, words_of
from hospitium.site.public_words import closed
from hospitium.state.store import Store
from hospitium.types import Answer, Answers, LeftOut, Task, Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.envelope import decode_update, encode_task


@dataclass(frozen=True, kw_only=True)
class LocalSite:
    """Where a simulated site's own files are, and how many training cases it enrolled with."""

    site_id: str
    cases: Path
    folder: Path
    num_cases: int


class InProcess:
    """An engine whose sites take turns on this machine's cores.

    A site's deadline runs from the moment a worker takes its task: in a simulation, waiting for a
    core is not the site's fault. A site that is killed at its deadline leaves no file behind that
    the next round would take for an answer.

    Args:
        plan: What is run; each task names its digest.
        sites: The sites.
        store: The run's store: workers read params from it and leave updates in its ``incoming``.
        pool: Worker processes, shared with other runs; None makes an own pool, closed with it.
        plugin: Path of a plug-in file, loaded in the workers.
        handler: What a worker does with a request; tests of the contract put their own.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        sites: Sequence[LocalSite],
        store: Store,
        pool: WorkerPool | None = None,
        plugin: Path | None = None,
        handler: Handler = answer_request,
    ) -> None:
        self._plan = plan
        self._sites = {site.site_id: site for site in sites}
        self._egress = {
            site.site_id: Egress(Departures(site.folder / LOG), destination="this machine")
            for site in sites
        }
        self._store = store
        self._owns_pool = pool is None
        self._pool = pool or WorkerPool(handler)
        self._plugin = plugin

    def select(self, *, round_number: int) -> Sequence[str]:
        """Every site is asked in every round."""
        return sorted(self._sites)

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Put the task in line for each site and yield each answer as it arrives."""
        known = [site_id for site_id in dict.fromkeys(site_ids) if site_id in self._sites]
        for site_id in sorted(set(site_ids) - set(known)):
            yield LeftOut(site_id=site_id, reason="unknown site")
        if not known:
            return
        self._store.put(task.params, digest=task.base_digest)
        waiting = {
            self._pool.submit(self._request(task, site_id), deadline_s=deadline_s): site_id
            for site_id in known
        }
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda item: waiting[item]):
                    yield self._answer(task, waiting.pop(future), future)
        finally:
            for future in waiting:
                future.cancel()

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Nobody: sites on this machine are not revoked."""
        return ()

    def close(self) -> None:
        """Stop the workers, if they are this engine's own."""
        if self._owns_pool:
            self._pool.close()

    def _request(self, task: Task, site_id: str) -> bytes:
        """Return what a worker is told: the envelope, and where this site's files are."""
        site = self._sites[site_id]
        return canonical_json(
            {
                "task": base64.b64encode(encode_task(task)).decode(),
                "params": str(self._store.path(task.base_digest)),
                "outbox": str(self._store.incoming / site_id),
                "plan": self._plan.as_dict(),
                "site_id": site_id,
                "cases": str(site.cases),
                "folder": str(site.folder),
                "num_cases": site.num_cases,
                "plugin": str(self._plugin or ""),
            }
        )

    def _answer(self, task: Task, site_id: str, future: Future[bytes]) -> Answer:
        """Turn what came of a request into an answer; nothing a site does raises here."""
        try:
            reply = future.result()
        except TimeoutError:
            return LeftOut(site_id=site_id, reason="deadline")
        except WorkerDiedError as error:
            return LeftOut(site_id=site_id, reason=f"died: {error}")
        except OSError:
            return LeftOut(site_id=site_id, reason="died: its process could not be started")
        try:
            fields = read_reply(reply)
            if "error" in fields:
                nonce = digest(f"{task.run_id} {task.round_number} {task.base_digest}".encode())
                self._egress[site_id].record(words_of(fields["error"].encode(), nonce))
                return LeftOut(site_id=site_id, reason=f"error: {closed(fields['error'])}")
            return self._update(task, site_id, base64.b64decode(fields["envelope"]))
        except UpdateError as error:
            return LeftOut(site_id=site_id, reason=error.reason)
        except HospitiumError as error:
            return LeftOut(site_id=site_id, reason=f"error: the site failed with {error.code}")

    def _update(self, task: Task, site_id: str, envelope: bytes) -> Update:
        """Pass an envelope and its file through the gate; the change stays in the file, mapped."""
        update, promised = decode_update(envelope)
        if update.site_id != site_id:
            raise UpdateError("identity", f"{site_id} sent an update in another site's name.")
        path = self._store.incoming / site_id / f"{promised}.safetensors" if promised else None
        self._record(task, update, envelope, file=path, promised=promised)
        if path is None:
            return update
        try:
            delta = blob.read(path, manifest=blob.manifest_of(task.params))
            found = blob.file_digest(path)
        except (CorruptedError, OSError) as error:
            raise UpdateError(
                "header", f"{site_id} sent a file that is not its model's."
            ) from error
        if found != promised:
            raise UpdateError("blob_digest", f"{site_id} sent a file of another digest.")
        return replace(update, delta=delta, path=str(path))

    def _record(
        self, task: Task, update: Update, envelope: bytes, *, file: Path | None, promised: str
    ) -> None:
        """Record in the site's own log what leaves it, before anything of it is read here."""
        facts = facts_of(
            update,
            envelope=envelope,
            params_sha256=promised,
            num_arrays=len(task.params) if promised else 0,
            plan=self._plan,
            consent=None,
        )
        there = file if file is not None and file.is_file() else None
        self._egress[update.site_id].record(
            Departure(
                kind="update" if promised else "scores",
                content=envelope,
                facts=facts,
                file=there,
                sha256=promised,
            )
        )
