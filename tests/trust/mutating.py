"""Makes strange messages out of honest ones: by bytes, by fields, inside signatures, by liars.

A mutant is structure-aware: it may change a field inside the payload of a signed statement and keep
the signature, or have it signed anew by the key of a liar, so that it reaches the last check.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from samples import Sample

from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import SigningKey, pae

STRANGE: Sequence[Any] = (
    None, True, False, 0, -1, 1, 1 << 53, (1 << 53) + 1, -(1 << 63), 10**30, 0.5, -0.0, 1e308,
    float("inf"), float("nan"),
    "", " ", "a", "A" * 64, "0" * 64, "f" * 65, "../../etc/passwd", "..\\..\\x", "/dev/shm/x",
    "con", "a/b", "a\x00b", "\u202e", "\ud800", "ß", "é" * 40, "x" * 513, "x" * 70_000, "E999",
    "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "0x1.0p+4",
    "nan", "inf", "-0x1.0p+0", "https://user:pw@host", "train", "score", "update", "error",
    [], {}, [[]], [None] * 100, {"a": 1}, {"kind": "task"}, {"__class__": "os.system"},
    {"$type": "System.Diagnostics.Process"}, ["x"] * 70, list(range(1000)),
)  # fmt: skip
"""Values that once broke somebody's parser, or might."""

BOMBS: Sequence[bytes] = (
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 500 + b"]" * 500, b"9" * 5000, b"-" * 1000,
    b"1e999", b"NaN", b"-Infinity", b'"' + b"\\u0000" * 1000 + b'"', b'{"a":1,"a":2}', b"\xff\xfe",
    b"\xef\xbb\xbf{}", b"", b"\x00" * 64, b"null", b"{}", b"[]", b'""', b"0",
)  # fmt: skip

L = (1 << 252) + 27742317777372353535851937790883648493
"""Order of the group of Ed25519: a signature with this added to its second half must not hold."""


class Mutator:
    """Makes mutants of samples, the same ones for the same seed."""

    def __init__(self, samples: dict[str, Sample], *, seed: int) -> None:
        self._samples = samples
        self._names = sorted(samples)
        self._draw = np.random.default_rng(seed)

    def mutant(self, name: str) -> bytes:
        """Return something that is not quite this sample; now and then changed more than once."""
        sample = self._samples[name]
        data = self._changed(sample.data, sample)
        while self._draw.random() < 0.2:
            data = self._changed(data, sample)
        return data

    def _changed(self, data: bytes, sample: Sample) -> bytes:
        way = self._draw.random()
        if way < 0.35:
            return self._bytes(data)
        if data.startswith(b'{"payload":"'):
            return self._statement(data, sample)
        if data.startswith(b"{"):
            return self._json(data)
        if b"\n" in data:
            return self._note(data)
        return self._file(data)

    # --- bytes ------------------------------------------------------------------------------------

    def _bytes(self, data: bytes) -> bytes:
        """Change bytes without a thought for what they mean."""
        at, to = sorted(int(self._draw.integers(0, len(data) + 1)) for _ in range(2))
        ways: Sequence[Callable[[], bytes]] = (
            lambda: self._flipped(data),
            lambda: data[:at] + data[to:],
            lambda: data[:at] + data[at:to] * 2 + data[to:],
            lambda: data[:at] + self._draw.bytes(int(self._draw.integers(1, 9))) + data[at:],
            lambda: data[:at],
            lambda: data[at:],
            lambda: data + data[:at],
            lambda: data + b"\n",
            lambda: b" " + data,
            lambda: self._one(BOMBS),
            lambda: data[:at] + self._one(BOMBS) + data[to:],
            lambda: data[:at] + self._other()[at:],
            lambda: data.upper(),
            lambda: data.replace(b'":', b'" :', 1),
            lambda: data.replace(b"a", b"\\u0061", 1),
            lambda: data.decode("latin-1").encode("utf-16"),
        )
        return self._one(ways)()

    def _flipped(self, data: bytes) -> bytes:
        if not data:
            return b"\x00"
        changed = bytearray(data)
        changed[int(self._draw.integers(0, len(data)))] ^= 1 << int(self._draw.integers(0, 8))
        return bytes(changed)

    # --- fields -----------------------------------------------------------------------------------

    def _json(self, data: bytes) -> bytes:
        """Change a field of a JSON text, and write it again: canonical, or in another form."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return self._bytes(data)
        if isinstance(value, dict) and self._draw.random() < 0.1:
            name = self._one(sorted(value) or ["a"])
            twice = json.dumps({name: self._one(STRANGE)})[1:-1].encode()
            return data[:1] + twice + b"," + data[1:]
        return self._written(self._altered(value))

    def _altered(self, value: Any, depth: int = 0) -> Any:
        """Return a value of which one part is another."""
        is_deeper = depth < 4 and self._draw.random() < 0.6
        if isinstance(value, dict) and value:
            name = self._one(sorted(value))
            if is_deeper:
                return {**value, name: self._altered(value[name], depth + 1)}
            ways: Sequence[Callable[[], Any]] = (
                lambda: {k: v for k, v in value.items() if k != name},
                lambda: {**value, name: self._one(STRANGE)},
                lambda: {**value, name: self._near(value[name])},
                lambda: {**value, name: value[self._one(sorted(value))]},
                lambda: {**value, f"{name}2": value[name]},
                lambda: {**value, "__proto__": {}},
                lambda: {name.upper() if k == name else k: v for k, v in value.items()},
            )
            return self._one(ways)()
        if isinstance(value, list) and value:
            at = int(self._draw.integers(0, len(value)))
            if is_deeper:
                return [*value[:at], self._altered(value[at], depth + 1), *value[at + 1 :]]
            return self._one(
                ([*value, value[at]], value[:at], value[::-1], [*value, self._one(STRANGE)], [])
            )
        return self._near(value) if self._draw.random() < 0.5 else self._one(STRANGE)

    def _near(self, value: Any) -> Any:
        """Return a value that looks like another."""
        if isinstance(value, bool) or value is None:
            return int(bool(value))
        if isinstance(value, int):
            return self._one((value + 1, value - 1, -value, value * 1000, float(value), str(value)))
        if isinstance(value, str):
            at = int(self._draw.integers(0, len(value) + 1))
            return self._one(
                (value[:at], value + "a", value.upper(), f" {value}", f"{value}\n", value[::-1],
                 f"../{value}", value[:at] + "b" + value[at + 1 :])
            )  # fmt: skip
        return self._one(STRANGE)

    def _written(self, value: Any) -> bytes:
        """Return a value as JSON: mostly in the one form, so that it gets past that check."""
        try:
            if self._draw.random() < 0.85:
                return canonical_json(value)
            text = json.dumps(value, indent=self._one((None, 1)), ensure_ascii=True)
            return text.encode()
        except (ValueError, RecursionError):
            return json.dumps(value, ensure_ascii=True).encode()

    # --- statements -------------------------------------------------------------------------------

    def _statement(self, data: bytes, sample: Sample) -> bytes:
        """Change the payload, the type or the signatures of a signed statement."""
        try:
            fields = json.loads(data)
            payload = base64.b64decode(fields["payload"])
            rows = list(fields["signatures"])
            kind = str(fields["payloadType"])
            assert all(
                set(row) == {"keyid", "sig"} and isinstance(row["keyid"], str) for row in rows
            )
            assert all(len(base64.b64decode(row["sig"])) == 64 for row in rows)
        except (ValueError, KeyError, TypeError, AssertionError):
            return self._json(data)
        way = self._draw.random()
        if way < 0.35 and sample.signers:
            return self._signed(kind, self._payload(payload), self._liars(sample.signers))
        if way < 0.5:
            return self._enveloped(kind, self._payload(payload), rows)
        if way < 0.6:
            other = self._one(("application/vnd.hospitium.task+json", kind.upper(), "", kind + "x"))
            return self._enveloped(other, payload, rows)
        return self._enveloped(kind, payload, self._resigned(rows))

    def _payload(self, payload: bytes) -> bytes:
        return self._json(payload) if payload.startswith(b"{") else self._bytes(payload)

    def _liars(self, signers: Sequence[SigningKey]) -> list[SigningKey]:
        """Return those who sign anew: mostly all of them, now and then some, or a stranger too."""
        way = self._draw.random()
        if way < 0.7:
            return list(signers)
        some = [key for key in signers if self._draw.random() < 0.5]
        return some or [SigningKey.from_bytes(self._draw.bytes(32))]

    def _signed(self, kind: str, payload: bytes, keys: Sequence[SigningKey]) -> bytes:
        rows = [
            {"keyid": key.public.key_id, "sig": _base64(key.sign(pae(kind, payload)))}
            for key in sorted(keys, key=lambda key: key.public.key_id)
        ]
        return self._enveloped(kind, payload, rows)

    def _resigned(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """Return signatures that must not hold, or not be counted."""
        if not rows:
            return [{"keyid": "0" * 64, "sig": ""}]
        row = self._one(rows)
        signature = base64.b64decode(row["sig"])
        larger = int.from_bytes(signature[32:], "little") + L
        half = larger.to_bytes(33, "little")[:32] if larger >> 256 == 0 else signature[32:][::-1]
        ways: Sequence[list[dict[str, str]]] = (
            [],
            [*rows, row],
            rows[::-1],
            [{**row, "keyid": "f" * 64}],
            [{**row, "sig": _base64(signature[:32] + half)}],
            [{**row, "sig": _base64(self._flipped(signature))}],
            [{**row, "sig": _base64(signature[:-1])}],
            [{**row, "sig": row["sig"].rstrip("=")}],
            [{**row, "sig": ""}],
            [{**row, "keyid": row["keyid"].upper()}],
            [row] * 65,
            [{**row, "extra": "1"}],
        )
        return self._one(ways)

    def _enveloped(self, kind: str, payload: bytes, rows: Sequence[dict[str, str]]) -> bytes:
        fields = {"payload": _base64(payload), "payloadType": kind, "signatures": list(rows)}
        return canonical_json(fields)

    # --- notes and files --------------------------------------------------------------------------

    def _note(self, data: bytes) -> bytes:
        """Change a line of a text."""
        lines = data.split(b"\n")
        at = int(self._draw.integers(0, len(lines)))
        return self._one(
            (
                b"\n".join([*lines[:at], *lines[at + 1 :]]),
                b"\n".join([*lines[:at], lines[at], *lines[at:]]),
                b"\n".join([*lines[:at], b"0" + lines[at], *lines[at + 1 :]]),
                data.replace(b"\n", b"\r\n"),
                data + lines[-2] + b"\n",
            )
        )

    def _file(self, data: bytes) -> bytes:
        """Change the header of a params file, with a length that fits or not, or its values."""
        length = int.from_bytes(data[:8], "little")
        head, rest = data[8 : 8 + length], data[8 + length :]
        way = self._draw.random()
        if way < 0.4:
            head = self._json(head.rstrip(b" ")) if head.startswith(b"{") else head
            head += b" " * (-len(head) % 8 if self._draw.random() < 0.8 else 3)
        elif way < 0.5:
            head = _many_empty(int(self._draw.integers(1, 6000)))
        elif way < 0.8:
            rest = self._one((rest[:-1], rest + b"\x00", b"", *[self._flipped(rest)] * 6))
        else:
            lengths = (0, 1, len(data), 1 << 20, 1 << 63, max(0, length - 8), length + 8)
            return int(self._one(lengths)).to_bytes(9, "little")[:8] + data[8:]
        return len(head).to_bytes(8, "little") + head + rest

    def _other(self) -> bytes:
        return self._samples[self._one(self._names)].data

    def _one(self, values: Sequence[Any]) -> Any:
        return values[int(self._draw.integers(0, len(values)))]


def _many_empty(number: int) -> bytes:
    """Return a header of many arrays that hold nothing."""
    rows = {f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(number)}
    text = json.dumps(rows, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
