"""Machines that fail: a coordinator and sites as real processes, each site behind a gate.

Everything here is the installed command, ``hospitium coordinator up`` and ``hospitium site up``,
over TLS, with training in processes of their own. Files are carried by hand before they start,
because enrolment has tests elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from between_machines import SHARED_WORKERS, deal, free_port
from carried import NAME, Federation
from gate import Gate
from nats_cluster import NatsCluster
from processes import Command
from tiny import hospitium, tiny_plan

from hospitium.engines.hub.nats_settings import seed_text
from hospitium.imaging.cache import write_cases
from hospitium.operations.approving import approve, take_plan
from hospitium.operations.desks import existing
from hospitium.operations.networked import start_networked
from hospitium.operations.offering import offer_plan
from hospitium.plan import Plan
from hospitium.plan.writing import to_toml

KARI = "Kari Nordmann"
PATIENCE_S = 120.0


def plan_of(*, rounds: int, deadline_s: float, name: str = "tiny", **more: Any) -> Plan:
    """Return a plan whose rounds take parts of a second; a site keeps nothing between rounds."""
    plan = tiny_plan(rounds=rounds, batching="equal", moments="reset", **more)
    return replace(
        plan,
        name=name,
        rounds=replace(plan.rounds, deadline_s=float(deadline_s)),
        evaluation=replace(plan.evaluation, choose="last"),
    )


class Machines:
    """A federation of processes; leaving the block ends them all.

    Args:
        folder: Where all homes are.
        site_ids: Its sites.
        cases: The cases' folder of each site, where they are not the usual tiny ones.
        policies: What a site's policy says beside the usual.
        num_replicas: So many hubs serve the sites, beside the coordinator's own; see `use`.
    """

    def __init__(
        self,
        folder: Path,
        site_ids: list[str],
        *,
        cases: Mapping[str, Path] | None = None,
        policies: Mapping[str, str] | None = None,
        num_replicas: int = 0,
    ) -> None:
        self.folder, self.site_ids = folder, site_ids
        self.ports = [free_port() for _ in range(num_replicas or 1)]
        addresses = [f"https://127.0.0.1:{port}" for port in self.ports]
        self.federation = Federation(folder=folder).begin(*addresses)
        self.home = self.federation.coordinator
        self.gates = {site_id: Gate() for site_id in site_ids}
        self._cases = dict(cases or {})
        self._centre: Command | None = None
        self._agents: dict[str, Command] = {}
        self._replicas: dict[int, Command] = {}
        self._own_port = free_port() if num_replicas else self.ports[0]
        for site_id in site_ids:
            self.federation.admit(site_id)
        for site_id in site_ids:
            self.federation.carry(site_id)
            policy = self.place(site_id).folder / "policy.toml"
            extra = (policies or {}).get(site_id, "")
            policy.write_text(policy.read_text() + SHARED_WORKERS + extra)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            sys.stdout.write(self.words())  # pytest shows it with the failure
        commands = [*self._agents.values(), *self._replicas.values()]
        commands += [self._centre] if self._centre else []
        for command in commands:
            _end(command)
        for gate in self.gates.values():
            gate.close()

    # --- files ----------------------------------------------------------------------------------

    def place(self, site_id: str) -> Any:
        return self.federation.place(site_id)

    def cases(self, site_id: str) -> Path:
        """Return where a site's cases are; written the first time."""
        if site_id not in self._cases:
            dealt = deal(len(self.site_ids))
            for index, name in enumerate(self.site_ids):
                self._cases[name] = self.folder / "cases" / name
                write_cases(self._cases[name], dealt[index])
        return self._cases[site_id]

    def offer(self, plan: Plan, *approving: str) -> Plan:
        """Offer a plan, and bring the approvals of these sites (of all, if none is named)."""
        path, out = self.folder / f"{plan.name}.toml", self.folder / f"{plan.name}.plan"
        path.write_text(to_toml(plan))
        offer_plan(self.home, NAME, path, out=out)
        for site_id in self.site_ids:
            take_plan(self.federation.site(site_id), NAME, out.read_bytes())
        for site_id in approving or self.site_ids:
            self.approve(plan, site_id)
        return plan

    def approve(self, plan: Plan, site_id: str, *, is_carried: bool = True) -> None:
        """Have a site approve a plan, and carry that to the coordinator."""
        approve(
            self.federation.site(site_id),
            NAME,
            plan.digest,
            approver=KARI,
            cases=self.cases(site_id),
            now=datetime.now(UTC),
            isolation="cut_off",
        )
        if is_carried:
            for _, envelope in self.place(site_id).statements.untold():
                existing(self.home, NAME).take_said(site_id, envelope)

    def start(self, plan: Plan, run_id: str, *, has_canary: bool = False) -> Path:
        """Begin a run; return its folder."""
        found = start_networked(self.home, NAME, plan.digest, run_id=run_id, has_canary=has_canary)
        return Path(found["folder"])

    # --- processes ------------------------------------------------------------------------------

    def up(self) -> None:
        """Start the coordinator, and wait until it serves."""
        words = ("coordinator", "up", "--host", "127.0.0.1", "--port", self._own_port)
        self._centre = self._command("coordinator", self.home.folder, *words)
        self._centre.wait_until(lambda: "Serving" in self._centre.err)
        assert self._centre.process.poll() is None, self._centre.err

    def down(self) -> None:
        """End the coordinator as a power cut does."""
        assert self._centre is not None
        self._centre.kill_9()
        self._centre = None

    def use(self, cluster: NatsCluster) -> None:
        """Have the hub keep what is on its way in a cluster."""
        folder, settings = existing(self.home, NAME).folder, cluster.settings()
        (folder / "hub.nk").write_text(seed_text(settings.key))
        (folder / "hub.nk").chmod(0o600)
        values = {"urls": list(settings.urls), "ca_file": str(settings.ca_file)}
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        (folder / "nats.toml").write_text("\n".join([*lines, 'key_file = "hub.nk"', "max_gb = 1"]))

    def replicate(self, index: int) -> None:
        """Start a replica of the hub at one of the addresses, and wait until it serves."""
        words = ("coordinator", "replica", "--host", "127.0.0.1", "--port", self.ports[index])
        made = self._command(f"replica-{index}", self.home.folder, *words)
        self._replicas[index] = made
        made.wait_until(lambda: "Serving" in made.err)
        assert made.process.poll() is None, made.err

    def kill_replica(self, index: int) -> None:
        """End a replica as a power cut does."""
        _end(self._replicas.pop(index))

    @property
    def centre(self) -> Command:
        assert self._centre is not None
        return self._centre

    def attend(self, *site_ids: str, env: Mapping[str, str] | None = None) -> None:
        """Start the agents of sites."""
        for site_id in site_ids:
            home = self.federation.site(site_id).folder
            words = ("site", "up", "--proxy", self.gates[site_id].url)
            self._agents[site_id] = self._command(site_id, home, *words, env=env)

    def kill(self, site_id: str) -> None:
        """End a site's agent, and all that it started, as a power cut does."""
        command = self._agents.pop(site_id)
        _end(command)

    def kill_agent(self, site_id: str) -> None:
        """End a site's agent alone by ``kill -9``; its worker must go by itself."""
        command = self._agents.pop(site_id)
        left = family(command.process.pid)
        command.process.kill()
        command.process.wait()
        wait_for(lambda: not any(is_there(pid) for pid in left), timeout_s=30)

    def stop(self, name: str) -> None:
        """Let every process of a site stand still, or the coordinator's (``coordinator``)."""
        send(signal.SIGSTOP, self._agents.get(name) or self.centre)

    def go_on(self, name: str) -> None:
        """Let them go on."""
        send(signal.SIGCONT, self._agents.get(name) or self.centre)

    def hold_worker(self, site_id: str) -> None:
        """Let only the training process of a site stand still, once it is there."""
        agent = self._agents[site_id].process.pid
        wait_for(lambda: len(family(agent)) > 1)
        for pid in family(agent) - {agent}:
            os.kill(pid, signal.SIGSTOP)

    def is_up(self, site_id: str) -> bool:
        return site_id in self._agents

    def healthy(self, *site_ids: str) -> None:
        """Wait until sites say of themselves that the coordinator answers them."""
        for site_id in site_ids or self.site_ids:
            wait_for(lambda site_id=site_id: self.status(site_id).get("reachable"))

    def status(self, site_id: str) -> dict[str, Any]:
        """Return what an agent wrote last of how it is; nothing while there is none."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(
                (self.place(site_id).folder / "agent.json").read_bytes()
            )
            return found
        return {}

    def whole(self) -> Machines:
        """Bring back everything that is not there."""
        if self._centre is None or self._centre.process.poll() is not None:
            self.up()
        for site_id in self.site_ids:
            self.gates[site_id].up_per_s = self.gates[site_id].down_per_s = 0.0
            self.gates[site_id].open()
            if self.is_up(site_id):
                self.go_on(site_id)
            else:
                self.attend(site_id)
        self.healthy()
        return self

    def lose_store(self) -> None:
        """Delete everything that the hub keeps of what is on its way."""
        place, lost = existing(self.home, NAME).folder / "hub", self.folder / "lost"
        place.rename(lost)  # all of it at once: nobody deletes what is being made anew
        shutil.rmtree(lost)

    def say(self, site_id: str, *words: object) -> str:
        """Run a command of a site to its end."""
        done = hospitium("--home", self.federation.site(site_id).folder, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, site_id: str) -> str:
        """Return what a site's agent wrote for its own staff."""
        path = self.place(site_id).folder / "work" / "site.log"
        return path.read_text() if path.is_file() else ""

    def _command(
        self, name: str, home: Path, *words: object, env: Mapping[str, str] | None = None
    ) -> Command:
        before = dict(os.environ)
        os.environ.update(env or {})
        try:
            return Command("--home", home, *words, home=self.folder / "logs" / name / "unused")
        finally:
            os.environ.clear()
            os.environ.update(before)

    # --- runs -----------------------------------------------------------------------------------

    def finished(self, folder: Path, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait for the report of a run."""
        wait_for((folder / "report" / "report.json").is_file, timeout_s=timeout_s)

    def words(self) -> str:
        """Return what every process said, and how every site finds itself."""
        paths = sorted((self.folder / "logs").glob("*/std*.txt"))
        said = [f"{path.parent.name} {path.stem}: {path.read_text()[-3000:]}" for path in paths]
        sites = [f"{name}: {self.status(name)}\n{self.log(name)[-3000:]}" for name in self.site_ids]
        return "\n".join([*said, *sites])


def _end(command: Command) -> None:
    every = send(signal.SIGKILL, command)
    command.process.wait(30)
    wait_for(lambda: not any(is_there(pid) for pid in every), timeout_s=30)


def send(number: int, command: Command) -> set[int]:
    """Send a signal to a command and to all that it started; return them."""
    every = family(command.process.pid)
    for pid in every:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return every


def family(pid: int) -> set[int]:
    """Return a process and those that come from it; a training process has a session of its own."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    found, before = {pid}, set()
    while found != before:
        before = set(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found


def is_there(pid: int) -> bool:
    """Whether a process runs or stands still."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(is_so: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


# --- what a ledger says while others write to it ----------------------------------------------


def rows_of(folder: Path, sql: str) -> list[dict[str, Any]]:
    path = folder / "ledger.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as found:
        found.row_factory = sqlite3.Row
        return [dict(row) for row in found.execute(sql)]


def rounds(folder: Path) -> list[dict[str, Any]]:
    """Return every round that was opened: number, status, attempt, digest, when."""
    return rows_of(
        folder,
        "SELECT round_number, status, attempt, params_digest, opened_utc, closed_utc FROM rounds "
        "WHERE round_number > 0 ORDER BY round_number",
    )


def seats(folder: Path, round_number: int) -> dict[str, str]:
    """Return the standing of each seat of a round, with the reason where it was left out."""
    found = rows_of(folder, f"SELECT * FROM seats WHERE round_number = {int(round_number)}")
    return {
        row["site_id"]: row["status"] + (f": {row['reason']}" if row["reason"] else "")
        for row in found
    }


def closed(folder: Path) -> int:
    """Return how many rounds are closed."""
    return sum(row["status"] == "closed" for row in rounds(folder))


def ended(folder: Path, round_number: int) -> datetime:
    """Return when a round was closed, as its ledger has it."""
    [row] = [row for row in rounds(folder) if row["round_number"] == round_number]
    return datetime.fromisoformat(row["closed_utc"])


def took_s(folder: Path, round_number: int) -> float:
    """Return how long a round took, from its opening to its end, as its ledger has it."""
    [row] = [row for row in rounds(folder) if row["round_number"] == round_number]
    opened = datetime.fromisoformat(row["opened_utc"])
    return (ended(folder, round_number) - opened).total_seconds()


def answered(folder: Path) -> dict[int, frozenset[str]]:
    """Return whose updates are in the aggregate of each closed round."""
    return {
        row["round_number"]: frozenset(
            name
            for name, status in seats(folder, row["round_number"]).items()
            if status == "accepted"
        )
        for row in rounds(folder)
        if row["status"] == "closed"
    }


def digests(folder: Path) -> list[str]:
    """Return the digest of the params after each closed round."""
    return [row["params_digest"] for row in rounds(folder) if row["status"] == "closed"]
