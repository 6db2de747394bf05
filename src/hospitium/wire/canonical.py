"""Canonical JSON and SHA-256: the same value has the same bytes, and so the same digest."""

from __future__ import annotations

import hashlib
import json

from hospitium.types import Json


def canonical_json(value: Json) -> bytes:
    """Return UTF-8 JSON with sorted keys and no spaces; NaN and infinities are refused.

    Floats are written as Python's shortest text that reads back to the same number, as
    RFC 8785 asks in substance; ``1.0`` and ``1`` are therefore different bytes.

    Raises:
        ValueError: The value holds a NaN or an infinity.

    Example:
        >>> canonical_json({"b": [1, 0.1], "a": None})
        b'{"a":null,"b":[1,0.1]}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(data: bytes) -> str:
    """Return the SHA-256 of these bytes as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()
