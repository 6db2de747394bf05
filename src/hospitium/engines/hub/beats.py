"""A site's heartbeat: whole numbers and words of closed lists, and nothing else.

It says what the site's agent is doing and whether it can do what it agreed to. Free text does not
exist in it, so nothing of a patient can be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hospitium.errors import TrustError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.statement import Check, is_count, is_time

STATES = ("waiting", "fetching", "training", "sending", "paused", "closed", "stopping")
"""What an agent does; ``closed`` is outside the hours of the site's own policy."""

ISOLATIONS = ("cut_off", "not_cut_off", "not_tested")

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}", re.ASCII)
_CODE = re.compile(r"(E[0-9]{3})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One heartbeat.

    Attributes:
        state: What the agent does, of `STATES`.
        round_number: The round that it works on; 0 for none.
        isolation: Whether its training process is cut off from the network, of `ISOLATIONS`.
        version: Of Hospitium at the site.
        decoding: Whether it can read what it is asked: keys, lists and plans are at hand.
        next_opening: When its hours begin, as `time_text` writes it; None while they last.
        last_error: Code of the last error, ``E203``; empty if there was none.
        peak_memory_bytes: Most memory that agent and training process held; 0 if it is not known.
        peak_disk_bytes: Most that the agent's own folder held; 0 where it is not known.
    """

    state: str
    version: str
    decoding: bool
    round_number: int = 0
    isolation: str = "not_tested"
    next_opening: str | None = None
    last_error: str = ""
    peak_memory_bytes: int = 0
    peak_disk_bytes: int = 0

    def encoded(self) -> bytes:
        """Return the bytes that travel.

        Raises:
            TrustError: A field is none that a heartbeat may hold (``fields``).
        """
        payload = canonical_json(asdict(self))
        Beat.decoded(payload)
        return payload

    @classmethod
    def decoded(cls, payload: bytes) -> Beat:
        """Read what `encoded` wrote.

        Raises:
            TrustError: It is in another form (``canonical``), or holds anything else (``fields``).
        """
        try:
            fields: Any = json.loads(payload)
            if canonical_json(fields) != payload:
                raise ValueError("not canonical")
        except (ValueError, RecursionError) as error:
            raise TrustError("canonical", "A heartbeat that is not canonical.") from error
        if not isinstance(fields, dict) or set(fields) != set(_CHECKS):
            raise TrustError("fields", f"A heartbeat has exactly the fields {', '.join(_CHECKS)}.")
        for name, check in _CHECKS.items():
            if not check(fields[name]):
                raise TrustError("fields", f"A heartbeat whose field {name} is not valid.")
        return cls(**fields)


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


_CHECKS: Mapping[str, Check] = {
    "state": lambda value: value in STATES,
    "round_number": is_count,
    "isolation": lambda value: value in ISOLATIONS,
    "version": _is_version,
    "decoding": lambda value: type(value) is bool,
    "next_opening": lambda value: value is None or is_time(value),
    "last_error": _is_code,
    "peak_memory_bytes": is_count,
    "peak_disk_bytes": is_count,
}
