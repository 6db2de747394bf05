"""How the routes are described to other programs: bodies, answers, and the one shape of errors.

The description (OpenAPI) is not served. It is what the fuzzer reads: what it says must be true.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from hospitium.engines.hub.beats import ISOLATIONS, STATES

Described: TypeAlias = dict[str, Any]

JSON, BYTES = "application/json", "application/octet-stream"


def object_of(**fields: Described) -> Described:
    """Return the schema of an object that has exactly these fields."""
    return {
        "type": "object",
        "required": list(fields),
        "properties": fields,
        "additionalProperties": False,
    }


def list_of(item: Described) -> Described:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


TEXT: Described = {"type": "string"}
NUMBER: Described = {"type": "integer", "minimum": 0}
DIGEST: Described = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
ANY: Described = {"type": "object"}
DATA: Described = {"type": "string", "format": "binary"}

_COUNT: Described = {"type": "integer", "minimum": 0, "maximum": 1 << 53}
_ERROR = object_of(ok={"const": False}, code=TEXT, reason=TEXT, error=TEXT)


def answers(
    words: str, schema: Described, *, media_type: str = JSON, empty: bool = False
) -> dict[int | str, Described]:
    """Return what a route answers: this, perhaps nothing (204), or an error.

    A route that answers with bytes may answer with a range of them (206).
    """
    found = {"description": words, "content": {media_type: {"schema": schema}}}
    error = {"content": {JSON: {"schema": _ERROR}}}
    return {
        200: found,
        **({206: found} if media_type == BYTES else {}),
        **({204: {"description": "Nothing yet."}} if empty else {}),
        "4XX": {"description": "Refused; nothing was done.", **error},
        "5XX": {"description": "The hub cannot do it now; nothing is lost.", **error},
    }


def body_of(words: str, schema: Described) -> Described:
    """Return how the description tells of a body, which is read up to a bound after all checks.

    What is JSON has to come in its canonical form.
    """
    content = {BYTES if schema is DATA else JSON: {"schema": schema}}
    return {"requestBody": {"required": True, "description": words, "content": content}}


STANDING = object_of(
    federation=TEXT,
    site_id=TEXT,
    members_epoch=NUMBER,
    members_digest=DIGEST,
    request_key=DIGEST,
    signing_key=DIGEST,
    heard=TEXT,
    plans=ANY,
)
SIGNED = object_of(
    payload=TEXT,
    payloadType=TEXT,
    signatures=list_of(object_of(keyid=DIGEST, sig=TEXT)),
)
"""A signed statement, in its envelope."""

BEAT = object_of(
    state={"enum": list(STATES)},
    version={"type": "string", "pattern": "^[0-9A-Za-z.+-]{1,40}$"},
    decoding={"type": "boolean"},
    round_number=_COUNT,
    isolation={"enum": list(ISOLATIONS)},
    next_opening={"anyOf": [{"type": "null"}, {"const": "2026-11-21T22:00:00Z"}]},
    last_error={"type": "string", "pattern": "^(E[0-9]{3})?$"},
    peak_memory_bytes=_COUNT,
    peak_disk_bytes=_COUNT,
)
"""A heartbeat; its time may be any."""
