"""The invariants I1 to I13, looked at whenever the ledger changes or something leaves a site.

They read what is on disk and on the wire by functions that were taken before any bug was planted,
and add up again by `reference`. (I4 waits for a privacy budget, I12 for secure sums.)
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import impostors
import reference
from actors import Stage
from machines_of_simulation import Machine, Process
from simulated_federation import QUORUM, RUN
from virtual_net import Answer, Request

from hospitium.engines.hub.messages import RECEIPT_TYPE
from hospitium.operations.first_params import first_params
from hospitium.state.ledger import RunLedger
from hospitium.training.plugins import Plugin
from hospitium.types import LeftOut, Task
from hospitium.wire import blob
from hospitium.wire.signing import VerifyKey

ABSORBING = "SELECT * FROM rounds WHERE status = 'closed' ORDER BY round_number"


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass(kw_only=True)
class Checks:
    """Everything that was seen of one world, and what must be so."""

    stage: Stage
    min_sites: int = 2
    closed: dict[int, dict[str, Any]] = field(default_factory=dict)
    params: dict[int, dict[str, Any]] = field(default_factory=dict)
    left: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    receipted: dict[tuple[str, str], str] = field(default_factory=dict)
    num_sites: dict[str, int] = field(default_factory=dict)
    out_since: dict[str, float] = field(default_factory=dict)
    closing_since: dict[int, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    finished: str = ""
    run_keys: dict[str, str] = field(default_factory=dict)
    bases: dict[int, str] = field(default_factory=dict)
    lied: set[str] = field(default_factory=set)
    is_store_lost: bool = False
    withdrawn: set[str] = field(default_factory=set)
    num_checks: int = 0
    asked_at: dict[tuple[RunLedger, int], float] = field(default_factory=dict)

    def require(self, holds: bool, name: str, words: str) -> None:
        """Stop the world where an invariant does not hold."""
        self.num_checks += 1
        if not holds:
            self.stage.here.errors.append(f"{name}: {words}")
            raise BrokenError(f"{name}: {words}")

    # --- what leaves a site -------------------------------------------------------------------

    def leaving(self, process: Process, request: Request) -> None:
        """I3, I5, I9: looked at before the first byte is sent."""
        if process.name in self.stage.liars or request.method == "GET":
            return
        parts = request.path.split("/")
        if "chunks" in parts:
            self._is_recorded(process.machine, parts[3], "a chunk of a file")
        elif parts[2] == "said":
            self._is_recorded(process.machine, sha256_of(request.body), "a statement")
        elif parts[2] == "envelopes" or parts[-1] == "complete":
            self._statement_leaves(process, request.body)

    def _statement_leaves(self, process: Process, body: bytes) -> None:
        fields = json.loads(base64.b64decode(json.loads(body)["payload"]))
        content = base64.b64decode(fields["content"])
        if fields["kind"] == "error":
            self._is_recorded(process.machine, sha256_of(content), "an error")
            return
        update = json.loads(content)
        inside = update["blob"]
        for digest in (inside, fields["sealed"]):
            if digest:
                self._is_recorded(process.machine, digest, "an update")
        place = (process.name, fields["nonce"])
        what = (sha256_of(content), fields["sealed"])
        before = self.left.setdefault(place, what)
        self.require(before == what, "I3", f"{process.name} answered one task in two ways")
        base = self.bases.setdefault(update["round_number"], update["base_digest"])
        self.require(
            not inside or base == update["base_digest"],
            "I2", f"{process.name} trained another model than the others in one round",
        )  # fmt: skip
        sites = self.num_sites.get(fields["nonce"], self.min_sites)
        self.require(
            sites >= self.min_sites, "I9", f"{process.name} released an update for {sites} sites"
        )

    def _is_recorded(self, machine: Machine, digest: str, what: str) -> None:
        """Whether the log on this disk names a digest, as it would be read after a power cut."""
        synced = any(digest.encode() in data for data in machine.logs.values())
        self.require(synced, "I5", f"{what} left {machine.name} before it was recorded and synced")

    # --- what the hub answers -----------------------------------------------------------------

    def arrived(self, request: Request, answer: Answer) -> None:
        """I3 at the hub: one receipted update for one site and task."""
        if request.path == "/v1/tasks" and answer.status == 200:
            for row in json.loads(answer.body)["tasks"]:
                self._asked(row["envelope"])
        if request.path == "/v1/said" and answer.status == 200 and b"withdrawal" in request.body:
            self.out_since.setdefault(request.site_id, self.stage.here.now)
        if answer.status == 200 and request.path.endswith(("/complete", "/v1/envelopes")):
            fields = json.loads(base64.b64decode(json.loads(request.body)["payload"]))
            if fields["kind"] == "update":
                site_id = json.loads(base64.b64decode(json.loads(answer.body)["payload"]))[
                    "site_id"
                ]
                self.require(
                    site_id == request.site_id, "I1", f"{request.site_id} answered as {site_id}"
                )
                what = sha256_of(base64.b64decode(fields["content"])) + fields["sealed"]
                before = self.receipted.setdefault((site_id, fields["nonce"]), what)
                is_excused = site_id in self.stage.liars and self.is_store_lost
                self.require(
                    before == what or is_excused,
                    "I3", f"two updates of {site_id} were receipted for one task",
                )  # fmt: skip
                self._lie_again(request, fields["nonce"])

    def _asked(self, envelope: str) -> None:
        fields = _payload(envelope)
        self.num_sites[fields["nonce"]] = fields["num_sites"]
        self.run_keys[fields["nonce"]] = fields["run_key"]

    def _lie_again(self, request: Request, nonce: str) -> None:
        """Let a lying site that has handed in do what it does then."""
        name = request.site_id
        machine = self.stage.machines[name]
        is_due = self.stage.liars.get(name) in ("second", "impersonate") and machine.is_up
        if is_due and request.path.endswith("/complete") and nonce not in self.lied:
            self.lied.add(nonce)
            process, key = machine.processes[0], self.run_keys.get(nonce, "")
            self.stage.here.spawn(
                process, lambda: impostors.lie_again(self.stage, process, request, key), "lie"
            )

    # --- what the ledger says -----------------------------------------------------------------

    def after(self, name: str, ledger: RunLedger, args: tuple[Any, ...]) -> None:
        """Look at the ledger after it changed."""
        if ledger.run_id != RUN:
            return
        self._absorbing(ledger)
        if name == "received":
            self._received(ledger, args[0])
        elif name == "left_out":
            self._left_out(ledger, args[0], args[1])
        elif name == "opened":
            self.asked_at[ledger, args[0].round_number] = self.stage.here.now
        elif name == "finished":
            self._finished(ledger)

    @contextmanager
    def closing(self, args: tuple[Any, ...]) -> Iterator[None]:
        """Note when a round is closed: it may be seen after a crash only, and much later.

        No virtual time passes in a call of the ledger, so that this is when it is committed.
        """
        number = args[0].round_number
        before = self.closing_since.get(number, self.stage.here.now)
        self.closing_since[number] = self.stage.here.now
        try:
            yield
        except Exception:
            self.closing_since[number] = before  # another coordinator closed it
            raise

    def _absorbing(self, ledger: RunLedger) -> None:
        """I7: what is over stays over. A round that is new among the closed ones is looked at."""
        rows = {row["round_number"]: dict(row) for row in ledger.rows(ABSORBING)}
        for number, before in self.closed.items():
            now = {**rows.get(number, {}), "score": None}
            self.require(now == before, "I7", f"closed round {number} was changed")
        for number, row in rows.items():
            if number not in self.closed:
                self.closed[number] = {**row, "score": None}
                self._closed(ledger, number, row)
        if self.finished:
            found = ledger.rows("SELECT status, chosen FROM run")[0]
            now = found["status"] + found["chosen"]
            self.require(now == self.finished, "I7", "a finished run was changed")

    def _received(self, ledger: RunLedger, update: Any) -> None:
        """I1: an accepted update is one that its site truly made, in this round, for this base."""
        rows = ledger.rows(
            "SELECT digest, base_digest FROM seats JOIN rounds USING (round_number) WHERE "
            "round_number = ? AND site_id = ? AND seats.status = 'accepted'",
            (update.round_number, update.site_id),
        )
        self.require(len(rows) == 1, "I1", f"{update.site_id} was received and has no seat")
        place = (update.site_id, update.round_number, rows[0]["base_digest"])
        made = self.stage.made.get(place, {})
        self.require(
            rows[0]["digest"] in made,
            "I1",
            f"{update.site_id} never made what was accepted from it",
        )

    def _left_out(self, ledger: RunLedger, task: Task, left_out: LeftOut) -> None:
        """Only the monotonic clock decides that a site is late."""
        place = (ledger, task.round_number)
        if left_out.reason != "deadline" or place not in self.asked_at:
            return
        waited_s = self.stage.here.now - self.asked_at[place]
        wanted_s = self.stage.template.plan.rounds.deadline_s
        self.require(
            waited_s >= wanted_s - 1e-6,
            "I10",
            f"{left_out.site_id} was late after {waited_s:.0f} s",
        )
        self.require(waited_s <= wanted_s + 10, "I10", f"a round went on for {waited_s:.0f} s")

    def _closed(self, ledger: RunLedger, number: int, row: dict[str, Any]) -> None:
        """I1, I2, I8, I9, I11, I13 of a round that was closed just now."""
        seats = ledger.rows("SELECT * FROM seats WHERE round_number = ?", (number,))
        accepted = {
            seat["site_id"]: seat["digest"] for seat in seats if seat["status"] == "accepted"
        }
        others = [seat for seat in seats if seat["site_id"] not in accepted]
        self.require(
            all(seat["status"] == "left_out" and seat["reason"] for seat in others),
            "I13", f"round {number} was closed with a seat that is neither accepted nor left out",
        )  # fmt: skip
        self.require(
            len(accepted) >= QUORUM, "I9", f"round {number} was closed with {len(accepted)} sites"
        )
        closed_at = self.closing_since.get(number, self.stage.here.now)
        for site_id, since in self.out_since.items():
            gone = site_id in accepted and since < closed_at
            self.require(not gone, "I11", f"{site_id} counts in round {number}, though it was out")
        base = self.params.get(number - 1) or first(self.stage.template.plan)
        self.require(
            digest_of(base) == row["base_digest"], "I2", f"round {number} began from other params"
        )
        changes = {}
        for site_id, digest in accepted.items():
            made = self.stage.made.get((site_id, number, row["base_digest"]), {})
            self.require(
                digest in made, "I1", f"{site_id} never made what counts in round {number}"
            )
            changes[site_id] = made[digest]
        expected = reference.next_params(
            self.stage.template.plan, ledger.seats_of(number), base=base,
            max_norm=row["max_norm"], changes=changes,
        )  # fmt: skip
        self.require(
            digest_of(expected) == row["params_digest"],
            "I2", f"round {number} is not the sum of {', '.join(sorted(accepted))}",
        )  # fmt: skip
        self.params[number] = expected

    def _finished(self, ledger: RunLedger) -> None:
        found = ledger.rows("SELECT status, chosen FROM run")[0]
        self.finished = found["status"] + found["chosen"]
        rounds = self.stage.template.plan.rounds.count
        self.require(sorted(self.closed) == list(range(1, rounds + 1)), "I13", "rounds are missing")

    # --- what the sites hold ------------------------------------------------------------------

    def sites(self) -> None:
        """A receipt at a site is the coordinator's; a member list is never an older one (I6)."""
        key = VerifyKey.from_hex(self.stage.template.members.coordinator_keys[0])
        for name, machine in self.stage.machines.items():
            if name in self.stage.liars or name == "centre" or not machine.is_up:
                continue
            place = next(machine.folder.glob("site/federations/*"))
            for path in place.glob("work/answers/*.receipt"):
                self.require(
                    _holds(path.read_bytes(), key),
                    "I3",
                    f"{name} relies on a receipt that nobody signed",
                )
            epoch = max(int(path.stem) for path in place.glob("members/[0-9]*.dsse"))
            before = self.epochs.get(name, 0)
            self.require(epoch >= before, "I6", f"{name} went back to member list {epoch}")
            self.epochs[name] = epoch


def watched(checks: Checks) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return the methods of the ledger, each followed by its checks."""
    found = []
    for name in ("opened", "received", "left_out", "struck", "closed", "below_quorum", "finished"):
        real = vars(RunLedger)[name] if name in vars(RunLedger) else getattr(RunLedger, name)

        def call(
            self: RunLedger, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any
        ) -> Any:
            with checks.closing(args) if _name == "closed" else nullcontext():
                result = _real(self, *args, **kwargs)
            checks.after(_name, self, args)
            return result

        found.append((RunLedger, name, call))
    return found


def first(plan: Any) -> dict[str, Any]:
    """Return the params before round 1."""
    return dict(first_params(plan, Plugin()))


def digest_of(params: Any) -> str:
    """Return the digest of params."""
    return _real_digest(params)


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=10_000)
def _payload(envelope: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return found


@functools.lru_cache(maxsize=10_000)
def _holds(envelope: bytes, key: VerifyKey) -> bool:
    """Whether this key signed a receipt; by the library itself."""
    try:
        fields = json.loads(envelope)
        payload = base64.b64decode(fields["payload"])
        kind = RECEIPT_TYPE.encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        key._key.verify(base64.b64decode(fields["signatures"][0]["sig"]), signed)
    except Exception:
        return False
    return True


_real_digest = blob.digest_of
