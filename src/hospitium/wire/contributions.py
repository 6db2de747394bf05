"""Who contributed what to a run: the lines of each site, signed by the site and the coordinator.

A line is one update that counts: its round, the number of cases, the digest of the change. What is
signed names the lines by their digest and sums, so that it stays small; the lines lie beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hospitium.errors import TrustError
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.signing import SigningKey, VerifyKey
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_text, is_time, list_of

SITE, CONSORTIUM = "contribution", "consortium-contribution"
MAX_SITES = 1000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One update: in which round, trained on how many cases, with which change (its SHA-256)."""

    round_number: int
    num_cases: int
    update: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is signed of one site's lines: how many rounds, of which digest."""

    site_id: str
    rounds: int
    lines: str

    @classmethod
    def of(cls, site_id: str, lines: Sequence[Line]) -> Part:
        """Return what is signed of these lines."""
        return cls(site_id=site_id, rounds=len(lines), lines=lines_digest(lines))


@dataclass(frozen=True, kw_only=True)
class SiteStatement:
    """A site's own word on what it contributed to a run."""

    federation: str
    run_id: str
    plan_digest: str
    agreement: str
    site_id: str
    rounds: int
    lines: str
    time: str


@dataclass(frozen=True, kw_only=True)
class ConsortiumStatement:
    """The coordinator's word on what each site contributed, under which agreement and licence.

    ``log_size`` and ``log_root`` are those of its log of the run.
    """

    federation: str
    run_id: str
    plan_digest: str
    members_digest: str
    agreement: str
    licence: str
    model: str
    log_size: int
    log_root: str
    parts: tuple[Part, ...]
    time: str


def lines_digest(lines: Sequence[Line]) -> str:
    """Return SHA-256 of lines in their canonical form, by round."""
    ordered = sorted(lines, key=lambda line: line.round_number)
    rows: list[Json] = [asdict(line) for line in ordered]
    return digest(canonical_json(rows))


def read_lines(rows: Any) -> tuple[Line, ...]:
    """Read lines that came in a file.

    Raises:
        TrustError: They are none (``fields``), or name a round twice.
    """
    try:
        lines = tuple(Line(**row) for row in rows)
        is_valid = all(
            is_count(line.round_number) and is_count(line.num_cases) and is_hex(line.update)
            for line in lines
        )
    except TypeError as error:
        raise TrustError("fields", "The lines of a contribution cannot be read.") from error
    if not is_valid or len({line.round_number for line in lines}) != len(lines):
        raise TrustError("fields", "The lines of a contribution were refused: one is not valid.")
    return lines


def sign_site(said: SiteStatement, key: SigningKey) -> bytes:
    """Return a site's statement, signed.

    Raises:
        TrustError: A text is none that a statement may hold (``fields``).
    """
    statement.read(SITE, statement.write(SITE, asdict(said)), _SITE)
    return statement.sign(SITE, asdict(said), key)


def open_site(envelope: bytes, *keys: VerifyKey, lines: Sequence[Line]) -> SiteStatement:
    """Return a site's statement about these lines.

    Raises:
        TrustError: None of these keys signed it, or it is about other lines (``fork``).
    """
    found = site_of(envelope, *keys)
    if (found.rounds, found.lines) != (len(lines), lines_digest(lines)):
        raise TrustError("fork", f"The statement of {found.site_id} is about other lines.")
    return found


def site_of(envelope: bytes, *keys: VerifyKey) -> SiteStatement:
    """Return a site's statement, whatever its lines are; raises what `open_site` does."""
    return SiteStatement(**_opened(SITE, envelope, keys, _SITE))


def sign_consortium(said: ConsortiumStatement, key: SigningKey) -> bytes:
    """Return the coordinator's statement, signed; raises what `sign_site` does."""
    fields: dict[str, Json] = {**asdict(said), "parts": [asdict(part) for part in said.parts]}
    statement.read(CONSORTIUM, statement.write(CONSORTIUM, fields), _CONSORTIUM)
    return statement.sign(CONSORTIUM, fields, key)


def open_consortium(
    envelope: bytes, *keys: VerifyKey, lines: Mapping[str, Sequence[Line]]
) -> ConsortiumStatement:
    """Return the coordinator's statement about these lines of each site.

    Raises:
        TrustError: None of these keys signed it, or it is about other lines (``fork``).
    """
    fields = _opened(CONSORTIUM, envelope, keys, _CONSORTIUM)
    fields["parts"] = tuple(Part(**part) for part in fields["parts"])
    found = ConsortiumStatement(**fields)
    if found.parts != tuple(Part.of(site_id, lines[site_id]) for site_id in sorted(lines)):
        raise TrustError("fork", f"The statement about {found.run_id} is about other lines.")
    return found


def _opened(
    kind: str, envelope: bytes, keys: Sequence[VerifyKey], checks: Mapping[str, Check]
) -> dict[str, Any]:
    payload, signers = statement.open_signed(kind, envelope, {key.key_id: key for key in keys})
    if not signers:
        raise TrustError("signature", f"A {kind} that nobody signed was refused.")
    fields = statement.read(kind, payload, checks)
    del fields["kind"]
    return fields


def _is_text_or_none(value: Any) -> bool:
    return value == "" or is_text(value)


def _is_digest_or_none(value: Any) -> bool:
    return value == "" or is_hex(value)


def _is_part(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"site_id", "rounds", "lines"}
        and is_id(value["site_id"])
        and is_count(value["rounds"])
        and is_hex(value["lines"])
    )


_COMMON: Mapping[str, Check] = {
    "federation": is_id,
    "run_id": is_text,
    "plan_digest": is_hex,
    "agreement": _is_text_or_none,
    "time": is_time,
}
_SITE: Mapping[str, Check] = {
    **_COMMON,
    "site_id": is_id,
    "rounds": is_count,
    "lines": is_hex,
}
_CONSORTIUM: Mapping[str, Check] = {
    **_COMMON,
    "members_digest": is_hex,
    "licence": _is_text_or_none,
    "model": _is_digest_or_none,
    "log_size": is_count,
    "log_root": is_hex,
    "parts": list_of(_is_part, most=MAX_SITES),
}
