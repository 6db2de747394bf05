"""What the hub's routes ask of a federation's desk, and who may ask: the list in force, as it is.

Everything is read anew at each request. So a site that is revoked or cut off is refused at once,
and a new key is let in as soon as the member list names it; nobody restarts anything.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import asdict

from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.requests import Member
from hospitium.errors import HubError, TrustError
from hospitium.state.desk import Desk
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.approvals import Approval, Refusal, require_current
from hospitium.wire.canonical import digest
from hospitium.wire.members import Members
from hospitium.wire.signing import VerifyKey

MAX_LISTS_BYTES = 16 << 20
"""What one answer holds of member lists; who gets lists asks for those after them."""


class Office:
    """One federation's desk, as its hub's routes use it; safe to use from several threads.

    Args:
        desk: The federation's desk.
        tell: Told in a sentence what the people at the coordinating centre may wait for.
    """

    def __init__(self, desk: Desk, *, tell: Callable[[str], None] | None = None) -> None:
        self._desk = desk
        self._tell = tell
        self.members: Mapping[str, Member] = _LiveMembers(desk)

    def applicants(self) -> dict[str, VerifyKey]:
        """Return the request key of each site whose request waits for admission."""
        waiting = self._desk.applicants().items()
        return {site_id: VerifyKey.from_hex(asked.request_key) for site_id, asked in waiting}

    def enrol(self, envelope: bytes) -> str:
        """Take in an enrolment request that an invite allows, and return its digest.

        Who has no invite does not learn for whom there is one.

        Raises:
            TrustError: See `hospitium.state.desk.Desk.receive`.
        """
        known = self._desk.applicants() if self._tell else {}
        try:
            asked = self._desk.receive(envelope, now=self._desk.clock())
        except TrustError as error:
            if error.reason != "identity":
                raise
            words = "There is no open invite for this enrolment request. Ask for a new invite."
            raise TrustError("identity", words) from None
        if self._tell and asked.site_id in self._desk.applicants().keys() - known.keys():
            self._tell(
                f"{asked.site_id} asks to join {asked.federation}. Call them, then: `hospitium "
                f"coordinator admit {asked.site_id}`"
            )
        return asked.digest

    def lists(self, *, after: int) -> list[bytes]:
        """Return the signed member lists of later epochs, in order; at least one if there is any.

        Where there are very many it is the first of them.
        """
        found: list[bytes] = []
        size = 0
        for envelope in self._desk.chain.envelopes(after=after):
            size += len(envelope)
            if found and size > MAX_LISTS_BYTES:
                break
            found.append(envelope)
        return found

    def plans(self) -> list[bytes]:
        """Return the signed plans that are offered, oldest first."""
        return self._desk.plans()

    def take_said(self, site_id: str, envelope: bytes) -> int:
        """Keep what a site said, durably, and return its number; the same bytes, the same number.

        Raises:
            TrustError: See `hospitium.state.desk.Desk.number_said`.
        """
        before = self._plans(site_id) if self._tell else {}
        number = self._desk.number_said(site_id, envelope)
        if self._tell:
            for plan, word in self._plans(site_id).items():
                if word != before.get(plan):
                    agreed, sites = self._desk.standing(plan), self._desk.members().sites
                    self._tell(
                        f"{site_id}: plan {plan[:12]} is {word}; approved by {len(agreed)} of "
                        f"{len(sites)} sites"
                    )
        return number

    def heard(self, site_id: str, beat: Beat) -> None:
        """Remember a site's heartbeat."""
        self._desk.heard(site_id, asdict(beat))

    def standing(self, site_id: str) -> dict[str, Json]:
        """Return what the coordinator thinks of a member.

        ``plans`` holds, for each plan that was offered, ``approved``, ``refused``, ``withdrawn``,
        ``silent``, or ``outdated``: approved under another member list, or for a time that is over.
        """
        members = self._desk.members()
        row = members.site(site_id)
        return {
            "federation": members.federation,
            "site_id": site_id,
            "members_epoch": members.members_epoch,
            "members_digest": members.digest,
            "request_key": digest(bytes.fromhex(row.request_key)),
            "signing_key": digest(bytes.fromhex(row.signing_key)),
            "heard": str(self._desk.beats().get(site_id, {}).get("heard", "")),
            "plans": self._plans(site_id),
        }

    def time(self) -> str:
        """Return the coordinator's time."""
        return statement.time_text(self._desk.clock())

    def _plans(self, site_id: str) -> dict[str, Json]:
        """Return what a member's part in each plan is, by digest; see `standing`."""
        members = self._desk.members()
        return {plan: self._word(site_id, plan, members) for plan in self._desk.plan_digests()}

    def _word(self, site_id: str, plan_digest: str, members: Members) -> str:
        last = self._desk.last_word(site_id, plan_digest)
        if isinstance(last, Refusal):
            return "refused"
        if not isinstance(last, Approval):
            return last
        try:
            require_current(last, members, now=self._desk.clock())
        except TrustError:
            return "outdated"
        return "approved"


class _LiveMembers(Mapping[str, Member]):
    """The members of the list in force without those that are cut off, read at each use."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._listed: tuple[Members | None, dict[str, Member]] = (None, {})

    def _now(self) -> dict[str, Member]:
        try:
            members = self._desk.members()
        except TrustError as error:
            raise HubError(
                "internal", "The coordinator's member lists cannot be read.", status=500
            ) from error
        of, listed = self._listed
        if of is not members:
            listed = {
                site.site_id: Member(
                    request_key=VerifyKey.from_hex(site.request_key),
                    signing_key=VerifyKey.from_hex(site.signing_key),
                )
                for site in members.sites
            }
            self._listed = members, listed
        cut_off = self._desk.all_cut_off()
        return {name: member for name, member in listed.items() if name not in cut_off}

    def items(self) -> ItemsView[str, Member]:
        """Return everything of one moment."""
        return self._now().items()

    def __getitem__(self, site_id: str) -> Member:
        return self._now()[site_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
