"""A federation whose files are carried by hand: a coordinator and sites in folders of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiny import tiny_cases, tiny_plan

from hospitium.imaging.cache import write_cases
from hospitium.operations.approving import take_plan
from hospitium.operations.coordinating import (
    admit_site,
    begin_federation,
    invite_site,
    receive_request,
    write_lists,
)
from hospitium.operations.enrolment import join, read_lists, take_members
from hospitium.operations.offering import offer_plan
from hospitium.plan import Plan
from hospitium.plan.writing import to_toml
from hospitium.site.membership import Membership, membership
from hospitium.state.home import Home

NOW = datetime.now(UTC).replace(microsecond=0)
NAME = "north"
POLICY = """
[allow]
models = ["logistic"]
[approval]
approvers = ["Kari Nordmann", "Ola Nordmann"]
needed = {needed}
[agreement]
reference = "A-17"
ethics = "REK 2026/1"
expires = "2999-12-31"
"""


@dataclass(frozen=True, kw_only=True)
class Federation:
    """A folder in which each installation has its own home."""

    folder: Path

    @property
    def coordinator(self) -> Home:
        return Home(self.folder / "coordinator")

    def site(self, site_id: str) -> Home:
        return Home(self.folder / site_id)

    def place(self, site_id: str) -> Membership:
        return membership(self.folder / site_id, NAME)

    def begin(self, *addresses: str, **options: Any) -> Federation:
        known = addresses or ("https://hub.example.org",)
        begin_federation(self.coordinator, NAME, addresses=list(known), now=NOW, **options)
        return self

    def invite(self, site_id: str, *, now: datetime = NOW) -> Path:
        out = self.folder / f"{site_id}-{len(list(self.folder.glob('*.invite')))}.invite"
        invite_site(self.coordinator, NAME, site_id, out=out, now=now)
        return out

    def ask(self, site_id: str, invite: Path | None = None) -> tuple[bytes, str]:
        """Let a site ask to join; return its request and its words."""
        out = self.folder / f"{site_id}.request"
        found = join(
            self.site(site_id),
            invite or self.invite(site_id),
            legal_entity=f"{site_id} hospital",
            request_out=out,
            now=NOW,
        )
        return out.read_bytes(), " ".join(found["words"])

    def admit(self, site_id: str) -> dict[str, Any]:
        """Take a site through the whole enrolment."""
        request, words = self.ask(site_id)
        receive_request(self.coordinator, NAME, request, now=NOW)
        found = admit_site(self.coordinator, NAME, site_id, heard=words, now=NOW)
        self.carry(site_id)
        self.place(site_id).folder.joinpath("policy.toml").write_text(POLICY.format(needed=1))
        return found

    def lists(self) -> list[bytes]:
        out = self.folder / "members.lists"
        write_lists(self.coordinator, NAME, out=out)
        return read_lists(out)

    def carry(self, site_id: str) -> dict[str, Any]:
        """Bring all member lists to a site."""
        return take_members(self.site(site_id), NAME, self.lists(), now=NOW)

    def offer(self, *site_ids: str, **changes: Any) -> Plan:
        """Sign a plan and bring it to the inboxes of sites."""
        plan = replace(tiny_plan(batching="equal"), **changes)
        path, out = self.folder / "plan.toml", self.folder / f"{plan.digest[:8]}.plan"
        path.write_text(to_toml(plan))
        offer_plan(self.coordinator, NAME, path, out=out)
        for site_id in site_ids:
            take_plan(self.site(site_id), NAME, out.read_bytes())
        return plan

    def cases(self, site_id: str) -> Path:
        folder = self.folder / "cases" / site_id
        if not folder.exists():
            write_cases(folder, tiny_cases())
        return folder
