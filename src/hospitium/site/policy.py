"""A site's own policy: one TOML file that nobody outside can read or change.

It says which plans a person here may approve, and under which conditions a task is answered. The
dataclasses are the one source of its keys, defaults and bounds, as in ``plan/schema.py``.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import cast

from hospitium.errors import PolicyError
from hospitium.plan import Plan
from hospitium.plan.reading import lines_of, read_section
from hospitium.plan.schema import key
from hospitium.plan.writing import section_lines
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json, digest

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d) (local|utc)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class AllowSection:
    """What a plan may ask for at all."""

    tasks: tuple[str, ...] = key(("classification",), "kinds of task; empty: none")
    models: tuple[str, ...] = key(
        ("small_cnn",), "names of the model registry (docs/reference/models.md); empty: none"
    )
    releases: tuple[str, ...] = key(
        ("per_site", "pooled"), "which metrics.release may be agreed to"
    )
    code: tuple[str, ...] = key(
        (), "SHA-256 of custom code (wheel, plug-in) that this site has installed; empty: none"
    )
    secure_sums: bool = key(False, "true: only plans whose secure sums are on")
    record_dp: bool = key(False, "true: only plans with differential privacy per subject")
    epsilon: float = key(0.0, "largest privacy budget of a plan; 0: no bound", low=0.0)
    min_sites: int = key(2, "fewest sites with which our update is combined", low=1, high=1000)


@dataclass(frozen=True, kw_only=True)
class HoursSection:
    """When a task is answered."""

    windows: tuple[str, ...] = key((), 'e.g. ["22:00-06:00 local"]; local or utc; empty: always')


@dataclass(frozen=True, kw_only=True)
class LimitsSection:
    """How much of this site's machine and line may be used; 0 is no limit."""

    mbit_per_s: float = key(0.0, "of the line, each way", low=0.0)
    bytes_per_day: int = key(0, "sent in a day", low=0)
    compute_hours_per_day: float = key(0.0, "of training in a day", low=0.0, high=24.0)
    memory_gb: float = key(0.0, "of the training process", low=0.0)
    task_hours: float = key(0.0, "for one task", low=0.0)


@dataclass(frozen=True, kw_only=True)
class ApprovalSection:
    """Who approves here."""

    approvers: tuple[str, ...] = key((), "names of the people who may; empty: nobody yet")
    needed: int = key(1, "how many different ones have to", low=1, high=10)
    days: int = key(90, "an approval is good for so many days", low=1, high=3650)


@dataclass(frozen=True, kw_only=True)
class AgreementSection:
    """On which papers the work stands; after their end nothing is trained."""

    reference: str = key("", "of the agreement with the coordinating centre")
    ethics: str = key("", "of the ethics committee's vote")
    expires: str = key("", 'last day, e.g. "2027-06-30"; empty: nothing is trained')


@dataclass(frozen=True, kw_only=True)
class IsolationSection:
    """How the training process must be cut off from the network."""

    required: bool = key(True, "true: no training where it cannot be cut off; false: a warning")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One site's conditions, for one federation."""

    allow: AllowSection = field(default_factory=AllowSection)
    hours: HoursSection = field(default_factory=HoursSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    approval: ApprovalSection = field(default_factory=ApprovalSection)
    agreement: AgreementSection = field(default_factory=AgreementSection)
    isolation: IsolationSection = field(default_factory=IsolationSection)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all values, defaults included: what an approval names."""
        return digest(canonical_json(cast(Json, asdict(self))))

    def is_open(self, now: datetime) -> bool:
        """Whether a task may be answered at this time (aware of its time zone)."""
        return not self.hours.windows or any(
            _is_within(window, now) for window in self.hours.windows
        )

    def is_agreed(self, now: datetime) -> bool:
        """Whether the agreement holds on this day, at this site."""
        last = self.agreement.expires
        return bool(last) and now.astimezone().date() <= date.fromisoformat(last)

    def next_opening(self, now: datetime) -> datetime:
        """Return the next minute at which a task may be answered; now, if it may."""
        moment = now
        for _ in range(2 * 24 * 60):
            if self.is_open(moment):
                return moment
            moment = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        raise AssertionError("a window opens every day")

    def problems_of(self, plan: Plan) -> list[str]:
        """Return, in words, everything in a plan that this policy does not allow."""
        allow, found = self.allow, []
        for name, value, allowed in (
            ("task.kind", plan.task.kind, allow.tasks),
            ("model.name", plan.model.name, allow.models),
            ("metrics.release", plan.metrics.release, allow.releases),
        ):
            if value not in allowed:
                listed = ", ".join(allowed) or "nothing"
                found.append(f"{name} is {value!r}; the policy allows {listed}")
        if plan.plugin_sha256 and plan.plugin_sha256 not in allow.code:
            found.append("the plan uses custom code that the policy does not pin (allow.code)")
        if allow.secure_sums and plan.privacy.secure_sums == "off":
            found.append("secure sums are off; the policy wants them on")
        if allow.record_dp and plan.privacy.record_dp == "off":
            found.append("differential privacy is off; the policy wants it on")
        if allow.epsilon and plan.privacy.epsilon > allow.epsilon:
            found.append(
                f"epsilon is {plan.privacy.epsilon:g}; the policy allows {allow.epsilon:g}"
            )
        if plan.rounds.quorum < allow.min_sites:
            found.append(
                f"rounds.quorum is {plan.rounds.quorum}: a round may close with fewer sites than "
                f"the {allow.min_sites} that the policy wants (allow.min_sites)"
            )
        return found


def template() -> str:
    """Return a commented policy to start from: it names no approver and no agreement yet."""
    lines = ["# What this site allows. Nobody outside can read or change this file."]
    return "\n".join([*lines, *section_lines(Policy(), "", comments=True)]) + "\n"


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: It cannot be opened, is not TOML, or has problems; all of them are listed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PolicyError([f"the file cannot be read: {reason}"], where=str(path)) from error
    return parse_policy(text, where=str(path))


def parse_policy(text: str, *, where: str = "policy") -> Policy:
    """Read a policy from TOML text; see `load_policy`."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError([f"it is not TOML: {error}"], where=where) from error
    problems: list[str] = []
    policy = read_section(Policy, table, path="", problems=problems, lines=lines_of(text))
    assert isinstance(policy, Policy)
    problems += _problems(policy)
    if problems:
        raise PolicyError(problems, where=where)
    return policy


def _problems(policy: Policy) -> list[str]:
    """Return what is wrong with values that are of the right type."""
    found = [
        f"hours.windows: {window!r} is no window; write it as 22:00-06:00 local"
        for window in policy.hours.windows
        if not _is_window(window)
    ]
    found += [
        f"allow.code: {code[:12]!r}... is no SHA-256 of 64 hexadecimal characters"
        for code in policy.allow.code
        if not _DIGEST.fullmatch(code)
    ]
    approval = policy.approval
    if len(set(approval.approvers)) < len(approval.approvers):
        found.append("approval.approvers: a name is there twice")
    if approval.approvers and approval.needed > len(approval.approvers):
        found.append(
            f"approval.needed is {approval.needed}; only {len(approval.approvers)} are named"
        )
    try:
        date.fromisoformat(policy.agreement.expires or "2000-01-01")
    except ValueError:
        found.append(f"agreement.expires: {policy.agreement.expires!r} is no day; 2027-06-30 is")
    return found


def _is_window(window: str) -> bool:
    """Whether a text is a window, with a length: 24:00 is the end of a day."""
    found = _WINDOW.fullmatch(window)
    if not found:
        return False
    start, end = found[1] + found[2], found[3] + found[4]
    return start != end and end <= "2400"


def _is_within(window: str, now: datetime) -> bool:
    """Whether a time is within a window; one that ends before it begins goes over midnight."""
    found = _WINDOW.fullmatch(window)
    assert found
    moment = now.astimezone() if found[5] == "local" else now.astimezone(UTC)
    minute = moment.hour * 60 + moment.minute
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end
