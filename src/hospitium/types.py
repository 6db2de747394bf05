"""The nouns that travel between the layers, and the protocols that the spine is written against."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt

    from hospitium.plan import Plan

    Array: TypeAlias = npt.NDArray[Any]
else:
    Array = Any

Params: TypeAlias = Mapping[str, Array]
"""Named arrays of a model. Never changed in place once handed over."""

Sums: TypeAlias = Mapping[str, tuple[int, ...]]
"""Named vectors of integers that add over sites: scores, norm histograms, counts."""

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One site's place in a run: who it is, and how many training cases it enrolled with.

    ``num_cases`` is fixed for the run: an update cannot state its own weight.
    """

    site_id: str
    num_cases: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the coordinator asks of a site in a round.

    ``purpose`` is ``"train"`` (score the incoming params, then train) or ``"score"`` (only score).
    ``max_norm`` is the L2 bound to which a site clips its change. ``base_digest`` names ``params``.
    """

    run_id: str
    round_number: int
    plan_digest: str
    params: Params
    base_digest: str
    max_norm: float
    purpose: Literal["train", "score"] = "train"


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a site sends back: the change of its params and integer sums; nothing else.

    ``delta`` has the names, shapes and dtypes of the task's params (empty for ``"score"``) and an
    L2 norm of at most the task's ``max_norm``. ``path`` is the file that holds it, if one does: as
    it is, or sealed; its name begins with the digest.
    ``evidence`` is what an engine between machines adds for the log: statement, cosignature,
    checkpoint; plain JSON without floats.
    """

    run_id: str
    round_number: int
    site_id: str
    plan_digest: str
    base_digest: str
    num_cases: int
    delta: Params
    sums: Sums = field(default_factory=dict)
    num_steps: int = 0
    train_s: float = 0.0
    path: str | None = None
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A site that was asked and gave no update, with a reason that may be shown to everyone."""

    site_id: str
    reason: str


Answer: TypeAlias = Update | LeftOut
Answers: TypeAlias = Generator[Answer, None, None]
"""What comes of one asking; whoever stops listening before its end closes it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """All that an algorithm knows between two rounds; every part of it is in the ledger.

    ``slots`` are further sets of params (an EMA, momenta), ``memory`` small JSON values
    (the norm histograms of the last rounds). ``params_digest`` is that of the params, where the
    ledger has said it.
    """

    params: Params
    slots: Mapping[str, Params] = field(default_factory=dict)
    memory: Mapping[str, Json] = field(default_factory=dict)
    params_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an aggregate comes to: the weighted mean change and the plain sums of the metrics.

    ``site_ids`` are the sites whose updates are in it.
    """

    delta: Params
    sum_weight: int
    site_ids: frozenset[str]
    sums: Sums

    @property
    def num_sites(self) -> int:
        """How many updates are in it."""
        return len(self.site_ids)


class Aggregate(Protocol):
    """The running combination of the updates of one round; its size does not grow with them."""

    @property
    def num_sites(self) -> int:
        """How many updates were added."""

    def add(self, update: Update) -> None:
        """Check everything about an update, then add all of it; on `UpdateError` none of it."""

    def result(self) -> Result:
        """Return the combination of what was added, once: nothing can be added afterwards.

        At least one update must have been.
        """


class Algorithm(Protocol):
    """How updates become the next params, as a value without state of its own."""

    def init(self) -> State:
        """Return the state before round 1."""

    def task(self, state: State, *, round_number: int) -> Task:
        """Return what every site is asked in this round."""

    def aggregate(self, task: Task) -> Aggregate:
        """Return an empty sum for this round."""

    def step(self, state: State, result: Result) -> State:
        """Return the next state; pure, elementwise float32, the same bits on every machine."""


class Engine(Protocol):
    """How tasks and updates travel. ``tests/contract/test_engine.py`` is its contract."""

    def select(self, *, round_number: int) -> Sequence[str]:
        """Return the sites to ask in this round, sorted."""

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Answers:
        """Give the task to these sites and yield each answer as it arrives.

        Every site is answered for at most once, by an `Update` or a `LeftOut`; a site that
        raises, dies or is silent at the deadline is left out with its reason. Ends when all have
        answered or the deadline has passed, whichever is first. Never raises for one site. Where it
        is closed before its end, nobody is waited for any more.
        """

    def gone(self, site_ids: Sequence[str]) -> Sequence[LeftOut]:
        """Return who of these must not count any more, and why: revoked, or withdrew meanwhile."""

    def close(self) -> None:
        """Stop everything that the engine started; safe to call twice."""


class Ledger(Protocol):
    """The durable record of one run. ``tests/contract/test_ledger.py`` is its contract."""

    def resume(self) -> tuple[State, int] | None:
        """Return the state after the last closed round and its number; None before round 1."""

    def opened(self, task: Task, site_ids: Sequence[str]) -> Sequence[str]:
        """Open a round, or go on with it; return the sites that have not been answered for."""

    def answered(self, task: Task) -> Iterator[Update]:
        """Yield the updates that were accepted before an interruption."""

    def received(self, update: Update) -> None:
        """Record an accepted update, durably."""

    def refused(self, task: Task, refused: LeftOut) -> None:
        """Record that something in a site's name was refused; its seat stays open meanwhile."""

    def left_out(self, task: Task, left_out: LeftOut) -> None:
        """Record that a site gives no update in this round, and why."""

    def struck(self, task: Task, gone: Sequence[LeftOut]) -> Sequence[LeftOut]:
        """Leave out whoever of these was accepted in the open round; return them, often nobody."""

    def closed(self, task: Task, state: State, result: Result) -> State:
        """Close a round: the new state, durably; open seats are left out, updates deleted.

        Returns the state with the digest of its params. Raises `StateConflictError`, and changes
        nothing, where other sites are accepted by now than those in the result.
        """

    def below_quorum(self, task: Task) -> Sequence[LeftOut]:
        """Record that the round could not be closed, and return who was left out and why.

        The next attempt keeps the updates that were accepted and asks the others again.
        """


class Review(Protocol):
    """Who looks at the updates of a round before they count; see `hospitium.operations.reviewing`.

    Nothing that is held is ever added to a round after that round was closed.
    """

    def held(self, task: Task) -> Sequence[LeftOut]:
        """Look at what was accepted and not looked at yet; hold the odd ones, and return them."""

    def require_decided(self, task: Task, *, num_sites: int) -> None:
        """Raise `HeldError` where the round is to wait for a person; return where it is not.

        ``num_sites`` is how many updates count without those who are held.
        """


class NoReview:
    """Nobody looks at an update before it counts."""

    def held(self, task: Task) -> Sequence[LeftOut]:
        """Nothing is held."""
        return ()

    def require_decided(self, task: Task, *, num_sites: int) -> None:
        """There is nothing to decide."""


NO_REVIEW: Review = NoReview()


class Progress(Protocol):
    """Where a run says what it is doing; a terminal, a log, or nothing."""

    def round_opened(self, plan: Plan, task: Task, site_ids: Sequence[str]) -> None:
        """A round was opened."""

    def answer(self, task: Task, answer: Answer) -> None:
        """A site was answered for."""

    def round_closed(self, plan: Plan, task: Task, result: Result) -> None:
        """A round was closed."""
