"""What a run would have come to with nothing going wrong: the same sites, in one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from machines import Machines, answered, digests, rounds, seats

from hospitium import algorithms, federation
from hospitium.algorithms.seated import Seated
from hospitium.evaluation.score_sums import layout
from hospitium.operations.running import open_ledger
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine, Quiet
from hospitium.training import trainer_for
from hospitium.types import Answer, LeftOut, Seat, Task


def undisturbed(
    machines: Machines, run: Path, folder: Path, *, present: Mapping[int, frozenset[str]]
) -> list[str]:
    """Run the plan of a run anew, in one process, and return the digest after each round.

    It goes as far as the run went: to the last round of ``present``.

    Args:
        machines: Whose cases are used.
        run: The folder of the run over the network; its plan and its seats are taken.
        folder: Where the new run is written.
        present: Whose update each round has; the others are left out.
    """
    original = open_ledger(run)
    plan, seats_of = original.plan, original.seats_of
    last = max(present)
    seats = {number: seats_of(number) for number in range(1, last + 2)}
    original.close()
    folder.mkdir(parents=True)
    RunLedger.create(folder, run_id=run.name, plan=plan, seats=seats[1], facts={})
    trainer = trainer_for(plan, device="cpu")

    def act(task: Task, site_id: str) -> Answer:
        if site_id not in present[task.round_number]:
            return LeftOut(site_id=site_id, reason="deadline")
        [seat] = [seat for seat in seats[task.round_number] if seat.site_id == site_id]
        site = Site(
            site_id=site_id,
            cases_folder=machines.cases(site_id),
            folder=folder / "sites" / site_id,
            consent=Consent(plan_digest=plan.digest, num_cases=seat.num_cases),
        )
        site.folder.mkdir(parents=True, exist_ok=True)
        return answer(task, plan=plan, site=site, trainer=trainer)

    def build(found: Sequence[Seat]) -> object:
        return algorithms.build(
            plan,
            run_id=run.name,
            seats=found,
            first_params=trainer.first_params,
            sum_lengths=layout(len(plan.task.classes)),
        )

    ledger = RunLedger(folder)
    every = sorted({seat.site_id for found in seats.values() for seat in found})
    sites = {name: lambda task, name=name: act(task, name) for name in every}
    engine = _OfItsSeats(sites=sites, seats=seats, last=last)
    try:
        seated = Seated(build=build, seats_of=seats.__getitem__)
        with suppress(_FarEnoughError):
            federation.run(plan, seated, engine, ledger, Quiet())
    finally:
        ledger.close()
    return digests(folder)


class _FarEnoughError(Exception):
    """The run that this one is compared with did not get further."""


class _OfItsSeats(DirectEngine):
    """An engine whose rounds have the seats that they had over the network."""

    def __init__(self, *, sites, seats, last) -> None:
        super().__init__(sites=sites)
        self._seats, self._last = seats, last

    def select(self, *, round_number: int) -> Sequence[str]:
        if round_number > self._last:
            raise _FarEnoughError
        return sorted(seat.site_id for seat in self._seats[round_number])


def require_same_bits(machines: Machines, run: Path, folder: Path) -> None:
    """Require that every round of a run came to what it comes to when nothing goes wrong."""
    found = answered(run)
    assert digests(run) == undisturbed(machines, run, folder, present=found)


def require_same_bits_as_all(machines: Machines, run: Path, folder: Path) -> None:
    """Require the bits of a run in which every site answered in every round."""
    everybody = {row["round_number"]: frozenset(machines.site_ids) for row in rounds(run)}
    without = [(row["round_number"], seats(run, row["round_number"])) for row in rounds(run)]
    assert answered(run) == everybody, (without, [machines.log(name) for name in machines.site_ids])
    assert digests(run) == undisturbed(machines, run, folder, present=everybody)
