"""A federation over a real connection: a hub over TLS in this process, sites with real folders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carried import NAME, NOW, POLICY, Federation
from quick_stop import stop_quickly
from throwaway_ca import write_certificates
from tiny import tiny_plan

from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.cosigning import Cosigning
from hospitium.engines.hub.engine import HubEngine
from hospitium.engines.hub.front import Front
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.server import HubServer, Tls
from hospitium.operations import site_attending
from hospitium.operations.approving import approve
from hospitium.operations.coordinating import admit_site, begin_federation
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.enrolment import join_online
from hospitium.operations.offering import offer_plan
from hospitium.operations.site_attending import Attendant
from hospitium.operations.site_status import status
from hospitium.plan import Plan
from hospitium.plan.writing import to_toml
from hospitium.site.membership import Membership
from hospitium.state.database import Database
from hospitium.state.home import Home
from hospitium.state.run_log import RunLog
from hospitium.state.store import Store
from hospitium.training import trainer_for
from hospitium.types import Answer, Task
from hospitium.wire.blob import digest_of
from hospitium.wire.sealing import RunKey

KARI = "Kari Nordmann"
SOON_S = 20.0
stop_quickly()


class Net:
    """One coordinator that serves, and the homes of its sites; `stop` ends the server."""

    def __init__(self, folder: Path) -> None:
        self.files = Federation(folder=folder)
        self.folder = folder
        ca, certificate, key = write_certificates(folder)
        self.run_key: RunKey | None = RunKey.from_bytes(b"k" * 32)
        self._hubs: dict[str, Hub] = {}
        self._tls = Tls(certificate=certificate, key=key)
        self.server = HubServer(Front(self._hubs), tls=self._tls)
        self.server.start()
        address = f"https://127.0.0.1:{self.server.port}"
        begin_federation(
            self.files.coordinator, NAME, addresses=[address], tls_ca=ca, min_sites=1, now=NOW
        )
        self.desk = existing(self.files.coordinator, NAME)
        self.backend = LocalBackend(folder / "hub")
        self._open()

    def _open(self) -> None:
        office = Office(self.desk)
        self._hubs[NAME] = Hub(
            self.backend,
            members=office.members,
            key=coordinator_key(self.desk),
            office=office,
        )

    def stop(self) -> None:
        self.server.stop()
        self.backend.close()

    def start_again(self) -> None:
        """Serve at the same port, as a coordinator that was down for a while."""
        self.server = HubServer(Front(self._hubs), tls=self._tls, port=self.server.port)
        self._open()
        self.server.start()

    # --- sites ----------------------------------------------------------------------------------

    def home(self, site_id: str) -> Home:
        return self.files.site(site_id)

    def place(self, site_id: str) -> Membership:
        return self.files.place(site_id)

    def join(self, site_id: str, **line: Any) -> dict[str, Any]:
        return join_online(
            self.home(site_id),
            self.files.invite(site_id),
            legal_entity=f"{site_id} hospital",
            now=NOW,
            **line,
        )

    def admit(self, site_id: str, *, policy: str = "") -> None:
        words = " ".join(self.join(site_id)["words"])
        admit_site(self.files.coordinator, NAME, site_id, heard=words, now=NOW)
        self.set_policy(site_id, policy)

    def set_policy(self, site_id: str, more: str = "") -> None:
        text = POLICY.format(needed=1).replace("[allow]", "[allow]\nmin_sites = 1")
        text += "[isolation]\nrequired = false\n" + more
        (self.place(site_id).folder / "policy.toml").write_text(text)

    def offer(self) -> Plan:
        plan = tiny_plan(batching="equal", quorum=1)
        path = self.folder / "plan.toml"
        path.write_text(to_toml(plan))
        offer_plan(self.files.coordinator, NAME, path)
        return plan

    def approve(self, site_id: str, plan: Plan) -> None:
        approve(
            self.home(site_id),
            NAME,
            plan.digest,
            approver=KARI,
            cases=self.files.cases(site_id),
            now=datetime.now(UTC),
        )

    def agent(self, site_id: str) -> Attendant:
        return Attendant(self.home(site_id), self.place(site_id))

    @contextmanager
    def attended(self, site_id: str) -> Iterator[Attendant]:
        """Run a site's agent in a thread for as long as the block lasts."""
        agent = self.agent(site_id)
        thread = threading.Thread(target=agent.run, name=site_id, daemon=True)
        thread.start()
        try:
            yield agent
        finally:
            agent.stop()
            thread.join(timeout=20)
            assert not thread.is_alive()

    def status(self, site_id: str) -> dict[str, Any]:
        [row] = status(self.home(site_id), now=datetime.now(UTC))
        return row

    # --- tasks ----------------------------------------------------------------------------------

    def task(self, plan: Plan, *, round_number: int = 1) -> Task:
        params = trainer_for(plan).first_params()
        return Task(
            run_id="tiny",
            round_number=round_number,
            plan_digest=plan.digest,
            params=params,
            base_digest=digest_of(params),
            max_norm=10.0,
        )

    def engine(self) -> HubEngine:
        key = coordinator_key(self.desk)
        log = RunLog(Database(self.folder / "log.sqlite"))
        return HubEngine(
            self.backend,
            members=Office(self.desk).members,
            key=key,
            store=Store(self.folder / "store"),
            members_digest=lambda: self.desk.members().digest,
            run_key=self.run_key,
            cosigning=Cosigning(log, key=key, federation=NAME),
        )

    def ask(self, task: Task, *site_ids: str, deadline_s: float = SOON_S) -> list[Answer]:
        return list(self.engine().ask(task, site_ids, deadline_s=deadline_s))


def soon(holds: Callable[[], bool], *, within_s: float = SOON_S) -> None:
    """Wait until something holds."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def hurry(monkeypatch: Any) -> None:
    """Let agents look more often than in life."""
    monkeypatch.setattr(site_attending, "TICK_S", 0.05)
    monkeypatch.setattr(site_attending, "FETCH_S", 0.3)
    monkeypatch.setattr(site_attending, "APPLY_S", 0.2)
    monkeypatch.setattr(site_attending, "BEAT_S", 0.3)
    monkeypatch.setattr(site_attending, "PATIENCE_S", 0.5)
