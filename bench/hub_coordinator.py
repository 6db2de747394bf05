"""One coordinator with its hub over TLS, and idle sites that dial in; prints one JSON line.

``python -m bench.hub_coordinator NUM_SITES NUM_VALUES NUM_ROUNDS [--floor]``. Everything that a
round between machines has is there but the training: a durable ledger and store, the hub's routes
with signed requests, sealed updates, the gate, the exact sum, and each site's agent in a process of
its own with a worker of its own (`bench.hub_site`). Memory is that of this process: coordinator and
hub together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import model
from bench.coordinator import peak_mb
from bench.hub_site import NUM_CASES, SiteProcess, key_of
from bench.tls_floor import TlsFloor
from hospitium import algorithms, federation
from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.engine import HubEngine
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.requests import Member
from hospitium.engines.hub.server import HubServer, Tls
from hospitium.plan import Plan
from hospitium.plan.schema import RoundsSection
from hospitium.state.ledger import RunLedger
from hospitium.types import Answer, Result, Seat, Task
from hospitium.wire.certificates import make_authority, make_server_certificate
from hospitium.wire.sealing import RunKey

Certificates = tuple[Path, Path, Path]
"""The authority's certificate, the server's, and the server's key, as PEM files."""


def measure(
    *, num_sites: int, num_values: int, num_rounds: int, with_floor: bool = False
) -> dict[str, Any]:
    """Run a coordinator in a process of its own and return what it says (`main`)."""
    command = [sys.executable, "-m", "bench.hub_coordinator"]
    command += [str(number) for number in (num_sites, num_values, num_rounds)]
    command += ["--floor"] if with_floor else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run some rounds and print peak memory, and of each round its time and its floor."""
    num_sites, num_values, num_rounds = (int(text) for text in sys.argv[1:4])
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder, ExitStack() as stack:
        certificates = write_certificates(Path(folder))
        floor = None
        if "--floor" in sys.argv:
            floor = TlsFloor(
                num_sites=num_sites, size_bytes=4 * num_values, certificates=certificates
            )
            stack.callback(floor.close)
        if num_rounds:
            plan = Plan(rounds=RoundsSection(count=num_rounds, quorum=num_sites, deadline_s=300.0))
            site_ids = [f"site-{index}" for index in range(num_sites)]
            clock = _Clock(floor)
            _run(Path(folder), plan, site_ids, num_values, certificates=certificates, clock=clock)
            rounds = clock.measured
        print(json.dumps({"peak_mb": peak_mb(), "rounds": rounds}))


class _Clock:
    """Progress that takes times: a round is from the end of the one before to its own end."""

    def __init__(self, floor: TlsFloor | None) -> None:
        self.measured: list[dict[str, float]] = []
        self._floor = floor
        self._began = time.monotonic()

    def round_opened(self, plan: object, task: Task, site_ids: object) -> None:
        """A round began before this: with the digest of its params."""

    def answer(self, task: Task, answer: Answer) -> None:
        """An answer is an update, in time, or the measurement is worth nothing."""
        assert hasattr(answer, "delta"), answer

    def round_closed(self, plan: object, task: Task, result: Result) -> None:
        """Take the time of this round; then that of its floor, outside of any round."""
        row = {"round_s": time.monotonic() - self._began}
        if self._floor is not None:
            row["floor_s"] = self._floor.once_s()
        self.measured.append(row)
        self._began = time.monotonic()


def _run(
    folder: Path,
    plan: Plan,
    site_ids: list[str],
    num_values: int,
    *,
    certificates: Certificates,
    clock: _Clock,
) -> None:
    """Run all rounds of a plan over a hub that is started for it."""
    seats = [Seat(site_id=site_id, num_cases=NUM_CASES) for site_id in site_ids]
    RunLedger.create(folder / "run", run_id="bench", plan=plan, seats=seats, facts={})
    manifest = model.manifest_of_size(num_values)
    algorithm = algorithms.build(
        plan,
        run_id="bench",
        seats=seats,
        first_params=lambda: model.draw(manifest, seed=7, scale=0.1),
    )
    with ExitStack() as stack:
        ledger = RunLedger(folder / "run")
        stack.callback(ledger.close)
        engine = _engine(folder, plan, site_ids, ledger, certificates=certificates, stack=stack)
        for site_id in site_ids:
            (folder / site_id).mkdir()
            stack.callback(SiteProcess(folder, site_id).stop)
        federation.run(plan, algorithm, engine, ledger, clock)


def _engine(
    folder: Path,
    plan: Plan,
    site_ids: list[str],
    ledger: RunLedger,
    *,
    certificates: Certificates,
    stack: ExitStack,
) -> HubEngine:
    """Start a hub that serves these sites, write where it is, and return the engine on it."""
    ca, certificate, secret = certificates
    key = key_of("coordinator")
    members = {
        site_id: Member(
            request_key=key_of(f"{site_id} request").public,
            signing_key=key_of(f"{site_id} signing").public,
        )
        for site_id in site_ids
    }
    backend = LocalBackend(folder / "hub")
    stack.callback(backend.close)
    server = HubServer(
        Hub(backend, members=members, key=key), tls=Tls(certificate=certificate, key=secret)
    )
    server.start()
    stack.callback(server.stop)
    setup = {"url": f"https://127.0.0.1:{server.port}", "ca_file": str(ca), "plan": plan.as_dict()}
    (folder / "setup.json").write_text(json.dumps(setup))
    return HubEngine(
        backend, members=members, key=key, store=ledger.store, run_key=RunKey.generate()
    )


def write_certificates(folder: Path) -> Certificates:
    """Write the certificates of a coordinator that has just been set up."""
    now = datetime.now(UTC)
    authority = make_authority("bench", now=now)
    server = make_server_certificate(authority, ["https://127.0.0.1"], now=now)
    paths = (folder / "ca.pem", folder / "server.pem", folder / "server.key")
    for path, data in zip(
        paths, (authority.certificate, server.certificate, server.key), strict=True
    ):
        path.write_bytes(data)
    return paths


if __name__ == "__main__":
    main()
