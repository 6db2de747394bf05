"""What stands in for clocks, threads, randomness and slow pure functions in a simulated world.

Nothing of the product is switched: names in its modules are bound to other objects for as long as a
`within` block lasts. What is remembered from call to call are functions whose result follows from
their arguments alone (signatures, parsed policies, verified lists), so that seeds are quick.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import importlib
import json
import os
import queue
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Any

import machines_of_simulation as machines
import virtual_net
import virtual_threads
import virtual_time
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from virtual_time import world

import hospitium.engines.hub.app
import hospitium.operations.attempts
import hospitium.operations.coordinating
import hospitium.operations.offering
import hospitium.operations.site_attending
import hospitium.operations.withdrawing
from hospitium.plan import Plan
from hospitium.state import durable
from hospitium.state.chain import Chain
from hospitium.wire import sealing, signing

Change = tuple[Any, str, Any]

_PARTS = ("engines.hub", "state", "site", "operations", "wire", "engines.site_worker")
_NOT = ("nats", "server", "serving", "doctor")


class _Datetime(datetime):
    """`datetime` whose `now` is that of the simulated machine."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.fromtimestamp(virtual_threads.Time.time(), tz or UTC)


class _Futures(virtual_threads.Module):
    pass


def _uniform(low: float, high: float) -> float:
    return world().between(low, high, "uniform")


def _bytes(size: int | None = None) -> bytes:
    number = world().number()
    return hashlib.shake_128(f"{number}".encode()).digest(size or 32)


_STAND_INS: dict[int, Any] = {
    id(threading): virtual_threads.Threading,
    id(time): virtual_threads.Time,
    id(queue): virtual_threads.Queueing,
    id(random): virtual_threads.Module(random, uniform=_uniform),
    id(secrets): virtual_threads.Module(
        secrets, token_bytes=_bytes, token_hex=lambda n: _bytes(n).hex()
    ),
    id(datetime): _Datetime,
    id(concurrent.futures.ThreadPoolExecutor): virtual_threads.Executor,
    id(concurrent.futures.wait): virtual_threads.wait_for_futures,
    id(concurrent.futures.Future): virtual_threads.Future,
    id(virtual_net.real_asyncio): virtual_net.Asyncio,
}


@functools.lru_cache(maxsize=1)
def _found() -> list[Change]:
    """Return every name in the product's modules that is bound to what has a stand-in."""
    changes: list[Change] = []
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("hospitium.") or not name[10:].startswith(_PARTS):
            continue
        if any(part in name for part in _NOT):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in _STAND_INS:
                changes.append((module, attribute, _STAND_INS[id(value)]))
            defaults = getattr(getattr(value, "__init__", None), "__kwdefaults__", None)
            if isinstance(value, type) and (defaults or {}).get("clock") is time.monotonic:
                virtual = {**defaults, "clock": virtual_threads.Time.monotonic}
                changes.append((value.__init__, "__kwdefaults__", virtual))
    return changes


# --- signatures and seals ---------------------------------------------------------------------

_MOST = 200_000
_signed: dict[tuple[int, bytes], bytes] = {}
_holds: set[tuple[bytes, bytes, bytes]] = set()
_publics: dict[int, tuple[Any, Any]] = {}
_real_sign, _real_verify = signing.SigningKey.sign, signing.VerifyKey.verify
_real_public = signing.SigningKey.public.fget  # type: ignore[attr-defined]


def _public(self: Any) -> Any:
    found = _publics.get(id(self._key))
    if found is None:
        found = _publics[id(self._key)] = (self._key, _real_public(self))
    return found[1]


def _sign(self: Any, data: bytes) -> bytes:
    """Sign as ever; that the signature holds is remembered."""
    known = _signed.get((id(self._key), data))
    if known is None:
        if len(_signed) > _MOST:
            _signed.clear()
            _holds.clear()
        known = _signed[id(self._key), data] = _real_sign(self, data)
        _holds.add((_public(self).to_bytes(), known, data))
    return known


def _verify(self: Any, signature: bytes, data: bytes) -> None:
    """Verify what was not signed in this process a moment ago."""
    if (self._bytes, signature, data) not in _holds:
        _real_verify(self, signature, data)


class _Suite:
    """Stands for HPKE, whose randomness cannot be repeated: the same interface, and none."""

    @staticmethod
    def encrypt(plain: bytes, key: Any, *, info: bytes) -> bytes:
        public = key.public_bytes_raw()
        enc = hashlib.sha256(public + info + plain).digest()
        pad = hashlib.sha256(b"pad" + public + enc + info).digest()
        body = bytes(a ^ b for a, b in zip(plain, pad, strict=True))
        return enc + body + hashlib.sha256(b"tag" + public + enc + info + body).digest()[:16]

    @staticmethod
    def decrypt(wrapped: bytes, key: Any, *, info: bytes) -> bytes:
        public = key.public_key().public_bytes_raw()
        enc, body, tag = wrapped[:32], wrapped[32:-16], wrapped[-16:]
        if hashlib.sha256(b"tag" + public + enc + info + body).digest()[:16] != tag:
            raise InvalidTag
        pad = hashlib.sha256(b"pad" + public + enc + info).digest()
        return bytes(a ^ b for a, b in zip(body, pad, strict=True))


def _run_key(cls: Any) -> Any:
    return cls.from_bytes(_bytes())


def _new_key(cls: Any) -> Any:
    return cls(Ed25519PrivateKey.from_private_bytes(_bytes()))


# --- what is remembered -----------------------------------------------------------------------


_all_known: list[dict[Any, Any]] = [_signed]


def forget() -> None:
    """Forget every result: one that a planted bug gave must not be there without the bug."""
    for known in _all_known:
        known.clear()
    _holds.clear()


def remembered(function: Callable[..., Any], key: Callable[..., object]) -> Callable[..., Any]:
    """Return a function that computes each result once; an error is not remembered."""
    known: dict[object, Any] = {}
    _all_known.append(known)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        place = key(*args, **kwargs)
        if place not in known:
            if len(known) > 5000:
                known.clear()
            known[place] = function(*args, **kwargs)
        return known[place]

    return call


def _chain_key(self: Chain, envelopes: Any) -> object:
    root = self._folder / "root.json"
    return (root.read_bytes() if envelopes else b"", tuple(envelopes))


def _names_key(self: Chain) -> object:
    """Lists are written once and never changed: a folder's names say what is in it."""
    folder = str(self._folder)
    names = os.listdir(folder) if self._folder.is_dir() else ()  # noqa: PTH208 (quicker)
    return (folder, tuple(names))


_real_envelopes = Chain.envelopes
_all_envelopes = remembered(_real_envelopes, _names_key)


def _envelopes(self: Chain, *, after: int = 0) -> list[bytes]:
    return _real_envelopes(self, after=after) if after else list(_all_envelopes(self))


def once(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what computes its result once for each (immutable) object."""
    known: dict[int, tuple[Any, Any]] = {}
    _all_known.append(known)

    def call(self: Any) -> Any:
        found = known.get(id(self))
        if found is None:
            if len(known) > 1000:
                known.clear()
            found = known[id(self)] = (self, function(self))
        return found[1]

    return call


@functools.lru_cache(maxsize=1)
def _quick() -> list[Change]:
    """Return what is remembered, by the module that uses it."""
    changes: list[Change] = [
        (signing.SigningKey, "public", property(_public)),
        (signing.SigningKey, "sign", _sign),
        (signing.SigningKey, "generate", classmethod(_new_key)),
        (signing.VerifyKey, "verify", _verify),
        (sealing, "_SUITE", _Suite),
        (sealing, "os", virtual_threads.Module(os, urandom=_bytes)),
        (sealing.RunKey, "generate", classmethod(_run_key)),
        (Plan, "as_dict", once(Plan.as_dict)),
        (Chain, "_verified", remembered(Chain._verified, _chain_key)),
        (Chain, "envelopes", _envelopes),
    ]
    plain: list[tuple[str, Callable[..., object]]] = [
        ("hospitium.site.policy.parse_policy", lambda text, where="": text),
        ("hospitium.wire.approvals.open_own",
         lambda e, key, federation, site_id: (e, key.hex(), federation, site_id)),
        ("hospitium.site.keys.read_key",
         lambda path, purpose, federation: (str(path), purpose, federation)),
        ("hospitium.site.settings.read_settings", str),
        ("hospitium.site.policy.load_policy", str),
        ("hospitium.wire.members.parse_list", lambda envelope: envelope),
        ("hospitium.wire.envelope.decode_update", lambda data: data),
        ("hospitium.wire.signing.dsse_signers",
         lambda e, keys, payload_type: (e, tuple(keys), tuple(k.to_bytes() for k in keys.values()),
                                        payload_type)),
        ("hospitium.wire.approvals.open_plan", lambda e, m: (e, m.coordinator_keys)),
        ("hospitium.site.plan_inbox._plan_of", lambda payload: payload),
        ("hospitium.plan.reading.plan_from_dict",
         lambda table, where="", lines=None: json.dumps(table, sort_keys=True)),
        ("hospitium.state.database.migrations", lambda schema="migrations": schema),
        ("hospitium.operations.first_params.first_params",
         lambda plan, plugin, init_file="": plan.digest),
    ]  # fmt: skip
    for path, key in plain:
        module_name, _, name = path.rpartition(".")
        real = getattr(importlib.import_module(module_name), name)
        quick = remembered(real, key)
        for other_name, module in list(sys.modules.items()):
            if other_name.startswith("hospitium.") and vars(module).get(name) is real:
                changes.append((module, name, quick))
    return changes


def _quicker_waits() -> list[Change]:
    """Return longer looks: in virtual time a look is all that a wait costs."""
    from hospitium.engines.hub import engine
    from hospitium.operations import attempts, site_attending
    from hospitium.state import home, spares

    return [
        (home, "LOCK_S", 0.0),  # SQLite would wait in real time
        (site_attending, "TICK_S", 120.0),
        (site_attending, "FETCH_S", 120.0),
        (site_attending, "BEAT_S", 600.0),
        (engine, "WAIT_S", 20.0),
        (attempts, "TICK_S", 5.0),
        (attempts, "write_networked", lambda folder, desk: None),
        (spares, "LEAST_BYTES", 0),  # files are written over, however small
    ]


@contextmanager
def within(new: virtual_time.World, more: list[Change] = []) -> Iterator[None]:  # noqa: B006
    """Simulate this world for as long as the block lasts."""
    changes = [*_found(), *_quick(), *_quicker_waits(), *more]
    before = [(owner, name, _now(owner, name)) for owner, name, _ in changes]
    virtual_time.enter(new)
    real = os.fsync, os.getpid, durable.on_write_point, sys.unraisablehook
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        os.fsync, os.getpid = machines.fsync, _pid
        durable.on_write_point = machines.on_write_point
        sys.unraisablehook = _ignore  # a generator of a world that has ended was not closed
        yield
    finally:
        new.end()
        os.fsync, os.getpid, durable.on_write_point, sys.unraisablehook = real
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
        virtual_time.leave()


def _ignore(_: object) -> None:
    """Say nothing."""


def _now(owner: Any, name: str) -> Any:
    return vars(owner)[name] if isinstance(owner, type) else getattr(owner, name)


_real_pid = os.getpid


def _pid() -> int:
    strand = world().current
    return _real_pid() if strand is None else strand.node.pid


__all__ = ["forget", "hospitium", "remembered", "within"]
