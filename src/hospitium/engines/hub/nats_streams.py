"""The streams of one federation in a NATS cluster, and the few things that are done with them.

Reads of what may change go to a stream's leader; content that is named by its digest may come from
any server. Every write may be done twice: it is compare-and-set, or put under its content's name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, unquote

from nats.aio.client import Client
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError
from nats.js.manager import JetStreamManager

from hospitium.engines.hub.nats_link import NO_PEERS, TRY_S, Link
from hospitium.engines.hub.nats_settings import NatsSettings
from hospitium.errors import StorageError

TASKS, ANSWERS, MODEL, SEATS, UP = "TASKS", "ANSWERS", "MODEL", "SEATS", "UP"
AT_ONCE = 4
"""Requests that are under way together: enough to hide the way there and back, and with pieces of 4
MiB a quarter of what a server lets one connection have outstanding."""

S_PER_BYTE = 1e-6
"""What a large message may take longer: it is written on most servers before it is acknowledged,
and those of many sites come together."""

KINDS: Mapping[str, tuple[Sequence[str], int]] = {
    TASKS: (("task",), 5),
    ANSWERS: (("answer", "conflict"), 5),
    MODEL: (("blob",), 20),
    SEATS: (("shape", "done"), 1),
    UP: (("up",), 69),
}
"""First words of each stream's subjects, and its share of the bytes in percent.

What is small is apart from chunks: to read a message, a server loads the megabytes around it."""

_Found = TypeVar("_Found")


class TakenError(Exception):
    """The place is taken, or changed since it was read."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One stored message; ``n`` is its number in its stream and never comes twice."""

    subject: str
    n: int
    age_s: float
    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which subjects a stream holds, and the number of its newest message."""

    subjects: Sequence[str]
    last: int


class Streams:
    """What is stored; coroutines are for the link's loop.

    Args:
        settings: Which cluster, and the first word of all names in it.
        on_note: Called in the link's thread with the words of `tell`, of any hub; with none after
            a reconnection, when some may have been missed.
    """

    def __init__(self, settings: NatsSettings, *, on_note: Callable[[Sequence[str]], None]) -> None:
        self._settings = settings
        self._prefix = f"hospitium.{_token(settings.name)}"
        self.link = Link(
            settings,
            subject=self.subject("note"),
            on_note=lambda subject: on_note(self.words(subject)[1:]),
        )

    def subject(self, *words: str) -> str:
        """Return the subject of these words; ``*`` stands for any one word."""
        return ".".join([self._prefix, *(word if word == "*" else _token(word) for word in words)])

    def words(self, subject: str) -> list[str]:
        """Return the words of a subject: `subject` the other way round."""
        return [unquote(word) for word in subject.split(".")[2:]]

    async def tell(self, *words: str) -> None:
        """Tell these words to all hubs; nobody relies on it being heard."""
        await self.link.note(self.subject("note", *words))

    async def ensure(self) -> None:
        """Make the streams that are not there."""
        for kind in KINDS:
            await self._ensure(kind)

    async def state(self, kind: str) -> tuple[str, int]:
        """Return when a stream was made, and the number of its newest message."""
        info = await self._info(kind)
        return str(info.created), info.state.last_seq

    async def listing(self, kind: str, *words: str) -> Listing:
        """Return the subjects that these words fit."""
        info = await self._info(kind, self.subject(*words))
        return Listing(subjects=sorted(info.state.subjects or ()), last=info.state.last_seq)

    async def get(self, kind: str, subject: str, *, is_content: bool = False) -> Message | None:
        """Return the newest message under a subject; ``*`` in it fits any one word."""

        async def once(_: Client, manager: JetStreamManager) -> Message | None:
            try:
                found = await manager.get_msg(self._name(kind), subject=subject, direct=is_content)
            except NotFoundError as error:
                if error.err_code == 10059:
                    raise
                return None
            return Message(
                subject=str(found.subject),
                n=int(found.seq or 0),
                age_s=_age(found.time),
                data=found.data or b"",
                headers=found.headers or {},
            )

        return await self.link.again(once, mend=self.ensure)

    async def all(self, kind: str, subjects: Iterable[str]) -> list[Message]:
        """Return the messages under these subjects, those that are there, in order of number."""
        found = await in_turn([self.get(kind, subject) for subject in subjects])
        return sorted((item for item in found if item is not None), key=lambda item: item.n)

    async def put(
        self,
        kind: str,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        after: int | None = None,
    ) -> int:
        """Store a message durably and return its number.

        Args:
            kind: The stream.
            subject: The place.
            data: What the cluster takes in one message, less the headers.
            headers: Small things beside it.
            after: Number of the message that must be in this place now, 0 for none; None for any.

        Raises:
            TakenError: Another message is there; nothing was stored.
            StorageError: The stream is as large as it may be.
        """
        fields = dict(headers or {})
        if after is not None:
            fields["Nats-Expected-Last-Subject-Sequence"] = str(after)

        async def once(client: Client, _: JetStreamManager) -> int:
            context = JetStreamContext(client, timeout=TRY_S + len(data) * S_PER_BYTE)
            acknowledged = await context.publish(
                subject, data, headers=fields or None, stream=self._name(kind)
            )
            return acknowledged.seq

        try:
            return await self.link.again(once, mend=self.ensure)
        except (BadRequestError, ServiceUnavailableError) as error:
            if error.err_code == 10071 or "per subject" in str(error.description):
                raise TakenError from None
            raise _refused(error) from error
        except APIError as error:
            raise _refused(error) from error

    async def purge(self, kind: str, *words: str, before: int = 0) -> None:
        """Delete what is under these words, if a number is given only what came before it."""
        pattern = self.subject(*words)

        async def once(_: Client, manager: JetStreamManager) -> bool:
            return await manager.purge_stream(self._name(kind), subject=pattern, seq=before or None)

        await self.link.again(once, mend=self.ensure)

    async def pieces(
        self, kind: str, subjects: Sequence[str]
    ) -> AsyncGenerator[Message | None, None]:
        """Yield the messages under subjects in their order, a few of them under way at a time."""
        waiting: list[asyncio.Task[Message | None]] = []
        try:
            for start in range(len(subjects) + AT_ONCE):
                if start < len(subjects):
                    get = self.get(kind, subjects[start], is_content=True)
                    waiting.append(asyncio.create_task(get))
                if start >= AT_ONCE - 1 and waiting:
                    yield await waiting.pop(0)
        finally:
            for task in waiting:
                task.cancel()

    # --- inside ---------------------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        return f"{_token(self._settings.name).replace('%', '_')}_{kind}"

    async def _info(self, kind: str, pattern: str | None = None) -> api.StreamInfo:
        return await self.link.again(
            lambda _, manager: manager.stream_info(self._name(kind), subjects_filter=pattern),
            mend=self.ensure,
        )

    async def _ensure(self, kind: str) -> None:
        """Make a stream; a new one goes on with higher numbers than any before it."""

        async def once(_: Client, manager: JetStreamManager) -> None:
            try:
                found = (await manager.stream_info(self._name(kind))).config
            except NotFoundError:
                try:
                    await manager.add_stream(self._config(kind))
                except APIError as error:
                    if error.code == 503 or error.err_code == NO_PEERS:
                        raise
                    if error.err_code != 10058:  # another hub was quicker
                        raise _refused(error) from error
                return
            if found.num_replicas != self._settings.replicas:
                await manager.update_stream(found.evolve(num_replicas=self._settings.replicas))

        await self.link.again(once)

    def _config(self, kind: str) -> api.StreamConfig:
        words, percent = KINDS[kind]
        return api.StreamConfig(
            name=self._name(kind),
            subjects=[f"{self._prefix}.{word}.>" for word in words],
            storage=api.StorageType.FILE,
            num_replicas=self._settings.replicas,
            max_bytes=self._settings.max_bytes * percent // 100,
            max_msgs_per_subject=1,
            discard=api.DiscardPolicy.NEW,
            discard_new_per_subject=kind in (MODEL, UP),
            allow_direct=True,
            first_seq=time.time_ns() // 1_000_000,
        )


async def in_turn(works: Iterable[Awaitable[_Found]]) -> list[_Found]:
    """Await all, a few at a time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(work: Awaitable[_Found]) -> _Found:
        async with turn:
            return await work

    return await asyncio.gather(*map(one, works))


def _refused(error: APIError) -> StorageError:
    return StorageError(
        f"The hub's storage cluster refused to store ({error.description}). What was stored before "
        "is intact. Whoever runs the cluster: make room, or raise the hub's max_bytes."
    )


def _age(stored: datetime | None) -> float:
    """Return how long ago a server stored something, by its clock and ours."""
    return (datetime.now(UTC) - stored).total_seconds() if stored else 0.0


def _token(text: str) -> str:
    """Return a text as one word of a subject."""
    return quote(text, safe="").replace(".", "%2E")
