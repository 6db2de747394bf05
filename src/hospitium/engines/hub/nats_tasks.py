"""Open tasks and the answers to them in a NATS cluster: one message each, read from the leader.

``task.RUN.SITE.NONCE.BLOB`` and ``answer.RUN.SITE.NONCE``; a message's number in its stream is the
number of the task or answer. An answer takes its place by compare-and-set.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

from hospitium.engines.hub.nats_streams import (
    ANSWERS,
    TASKS,
    Message,
    Streams,
    TakenError,
    in_turn,
)
from hospitium.errors import StateConflictError
from hospitium.state.hub_store import MAX_CONFLICTS, OpenTask, StoredAnswer
from hospitium.wire.canonical import canonical_json

KEPT_S = 7 * 86400.0


class NatsTasks:
    """What `hospitium.state.hub_store.HubStore` does, in a cluster; all methods are coroutines."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    # --- tasks ----------------------------------------------------------------------------------

    async def put(self, tasks: Sequence[OpenTask], *, blob_bytes: int) -> None:
        """Put tasks; one that is there already is put anew, without its old error."""
        for nonce in sorted({task.nonce for task in tasks}):
            site_ids = {task.site_id for task in tasks if task.nonce == nonce}
            for answer in await self.answers(nonce):
                if answer.kind == "error" and answer.site_id in site_ids:
                    await self.drop(answer)
        await in_turn(self._put(task, blob_bytes) for task in tasks)

    async def _put(self, task: OpenTask, blob_bytes: int) -> None:
        place = self._streams.subject("task", task.run_id, task.site_id, task.nonce, task.blob)
        await self._streams.put(TASKS, place, _data(task, blob_bytes=blob_bytes))

    async def of_site(self, site_id: str) -> list[tuple[OpenTask, int]]:
        """Return a site's open tasks in order, answered or not, each with the size of its blob."""
        listing = await self._streams.listing(TASKS, "task", "*", site_id, "*", "*")
        return [_task(item) for item in await self._streams.all(TASKS, listing.subjects)]

    async def waiting(self, site_id: str, *, after: int) -> list[OpenTask]:
        """Return a site's open tasks that it has not answered, in order, from a number on."""
        listing = await self._streams.listing(TASKS, "task", "*", site_id, "*", "*")
        if not listing.subjects:
            return []
        answers = await self._streams.listing(ANSWERS, "answer", "*", site_id, "*")
        answered = {self._streams.words(subject)[3] for subject in answers.subjects}
        places = [
            subject
            for subject in listing.subjects
            if self._streams.words(subject)[3] not in answered
        ]
        after = after if after <= listing.last else 0  # a number that was never given
        found = [_task(item)[0] for item in await self._streams.all(TASKS, places)]
        return [task for task in found if task.n > after]

    async def one(self, site_id: str, nonce: str) -> OpenTask | None:
        """Return one open task of a site, answered or not."""
        place = self._streams.subject("task", "*", site_id, nonce, "*")
        found = await self._streams.get(TASKS, place)
        return None if found is None else _task(found)[0]

    async def blobs(self) -> set[str]:
        """Return the blobs that open tasks name."""
        listing = await self._streams.listing(TASKS, "task", "*", "*", "*", "*")
        return {self._streams.words(subject)[4] for subject in listing.subjects}

    async def withdraw(self, nonce: str, *, site_ids: Collection[str]) -> None:
        """Close a task for these sites."""
        listing = await self._streams.listing(TASKS, "task", "*", "*", nonce, "*")
        there = {self._streams.words(subject)[2] for subject in listing.subjects}
        if there <= set(site_ids):
            await self._streams.purge(TASKS, "task", "*", "*", nonce, "*")
            return
        for site_id in sorted(there & set(site_ids)):
            await self._streams.purge(TASKS, "task", "*", site_id, nonce, "*")

    async def forget(self, run_id: str, *, but: str) -> list[StoredAnswer]:
        """Delete what belongs to a run's other tasks than this one; return those answers."""
        tasks = await self._streams.listing(TASKS, "task", run_id, "*", "*", "*")
        for nonce in sorted({self._streams.words(place)[3] for place in tasks.subjects} - {but}):
            await self._streams.purge(TASKS, "task", run_id, "*", nonce, "*")
        listing = await self._streams.listing(ANSWERS, "answer", run_id, "*", "*")
        places = [place for place in listing.subjects if self._streams.words(place)[3] != but]
        old = [_answer(item) for item in await self._streams.all(ANSWERS, places)]
        for nonce in sorted({self._streams.words(place)[3] for place in places}):
            await self._streams.purge(ANSWERS, "answer", run_id, "*", nonce)
        return old

    # --- answers --------------------------------------------------------------------------------

    async def answers(self, nonce: str, *, after: int = 0) -> list[StoredAnswer]:
        """Return the answers to a task, in the order in which they were taken."""
        listing = await self._streams.listing(ANSWERS, "answer", "*", "*", nonce)
        if listing.last <= after:
            return []
        found = [_answer(item) for item in await self._streams.all(ANSWERS, listing.subjects)]
        return [answer for answer in found if answer.n > after]

    async def files(self) -> set[tuple[str, str]]:
        """Return site and SHA-256 of each file that an answer came with.

        Of tasks that are closed, answers older than a week are forgotten: their runs are over, or
        ask again.
        """
        answers = await self._streams.listing(ANSWERS, "answer", "*", "*", "*")
        tasks = await self._streams.listing(TASKS, "task", "*", "*", "*", "*")
        is_open = {tuple(self._streams.words(place)[1:4]) for place in tasks.subjects}
        files = set()
        for item in await self._streams.all(ANSWERS, answers.subjects):
            answer = _answer(item)
            place = (answer.run_id, answer.site_id, answer.nonce)
            if item.age_s > KEPT_S and place not in is_open:
                await self.drop(answer)
            elif answer.found:
                files.add((answer.site_id, answer.found))
        return files

    async def stored(self, site_id: str, sha256: str) -> StoredAnswer | None:
        """Return an answer of this site that was taken, by the SHA-256 of its statement."""
        listing = await self._streams.listing(ANSWERS, "answer", "*", site_id, "*")
        found = [_answer(item) for item in await self._streams.all(ANSWERS, listing.subjects)]
        return next((answer for answer in found if answer.sha256 == sha256), None)

    async def answer(self, answer: StoredAnswer) -> StoredAnswer:
        """Take an answer, if its place is free or holds words about an error.

        Raises:
            StateConflictError: Another answer is there. It stays; this one is kept as evidence.
        """
        place = self._streams.subject("answer", answer.run_id, answer.site_id, answer.nonce)
        while True:
            there = await self._streams.get(ANSWERS, place)
            stored = None if there is None else _answer(there)
            if stored is not None and stored.sha256 == answer.sha256:
                return stored
            if stored is not None and (stored.kind, answer.kind) != ("error", "update"):
                break
            try:
                n = await self._streams.put(
                    ANSWERS, place, _data(answer), after=0 if stored is None else stored.n
                )
            except TakenError:
                continue
            return replace(answer, n=n)
        await self.conflict(answer.site_id, answer.nonce, answer.sha256, answer.statement)
        raise StateConflictError(
            f"{answer.site_id} gave a second, different answer to one task. The first one "
            "stays; both are kept. The coordinator: ask the site what happened."
        )

    async def drop(self, answer: StoredAnswer) -> None:
        """Delete an answer, unless another one has taken its place."""
        words = ("answer", answer.run_id, answer.site_id, answer.nonce)
        await self._streams.purge(ANSWERS, *words, before=answer.n + 1)

    async def conflict(self, site_id: str, place: str, sha256: str, content: bytes) -> None:
        """Keep a second, different thing that a site sent for a place that is taken."""
        if len(await self.conflicts(site_id)) < MAX_CONFLICTS:
            subject = self._streams.subject("conflict", site_id, place, sha256)
            await self._streams.put(ANSWERS, subject, content)

    async def conflicts(self, site_id: str) -> list[tuple[str, str]]:
        """Return place and SHA-256 of everything of a site that was refused as a conflict."""
        listing = await self._streams.listing(ANSWERS, "conflict", site_id, "*", "*")
        words = [self._streams.words(subject) for subject in listing.subjects]
        return sorted((place, sha256) for _, _, place, sha256 in words)

    async def conflicting(self, site_id: str, place: str, sha256: str) -> bytes:
        """Return the bytes of something that was refused as a conflict; empty for none."""
        subject = self._streams.subject("conflict", site_id, place, sha256)
        found = await self._streams.get(ANSWERS, subject)
        return b"" if found is None else found.data


def _data(item: OpenTask | StoredAnswer, **more: int) -> bytes:
    """Return a task or an answer as it is stored; its number is the message's."""
    fields: dict[str, Any] = {**asdict(item), **more}
    del fields["n"]
    return canonical_json(
        {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in fields.items()
        }
    )


def _task(message: Message) -> tuple[OpenTask, int]:
    fields = json.loads(message.data)
    size = fields.pop("blob_bytes")
    fields["envelope"] = base64.b64decode(fields["envelope"])
    return OpenTask(**fields, n=message.n), size


def _answer(message: Message) -> StoredAnswer:
    fields = json.loads(message.data)
    fields["statement"] = base64.b64decode(fields["statement"])
    return StoredAnswer(**fields, n=message.n)
