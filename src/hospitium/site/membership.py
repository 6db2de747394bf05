"""One federation at one site, on disk: who we are there, the lists, the plans, and what was said.

Each federation has its own folder, with its own keys, policy and approvals. The agent reads all
that it may do from here, anew for each task: so a pause or a withdrawal holds at once, offline too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hospitium.errors import SiteError, TrustError
from hospitium.plan import Plan
from hospitium.site.consent import REFUSALS, Consent, Terms
from hospitium.site.keys import KeyPurpose, make_key, read_key
from hospitium.site.plan_inbox import PlanInbox
from hospitium.site.policy import Policy, load_policy
from hospitium.site.settings import SETTINGS, Settings, read_settings, write_settings
from hospitium.site.statements import Statements, counted
from hospitium.state import durable
from hospitium.state.chain import Chain
from hospitium.wire import statement
from hospitium.wire.approvals import Approval, Said, sign_said
from hospitium.wire.members import Member, Members, Purpose
from hospitium.wire.signing import SigningKey

_FILES: dict[Purpose, KeyPurpose] = {"signing": "site-signing", "request": "site-request"}

TLS_CA = "tls-ca.pem"
"""The certificate of the coordinator's own CA, as the invite brought it."""


class Membership:
    """What a site has of one federation.

    Args:
        folder: The federation's folder at this site.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = Chain(folder / "members")
        self.inbox = PlanInbox(folder / "inbox")
        self.statements = Statements(folder)

    @property
    def settings(self) -> Settings:
        """Who this site is there; see `read_settings`."""
        return read_settings(self.folder)

    @property
    def has_joined(self) -> bool:
        """Whether the site ever asked to join."""
        return (self.folder / SETTINGS).is_file()

    def make_keys(self, name: str, *, federation: str) -> tuple[SigningKey, SigningKey]:
        """Return the signing and the request key of an enrolment; made the first time."""
        return (
            self._make_key(name, "site-signing", federation),
            self._make_key(name, "site-request", federation),
        )

    def keep_settings(self, settings: Settings, request: bytes, *, tls_ca: str = "") -> None:
        """Write down who this site is and what it asked, in this order of need."""
        durable.delete(self.folder / TLS_CA)
        if tls_ca:
            durable.write_atomically(
                self.folder / TLS_CA, lambda file: str(file.write(tls_ca.encode()))
            )
        durable.write_atomically(
            self.folder / "request.dsse", lambda file: str(file.write(request))
        )
        write_settings(self.folder, settings)
        durable.delete(self.folder / "left")

    @property
    def request(self) -> bytes:
        """The enrolment request, exactly as it was sent."""
        return (self.folder / "request.dsse").read_bytes()

    def signing_key(self) -> SigningKey:
        """Return the key that signs what this site says."""
        return self._key("site-signing")

    def request_key(self) -> SigningKey:
        """Return the key that signs HTTP requests, and nothing else."""
        return self._key("site-request")

    def successor(self, purpose: Purpose) -> SigningKey:
        """Return the key that is to follow one of ours; made the first time."""
        settings, name = self.settings, _FILES[purpose]
        path = self._path(settings, name, suffix=".next.key")
        if path.exists():
            return read_key(path, purpose=name, federation=settings.federation)
        return make_key(path, purpose=name, federation=settings.federation)

    def next_request_key(self) -> SigningKey | None:
        """Return the successor of the request key, if one was made and is not in use yet.

        Once the list in force names it, the coordinator knows the site by it alone.
        """
        settings = self.settings
        path = self._path(settings, "site-request", suffix=".next.key")
        if not path.exists():
            return None
        return read_key(path, purpose="site-request", federation=settings.federation)

    def adopt_successors(self) -> None:
        """Use each successor that the list in force names; the key before it is gone then."""
        settings, members = self.settings, self.members()
        row = next((row for row in members.sites if row.site_id == settings.site_id), None)
        for name in _FILES.values():
            following = self._path(settings, name, suffix=".next.key")
            if row is None or not following.exists():
                continue
            key = read_key(following, purpose=name, federation=settings.federation)
            if key.public.hex() in (row.signing_key, row.request_key):
                durable.move(following, self._path(settings, name))

    def members(self) -> Members:
        """Return the member list in force.

        Raises:
            TrustError: There is none yet, or a file was changed.
        """
        found = self.chain.current()
        if found is None:
            raise TrustError(
                "members",
                f"{self.folder.name}: no member list has come yet, so nothing is answered. Read "
                "the six words to the coordinating centre; it admits the site.",
            )
        return found

    def own_row(self) -> Member | None:
        """Return this site's row, if the list in force has one with the keys that are here."""
        found, settings = self.chain.current(), self.settings
        rows = [row for row in found.sites if row.site_id == settings.site_id] if found else []
        held = self.signing_key().public.hex(), self.request_key().public.hex()
        return next((row for row in rows if (row.signing_key, row.request_key) == held), None)

    def policy(self) -> Policy:
        """Return the site's own policy for this federation.

        Raises:
            PolicyError: There is none, or it has problems.
        """
        return load_policy(self.folder / "policy.toml")

    def take_plan(self, envelope: bytes) -> Plan:
        """Put a plan that the coordinator signed into the inbox; see `PlanInbox.take`."""
        return self.inbox.take(envelope, self.members())

    def plans(self) -> list[Plan]:
        """Return the plans of the inbox, oldest first; see `PlanInbox.plans`."""
        return self.inbox.plans(self.members())

    def say(self, said: Said) -> bytes:
        """Sign what a person here said and keep it, durably; return what may travel."""
        envelope = sign_said(said, self.signing_key())
        self.statements.keep(envelope)
        return envelope

    def said(self, plan_digest: str) -> list[Said]:
        """Return what people here said about a plan, in order.

        What an earlier signing key of this site signed, counts no longer.
        """
        settings = self.settings
        found = self.statements.signed_by(
            self.signing_key().public, federation=settings.federation, site_id=settings.site_id
        )
        return [said for said in found if said.plan_digest == plan_digest]

    def is_withdrawn(self, plan_digest: str) -> bool:
        """Whether the site's part in a plan was ended; the mark needs no key and never goes."""
        return (self.folder / "withdrawn" / plan_digest).exists()

    def mark_withdrawn(self, plan_digest: str) -> None:
        """End the site's part in a plan at once, whatever can still be signed or sent."""
        folder = durable.make_folder(self.folder / "withdrawn")
        durable.write_once(folder / plan_digest, _now())

    def consent(self, plan_digest: str) -> Consent:
        """Return what this site agreed to about a plan; whether a task is within it, it decides.

        Raises:
            SiteError: Not enough people here approved it, or it was withdrawn.
        """
        policy = self.policy()
        if self.is_withdrawn(plan_digest):
            raise SiteError(REFUSALS["withdrawn"])
        approvals = self.standing(plan_digest)
        if not approvals:
            raise SiteError(REFUSALS["plan"])
        last = approvals[-1]
        return Consent(
            plan_digest=plan_digest,
            num_cases=last.num_cases,
            terms=Terms(
                members_digest=last.members_digest,
                min_sites=max(one.min_sites for one in approvals),
                policy_digest=last.policy_digest,
                policy=policy,
                expires=min(statement.read_time(one.expires) for one in approvals),
                is_paused=self.is_paused,
                approved_by=tuple(one.approver for one in approvals),
                members_epoch=last.members_epoch,
            ),
        )

    def standing(self, plan_digest: str) -> list[Approval]:
        """Return the approvals that count: enough different people, the same thing; else none.

        A refusal undoes what was approved before it.
        """
        approvals = self.counted(plan_digest)
        return approvals if len(approvals) >= self.policy().approval.needed else []

    def counted(self, plan_digest: str) -> list[Approval]:
        """Return the approvals of a plan that agree with the last one; see `statements.counted`."""
        return counted(self.said(plan_digest))

    def keep_cases(self, plan_digest: str, folder: Path) -> None:
        """Remember where the cases are that were approved for a plan."""
        path = durable.make_folder(self.folder / "cases") / f"{plan_digest}.txt"
        here, place = self.folder.resolve(), folder.resolve()
        data = str(place.relative_to(here) if place.is_relative_to(here) else place).encode()
        durable.write_atomically(path, lambda file: str(file.write(data)))

    def cases(self, plan_digest: str) -> Path | None:
        """Return the folder of the cases that were approved for a plan; None before any was."""
        path = self.folder / "cases" / f"{plan_digest}.txt"
        return self.folder / path.read_text("utf-8") if path.is_file() else None

    @property
    def is_paused(self) -> bool:
        """Whether a person here paused all work for this federation, or left it."""
        return (self.folder / "paused").exists() or self.has_left

    @property
    def has_left(self) -> bool:
        """Whether the site has left this federation."""
        return (self.folder / "left").exists()

    def pause(self) -> None:
        """Answer no task until `resume`."""
        durable.write_once(self.folder / "paused", _now())

    def resume(self) -> None:
        """Answer tasks again."""
        durable.delete(self.folder / "paused")

    def leave(self) -> None:
        """Answer nothing any more, for good."""
        durable.write_once(self.folder / "left", _now())

    def _make_key(self, name: str, purpose: KeyPurpose, federation: str) -> SigningKey:
        path = self.folder / "keys" / name / f"{purpose}.key"
        if path.exists():
            return read_key(path, purpose=purpose, federation=federation)
        return make_key(path, purpose=purpose, federation=federation)

    def _path(self, settings: Settings, name: str, *, suffix: str = ".key") -> Path:
        return self.folder / "keys" / settings.keys / f"{name}{suffix}"

    def _key(self, purpose: KeyPurpose) -> SigningKey:
        settings = self.settings
        path = self._path(settings, purpose)
        return read_key(path, purpose=purpose, federation=settings.federation)


def memberships(home: Path) -> Sequence[Membership]:
    """Return every federation that this installation takes part in, by name."""
    folders = sorted((home / "site" / "federations").glob("*/settings.json"))
    return [Membership(path.parent) for path in folders]


def membership(home: Path, federation: str) -> Membership:
    """Return the place of one federation, whether there is anything yet or not."""
    return Membership(home / "site" / "federations" / federation)


def _now() -> bytes:
    return statement.time_text(datetime.now(UTC)).encode()
