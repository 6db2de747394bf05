"""The agent of one federation: it keeps up with the coordinator and has the tasks answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hospitium import __version__
from hospitium.engines.hub.asking import StoppedError
from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.pace import Pace
from hospitium.engines.hub.transport import WORK, HubTransport
from hospitium.engines.site_worker import SITE_LOG
from hospitium.errors import HospitiumError, HubError, TrustError
from hospitium.operations.enrolment import fetch
from hospitium.operations.site_answering import Answering
from hospitium.operations.site_rules import SiteRules
from hospitium.site.condition import ENDED, Condition
from hospitium.site.footprint import Footprints
from hospitium.site.leaving import Answering as Line
from hospitium.site.membership import Membership
from hospitium.site.record import egress_of
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import time_text

TICK_S = 1.0
FETCH_S = 10.0
APPLY_S = 3.0
"""How often a site that waits for admission asks."""
BEAT_S = 30.0
PATIENCE_S = 10.0
LONGEST_PAUSE_S = 60.0
LONGEST_UNKNOWN_S = 600.0
"""A site that the coordinator does not know asks less and less often."""

_WAITS = (
    "This site has asked to join and is not admitted yet. Read the six words of `hospitium site "
    "join` to the coordinating centre."
)
_UNKNOWN = (
    "The coordinator does not know this site's keys: it was revoked, or its keys were replaced "
    "elsewhere, as from a backup of this folder. Nothing is sent. Call the coordinating centre; "
    "with a new invite, `hospitium site join INVITE` makes new keys."
)


class Attendant:
    """Attends to one federation until it is stopped.

    Args:
        home: This installation.
        place: Its place in the federation.
        say: Told in words what changes, for whoever watches.
        instead: Where answers go instead of the line, for a dry run.
    """

    def __init__(
        self,
        home: Home,
        place: Membership,
        *,
        say: Callable[[str], None] = lambda text: None,
        instead: Line | None = None,
    ) -> None:
        self._home = home
        self._place = place
        self._name = place.settings.federation
        self._say = say
        self._folder = durable.make_folder(place.folder / WORK)
        self._condition = Condition(place.folder)
        self._footprints = Footprints(place.folder)
        self._egress = egress_of(place, instead=instead)
        self._pace = Pace()
        self._rules = SiteRules(place)
        self._stop = threading.Event()
        self._transport: HubTransport | None = None
        self._answering = Answering(
            home,
            place,
            folder=self._folder,
            rules=self._rules,
            condition=self._condition,
            pace=self._pace,
            egress=self._egress,
            say=lambda text: self._say(f"{self._name}, {text}"),
        )
        self._due = {"fetch": 0.0, "beat": 0.0}
        self._told_isolation = ""
        self._told_offers: set[str] = set()
        self._failures = 0

    def run(self) -> None:
        """Attend until `stop`."""
        try:
            while not self._stop.is_set():
                self._tick()
                self._stop.wait(TICK_S)
        finally:
            self._answering.end()
            self._end_transport()
            self._condition.clear()

    def dry_run(self) -> int:
        """Answer what is open, and send nothing; return how many tasks were taken up."""
        try:
            return self._answering.once()
        finally:
            self._answering.end()
            self._condition.note(state=ENDED)
            self._write()

    def once(self) -> int:
        """Exchange what is new, answer what is open, bring what was said; return how many tasks.

        Raises:
            HubError: The coordinator cannot be reached, or does not know this site.
            TrustError: This site is not admitted yet.
        """
        try:
            self._exchange()
            count = self._answering.once()
            self._due["beat"] = 0.0
            self._exchange()
            return count
        finally:
            self._answering.end()
            self._end_transport()
            self._condition.note(state=ENDED)
            self._write()

    def stop(self) -> None:
        """End `run` soon; what is under way is kept on disk."""
        self._stop.set()
        self._answering.stop()
        if self._transport is not None:
            self._transport.interrupt()

    # --- keeping up -----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Do what is due; nothing that goes wrong with it ends the agent."""
        with suppress(StoppedError):
            if self._is_due():
                self._try_exchange()
            try:
                if self._answering.follow():
                    self._end_transport()  # its keys are old
            except (HospitiumError, OSError) as error:
                self._condition.failed(error)
        self._write()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._place.has_left and not self._place.statements.untold():
            return False
        return now >= self._due["fetch"] or (not self._failures and self._has_news())

    def _has_news(self) -> bool:
        """Whether something here is not yet known to the coordinator, which should know it."""
        is_other = self._condition.found.isolation != self._told_isolation
        return bool(self._place.statements.untold()) or (bool(self._told_isolation) and is_other)

    def _try_exchange(self) -> None:
        pause_s = FETCH_S
        try:
            self._exchange()
        except HubError as error:
            is_unknown = error.status == 401
            found = HubError(error.reason, _UNKNOWN, status=401) if is_unknown else error
            self._note_failure(found, reachable=False)
            longest_s = LONGEST_UNKNOWN_S if is_unknown else LONGEST_PAUSE_S
            pause_s = min(longest_s, (60.0 if is_unknown else 2.0) * 2 ** (self._failures - 1))
            self._end_transport()
        except TrustError as error:
            waits = self._place.chain.current() is None and error.reason == "members"
            self._note_failure(error, reachable=True, decoding=False)
            pause_s = APPLY_S if waits else FETCH_S
        except (HospitiumError, OSError) as error:
            self._note_failure(error, decoding=False)
        else:
            if self._failures:
                self._condition.passed()
            self._failures = 0
        self._due["fetch"] = time.monotonic() + pause_s

    def _note_failure(self, error: Exception, **found: bool) -> None:
        self._failures += 1
        if self._failures == 1:
            self._say(f"{self._name}: {error}")
        self._condition.failed(error, **found)

    def _exchange(self) -> None:
        """Exchange what is due; anew with the key that a list of this moment names, if need be."""
        try:
            self._exchange_once()
        except HubError as error:
            if error.status != 401 or self._transport is None:
                raise
            key = self._place.next_request_key() or self._place.request_key()
            if self._transport.key == key.public:
                raise
            self._end_transport()
            self._opened(key=key)
            self._exchange_once()

    def _exchange_once(self) -> None:
        """Take new lists and plans, bring what was said here, and say how this site is."""
        known = self._place.chain.current() is not None
        has_news = self._has_news()
        taken = self._taken() if known else self._applied()
        if has_news:
            self._due["beat"] = 0.0
        self._condition.note(reachable=True, decoding=True)
        self._tell_offers(taken["plans"])
        for words in taken["refused"]:
            self._condition.failed(TrustError("plan", words))
        if time.monotonic() >= self._due["beat"]:
            self._beat(self._opened())

    def _tell_offers(self, digests: Sequence[str]) -> None:
        """Say once which plans wait for a word of this site."""
        for digest in digests:
            if digest not in self._told_offers and not self._has_said(digest):
                self._say(
                    f"{self._name}: plan {digest[:8]} was offered. Next: "
                    f"`hospitium site review {digest[:8]}`"
                )
            self._told_offers.add(digest)

    def _has_said(self, digest: str) -> bool:
        return bool(self._place.said(digest)) or self._place.is_withdrawn(digest)

    def _taken(self) -> dict[str, Any]:
        """Take what is new, and bring what was said here."""
        return fetch(self._home, self._name, self._opened(), now=datetime.now(UTC))

    def _applied(self) -> dict[str, Any]:
        """Take the first list, or bring the request once more.

        Raises:
            TrustError: This site is not admitted yet.
        """
        try:
            taken = self._taken()
        except HubError as error:
            if error.status != 401:
                raise
            self._opened().enrol(self._place.request)
            raise TrustError("members", _WAITS) from error
        except TrustError as error:
            if error.reason != "members":
                raise
            raise TrustError("members", _WAITS) from error
        self._say(f"{self._name}: this site is a member now. Next: `hospitium site inbox`")
        return taken

    def _beat(self, transport: HubTransport) -> None:
        beat = self._heartbeat()
        answer = transport.beat(beat)
        self._told_isolation = beat.isolation
        self._condition.note(standing=dict(answer.get("standing", {})))
        self._due["beat"] = time.monotonic() + BEAT_S

    def _heartbeat(self) -> Beat:
        found, closed = self._condition.found, self._rules.closed()
        state = found.state if not closed else "paused" if closed == "paused" else "closed"
        opening = self._rules.next_opening()
        most = self._footprints.seen(memory_bytes=self._answering.peak_memory_bytes())
        return Beat(
            state=state,
            version=__version__,
            decoding=found.decoding,
            round_number=found.round_number or 0,
            isolation=found.isolation,
            next_opening=None if opening is None else time_text(opening),
            last_error=found.last_code,
            peak_memory_bytes=most.memory_bytes,
            peak_disk_bytes=most.disk_bytes,
        )

    def _opened(self, *, key: SigningKey | None = None) -> HubTransport:
        if self._transport is None:
            self._transport = HubTransport(
                self._place,
                key=key,
                patience_s=PATIENCE_S,
                stop=self._stop,
                log=self._log,
                pace=self._pace,
                egress=self._egress,
            )
        return self._transport

    def _end_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # --- what is written ------------------------------------------------------------------------

    def _write(self) -> None:
        """Keep the condition and the day's use on disk; a full disk does not end the agent."""
        self._pace.bytes_per_s = self._rules.bytes_per_s()
        sent, received = self._pace.counted()
        with suppress(HospitiumError, OSError):
            self._answering.look()
        with suppress(HospitiumError, OSError):
            self._rules.used(sent_bytes=sent, received_bytes=received)
            self._condition.write(now=datetime.now(UTC))

    def _log(self, text: str) -> None:
        with suppress(OSError), (self._folder / SITE_LOG).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
