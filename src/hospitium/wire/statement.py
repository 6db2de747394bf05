"""Statements: small signed facts with exactly the fields of their kind, checked one by one.

A statement holds whole numbers, printable ASCII texts, true and false, and lists and tables of
these. It has one form, and whoever reads it checks that form, so that two readers cannot disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast

from hospitium.errors import TrustError, UpdateError
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import SigningKey, VerifyKey, dsse_payload, dsse_sign, dsse_signers

TRUST_REASONS = (
    "size", "canonical", "fields", "signature", "threshold", "federation", "identity",
    "key_reused", "members", "rollback", "gap", "fork", "expired", "used", "words", "plan",
    "policy", "withdrawn", "split",
)  # fmt: skip
"""The closed list of reasons for which a statement is not relied upon."""

MAX_TEXT = 512
MAX_INT = 1 << 53
GRACE = timedelta(hours=24)
"""Clocks of hospitals differ: a list or invite is still good for so long, with a loud word."""

Check: TypeAlias = Callable[[Any], bool]

_SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.ASCII)
"""What Windows takes for a device, whatever the folder."""
_HEX_32 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXT = re.compile(r"[ -~]{1,512}", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def is_id(value: Any) -> bool:
    """Whether a value may name a site or a federation; such a name may become a folder's."""
    return (
        isinstance(value, str)
        and _SITE_ID.fullmatch(value) is not None
        and _RESERVED.fullmatch(value) is None
    )


def is_hex(value: Any) -> bool:
    """Whether a value is 32 bytes as lower-case hexadecimal text: a digest or a key."""
    return isinstance(value, str) and _HEX_32.fullmatch(value) is not None


def is_text(value: Any) -> bool:
    """Whether a value is 1 to 512 printable ASCII characters, without spaces at its ends."""
    return (
        isinstance(value, str) and _TEXT.fullmatch(value) is not None and value == value.strip(" ")
    )


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 0 to 2**53."""
    return type(value) is int and 0 <= value <= MAX_INT


def is_time(value: Any) -> bool:
    """Whether a value is a UTC time to the second, as `time_text` writes it."""
    try:
        return isinstance(value, str) and time_text(read_time(value)) == value
    except ValueError:
        return False


def list_of(check: Check, *, most: int) -> Check:
    """Return the check of a list of at most so many, each of which passes a check."""
    return lambda value: (
        isinstance(value, list) and len(value) <= most and all(check(item) for item in value)
    )


def time_text(time: datetime) -> str:
    """Return a time as statements hold it: ``2026-11-21T06:00:00Z``; fractions are dropped."""
    return time.astimezone(UTC).strftime(_TIME)


def read_time(text: str) -> datetime:
    """Return the time of such a text, in UTC."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def has_expired(text: str, *, now: datetime) -> bool:
    """Whether a time lies back by more than the grace that is given to clocks."""
    return now > read_time(text) + GRACE


def media_type(kind: str) -> str:
    """Return the DSSE payload type of a kind of statement."""
    return f"application/vnd.hospitium.{kind}+json"


def sign(kind: str, fields: Mapping[str, Json], *keys: SigningKey) -> bytes:
    """Return the envelope of a statement; its fields were checked by whoever made them."""
    return dsse_sign(media_type(kind), write(kind, fields), *keys)


def write(kind: str, fields: Mapping[str, Json]) -> bytes:
    """Return the canonical bytes of a statement.

    Raises:
        TrustError: A field is none that a statement may hold (``fields``).
    """
    value: dict[str, Json] = {"kind": kind, **fields}
    if not _is_plain(value):
        raise TrustError(
            "fields",
            f"The {kind} was not written: texts are 1 to {MAX_TEXT} printable ASCII characters "
            "and numbers are whole. Write names without accents, as in a postal address abroad.",
        )
    return canonical_json(value)


def read(kind: str, payload: bytes, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the fields of a statement after every check.

    Raises:
        TrustError: It is not in the one form (``canonical``), or has not exactly these fields with
            such values (``fields``).
    """
    try:
        value = json.loads(payload)
        if not _is_plain(value) or canonical_json(value) != payload:
            raise ValueError("not canonical")
    except (ValueError, RecursionError) as error:
        raise TrustError("canonical", f"A {kind} that is not canonical was refused.") from error
    if not isinstance(value, dict) or value.get("kind") != kind or set(value) != {"kind", *checks}:
        raise TrustError("fields", f"A {kind} without exactly its fields was refused.")
    for name, check in checks.items():
        if not check(value[name]):
            raise TrustError("fields", f"A {kind} was refused: its field {name} is not valid.")
    return cast(dict[str, Any], value)


def open_signed(
    kind: str, envelope: bytes, keys: Mapping[str, VerifyKey]
) -> tuple[bytes, frozenset[str]]:
    """Return the payload of a signed statement and who signed it; see `dsse_signers`.

    Raises:
        TrustError: The envelope was refused, with the reason.
    """
    try:
        return dsse_signers(envelope, keys, payload_type=media_type(kind))
    except UpdateError as error:
        raise TrustError(error.reason, f"The {kind} was refused: {error}") from error


def unverified(kind: str, envelope: bytes) -> bytes:
    """Return the payload of a statement WITHOUT verifying it.

    Only to find out by which keys it has to be verified.
    """
    try:
        return dsse_payload(envelope)
    except UpdateError as error:
        raise TrustError(error.reason, f"The {kind} was refused: {error}") from error


def keys_of(*texts: str) -> dict[str, VerifyKey]:
    """Return public keys by their ids.

    Raises:
        TrustError: One is no key (``signature``).
    """
    try:
        found = [VerifyKey.from_hex(text) for text in texts]
    except UpdateError as error:
        raise TrustError(error.reason, str(error)) from error
    return {key.key_id: key for key in found}


def _is_plain(value: Any) -> bool:
    """Whether a value is made only of what a statement may hold."""
    if isinstance(value, dict):
        return all(is_text(name) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, str):
        return value == "" or is_text(value)
    return type(value) is bool or (type(value) is int and -MAX_INT <= value <= MAX_INT)
