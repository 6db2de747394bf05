"""A federation over a real hub: `coordinator up` in a thread, and sites with keys of their own.

A site is a folder with its own keys, policy and cases. Its agent dials in over TLS and has its
tasks answered by worker processes that all sites of a test share, as starting them takes seconds.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carried import NAME, Federation
from tiny import tiny_cases, tiny_plan

from hospitium.engines.hub.site_loop import SiteKeys, SiteLoop
from hospitium.engines.hub.transport import HubTransport, connection_of
from hospitium.engines.workers import WorkerPool
from hospitium.imaging.cache import write_cases
from hospitium.imaging.cases import Cases
from hospitium.operations.approving import approve
from hospitium.operations.enrolment import fetch
from hospitium.operations.networked import start_networked
from hospitium.operations.offering import offer_plan
from hospitium.operations.running import open_ledger
from hospitium.operations.runs import show_run
from hospitium.operations.serving import serve
from hospitium.operations.site_rules import SiteRules
from hospitium.operations.site_watching import watch_of
from hospitium.plan import Plan
from hospitium.plan.writing import to_toml
from hospitium.site.record import egress_of
from hospitium.testing.partition import make_federation, parse_partition
from hospitium.wire.signing import VerifyKey

SHARED_WORKERS = "[isolation]\nrequired = false\n"
"""Policy of sites whose tasks the workers of the test answer: these are not cut off."""


class Between:
    """Machines of a test; leaving the block stops them all."""

    def __init__(self, folder: Path, pool: WorkerPool, *, site_ids: list[str]) -> None:
        self.port = free_port()
        self.federation = Federation(folder=folder).begin(f"https://127.0.0.1:{self.port}")
        self.home = self.federation.coordinator
        self.site_ids = site_ids
        self.events: list[dict[str, Any]] = []
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._pool = pool
        self._cases = deal(len(site_ids))
        self._agents: dict[str, tuple[SiteLoop, threading.Thread]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None
        for site_id in site_ids:
            self.federation.admit(site_id)
        for site_id in site_ids:
            self.federation.carry(site_id)
            policy = self.federation.place(site_id).folder / "policy.toml"
            policy.write_text(policy.read_text() + SHARED_WORKERS)

    def __enter__(self) -> Between:
        return self

    def __exit__(self, *_: object) -> None:
        for loop, _ in self._agents.values():
            loop.stop()
        self.down()
        for _, thread in self._agents.values():
            thread.join(timeout=20)
            assert not thread.is_alive()

    # --- the coordinator ------------------------------------------------------------------------

    def up(self) -> None:
        """Serve, in a thread, until `down`."""
        self._stop = threading.Event()
        before = len(self.events)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        wait_for(lambda: self.error or len(self.events) > before)
        assert self.error is None

    def down(self) -> None:
        """Stop serving, as a polite signal does."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=40)
            assert not self._thread.is_alive()
            self._thread = None
        assert self.error is None, self.error

    def _serve(self) -> None:
        try:
            serve(
                self.home, host="127.0.0.1", say=self._say, stop=self._stop,
                first_pause_s=0.5,
            )  # fmt: skip
        except BaseException as error:
            self.error = error

    def _say(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def offer(self, plan: Plan | None = None) -> Plan:
        """Offer a plan to every site; return it."""
        plan = plan or tiny_plan(batching="equal")
        path = self.federation.folder / "plan.toml"
        path.write_text(to_toml(plan))
        offer_plan(self.home, NAME, path)
        return plan

    def start(self, plan: Plan, *, run_id: str = "study", has_canary: bool = False) -> Path:
        """Begin a run; return its folder."""
        found = start_networked(self.home, NAME, plan.digest, run_id=run_id, has_canary=has_canary)
        return Path(found["folder"])

    def finished(self, run_id: str = "study", *, timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait for the end of a run; return what is shown of it."""
        report = self.home.folder / "runs" / run_id / "report" / "report.json"
        try:
            wait_for(lambda: self.error or report.is_file(), timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"{self.error}\n{self.events}\n{self.logs()}") from None
        assert self.error is None, self.error
        return show_run(self.home, run_id)

    def record(self, run_id: str = "study") -> dict[str, Any]:
        """Return what a ledger says happened, without what only names the run."""
        return record_of(self.home.run(run_id))

    # --- the sites ------------------------------------------------------------------------------

    def exchange(self, site_id: str) -> None:
        """Fetch lists and plans, bring what was said."""
        transport = HubTransport(self.federation.place(site_id), patience_s=10.0)
        try:
            fetch(self.federation.site(site_id), NAME, transport, now=datetime.now(UTC))
        finally:
            transport.close()

    def cases_of(self, site_id: str, plan: Plan) -> Path:
        """Return where a site's cases for a plan are; written the first time."""
        folder = self.federation.place(site_id).folder / "cases" / plan.digest
        if not folder.exists():
            write_cases(folder, self._cases[self.site_ids.index(site_id)])
        return folder

    def approve(self, plan: Plan, *site_ids: str) -> None:
        """Have a plan approved at sites, and the coordinator told."""
        for site_id in site_ids:
            self.exchange(site_id)
            approve(
                self.federation.site(site_id),
                NAME,
                plan.digest,
                approver="Kari Nordmann",
                cases=self.cases_of(site_id, plan),
                now=datetime.now(UTC),
                isolation="cut_off",
            )
            self.exchange(site_id)

    def attend(self, *site_ids: str) -> None:
        """Start the agents of sites."""
        for site_id in site_ids:
            place = self.federation.place(site_id)
            rules = SiteRules(place)
            coordinator = VerifyKey.from_hex(place.members().coordinator_keys[0])
            loop = SiteLoop(
                site_id=site_id,
                keys=SiteKeys(
                    request=place.request_key(),
                    signing=place.signing_key(),
                    coordinator=coordinator,
                ),
                connection=replace(connection_of(place), longest_pause_s=0.3),
                folder=place.folder / "work",
                pool=self._pool,
                approved=rules.approved,
                rules=rules.for_loop(),
                wait_s=5,
                egress=egress_of(place),
                watch=watch_of(place, place.folder / "work", coordinator=coordinator),
            )
            thread = threading.Thread(target=loop.run, name=site_id, daemon=True)
            thread.start()
            self._agents[site_id] = loop, thread

    def logs(self) -> str:
        """Return what the sites' agents wrote down for their own staff."""
        paths = sorted(self.federation.folder.glob("*/site/federations/*/work/site.log"))
        return "\n".join(path.read_text() for path in paths)

    def leave(self, site_id: str) -> None:
        """End the agent of a site."""
        loop, thread = self._agents.pop(site_id)
        loop.stop()
        thread.join(timeout=20)
        assert not thread.is_alive()


def deal(num_sites: int) -> list[Cases]:
    """Return each site's cases."""
    made = make_federation(
        tiny_cases(), partition=parse_partition("iid"), num_sites=num_sites, seed=7
    )
    return [made.sites[name] for name in sorted(made.sites)]


def record_of(folder: Path) -> dict[str, Any]:
    """Return what a ledger says happened, without what only names the run."""
    ledger = open_ledger(folder)
    try:
        record = ledger.record()
        return {**record, "run": {**record["run"], "run_id": ""}}
    finally:
        ledger.close()


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(is_so: Callable[[], object], *, timeout_s: float = 90.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
