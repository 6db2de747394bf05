"""Tasks and updates as canonical JSON: what travels beside the params, checked key by key.

Only integers, texts and lists of integers occur; a real number travels as its exact hexadecimal
text. Whoever reads checks that writing gives the same bytes again, so that two readers cannot
disagree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from hospitium.errors import UpdateError
from hospitium.types import Params, Task, Update
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.gate import MAX_SUM, MAX_SUM_LENGTH, MAX_SUMS

MAX_ENVELOPE_BYTES = 1 << 20
"""Far above the largest honest one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def encode_task(task: Task) -> bytes:
    """Return the envelope of a task; its params travel as the blob named ``base_digest``."""
    return canonical_json(
        {
            "kind": "task",
            "run_id": task.run_id,
            "round_number": task.round_number,
            "plan_digest": task.plan_digest,
            "base_digest": task.base_digest,
            "max_norm": task.max_norm.hex(),
            "purpose": task.purpose,
        }
    )


def decode_task(data: bytes, *, params: Params) -> Task:
    """Read the envelope of a task, to go with params that were fetched by its digest.

    Raises:
        UpdateError: It is not exactly what `encode_task` writes.
    """
    fields = _fields(data, "task", _TASK_CHECKS)
    return Task(
        run_id=fields["run_id"],
        round_number=fields["round_number"],
        plan_digest=fields["plan_digest"],
        params=params,
        base_digest=fields["base_digest"],
        max_norm=float.fromhex(fields["max_norm"]),
        purpose=fields["purpose"],
    )


def encode_update(update: Update, *, blob_digest: str) -> bytes:
    """Return the envelope of an update whose change is the blob of this digest ("" for none)."""
    return canonical_json(
        {
            "kind": "update",
            "run_id": update.run_id,
            "round_number": update.round_number,
            "site_id": update.site_id,
            "plan_digest": update.plan_digest,
            "base_digest": update.base_digest,
            "num_cases": update.num_cases,
            "num_steps": update.num_steps,
            "train_ms": round(update.train_s * 1000),
            "sums": {name: list(values) for name, values in update.sums.items()},
            "blob": blob_digest,
        }
    )


def binding_of(update: Update) -> str:
    """Return to what the sealed file of an update is bound: all of its envelope but the digest.

    That is the SHA-256, hexadecimal, of the envelope that names no file: the digest of the content
    is known only when it has been sealed, and is in the envelope that is signed.
    """
    return digest(encode_update(update, blob_digest=""))


def decode_update(data: bytes) -> tuple[Update, str]:
    """Read the envelope of an update, without its change; return it and the blob's digest.

    Raises:
        UpdateError: It is not exactly what `encode_update` writes. Nothing was taken from it.
    """
    fields = _fields(data, "update", _UPDATE_CHECKS)
    update = Update(
        run_id=fields["run_id"],
        round_number=fields["round_number"],
        site_id=fields["site_id"],
        plan_digest=fields["plan_digest"],
        base_digest=fields["base_digest"],
        num_cases=fields["num_cases"],
        delta={},
        sums={name: tuple(values) for name, values in fields["sums"].items()},
        num_steps=fields["num_steps"],
        train_s=fields["train_ms"] / 1000,
    )
    return update, fields["blob"]


def _fields(data: bytes, kind: str, checks: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    """Return the fields of an envelope after every check."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise UpdateError("size", f"An envelope of {len(data)} bytes was refused.")
    try:
        value = json.loads(data)
        if canonical_json(value) != data:
            raise ValueError("not canonical")
    except (ValueError, RecursionError) as error:
        raise UpdateError("canonical", "An envelope that is not canonical was refused.") from error
    if not isinstance(value, dict) or set(value) != {"kind", *checks} or value["kind"] != kind:
        raise UpdateError("fields", f"An envelope without exactly a {kind}'s fields was refused.")
    for name, is_valid in checks.items():
        if not is_valid(value[name]):
            raise UpdateError("fields", f"An envelope was refused: its field {name} is not valid.")
    return cast(dict[str, Any], value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SUM


def _is_number(value: Any) -> bool:
    try:
        if not isinstance(value, str) or not 0 < float.fromhex(value) < math.inf:
            return False
        return float.fromhex(value).hex() == value
    except (ValueError, OverflowError):
        return False


def _is_sums(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_SUMS
        and all(
            _is_name(name)
            and isinstance(numbers, list)
            and len(numbers) <= MAX_SUM_LENGTH
            and all(_is_count(number) for number in numbers)
            for name, numbers in value.items()
        )
    )


_TASK_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "run_id": _is_name,
    "round_number": _is_count,
    "plan_digest": _is_digest,
    "base_digest": _is_digest,
    "max_norm": _is_number,
    "purpose": lambda value: value in ("train", "score"),
}
_UPDATE_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "run_id": _is_name,
    "round_number": _is_count,
    "site_id": _is_name,
    "plan_digest": _is_digest,
    "base_digest": _is_digest,
    "num_cases": _is_count,
    "num_steps": _is_count,
    "train_ms": _is_count,
    "sums": _is_sums,
    "blob": lambda value: value == "" or _is_digest(value),
}
