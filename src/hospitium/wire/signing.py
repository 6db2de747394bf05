"""Ed25519 signatures over exact bytes, in DSSE envelopes: who said what.

An envelope is read strictly: it has one form for one content, every signature in it must be of a
known key and hold, and no key counts twice. So no bit of it can change unseen, and a threshold
cannot be reached by one person.

The form is DSSE 1.0 (github.com/secure-systems-lab/dsse), with sorted keys and no spaces.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hospitium.errors import UpdateError
from hospitium.wire.canonical import canonical_json, digest

MAX_DSSE_BYTES = 2 << 20
"""Far above the largest honest one: a member list of a thousand sites."""

MAX_SIGNATURES = 64

_TYPE = re.compile(r"[a-z0-9.+/-]{1,100}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BETWEEN = b'},{"keyid"'
_ROW = re.compile(rb'\{"keyid":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{0,200}={0,2})"\}')
_FORM = re.compile(
    rb'\{"payload":"(?P<payload>[A-Za-z0-9+/]*={0,2})",'
    rb'"payloadType":"(?P<type>[a-z0-9.+/-]{1,100})",'
    rb'"signatures":\[(?P<rows>' + _ROW.pattern + rb"(?:," + _ROW.pattern + rb")*)\]\}"
)
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Points of order 8 or less, without their sign bit: under such a key one signature fits many
messages, so that its holder could deny what was signed (Chalkias et al., 2020)."""


class VerifyKey:
    """The public half of an Ed25519 key.

    Args:
        data: Its 32 bytes.

    Raises:
        UpdateError: These are not 32 bytes of a key that binds its holder (reason ``signature``).
    """

    __slots__ = ("_bytes", "_key")

    def __init__(self, data: bytes) -> None:
        if len(data) != 32:
            raise UpdateError("signature", f"A public key of {len(data)} bytes was refused: 32.")
        if data[:31] + bytes([data[31] & 0x7F]) in _SMALL_ORDER:
            raise UpdateError("signature", "A public key that binds nobody was refused.")
        self._bytes = bytes(data)
        self._key = Ed25519PublicKey.from_public_bytes(self._bytes)

    @classmethod
    def from_hex(cls, text: str) -> VerifyKey:
        """Read a key as statements hold it: 64 lower-case hexadecimal characters."""
        if not _KEY_ID.fullmatch(text):
            raise UpdateError("signature", "A public key that is no hexadecimal text was refused.")
        return cls(bytes.fromhex(text))

    @property
    def key_id(self) -> str:
        """SHA-256 of the 32 bytes, as 64 hexadecimal characters."""
        return digest(self._bytes)

    def to_bytes(self) -> bytes:
        """Return the 32 bytes."""
        return self._bytes

    def hex(self) -> str:
        """Return the key as statements hold it."""
        return self._bytes.hex()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return if this key signed exactly these bytes.

        Raises:
            UpdateError: It did not (reason ``signature``).
        """
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            # From None: what was compared is of no use, and nothing of it belongs into a log.
            raise UpdateError(
                "signature", "A signature was refused: this key did not sign these bytes."
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and other._bytes == self._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"VerifyKey({self._bytes.hex()})"


class SigningKey:
    """The private half of an Ed25519 key. Its text form shows nothing of it."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> SigningKey:
        """Draw a key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, seed: bytes) -> SigningKey:
        """Read a key from its 32-byte seed.

        Raises:
            UpdateError: It is of another length. The text holds nothing of it.
        """
        if len(seed) != 32:
            raise UpdateError("signature", "A private key was refused: it is not 32 bytes long.")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def to_bytes(self) -> bytes:
        """Return the 32-byte seed: for a key file, and for nothing else."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature of these bytes; the same each time."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey(of {self.public.key_id[:8]})"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: type and payload, each after its length (DSSE's PAE).

    Example:
        >>> pae("a/b", b"hello")
        b'DSSEv1 3 a/b 5 hello'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def dsse_sign(payload_type: str, payload: bytes, *keys: SigningKey) -> bytes:
    """Return the envelope of a payload signed with each of these keys, which are all different."""
    assert keys and len({key.public for key in keys}) == len(keys) <= MAX_SIGNATURES
    assert _TYPE.fullmatch(payload_type)
    signed = pae(payload_type, payload)
    return _envelope(payload_type, payload, {key.public.key_id: key.sign(signed) for key in keys})


def dsse_merge(*envelopes: bytes) -> bytes:
    """Return one envelope with the signatures of several over the same payload.

    So several people sign one after the other, each on a machine of their own. Nothing is verified.

    Raises:
        UpdateError: One cannot be read (``canonical``), or they hold not the same (``fields``).
    """
    opened = [_open(envelope) for envelope in envelopes]
    payload_type, payload, _ = opened[0]
    if any((kind, data) != (payload_type, payload) for kind, data, _ in opened):
        raise UpdateError("fields", "Envelopes of different payloads were not put together.")
    signatures = {key_id: sig for *_, found in opened for key_id, sig in found.items()}
    return _envelope(payload_type, payload, signatures)


def dsse_verify(
    envelope: bytes, keys: Mapping[str, VerifyKey], *, payload_type: str, threshold: int = 1
) -> bytes:
    """Return the payload of an envelope that enough of these keys signed.

    Args:
        envelope: What came in; nothing of it is trusted.
        keys: Who may sign, by key id. Which they are says the reader, never the envelope.
        payload_type: What it must be.
        threshold: How many different keys must have signed.

    Raises:
        UpdateError: It is too large (``size``), not in the one form (``canonical``), of another
            type (``fields``), or a signature is wrong, unknown or missing (``signature``).
    """
    payload, signers = dsse_signers(envelope, keys, payload_type=payload_type)
    if len(signers) < threshold:
        raise UpdateError(
            "signature", f"A statement was refused: {len(signers)} of {threshold} signatures."
        )
    return payload


def dsse_signers(
    envelope: bytes, keys: Mapping[str, VerifyKey], *, payload_type: str
) -> tuple[bytes, frozenset[str]]:
    """Return the payload and the ids of the keys that signed it; see `dsse_verify`.

    Every signature must be of one of these keys, and hold: none is passed over.
    """
    found_type, payload, signatures = _open(envelope)
    if found_type != payload_type:
        raise UpdateError("fields", f"A statement was refused: it is no {payload_type}.")
    signed = pae(payload_type, payload)
    for key_id, signature in signatures.items():
        if key_id not in keys or keys[key_id].key_id != key_id:
            raise UpdateError("signature", "A statement was refused: an unknown key signed it.")
        keys[key_id].verify(signature, signed)
    return payload, frozenset(signatures)


def dsse_payload(envelope: bytes) -> bytes:
    """Return the payload of an envelope WITHOUT verifying it.

    Only to find out by which keys it has to be verified, or for words to a person.
    """
    return _open(envelope)[1]


def dsse_type(envelope: bytes) -> str:
    """Return the payload type that an envelope claims to have; not verified."""
    return _open(envelope)[0]


def _envelope(payload_type: str, payload: bytes, signatures: Mapping[str, bytes]) -> bytes:
    """Return the one form of an envelope: canonical JSON, signatures in the order of their keys."""
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key_id, "sig": base64.b64encode(signatures[key_id]).decode()}
                for key_id in sorted(signatures)
            ],
        }
    )


def _open(envelope: bytes) -> tuple[str, bytes, dict[str, bytes]]:
    """Return type, payload and signatures of an envelope that is in the one form.

    There is only one form, so it is matched and not parsed: before a signature held, no byte of
    what came reaches a parser of JSON.
    """
    if len(envelope) > MAX_DSSE_BYTES:
        raise UpdateError("size", f"A statement of {len(envelope)} bytes was refused.")
    try:
        found = _FORM.fullmatch(envelope)
        if found is None or found["rows"].count(_BETWEEN) >= MAX_SIGNATURES:
            raise ValueError("another form")
        payload_type, payload = found["type"].decode(), _decoded(found["payload"])
        signatures = {row[1].decode(): _decoded(row[2]) for row in _ROW.finditer(found["rows"])}
        if _envelope(payload_type, payload, signatures) != envelope:
            raise ValueError("another form")
    except ValueError as error:
        raise UpdateError("canonical", "A statement that is not canonical was refused.") from error
    return payload_type, payload, signatures


def _decoded(text: bytes) -> bytes:
    return base64.b64decode(text, validate=True)
