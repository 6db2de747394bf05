"""What ``hospitium doctor`` asks of the hub itself: time, standing, sizes, and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hospitium.engines.hub.polling import LEAST_S
from hospitium.engines.hub.probes import Answer, HubProbe
from hospitium.engines.hub.transport import SLOW_CHUNK_BYTES
from hospitium.errors import TrustError
from hospitium.operations import doctor_hops as hops
from hospitium.operations.doctor_checks import (
    CENTRE,
    ENGINEER,
    HOSPITAL_IT,
    Check,
    failed,
    passed,
    skipped,
    warned,
)
from hospitium.operations.doctor_hops import HopError
from hospitium.operations.doctor_tls import Way, open_tls
from hospitium.wire.canonical import digest
from hospitium.wire.statement import read_time

ASKS = ("hub", "clock", "identity", "standing", "payload", "download", "long poll", "idle")
"""The checks of this file, in their order."""

MAX_OFFSET_S = 60.0
MAX_SILENCE_S = 180.0
KIB, MIB = 1 << 10, 1 << 20
SIZES = (64 * KIB, MIB, 8 * MIB)
SHORT_POLL_S, LONG_POLL_S = 2, 50
IDLE_S = 65.0
"""A hub keeps an unused connection for 75 s; what is cut earlier is cut by something in between."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """With what the hub is asked.

    Attributes:
        way: How it is reached.
        probe: Who asks.
        keys: SHA-256 of this site's request and signing keys, as its own files have them.
        is_listed: Whether the member list that this site has names it with these keys.
        chunk_bytes: Size of the pieces in which the site's agent sends.
        now: The time of this machine.
        poll_s: How long a poll waits.
        idle_s: How long an unused connection is watched; 0 for not at all.
    """

    way: Way
    probe: HubProbe
    keys: Mapping[str, str]
    is_listed: bool
    chunk_bytes: int
    now: Callable[[], datetime]
    poll_s: int = SHORT_POLL_S
    idle_s: float = 0.0


def key_digest(public: str) -> str:
    """Return how the hub names a public key that is given in hexadecimal."""
    return digest(bytes.fromhex(public))


def check_hub(asking: Asking) -> Iterator[Check]:
    """Yield what the hub says and lets through, up to what makes further questions useless."""
    for check in check_answer(asking.way, asking.probe, now=asking.now):
        yield check
        if check.name == "hub" and check.status == "FAIL":
            return
    answer = asking.probe.standing()
    yield _identity(asking, answer)
    if not answer.is_fine:
        return
    yield _standing(asking, answer.fields)
    yield _payload(asking)
    yield _download(asking.probe)
    yield _long_poll(asking)
    yield _idle(asking)


def check_answer(way: Way, probe: HubProbe, *, now: Callable[[], datetime]) -> Iterator[Check]:
    """Yield whether the hub is there, how fast it answers, and what time it is there."""
    first = probe.challenge()
    received = now()
    if not first.is_fine or "challenge" not in first.fields:
        yield _no_hub(way, first)
        return
    second = probe.challenge()
    yield passed("hub", f"{way.url} answers in {1000 * second.seconds:.0f} ms")
    yield _clock(first, received=received)


def _no_hub(way: Way, answer: Answer) -> Check:
    if not answer.status:
        return failed(
            "hub",
            f"{way.url} gave no answer ({answer.words})",
            remedy="The way there is open up to TLS. Is the coordinator up, and the only thing "
            "that listens there?",
            who=CENTRE,
        )
    if answer.reason:
        return failed(
            "hub",
            f"the hub answered {answer.status} {answer.reason}: {answer.words}",
            remedy=f"Does the coordinator serve this federation at {way.url}?",
            who=CENTRE,
        )
    return failed(
        "hub",
        f"something else than the hub answered {answer.status} {answer.words}".rstrip(),
        remedy="A web server in front of the hub, or a proxy that opens TLS, answers in its place. "
        "Is the coordinator up behind it?",
        who=CENTRE,
    )


def _clock(answer: Answer, *, received: datetime) -> Check:
    if answer.date is None:
        return warned(
            "clock",
            "the answer bears no date, so the clocks cannot be compared",
            remedy="Something removes the Date header; let it pass.",
            who=HOSPITAL_IT,
        )
    theirs = answer.date if answer.date.tzinfo else answer.date.replace(tzinfo=UTC)
    offset_s = (received - theirs).total_seconds() - answer.seconds / 2
    ahead = f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} the coordinator's"
    if abs(offset_s) <= MAX_OFFSET_S:
        return passed("clock", f"{abs(offset_s):.0f} s from the coordinator's (limit 60 s)")
    return failed(
        "clock",
        f"this machine's clock is {ahead} (limit 60 s)",
        remedy="Set it, and let it follow a time server (NTP). If it is right, tell the centre.",
        who=ENGINEER,
    )


def _identity(asking: Asking, answer: Answer) -> Check:
    if answer.is_fine:
        return passed("identity", "the hub knows this site by the signature of its requests")
    if answer.status != 401:
        return failed(
            "identity",
            f"a signed request was answered {answer.status or 'by nobody'}: {answer.words}",
            remedy="Run it again; if it lasts, tell the coordinating centre.",
            who=CENTRE,
        )
    if asking.is_listed:
        return failed(
            "identity",
            "the hub refuses this site's signature (401), though the member list here names it: "
            "the site was revoked or cut off, or has another key at the centre",
            remedy="Call the coordinating centre. If it was a mistake: a new invite, and "
            "`hospitium site join` again.",
            who=CENTRE,
        )
    return failed(
        "identity",
        "the hub does not know this site's key (401): the site is not admitted",
        remedy="Read the six words of `hospitium site join` to the centre on the telephone; it "
        "runs `hospitium coordinator admit`.",
        who=CENTRE,
    )


def _standing(asking: Asking, fields: Mapping[str, Any]) -> Check:
    """Compare what the coordinator has of this site with what is here."""
    other = [name for name, own in asking.keys.items() if fields.get(name) != own]
    if other:
        return failed(
            "standing",
            f"registered at the centre with another key than the one here ({', '.join(other)})",
            remedy="A copy of an older home folder? Restore the newest, or join again.",
            who=ENGINEER,
        )
    plans = fields.get("plans")
    words = list(plans.values()) if isinstance(plans, dict) else []
    approved = f"{words.count('approved')} of {len(words)} offered plans approved"
    found = f"registered, {approved}"
    silence_s = _silence_s(str(fields.get("heard", "")), now=asking.now())
    if silence_s is None or silence_s > MAX_SILENCE_S:
        last = "never" if silence_s is None else f"{silence_s:.0f} s ago"
        return warned(
            "standing",
            f"{found}; the last signed heartbeat came {last}",
            remedy="Start the site's agent: `hospitium site up`.",
            who=ENGINEER,
        )
    return passed("standing", f"{found}; the last signed heartbeat came {silence_s:.0f} s ago")


def _silence_s(heard: str, *, now: datetime) -> float | None:
    """Return for how long nothing was heard; None where nothing ever was."""
    try:
        return max(0.0, (now - read_time(heard)).total_seconds())
    except (TrustError, ValueError):
        return None


def _payload(asking: Asking) -> Check:
    """Find out how large a body may be on the way to the hub."""
    largest = 0
    for size in SIZES:
        answer = asking.probe.echo(size)
        if answer.reason == "busy":
            return skipped("payload", "the hub lets a site echo so much an hour; try again later")
        if not answer.is_fine:
            return _capped(asking, largest=largest, refused=size, answer=answer)
        largest = size
    return passed("payload", f"bodies of up to {_size(largest)} arrive as they were sent")


def _capped(asking: Asking, *, largest: int, refused: int, answer: Answer) -> Check:
    """Say between which sizes bodies begin to be refused, and what to set."""
    smallest = 16 * KIB
    while refused > smallest and refused // 2 > largest:
        size = refused // 2
        if (found := asking.probe.echo(size)).is_fine:
            largest = size
        else:
            refused, answer = size, found
    by = (
        f"{answer.status} {answer.words}".strip() if answer.status else f"no answer, {answer.words}"
    )
    found_words = f"bodies of {_size(refused)} are refused ({by})"
    if not largest:
        return failed(
            "payload",
            f"{found_words}, and so is every larger one",
            remedy="Let bodies of 1 MiB pass to this name.",
            who=HOSPITAL_IT,
        )
    found_words += f"; {_size(largest)} pass, and this site sends {_size(asking.chunk_bytes)} each"
    if largest >= asking.chunk_bytes:
        remedy = "Nothing has to be done: nothing larger is sent."
        return warned("payload", found_words, remedy=remedy, who=HOSPITAL_IT)
    small = largest >= SLOW_CHUNK_BYTES
    until = "; until then `limits.mbit_per_s = 4.9` in policy.toml makes pieces of 256 KiB"
    remedy = f"Let bodies of 1 MiB pass to this name{until if small else ''}."
    return failed("payload", found_words, remedy=remedy, who=HOSPITAL_IT)


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def _download(probe: HubProbe) -> Check:
    answer = probe.download(SIZES[-1])
    if answer.is_fine and len(answer.body) == SIZES[-1]:
        rate = 8e-6 * len(answer.body) / max(answer.seconds, 1e-3)
        return passed("download", f"{_size(SIZES[-1])} came in one piece, at {rate:.0f} Mbit/s")
    came = f"{answer.status} {answer.words}, {len(answer.body)} bytes"
    return failed(
        "download",
        f"{_size(SIZES[-1])} were asked for; what came: {came}",
        remedy="Let answers of this size pass from this name (scanners often cut them).",
        who=HOSPITAL_IT,
    )


def _long_poll(asking: Asking) -> Check:
    answer = asking.probe.poll(asking.poll_s)
    if answer.is_fine and answer.seconds >= asking.poll_s - 1:
        more = "" if asking.poll_s >= LONG_POLL_S else "; --long waits as long as the agent does"
        return passed("long poll", f"an answer after {answer.seconds:.0f} s of waiting came{more}")
    came = f"{answer.status} {answer.words}" if answer.status else answer.words
    ended = f"was ended after {answer.seconds:.0f} s ({came})"
    enough = f"let a request to this name wait for {LONG_POLL_S} s"
    judge, remedy = failed, f"{enough.capitalize()}; {LEAST_S} s are the least."
    if answer.seconds > LEAST_S:
        judge, remedy = warned, f"Work goes on: the agent asks for shorter waits. Better: {enough}."
    found = f"a request that waits {asking.poll_s} s {ended}"
    return judge("long poll", found, remedy=remedy, who=HOSPITAL_IT)


def _idle(asking: Asking) -> Check:
    if not asking.idle_s:
        return skipped("idle", "it takes more than a minute; ask with --long")
    try:
        with closing(open_tls(asking.way)) as line:
            cut_s = hops.wait_for_cut(line, asking.way.url, longest_s=asking.idle_s)
    except HopError as error:
        return failed("idle", str(error), remedy="Run it again.", who=HOSPITAL_IT)
    if cut_s is None:
        return passed("idle", f"an unused connection is kept for {asking.idle_s:.0f} s or more")
    return warned(
        "idle",
        f"an unused connection was cut after {cut_s:.0f} s",
        remedy="Nothing has to be done where `long poll` passes: the agent connects again. Else "
        f"let a connection to this name be silent for {LONG_POLL_S + 10} s.",
        who=HOSPITAL_IT,
    )
