"""The coordinator's desk on disk: invites, requests, sites cut off, plans offered, what sites said.

The private half of an invite is never here. An invite is used up by the one file that holds the
request which came in under it; of several that come at once exactly one is kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hospitium.errors import TrustError
from hospitium.state import durable
from hospitium.state.chain import Chain
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.approvals import (
    Approval,
    Refusal,
    Said,
    Withdrawal,
    open_own,
    open_plan,
    require_current,
)
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.enrolments import Request, check_request, read_request
from hospitium.wire.invites import Ticket, read_ticket, write_ticket
from hospitium.wire.members import Members, follow

MAX_SAID = 200
"""Statements of one site about one plan; a site cannot fill the coordinator's disk."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Desk:
    """One federation, as the coordinator sees it; safe to use from several threads.

    Args:
        folder: The federation's folder at the coordinator.
        clock: The time, in UTC.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.folder = folder
        self.clock = clock
        self.chain = Chain(folder / "members")
        self._newest: Members | None = None
        self._asked: dict[str, Request] = {}
        self._lock = threading.Lock()

    def members(self) -> Members:
        """Return the member list in force; each list is verified once.

        Raises:
            TrustError: There is none (``members``), or a file was changed.
        """
        found = self._newest
        if found is None:
            found = self.chain.current()
        else:
            found = follow(found, self.chain.envelopes(after=found.members_epoch))
        if found is None:
            words = "there is no member list yet. Nothing was done. The officers sign the first one"
            raise TrustError(
                "members", f"{self.folder.name}: {words}: `hospitium coordinator sign`."
            )
        self._newest = found
        return found

    # --- enrolment ------------------------------------------------------------------------------

    def open_invite(self, ticket: Ticket) -> None:
        """Remember an invite; an older one of the same site is void from now on."""
        data = write_ticket(ticket)
        folder = durable.make_folder(self.folder / "invites")
        path = folder / f"{ticket.site_id}.json"
        durable.write_atomically(path, lambda file: str(file.write(data)))

    def ticket(self, site_id: str) -> Ticket | None:
        """Return the newest invite of a site, used or not; None if there is none."""
        path = self.folder / "invites" / f"{site_id}.json"
        return read_ticket(path.read_bytes()) if path.is_file() else None

    def invited(self) -> list[str]:
        """Return the sites with an invite, used or not, sorted."""
        return sorted(path.stem for path in (self.folder / "invites").glob("*.json"))

    def close_invite(self, site_id: str) -> None:
        """Forget a site's invite and the request that came in under it."""
        ticket = self.ticket(site_id)
        durable.delete(self.folder / "invites" / f"{site_id}.json")
        if ticket:
            durable.delete(self._used(ticket))

    def receive(self, envelope: bytes, *, now: datetime) -> Request:
        """Take in an enrolment request; the same bytes again are the same request.

        Raises:
            TrustError: No invite allows it (``identity``, ``federation``, ``expired``,
                ``key_reused``), or another request used the invite (``used``).
        """
        claimed = read_request(envelope)
        ticket = self.ticket(claimed.site_id)
        if ticket is None:
            raise TrustError("identity", "An enrolment request without an invite was refused.")
        path = self._used(ticket)
        if path.is_file() and path.read_bytes() == envelope:
            return claimed
        asked = check_request(envelope, ticket=ticket, members=self.members(), now=now)
        durable.make_folder(self.folder / "requests")
        if not durable.write_once(path, envelope) and path.read_bytes() != envelope:
            raise TrustError(
                "used",
                f"The invite of {asked.site_id} was used already, by another request. This one was "
                "refused. If the site did not send the first one, somebody else has the invite: "
                f"make a new one with `hospitium coordinator invite {asked.site_id}`.",
            )
        return asked

    def request(self, site_id: str) -> Request | None:
        """Return the request that came in under a site's newest invite; None if none did."""
        ticket = self.ticket(site_id)
        if ticket is None or not self._used(ticket).is_file():
            return None
        if ticket.token_key not in self._asked:  # it never changes: its signatures held once
            self._asked[ticket.token_key] = read_request(self._used(ticket).read_bytes())
        return self._asked[ticket.token_key]

    def applicants(self) -> dict[str, Request]:
        """Return the requests that came in and wait for admission, by site."""
        members = self.members()
        taken = {*members.active_keys, *members.retired_keys}
        found = {site_id: self.request(site_id) for site_id in self.invited()}
        return {s: asked for s, asked in found.items() if asked and asked.request_key not in taken}

    def cut_off(self, site_id: str, *, now: datetime) -> None:
        """Refuse a site's requests from now on, whatever the member list says."""
        folder = durable.make_folder(self.folder / "cut_off")
        durable.write_once(folder / site_id, statement.time_text(now).encode())

    def let_in_again(self, site_id: str) -> None:
        """Take a site's cut back, after it enrolled with new keys."""
        durable.delete(self.folder / "cut_off" / site_id)

    def is_cut_off(self, site_id: str) -> bool:
        """Whether a site's requests are refused; asked at each request."""
        return (self.folder / "cut_off" / site_id).exists()

    def all_cut_off(self) -> frozenset[str]:
        """Return every site whose requests are refused."""
        try:
            names = [path.name for path in (self.folder / "cut_off").iterdir()]
        except FileNotFoundError:
            return frozenset()
        return frozenset(name for name in names if name[0].isalnum())

    # --- plans, and what sites say about them ---------------------------------------------------

    def offer(self, plan_digest: str, envelope: bytes) -> None:
        """Offer a signed plan to every site; again only where the coordinator has a new key.

        Raises:
            TrustError: The coordinator of the list in force did not sign it, or it has another
                digest (``plan``).
        """
        if digest(open_plan(envelope, self.members())) != plan_digest:
            raise TrustError("plan", "A plan of another digest was to be offered. It was not.")
        with self._lock:
            paths, folder = self._plan_paths(), durable.make_folder(self.folder / "plans")
            path = paths.get(plan_digest, folder / f"{len(paths) + 1:06d}-{plan_digest}.dsse")
            durable.write_atomically(path, lambda file: str(file.write(envelope)))

    def plans(self) -> list[bytes]:
        """Return the signed plans that were offered, oldest first."""
        return [path.read_bytes() for path in self._plan_paths().values()]

    def plan_digests(self) -> list[str]:
        """Return the digest of each plan that was offered, oldest first."""
        return list(self._plan_paths())

    def take_said(self, site_id: str, envelope: bytes) -> bool:
        """Keep what a site said, durably; False if it was here already. See `number_said`."""
        return self._keep_said(site_id, envelope)[1]

    def number_said(self, site_id: str, envelope: bytes) -> int:
        """Keep what a site said, durably; return its number among all about that plan.

        The same bytes again have the same number.

        Args:
            site_id: Who signed the request that brought it; never taken from the statement.
            envelope: What came in.

        Raises:
            TrustError: Not this site signed it with the key of the list in force, it is about no
                plan that was offered (``plan``), or it is one too many (``size``).
        """
        return self._keep_said(site_id, envelope)[0]

    def said(self, plan_digest: str) -> list[Said]:
        """Return what members said about a plan, each site's in order, site by site.

        What an earlier signing key of a site signed counts no longer.
        """
        members = self.members()
        found: list[Said] = []
        for site in members.sites:
            found += self._said_by(site.site_id, plan_digest, members)
        return found

    def standing(self, plan_digest: str) -> dict[str, Approval]:
        """Return the approval that counts of each site that gave one, by site.

        It was given under the list in force, has not expired, and no refusal came after it. The
        site is not cut off, and never withdrew.
        """
        members, cut_off, found = self.members(), self.all_cut_off(), {}
        for site in members.sites:
            last = self.last_word(site.site_id, plan_digest)
            if not isinstance(last, Approval) or site.site_id in cut_off:
                continue
            with suppress(TrustError):
                require_current(last, members, now=self.clock())
                found[site.site_id] = last
        return found

    def last_word(self, site_id: str, plan_digest: str) -> Approval | Refusal | str:
        """Return a member's last approval or refusal; ``withdrawn`` for good, or ``silent``."""
        if self._withdrawn(site_id, plan_digest).exists():
            return "withdrawn"
        said = self._said_by(site_id, plan_digest, self.members())
        counted = [one for one in said if not isinstance(one, Withdrawal)]
        return counted[-1] if counted else "silent"

    # --- heartbeats -----------------------------------------------------------------------------

    def heard(self, site_id: str, beat: Mapping[str, Json]) -> None:
        """Remember a site's last heartbeat, and when it came."""
        row = canonical_json({**beat, "heard": statement.time_text(self.clock())})
        with self._lock:
            folder = durable.make_folder(self.folder / "beats")
            path = folder / f"{site_id}.json"
            durable.write_atomically(path, lambda file: str(file.write(row)))

    def beats(self) -> dict[str, dict[str, Any]]:
        """Return the last heartbeat of each site that ever sent one; ``heard`` is when it came."""
        paths = sorted((self.folder / "beats").glob("[a-z0-9]*.json"))
        return {path.stem: json.loads(path.read_bytes()) for path in paths}

    # --- inside ---------------------------------------------------------------------------------

    def _keep_said(self, site_id: str, envelope: bytes) -> tuple[int, bool]:
        """Return the number of a statement, and whether it is new."""
        members = self.members()
        said = _opened(envelope, members, site_id=site_id)
        if said.plan_digest not in self._plan_paths():
            raise TrustError("plan", "A statement was refused: its plan was not offered here.")
        if isinstance(said, Withdrawal):
            mark = self._withdrawn(site_id, said.plan_digest)
            durable.make_folder(mark.parent)
            durable.write_once(mark, said.time.encode())
        folder = durable.make_folder(self.folder / "said" / said.plan_digest / site_id)
        for number in range(1, MAX_SAID + 1):
            path = folder / f"{number:06d}.dsse"
            if not path.exists() and durable.write_once(path, envelope):
                return number, True
            if path.read_bytes() == envelope:
                return number, False
        raise TrustError("size", f"{site_id} said more than {MAX_SAID} things about one plan.")

    def _said_by(self, site_id: str, plan_digest: str, members: Members) -> list[Said]:
        found = []
        for path in sorted((self.folder / "said" / plan_digest / site_id).glob("*.dsse")):
            with suppress(TrustError):
                found.append(_opened(path.read_bytes(), members, site_id=site_id))
        return found

    def _withdrawn(self, site_id: str, plan_digest: str) -> Path:
        """Return the mark of a withdrawal; it needs no key and never goes."""
        return self.folder / "withdrawn" / plan_digest / site_id

    def _plan_paths(self) -> dict[str, Path]:
        paths = sorted((self.folder / "plans").glob("[0-9]*-*.dsse"))
        return {path.stem.partition("-")[2]: path for path in paths}

    def _used(self, ticket: Ticket) -> Path:
        return self.folder / "requests" / f"{ticket.token_key}.dsse"


def _opened(envelope: bytes, members: Members, *, site_id: str) -> Said:
    """Return what a member said, by the key that the list gives for it."""
    (key,) = statement.keys_of(members.site(site_id).signing_key).values()
    return open_own(envelope, key, federation=members.federation, site_id=site_id)
