"""A federation's desk with sites of our own making, and requests signed by any key."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from tiny import tiny_plan

from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.state.desk import Desk
from hospitium.wire import member_changes as changing
from hospitium.wire.approvals import Approval, Refusal, Withdrawal, sign_plan, sign_said
from hospitium.wire.members import Member, Members, Purpose, sign_members
from hospitium.wire.signing import SigningKey
from hospitium.wire.statement import time_text

START = datetime(2026, 11, 21, 6, tzinfo=UTC)
PLAN = tiny_plan()


def key_of(name: str) -> SigningKey:
    """Return the key of this name: the same in every process of a test."""
    return SigningKey.from_bytes(name.encode().ljust(32, b".")[:32])


@dataclass(kw_only=True)
class Centre:
    """A coordinating centre on disk; its clock stands still unless it is moved."""

    folder: Path
    federation: str = "north"
    now: datetime = START

    def __post_init__(self) -> None:
        self.desk = Desk(self.folder / self.federation, clock=lambda: self.now)
        self.officer, self.coordinator = key_of(f"{self.federation} officer"), key_of("coordinator")
        first = changing.first_list(
            federation=self.federation,
            officers=[self.officer.public.hex()],
            threshold=1,
            coordinator_key=self.coordinator.public.hex(),
            min_sites=2,
            valid_until=self.until,
        )
        self.desk.chain.plant(
            federation=self.federation, officers=first.officers, threshold=first.threshold
        )
        self.publish(first)

    @property
    def until(self) -> datetime:
        return self.now + timedelta(days=365)

    def publish(self, following: Members) -> Members:
        self.desk.chain.extend([sign_members(following, self.officer)])
        return following

    def admit(self, *site_ids: str) -> None:
        for site_id in site_ids:
            member = Member(
                site_id=site_id,
                legal_entity=f"{site_id} hospital",
                signing_key=key_of(f"{site_id} signing").public.hex(),
                request_key=key_of(f"{site_id} request").public.hex(),
            )
            self.publish(changing.admit(self.desk.members(), member, valid_until=self.until))

    def revoke(self, site_id: str) -> None:
        self.publish(changing.revoke(self.desk.members(), site_id, valid_until=self.until))

    def rotate(self, site_id: str, purpose: Purpose, new: SigningKey) -> None:
        members, signing = self.desk.members(), key_of(f"{site_id} signing")
        said = changing.sign_rotation(
            members, site_id=site_id, purpose=purpose, new=new, signing=signing
        )
        self.publish(changing.rotate(members, said, valid_until=self.until))

    def offer(self) -> str:
        self.desk.offer(PLAN.digest, sign_plan(PLAN.canonical, self.coordinator))
        return PLAN.digest

    def approval(self, site_id: str, *, key: SigningKey | None = None, **changes) -> bytes:
        members = self.desk.members()
        fields = {
            "policy_digest": "a" * 64,
            "members_epoch": members.members_epoch,
            "members_digest": members.digest,
            "role": "physicist",
            "cohort_digest": "b" * 64,
            "num_cases": 100,
            "min_sites": 2,
            "budget": 0,
            "isolation": "cut_off",
            "agreement": "A-17",
            "ethics": "REK 2026/1",
            "expires": time_text(self.now + timedelta(days=30)),
        }
        said = Approval(**self.named(site_id) | fields | changes)
        return sign_said(said, key or key_of(f"{site_id} signing"))

    def refusal(self, site_id: str) -> bytes:
        epoch = self.desk.members().members_epoch
        said = Refusal(**self.named(site_id), members_epoch=epoch, reason="privacy")
        return sign_said(said, key_of(f"{site_id} signing"))

    def withdrawal(self, site_id: str) -> bytes:
        return sign_said(Withdrawal(**self.named(site_id)), key_of(f"{site_id} signing"))

    def named(self, site_id: str) -> dict[str, str]:
        return {
            "federation": self.federation,
            "site_id": site_id,
            "plan_digest": PLAN.digest,
            "approver": "Kari Nordmann",
            "time": time_text(self.now),
        }


@dataclass(kw_only=True)
class Asking:
    """Asks an ASGI application in this process, with requests that a key signs."""

    app: object
    prefix: str = ""
    signers: dict[bytes, Signer] = field(default_factory=dict)

    def plain(self, method: str, url: str, **options) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="https://hub") as http:
                return await http.request(method, url, **options)

        return asyncio.run(once())

    def signed(self, key, method, path, query="", *, content=b"", prefix=None) -> httpx.Response:
        header = self.header(key, method, path, query, content=content)
        url = (self.prefix if prefix is None else prefix) + (f"{path}?{query}" if query else path)
        return self.plain(method, url, content=content, headers={HEADER: header})

    def header(self, key, method, path, query="", *, content=b"") -> str:
        if key.to_bytes() not in self.signers:
            challenge = self.plain("GET", f"{self.prefix}/v1/challenge").json()["challenge"]
            self.signers[key.to_bytes()] = Signer(key, challenge)
        question = Question(method=method, path=path, query=query)
        sha256 = hashlib.sha256(content).hexdigest()
        return self.signers[key.to_bytes()].header(question, content_sha256=sha256)
