"""The coordinator's enrolment desk on disk: open invites, requests that came in, sites cut off.

The private half of an invite is never here. An invite is used up by the one file that holds the
request which came in under it; of several that come at once exactly one is kept.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from hospitium.errors import TrustError
from hospitium.state import durable
from hospitium.state.chain import Chain
from hospitium.wire import statement
from hospitium.wire.invites import (
    Request,
    Ticket,
    check_request,
    read_request,
    read_ticket,
    write_ticket,
)
from hospitium.wire.members import Members


class Desk:
    """Enrolment in one federation, as the coordinator sees it.

    Args:
        folder: The federation's folder at the coordinator.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = Chain(folder / "members")

    def members(self) -> Members:
        """Return the member list in force.

        Raises:
            TrustError: There is none (``members``), or a file was changed.
        """
        found = self.chain.current()
        if found is None:
            raise TrustError(
                "members",
                f"{self.folder.name}: there is no member list yet. Nothing was done. The officers "
                "sign the first one: `hospitium coordinator sign`.",
            )
        return found

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
        return read_request(self._used(ticket).read_bytes())

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

    def _used(self, ticket: Ticket) -> Path:
        return self.folder / "requests" / f"{ticket.token_key}.dsse"
