"""A run over a real hub in which one site is a liar with keys of its own and any code it likes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hub_federation import Running
from runs import small_plan

from hospitium import algorithms, federation
from hospitium.engines.hub.client import HubClient, StoppedError
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.errors import HubError, UpdateError
from hospitium.state.history import participation
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import Quiet, first_params, least_squares_sites
from hospitium.types import Seat, Task, Update
from hospitium.wire import blob
from hospitium.wire.blob import blocks_of
from hospitium.wire.canonical import digest
from hospitium.wire.envelope import binding_of, decode_task, decode_update, encode_update
from hospitium.wire.sealing import seal
from hospitium.wire.signing import SigningKey

HONEST, LIAR = "site-1", "site-2"
ROUNDS = 1


@dataclass
class Answering:
    """What a site hands in for one task; a lie changes any of it before it is signed and sent.

    Attributes:
        update: What was trained.
        content: The envelope; None writes it from the update and the file.
        file: The file of the change, before it is sealed.
        run_key: What it is sealed to; "" leaves it open.
        key: Who signs the statement.
    """

    site: Site
    ask: Ask
    task: Task
    update: Update
    file: bytes
    run_key: str
    key: SigningKey
    content: bytes | None = None
    promised: str = ""

    def send(self, sent: bytes | None = None) -> bytes:
        """Hand it in as a site does, perhaps with a file that is sealed already; the receipt."""
        content = self.content
        if content is None:
            content = encode_update(self.update, blob_digest=self.promised or digest(self.file))
        if sent is None:
            sent = self.sealed(content) if self.run_key else self.file
        sealed = digest(sent) if self.run_key else ""
        statement = Reply(
            kind="update", nonce=self.ask.nonce, content=content, sealed=sealed
        ).signed(self.key)
        path = self.site.folder / f"{digest(sent)}.file"
        path.write_bytes(sent)
        return self.site.client.upload(path, digest(sent), statement)

    def sealed(self, content: bytes) -> bytes:
        out = io.BytesIO()
        seal(io.BytesIO(self.file), out, run_key=self.run_key, binding=bound_to(content))
        return out.getvalue()


Lie = Callable[[Answering], Any]


@dataclass
class Site:
    """A site's end of the line, in a thread."""

    running: Running
    site_id: str
    folder: Path
    lie: Lie = Answering.send
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._train = next(s for s in least_squares_sites() if s.site_id == self.site_id)
        self.stop = threading.Event()
        self.client = HubClient(
            self.running.connection(patience_s=0.0),
            key=self.running.request_key(self.site_id),
            stop=self.stop,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.stop.set()
        self.client.interrupt()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        self.client.close()

    def _run(self) -> None:
        seen: set[str] = set()
        while not self.stop.is_set():
            try:
                waiting = self.client.tasks(after=0, wait_s=1)
            except Exception:  # the end of a test
                return
            for task in waiting:
                ask = Ask.opened(task.envelope, key=self.running.key.public, site_id=self.site_id)
                if ask.nonce not in seen:
                    seen.add(ask.nonce)
                    self._answer(ask)
                else:
                    self.stop.wait(0.02)

    def _answer(self, ask: Ask) -> None:
        path = self.folder / "model"
        path.unlink(missing_ok=True)
        self.client.fetch(ask.blob, path, size_bytes=ask.blob_bytes)
        task = decode_task(ask.task, params=blob.read(path))
        update = self._train(task)
        answering = Answering(
            site=self, ask=ask, task=task, update=update, file=file_of(update.delta),
            run_key=ask.run_key, key=self.running.signing_key(self.site_id),
        )  # fmt: skip
        try:
            self.lie(answering)
        except HubError as error:
            self.said.append(f"{error.status} {error.reason}")
        except StoppedError:
            return


def bound_to(content: bytes) -> str:
    """Bind a sealed file to whatever is said, even where that is no envelope."""
    try:
        return binding_of(decode_update(content)[0])
    except UpdateError:
        return digest(content)


def file_of(params) -> bytes:
    return b"".join(bytes(block) for block in blocks_of(params))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run with a liar came to."""

    folder: Path
    params: str
    rounds: list[dict[str, Any]]
    said: list[str]
    conflicts: list[tuple[str, str]]

    @property
    def left_out(self) -> list[str]:
        """Why the liar was left out, round by round; "" where it counted."""
        return [
            next((row["reason"] for row in entry["left_out"] if row["site_id"] == LIAR), "")
            for entry in self.rounds
        ]


def run(
    running: Running,
    folder: Path,
    lie: Lie,
    *,
    deadline_s: float = 3.0,
    honest: Lie = Answering.send,
) -> Outcome:
    """Run a federation of an honest site and a liar; return what is on record of it."""
    folder.mkdir()
    plan = small_plan(rounds=ROUNDS, quorum=1)
    plan = replace(plan, rounds=replace(plan.rounds, deadline_s=deadline_s))
    found = {site.site_id: site for site in least_squares_sites()}
    seats = [Seat(site_id=name, num_cases=found[name].num_cases) for name in (HONEST, LIAR)]
    run_id = folder.name
    RunLedger.create(folder, run_id=run_id, plan=plan, seats=seats, facts={})
    ledger = RunLedger(folder)
    algorithm = algorithms.build(
        plan, run_id=run_id, seats=seats, first_params=first_params, sum_lengths={"loss": 2}
    )
    sites = [
        Site(running, HONEST, folder / HONEST, lie=honest),
        Site(running, LIAR, folder / LIAR, lie=lie),
    ]
    engine = running.engine(ledger.store, on_close=lambda: None)
    try:
        state = federation.run(plan, algorithm, engine, ledger, Quiet())
        rounds = participation(ledger)
    finally:
        ledger.close()
        for site in sites:
            site.end()
    return Outcome(
        folder=folder,
        params=blob.digest_of(state.params),
        rounds=rounds,
        said=sites[1].said,
        conflicts=running.backend.conflicts(LIAR),
    )
