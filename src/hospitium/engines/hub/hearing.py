"""What a hub answers, as a site reads it: bounded in size, in one form, with exactly its fields.

Answers that matter are signed and checked again by whoever asked; the rest is small tables. Nobody
vouches for these: what stands between site and hub may have written them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import httpx

from hospitium.errors import HubError
from hospitium.wire.statement import Check, is_count, is_hex, is_id, is_time, list_of

SMALL_BYTES = 1 << 20
"""Largest answer that is a table of figures, a receipt or an error."""

LARGE_BYTES = 64 << 20
"""Largest answer that lists signed envelopes: tasks, plans, member lists."""

MAX_ENVELOPES = 1 << 14
MAX_SPANS = 1 << 16
MAX_CHUNKS = 1 << 20
MAX_WORDS = 500

_LARGE = ("/v1/tasks", "/v1/members", "/v1/plans", "/v1/echo")
_BLOCK_BYTES = 1 << 16
_REASON = re.compile(r"[a-z_]{1,40}", re.ASCII)
_PLANS = ("approved", "refused", "withdrawn", "silent", "outdated")


def bounded(response: httpx.Response, path: str) -> httpx.Response:
    """Read the body of an answer that is still to come, up to what this path may answer.

    Of a refusal that is too large or compressed only the status is kept: a proxy's own page.

    Raises:
        HubError: An answer that is no refusal is: it was read no further.
    """
    content, problem = _body(response, most=LARGE_BYTES if path in _LARGE else SMALL_BYTES)
    if problem and response.status_code < 300:
        raise unreadable(problem)
    return httpx.Response(response.status_code, headers=_kept(response.headers), content=content)


def chunks(content: bytes) -> tuple[int, set[int]]:
    """Return the size of the chunks of an upload, and which of them the hub says it has."""
    fields = table(content, UPLOAD)
    size, most = fields["chunk_bytes"], -(-fields["total_bytes"] // fields["chunk_bytes"])
    if most > MAX_CHUNKS or any(last >= most for _, last in fields["chunks"]):
        raise unreadable("it tells of chunks that there cannot be")
    return size, {index for first, last in fields["chunks"] for index in range(first, last + 1)}


def table(content: bytes, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the fields of an answer that has exactly these, each as its check wants it.

    Raises:
        HubError: It has not.
    """
    fields = parsed(content)
    if not isinstance(fields, dict) or set(fields) != set(checks):
        raise unreadable("it has other fields than it should")
    for name, check in checks.items():
        if not check(fields[name]):
            raise unreadable(f"its field {name} is not valid")
    return cast(dict[str, Any], fields)


def envelopes(content: bytes, name: str) -> list[bytes]:
    """Return the signed envelopes that an answer lists under a name; nothing of them is read."""
    checks = {name: list_of(_is_line, most=MAX_ENVELOPES)}
    return [text.encode() for text in table(content, checks)[name]]


def error_words(content: bytes) -> tuple[str, str]:
    """Return reason and words of an error that the hub answered with; printable words only.

    Raises:
        HubError: It is none of the hub's.
    """
    fields = table(content, ERROR)
    words = "".join(letter if letter.isprintable() else " " for letter in fields["error"])
    return fields["reason"], words[:MAX_WORDS]


def unreadable(found: str) -> HubError:
    """Return the error of an answer that cannot be the hub's; asking again may help."""
    return HubError(
        "unreachable",
        f"An answer of the hub cannot be read ({found}): something in between may have changed "
        "it. Nothing was lost. The site's IT: look at the proxy.",
        status=502,
    )


def _body(response: httpx.Response, *, most: int) -> tuple[bytes, str]:
    """Return a body, or what is wrong with it."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return b"", "it is compressed"
    found = bytearray()
    for block in response.iter_raw(_BLOCK_BYTES):
        found += block
        if len(found) > most:
            return b"", f"it has more than {most} bytes"
    return bytes(found), ""


def parsed(content: bytes) -> Any:
    """Return the value of a JSON text without floats in which no key occurs twice.

    Raises:
        HubError: It is none.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError):
        raise unreadable("it is not in the form of the hub") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _refuse(text: str) -> NoReturn:
    raise ValueError("not a whole number")


def _kept(headers: httpx.Headers) -> dict[str, str]:
    """Return the headers that a site looks at."""
    return {name: headers[name] for name in ("retry-after", "date") if name in headers}


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isascii()


def _is_standing(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(STANDING)
        and all(check(value[name]) for name, check in STANDING.items())
    )


def _is_span(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(is_count(number) for number in value)
        and value[0] <= value[1]
    )


def _is_task(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"n", "envelope"}
        and is_count(value["n"])
        and _is_line(value["envelope"])
    )


CHALLENGE: Mapping[str, Check] = {"challenge": is_hex}
ENROLMENT: Mapping[str, Check] = {"request": is_hex}
ECHO: Mapping[str, Check] = {"bytes": is_count, "sha256": is_hex}
TASKS: Mapping[str, Check] = {"tasks": list_of(_is_task, most=MAX_ENVELOPES)}
UPLOAD: Mapping[str, Check] = {
    "total_bytes": is_count,
    "chunk_bytes": lambda value: is_count(value) and value >= 1,
    "chunks": list_of(_is_span, most=MAX_SPANS),
}
STANDING: Mapping[str, Check] = {
    "federation": is_id,
    "site_id": is_id,
    "members_epoch": is_count,
    "members_digest": is_hex,
    "request_key": is_hex,
    "signing_key": is_hex,
    "heard": lambda value: value == "" or is_time(value),
    "plans": lambda value: (
        isinstance(value, dict)
        and len(value) <= MAX_ENVELOPES
        and all(is_hex(name) and word in _PLANS for name, word in value.items())
    ),
}
BEAT: Mapping[str, Check] = {"time": is_time, "standing": _is_standing}
ERROR: Mapping[str, Check] = {
    "ok": lambda value: value is False,
    "code": lambda value: isinstance(value, str) and re.fullmatch(r"E[0-9]{3}", value) is not None,
    "reason": lambda value: isinstance(value, str) and _REASON.fullmatch(value) is not None,
    "error": lambda value: isinstance(value, str),
}
