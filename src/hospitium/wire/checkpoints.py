"""Checkpoints: a log's size and root, signed by whose log it is, in a form that other tools read.

The text is that of C2SP tlog-checkpoint, signed as a C2SP signed-note with Ed25519 (see
github.com/C2SP/C2SP). There is one form for one content, with one signature: nothing of it can
change unseen.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from hospitium.errors import TrustError, UpdateError
from hospitium.wire.signing import SigningKey, VerifyKey

LOCAL = "local"
"""Stands for the federation of a run that belongs to none."""

ED25519 = 0x01
"""The signature type of a plain Ed25519 signature over a note's text (C2SP signed-note)."""

_ORIGIN = re.compile(r"hospitium/[a-z0-9-]{1,40}(/[A-Za-z0-9._-]{1,64}){1,2}", re.ASCII)
_NOTE = re.compile(
    r"(?P<body>(?P<origin>[!-~]{1,200})\n(?P<size>0|[1-9][0-9]{0,14})\n(?P<root>[A-Za-z0-9+/]{43}=)\n)"
    r"\n— (?P<name>[!-~]{1,200}) (?P<signature>[A-Za-z0-9+/]{91}=)\n",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a log is at one moment.

    Attributes:
        origin: Whose log: see `site_origin` and `coordinator_origin`.
        size: How many entries it has.
        root: 32 bytes, of their Merkle tree.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def site_origin(federation: str, site_id: str) -> str:
    """Return the name of a site's log in one federation."""
    return f"hospitium/{federation}/{site_id}"


def coordinator_origin(federation: str, run_id: str) -> str:
    """Return the name of the coordinator's log of one run."""
    return f"hospitium/{federation}/coordinator/{run_id}"


def note_key_id(name: str, key: VerifyKey, *, kind: int = ED25519) -> bytes:
    """Return the 4 bytes by which a signed note names a key."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.to_bytes()).digest()[:4]


def note_signature(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return what stands in the signature line of a checkpoint: key id and signature, base64."""
    signature = key.sign(checkpoint.body.encode())
    return base64.b64encode(note_key_id(checkpoint.origin, key.public) + signature).decode()


def note_of(checkpoint: Checkpoint, signature: str) -> str:
    """Return the signed note that a checkpoint and its `note_signature` make."""
    return f"{checkpoint.body}\n— {checkpoint.origin} {signature}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return the signed note of a checkpoint; the same text each time."""
    assert _ORIGIN.fullmatch(checkpoint.origin) and len(checkpoint.root) == 32
    return note_of(checkpoint, note_signature(checkpoint, key))


def open_checkpoint(text: str, *keys: VerifyKey, origin: str) -> Checkpoint:
    """Read a checkpoint that one of these keys signed for this log.

    Args:
        text: What came in; nothing of it is trusted.
        keys: Who may have signed it: the key of whose log it is, and those before it.
        origin: Whose log it must be.

    Raises:
        TrustError: It is not in the one form (``canonical``), of another log (``identity``), or
            none of these keys signed it (``signature``).
    """
    checkpoint, name, signature = read_note(text)
    if (checkpoint.origin, name) != (origin, origin):
        raise TrustError("identity", f"A checkpoint of another log than {origin} was refused.")
    key = next((key for key in keys if note_key_id(name, key) == signature[:4]), None)
    if key is None:
        raise TrustError("signature", f"A checkpoint of {origin} by an unknown key was refused.")
    try:
        key.verify(signature[4:], checkpoint.body.encode())
    except UpdateError as error:
        raise TrustError(
            "signature", f"A checkpoint of {origin} was refused: it was changed, or not signed."
        ) from error
    return checkpoint


def read_note(text: str) -> tuple[Checkpoint, str, bytes]:
    """Return a checkpoint WITHOUT verifying it, who is said to have signed it, id and signature.

    Raises:
        TrustError: It is not in the one form (``canonical``).
    """
    match = _NOTE.fullmatch(text)
    root = base64.b64decode(match["root"]) if match else b""
    signature = base64.b64decode(match["signature"]) if match else b""
    if not match or base64.b64encode(root).decode() != match["root"]:
        raise TrustError("canonical", "A checkpoint that is not in the one form was refused.")
    if base64.b64encode(signature).decode() != match["signature"]:
        raise TrustError("canonical", "A checkpoint that is not in the one form was refused.")
    checkpoint = Checkpoint(origin=match["origin"], size=int(match["size"]), root=root)
    return checkpoint, match["name"], signature
