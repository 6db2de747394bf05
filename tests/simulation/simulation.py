"""One seed, one world: set it up, hurt it, let it run, look at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import actors
import pure_training
import simulated_federation as federation
import split_model
import standins
from actors import Stage
from carried import NAME
from checks import BrokenError, Checks, watched
from faults import CENTRE, LIVE_S, Fault, Scenario, scenario_of, shrunk
from machines_of_simulation import Image, Machine
from simulated_federation import RUN, SITES, memory, template
from site_lies import ACCEPTABLE
from virtual_net import Cut, Network
from virtual_time import BEGIN_S, World

from hospitium.engines import site_worker
from hospitium.engines.hub import asking
from hospitium.engines.hub.engine import HubEngine
from hospitium.operations import approving, running, site_answering, site_attending
from hospitium.operations.coordinating import revoke_site
from hospitium.operations.desks import existing
from hospitium.operations.member_lists import officer_key_of, publish
from hospitium.operations.withdrawing import withdraw
from hospitium.site import agent, egress
from hospitium.state.home import Home
from hospitium.wire import member_changes

AFTER_S = 12_000.0
"""200 virtual minutes after the faults stopped the run is over, or waits and says for what."""

SAFETY_S = 900.0
LOOK_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a world; ``broken`` is empty where everything holds."""

    scenario: Scenario
    broken: str
    is_finished: bool
    rounds: dict[int, tuple[str, ...]]
    params: str
    virtual_s: float
    num_events: int
    num_requests: int
    num_checks: int
    points: dict[str, int]
    told: tuple[str, ...]


class Simulation:
    """One world.

    Args:
        scenario: What happens in it.
        folder: In memory; what is in it is deleted by the caller.
        bug: Names that are bound to something wrong, to see that it is found.
        is_short: Whether the world ends with the last round.
        seen: Names of machines whose points are to be listed, with the lists.
    """

    def __init__(
        self, scenario: Scenario, folder: Path, *, bug: Sequence[standins.Change] = (),
        seen: dict[str, list[str]] | None = None, through_framework: bool = False,
        is_short: bool = False,
    ) -> None:  # fmt: skip
        self.scenario = scenario
        self.here = World(scenario.seed)
        made = template()
        self.network = Network(here=self.here, servers=list, leaving=_ignore, arrived=_ignore)
        self.stage = Stage(
            here=self.here, template=made, network=self.network, through_framework=through_framework
        )
        news = ("revoke", "new_list", "withdraw", "old_list")
        self.stage.has_news = any(fault.kind in news for fault in scenario.faults)
        self.checks = Checks(stage=self.stage)
        self.network.old_lists = [
            data.decode() for name, data in made.centre.items() if "/members/0000000" in name
        ][:-1]
        self.network.servers = self.stage.servers
        self.network.leaving = self.checks.leaving
        self.network.arrived = self.checks.arrived
        cuts_power = {fault.who for fault in scenario.faults if fault.kind == "power_cut"}
        for name in (CENTRE, *SITES):
            self.stage.machines[name] = Machine(
                name=name, here=self.here, place=folder,
                begin=self.stage.centre if name == CENTRE else self.stage.site,
                tracks_all=name in cuts_power, seen=None if seen is None else seen[name],
            )  # fmt: skip
        self._bug = list(bug)
        self._is_short = is_short
        self._until_s = BEGIN_S + (LIVE_S + AFTER_S if scenario.must_end else SAFETY_S)

    def run(self) -> Outcome:
        """Let everything happen; look at the end."""
        replaced: list[standins.Change] = [
            (asking, "open_http", self.stage.open_http),
            (site_worker, "trainer_for", pure_training.trainer_for),
            (site_answering, "isolated_pool", self.stage.pool),
            (agent, "training_cases", pure_training.training_cases),
            (approving, "admit_local", lambda site_ids: {}),
            (egress, "_require", self.stage.lenient(egress._require)),
            (HubEngine, "_put", split_model.putting(self.stage.deceived, HubEngine._put)),
            *self._bug,
        ]
        if self.stage.has_news:  # sites look more often where there is something to see
            replaced += [(site_attending, "TICK_S", 30.0), (site_attending, "FETCH_S", 30.0)]
        if any(fault.name == "not locked" for fault in self.scenario.faults):
            replaced.append((running, "locked", actors.no_lock))
        site_worker._prepared.cache_clear()
        with standins.within(self.here, replaced), _patched(watched(self.checks)):
            for name, machine in self.stage.machines.items():
                made = self.stage.template
                machine.boot(made.centre if name == CENTRE else made.sites[name])
            for fault in self.scenario.faults:
                self._apply(fault)
            self.here.at(BEGIN_S + LOOK_S, self._look)
            with suppress(BrokenError):
                self.here.run(until=self._until_s, is_over=self._is_over)
                self.checks.sites()
                self._end()
        return self._outcome()

    def _is_over(self) -> bool:
        if self._is_short and len(self.checks.closed) == federation.ROUNDS:
            self.stage.is_finished = True
        return bool(self.here.errors) or (self.stage.is_finished and self.here.now > BEGIN_S + 1)

    def _look(self) -> None:
        self.checks.sites()
        self.here.at(self.here.now + LOOK_S, self._look)

    def _end(self) -> None:
        """I10: it is over, or it waits and says for what."""
        if self.stage.is_finished or not self.scenario.must_end or self.here.errors:
            return
        machine = self.stage.machines[CENTRE]
        usable = len(SITES) - len(self._out())
        state = {}
        with suppress(OSError, ValueError):
            state = json.loads((machine.folder / "runs" / RUN / "state.json").read_bytes())
        says_why = state.get("state") in ("waiting", "failing") and state.get("error")
        last = " | ".join(self.stage.told[-3:])
        self.checks.require(
            usable < federation.QUORUM and bool(says_why), "I10",
            f"200 minutes after the faults the run is not over; {usable} sites are there: {last}",
        )  # fmt: skip

    def _out(self) -> set[str]:
        liars = {name for name, kind in self.stage.liars.items() if kind not in ACCEPTABLE}
        liars |= self.stage.deceived
        return liars | set(self.checks.out_since) | self.checks.withdrawn

    def _outcome(self) -> Outcome:
        errors = self.here.errors
        closed = self.checks.closed
        return Outcome(
            scenario=self.scenario,
            broken=errors[0] if errors else "",
            is_finished=self.stage.is_finished,
            rounds=dict.fromkeys(closed, ()),
            params=closed[max(closed)]["params_digest"] if closed else "",
            virtual_s=self.here.now - BEGIN_S,
            num_events=self.here.num_events,
            num_requests=self.network.num_requests,
            num_checks=self.checks.num_checks,
            points={name: machine.points for name, machine in self.stage.machines.items()},
            told=tuple(self.stage.told),
        )

    # --- faults -------------------------------------------------------------------------------

    def _apply(self, fault: Fault) -> None:
        """Arrange for a fault; where the run must end, none lasts for longer than `LIVE_S`."""
        getattr(self, f"_do_{fault.kind}")(fault)

    def _stop_s(self) -> float:
        return BEGIN_S + LIVE_S if self.scenario.must_end else float("inf")

    def _weather(self, fault: Fault) -> None:
        setattr(self.network.weather, fault.kind, fault.amount)
        self.network.weather.until_s = self._stop_s()

    _do_drop = _do_duplicate = _do_corrupt = _do_replay = _do_delay = _do_old_list = _weather

    def _do_cut(self, fault: Fault) -> None:
        begin = BEGIN_S + fault.at
        end = min(begin + fault.for_s, self._stop_s())
        self.network.cuts.append(Cut(site_id=fault.who, way=fault.name, begin_s=begin, end_s=end))

    def _do_crash(self, fault: Fault) -> None:
        machine = self.stage.machines[fault.who]
        cuts = fault.kind == "power_cut"
        machine.crashes[int(fault.amount)] = lambda: machine.die(power_cut=cuts, down_s=fault.for_s)

    _do_power_cut = _do_crash

    def _do_full(self, fault: Fault) -> None:
        machine = self.stage.machines[fault.who]

        def fill(is_full: bool) -> None:
            machine.is_full = is_full

        self.here.at(BEGIN_S + fault.at, lambda: fill(True))
        self.here.at(min(BEGIN_S + fault.at + fault.for_s, self._stop_s()), lambda: fill(False))

    def _do_slow(self, fault: Fault) -> None:
        self.stage.slow[fault.who] = fault.amount
        self.network.slow[fault.who] = min(fault.amount, 10.0)
        if self.scenario.must_end:
            self.here.at(self._stop_s(), lambda: self.stage.slow.pop(fault.who, None))
            self.here.at(self._stop_s(), lambda: self.network.slow.pop(fault.who, None))

    def _do_clock(self, fault: Fault) -> None:
        machine = self.stage.machines[fault.who]

        def jump() -> None:
            machine.clock_offset_s += fault.amount

        self.here.at(BEGIN_S + fault.at, jump)

    def _do_lost_store(self, fault: Fault) -> None:
        machine = self.stage.machines[CENTRE]
        below = f"coordinator/{NAME}/hub"

        self.checks.is_store_lost = True

        def without(image: Image) -> Image:
            return {name: data for name, data in image.items() if not name.startswith(below)}

        def lose() -> None:
            if fault.name == "restarted":
                machine.die(changed=without)
            elif machine.is_up:
                shutil.rmtree(machine.folder / below, ignore_errors=True)

        self.here.at(BEGIN_S + fault.at, lose)

    def _do_second(self, fault: Fault) -> None:
        machine = self.stage.machines[CENTRE]
        self.here.at(BEGIN_S + fault.at, lambda: machine.is_up and machine.start())

    def _do_split(self, fault: Fault) -> None:
        self.stage.deceived.add(fault.who)

    def _do_lie(self, fault: Fault) -> None:
        self.stage.liars[fault.who] = fault.name

    def _person(self, fault: Fault, act: Callable[[Any], None]) -> None:
        """Have a person do something on a machine, as soon as it is up."""
        machine = self.stage.machines[fault.who if fault.kind == "withdraw" else CENTRE]

        def begin() -> None:
            if not machine.is_up or machine.is_full:
                self.here.at(self.here.now + 5.0, begin)
                return
            process = machine.processes[0]
            self.here.spawn(process, lambda: act(process), fault.kind)

        self.here.at(BEGIN_S + fault.at, begin)

    def _do_revoke(self, fault: Fault) -> None:
        def act(process: Any) -> None:
            now = self.stage.now(process)
            revoke_site(Home(process.machine.folder), NAME, fault.who, now=now)
            self.checks.out_since[fault.who] = self.here.now

        self._person(fault, act)

    def _do_new_list(self, fault: Fault) -> None:
        def act(process: Any) -> None:
            desk = existing(Home(process.machine.folder), NAME)
            members = desk.members()
            until = self.stage.now(process) + timedelta(days=300)
            following = member_changes.replace_officers(
                members, members.officers, threshold=1, valid_until=until
            )
            publish(desk, following, [officer_key_of(desk)])

        self._person(fault, act)

    def _do_withdraw(self, fault: Fault) -> None:
        def act(process: Any) -> None:
            home, digest = Home(process.machine.folder), self.stage.template.plan.digest
            withdraw(home, NAME, digest, approver=federation.APPROVER, now=self.stage.now(process))
            self.checks.withdrawn.add(fault.who)

        self._person(fault, act)


def _ignore(*_: Any) -> None:
    """Nobody looks yet."""


class _patched:  # noqa: N801
    """Bind names for as long as the block lasts."""

    def __init__(self, changes: Sequence[standins.Change]) -> None:
        self._changes = changes

    def __enter__(self) -> None:
        self._before = [(o, n, vars(o).get(n)) for o, n, _ in self._changes]
        for owner, name, value in self._changes:
            setattr(owner, name, value)

    def __exit__(self, *_: object) -> None:
        for owner, name, value in self._before:
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def simulate(scenario: Scenario | int, **more: Any) -> Outcome:
    """Simulate a scenario, or that of a seed, in a folder of its own.

    Three of four seeds end with the last round; the others go on to the score and the result.
    """
    if isinstance(scenario, int):
        more.setdefault("is_short", scenario % 4 > 0)
    found = scenario_of(scenario) if isinstance(scenario, int) else scenario
    with memory() as folder:
        try:
            return Simulation(found, folder, **more).run()
        finally:
            if more.get("bug"):
                standins.forget()


def require_holds(outcome: Outcome, **more: Any) -> None:
    """Fail with the seed, the shortest list of faults that still fails, and how to run it again."""
    if not outcome.broken:
        return
    least = shrunk(outcome.scenario, lambda scenario: simulate(scenario, **more).broken)
    again = simulate(least, **more)
    told = "\n".join(again.told[-25:])
    raise AssertionError(
        f"seed {outcome.scenario.seed}: {outcome.broken}\n\nThe least that still fails:\n{least}\n"
        f"{again.broken}\n\nWhat the machines said:\n{told}\n\nRun it again:\n"
        f"    .venv/bin/python tests/simulation/replay.py {outcome.scenario.seed}\n"
    )
