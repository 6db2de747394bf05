"""The network between simulated sites and their hub: a request is two messages; both suffer.

A message may be dropped, delayed, doubled, changed, or be an old one played again; a partition may
cut one way only. The hub's ASGI application runs as it is, in a strand of the coordinator.
"""

from __future__ import annotations

import asyncio as real_asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from machines_of_simulation import Process
from virtual_threads import Event, Module
from virtual_time import World, world

BASE_DELAY_S = 0.05
CONNECT_S = 3.0


@dataclass(kw_only=True)
class Weather:
    """How bad the network is, as shares of messages, until a moment."""

    drop: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    old_list: float = 0.0
    delay: float = 1.0
    until_s: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A partition: messages of a site in one direction, or both, do not arrive."""

    site_id: str
    way: str
    begin_s: float
    end_s: float


@dataclass(kw_only=True)
class Request:
    """What a site sends."""

    site_id: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(kw_only=True)
class Answer:
    """What comes back."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(kw_only=True)
class Network:
    """All lines of one world.

    Attributes:
        servers: Returns the processes that serve the hub now, with their applications.
        leaving: Told of each request before its first byte leaves a site.
        arrived: Told of each request that the hub took, with its answer.
    """

    here: World
    servers: Callable[[], list[tuple[Process, Any]]]
    leaving: Callable[[Process, Request], None]
    arrived: Callable[[Request, Answer], None]
    weather: Weather = field(default_factory=Weather)
    cuts: list[Cut] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)
    old_lists: list[str] = field(default_factory=list)
    num_requests: int = 0
    _old: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    def ask(self, process: Process, request: Request, *, timeout_s: float) -> Answer:
        """Send a request; return the answer, or raise what httpx raises where there is none."""
        here, site_id = self.here, request.site_id
        self.num_requests += 1
        process.machine.point(f"before {_kind(request)}")
        self.leaving(process, request)
        line = _Line()
        lost = self._is_lost(site_id, "up")
        sent = self._changed(request, "up")
        if not lost:
            self._deliver(sent, line)
        if self._bad("duplicate", site_id):
            self._deliver(sent, None, later_s=here.between(0, 5, "again", site_id))
        if line.answer is None and not line.event.wait(timeout_s):
            raise httpx.ReadTimeout("no answer came")
        if line.answer is None:
            raise httpx.ConnectError("there is nobody")
        process.machine.point(f"after {_kind(request)}")
        return line.answer

    # --- inside -----------------------------------------------------------------------------

    def _deliver(self, request: Request, line: _Line | None, *, later_s: float = 0.0) -> None:
        """Have a request arrive after its delay."""
        here = self.here
        here.at(
            here.now + later_s + self._delay_s(request.site_id), lambda: self._arrive(request, line)
        )

    def _arrive(self, request: Request, line: _Line | None) -> None:
        here = self.here
        servers = self.servers()
        if not servers:
            if line is not None:
                here.at(here.now + CONNECT_S, line.event.set)
            return
        process, app = servers[hash_of(request.site_id) % len(servers)]
        here.spawn(process, lambda: self._serve(app, request, line), "request")

    def _serve(self, app: Any, request: Request, line: _Line | None) -> None:
        answer = asgi_answer(app, request)
        self.arrived(request, answer)
        if line is None or self._is_lost(request.site_id, "down"):
            return
        back = self._changed_answer(request, answer)
        self.here.at(self.here.now + self._delay_s(request.site_id), lambda: line.take(back))

    def _delay_s(self, site_id: str) -> float:
        most = self.weather.delay if self.here.now < self.weather.until_s else 1.0
        factor = self.here.between(0.5, max(1.0, most), "delay", site_id)
        return BASE_DELAY_S * factor * self.slow.get(site_id, 1.0)

    def _bad(self, kind: str, site_id: str) -> bool:
        weather = self.weather
        return self.here.now < weather.until_s and self.here.chance(
            getattr(weather, kind), kind, site_id
        )

    def _is_lost(self, site_id: str, way: str) -> bool:
        now = self.here.now
        is_cut = any(
            cut.site_id == site_id and cut.way in (way, "both") and cut.begin_s <= now < cut.end_s
            for cut in self.cuts
        )
        return is_cut or self._bad("drop", site_id)

    def _changed(self, request: Request, way: str) -> Request:
        """Return a request as it arrives."""
        if not self._bad("corrupt", request.site_id):
            return request
        draw = self.here.draw("corrupt what", request.site_id)
        headers, body, target = dict(request.headers), request.body, request.target
        if body and draw % 3:
            body = flipped(body, draw)
        elif draw % 2 and "hospitium-request" in headers:
            text = flipped(headers["hospitium-request"].encode(), draw)
            headers["hospitium-request"] = text.decode("latin-1")
        else:
            target = "/" + target[1:].replace("1", "2", 1)
        return Request(
            site_id=request.site_id,
            method=request.method,
            target=target,
            headers=headers,
            body=body,
        )

    def _changed_answer(self, request: Request, answer: Answer) -> Answer:
        """Return an answer as it arrives: perhaps changed, or an old one in its place."""
        place = (request.site_id, request.path)
        before = self._old.setdefault(place, [])
        body = answer.body
        if before and self._bad("replay", request.site_id):
            body = before[self.here.draw("which") % len(before)]
        elif request.path == "/v1/members" and self._bad("old_list", request.site_id):
            body = json.dumps({"lists": self.old_lists[-1:]}).encode()
        elif body and self._bad("corrupt", request.site_id):
            body = flipped(body, self.here.draw("flip"))
        if self.weather.replay and request.method == "GET" and answer.status == 200:
            before.append(answer.body)
        return Answer(status=answer.status, headers=answer.headers, body=body)


class _Line:
    """Where one answer is waited for."""

    def __init__(self) -> None:
        self.event = Event()
        self.answer: Answer | None = None

    def take(self, answer: Answer) -> None:
        self.answer = answer
        self.event.set()


class Http:
    """Stands for `httpx.Client` at one site."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process
        self.base_url = ""

    @contextmanager
    def stream(
        self, method: str, url: str, *, content: Any = None,
        headers: Mapping[str, str] | None = None, timeout: float | None = None,
        extensions: object = None,
    ) -> Iterator[Any]:  # fmt: skip
        """Send a request; yield its answer."""
        body = content if isinstance(content, bytes) else b"".join(content or ())
        request = Request(
            site_id=self._process.name,
            method=method,
            target=url,
            headers=dict(headers or {}),
            body=body,
        )
        answer = self._network.ask(self._process, request, timeout_s=timeout or 30.0)
        yield _Response(answer)

    def close(self) -> None:
        """Nothing is open."""


class _Response:
    """What the product's client looks at of a response."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.headers = httpx.Headers(answer.headers)
        self.content = answer.body
        self.extensions: dict[str, object] = {}

    def iter_raw(self, size: int | None = None) -> Iterator[bytes]:
        room = size or 1 << 20
        for start in range(0, len(self.content), room):
            yield self.content[start : start + room]

    def read(self) -> bytes:
        return self.content


def asgi_answer(app: Any, request: Request) -> Answer:
    """Have an ASGI application answer a request; it waits by `Asyncio` only, or not at all."""
    path, _, query = request.target.partition("?")
    headers = {**request.headers, "content-length": str(len(request.body))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": (request.site_id, 1),
        "server": ("hub", 443),
    }
    inbox = [{"type": "http.request", "body": request.body, "more_body": False}]
    parts: list[bytes] = []
    head: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return inbox.pop() if inbox else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
        else:
            parts.append(message.get("body", b""))

    finish(app(scope, receive, send))
    found = {name.decode(): value.decode("latin-1") for name, value in head["headers"]}
    return Answer(status=head["status"], headers=found, body=b"".join(parts))


def finish(coroutine: Any) -> Any:
    """Run a coroutine to its end: whatever it waits for is waited for by this strand."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a route waited for something that is not simulated")


def flipped(data: bytes, draw: int) -> bytes:
    """Return these bytes with one bit changed."""
    at = draw % len(data)
    return data[:at] + bytes([data[at] ^ (1 << draw % 7)]) + data[at + 1 :]


def hash_of(name: str) -> int:
    """Return the same number for the same name, always."""
    return hashlib.sha256(name.encode()).digest()[0]


def _kind(request: Request) -> str:
    """Return a request's name without its digests."""
    parts = ["*" if len(part) == 64 or part.isdigit() else part for part in request.path.split("/")]
    return f"{request.method} {'/'.join(parts)}"


# --- asyncio, for the hub's routes ------------------------------------------------------------


class _AsyncEvent(Event):
    """`asyncio.Event`."""

    def wait(self, timeout: float | None = None) -> Any:  # type: ignore[override]
        return _Waiting(self)


class _Waiting:
    def __init__(self, event: Event) -> None:
        self.event = event

    def __await__(self) -> Iterator[None]:
        Event.wait(self.event)
        return
        yield


async def _wait_for(waiting: Any, timeout: float | None) -> bool:
    if not Event.wait(waiting.event, timeout):
        raise TimeoutError
    return True


async def _to_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return call(*args, **kwargs)


class _Loop:
    def time(self) -> float:
        return world().now

    def call_soon_threadsafe(self, call: Callable[..., Any], *args: Any) -> None:
        call(*args)


class _Timeout:
    def __init__(self, seconds: float | None) -> None:
        pass

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


Asyncio = Module(
    real_asyncio,
    Event=_AsyncEvent,
    wait_for=_wait_for,
    to_thread=_to_thread,
    get_running_loop=_Loop,
    timeout=_Timeout,
)
