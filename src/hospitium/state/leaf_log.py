"""An append-only log in one file: each line an entry and the signature over all entries so far.

An entry is a statement: whole numbers and printable texts, no floats (`hospitium.wire.statement`).
Its line is synced before `LeafLog.append` returns, names the line before it, and is signed with all
of them, as a checkpoint of their Merkle tree: so a line that was changed, taken away, moved or put
in later is told apart from one that was written here.

Several processes may append to one log: each holds a lock meanwhile, and first reads what the
others wrote.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hospitium.errors import CorruptedError, StateConflictError, TrustError
from hospitium.state import durable
from hospitium.state.database import exclusive
from hospitium.types import Json
from hospitium.wire import statement
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.checkpoints import Checkpoint, note_of, note_signature, open_checkpoint
from hospitium.wire.merkle import MerkleTree, leaf_hash
from hospitium.wire.signing import SigningKey

FILE = "leaves.jsonl"
LOCK_S = 30.0
"""How long an append waits for that of another process, which takes some milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Whose log it is: the origin of its checkpoints, and where the key is, at each append."""

    origin: str
    key: Callable[[], SigningKey]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a log: the entry, its exact bytes, and what signs the tree up to it."""

    leaf: Mapping[str, Any]
    data: bytes
    signature: str


class LeafLog:
    """The log in one folder; threads may share it.

    A last line that was cut off by a crash is no entry: it is passed over, and cut away by the next
    append.

    Args:
        folder: Where ``leaves.jsonl`` is; made at the first append.
        signer: Who signs each line; None leaves them unsigned, as in a simulation.
        same: What makes two entries one, such as a digest: an entry that has the same as one that
            is there is not appended again. None, or a function that returns None: each is new.

    Raises:
        CorruptedError: A line is not what was written, or the last signature does not hold. Nothing
            is appended to such a log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        signer: Signer | None = None,
        same: Callable[[Mapping[str, Any]], Hashable | None] | None = None,
    ) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._signer = signer
        self._same = same or (lambda leaf: None)
        self._tree = MerkleTree()
        self._ends: list[int] = []
        self._known: dict[Hashable, int] = {}
        self._before = ""
        self._lock = threading.RLock()
        self._catch_up()
        self._require_signature()

    @property
    def size(self) -> int:
        """How many entries this process has read or written."""
        return self._tree.size

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first ``size`` entries; see `MerkleTree.root`."""
        with self._lock:
            return self._tree.root(size)

    def append(self, fields: Mapping[str, Json]) -> int:
        """Add an entry, durably, and return its number, counted from 0.

        Args:
            fields: What it says, with a ``kind``. Its number ``n`` and the SHA-256 of the line
                ``before`` it are added.

        Returns:
            The number of the entry that was there already, where it is the same; see ``same``.

        Raises:
            TrustError: A field is none that a statement may hold. Nothing was written.
            StorageError: The disk refused. Nothing was added.
            CorruptedError: The file is not what was written. Nothing was added.
            StateConflictError: Another process held the lock for too long. Nothing was added.
        """
        with self._lock, self._locked():
            self._catch_up()
            key = self._same(fields)
            if key is not None and key in self._known:
                return self._known[key]
            n = self.size
            rest = {name: value for name, value in fields.items() if name != "kind"}
            data = statement.write(str(fields["kind"]), {**rest, "n": n, "before": self._before})
            self._write(self._line(data))
            self._catch_up()
            return n

    def lines(self) -> Iterator[Line]:
        """Yield every entry, in order, as it is in the file now."""
        return lines_of(self._folder)

    def line(self, n: int) -> Line:
        """Return one entry.

        Raises:
            TrustError: There is none of this number (``gap``).
        """
        with self._lock:
            if not 0 <= n < self.size:
                raise TrustError("gap", f"There is no entry {n}: the log has {self.size}.")
            begin = self._ends[n - 1] if n else 0
            with durable.storage_errors(self._path), self._path.open("rb") as file:
                file.seek(begin)
                return read_line(file.read(self._ends[n] - begin - 1), n=n)

    def checkpoint(self, n: int | None = None) -> str:
        """Return the signed note over all entries up to ``n``; None: up to the last.

        It is the same text each time, also after a crash.

        Raises:
            TrustError: There is no such entry (``gap``), or it is not signed (``signature``).
        """
        last = self.size - 1 if n is None else n
        signature = self.line(last).signature
        if not signature or self._signer is None:
            raise TrustError("signature", f"Entry {last} of this log was not signed.")
        return note_of(self._checkpoint(last + 1), signature)

    # --- inside ---------------------------------------------------------------------------------

    def _checkpoint(self, size: int) -> Checkpoint:
        assert self._signer is not None
        return Checkpoint(origin=self._signer.origin, size=size, root=self.root(size))

    def _line(self, data: bytes) -> bytes:
        """Return the line of a new entry, with its signature."""
        value: dict[str, Json] = {"leaf": json.loads(data)}
        if self._signer is not None:
            size = self.size + 1
            root = self._tree.root_with(leaf_hash(data))
            checkpoint = Checkpoint(origin=self._signer.origin, size=size, root=root)
            value["signature"] = note_signature(checkpoint, self._signer.key())
        return canonical_json(value) + b"\n"

    def _write(self, line: bytes) -> None:
        """Add a line to the file, synced; what a crash left behind the last one is cut away."""
        end = self._ends[-1] if self._ends else 0
        is_new = not self._path.exists()
        with durable.storage_errors(self._path), _opened(self._path) as file:
            file.truncate(end)
            file.seek(end)
            try:
                durable.write_point("before append")
                file.write(line)
                file.flush()
                durable.write_point("leaf appended")
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
            if is_new:
                durable.sync_folder(self._folder)
        durable.write_point("leaf synced")

    def _catch_up(self) -> None:
        """Read what was added to the file since it was last read."""
        end = self._ends[-1] if self._ends else 0
        with self._lock, suppress(FileNotFoundError), self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < end:
                raise CorruptedError(_damage(self.size - 1, "it was taken away"))
            file.seek(end)
            for raw in _whole_lines(file):
                line = read_line(raw, n=self.size)
                if line.leaf.get("before") != self._before:
                    raise CorruptedError(_damage(max(0, self.size - 1), "the next names another"))
                self._before = digest(raw)
                end += len(raw) + 1
                key = self._same(line.leaf)
                if key is not None:
                    self._known.setdefault(key, self.size)
                self._tree.append(leaf_hash(line.data))
                self._ends.append(end)

    def _require_signature(self) -> None:
        """Refuse a log whose last line is signed by the key in use, over other entries than these.

        What an earlier key signed is looked at by `hospitium audit verify`, which knows it.
        """
        if self._signer is None or not self.size or not self.line(self.size - 1).signature:
            return
        key = self._signer.key().public
        try:
            open_checkpoint(self.checkpoint(), key, origin=self._signer.origin)
        except TrustError as error:
            if "unknown key" not in str(error):
                found = "its signature does not hold over the entries before it"
                raise CorruptedError(_damage(self.size - 1, found)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the log's lock over all processes; the system gives it back even after a kill."""
        durable.make_folder(self._folder, mode=0o700)
        busy = StateConflictError(
            f"The site's log was held by another process for {LOCK_S:.0f} s. Nothing was "
            "recorded, so nothing left. Look for a process of this site that hangs."
        )
        with exclusive(self._folder / "lock.sqlite", wait_s=LOCK_S, busy=busy):
            yield


def lines_of(folder: Path) -> Iterator[Line]:
    """Yield every entry of the log in a folder, in order; none where there is no log.

    Raises:
        CorruptedError: A line is not in the form in which entries are.
    """
    with suppress(FileNotFoundError), (folder / FILE).open("rb") as file:
        for n, line in enumerate(_whole_lines(file)):
            yield read_line(line, n=n)


def read_line(raw: bytes, *, n: int) -> Line:
    """Read one line of a log strictly: it has one form for one content.

    Raises:
        CorruptedError: It is not what `LeafLog.append` writes as entry ``n``.
    """
    try:
        value = json.loads(raw)
        if canonical_json(value) != raw or not set(value) <= {"leaf", "signature"}:
            raise ValueError("another form")
        leaf, signature = value["leaf"], value.get("signature", "")
        if type(signature) is not str or type(leaf["n"]) is not int or leaf["n"] != n:
            raise ValueError("another number")
        data = statement.write(leaf["kind"], leaf)
    except (ValueError, KeyError, TypeError, RecursionError, TrustError) as error:
        raise CorruptedError(_damage(n, "it is not in the form in which entries are")) from error
    return Line(leaf=leaf, data=data, signature=signature)


def _opened(path: Path) -> BinaryIO:
    """Open a log's file for reading and writing, readable by this user alone; made if need be."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines from here on without their ends; a last one that was cut off is none."""
    for line in file:
        if line.endswith(b"\n"):
            yield line[:-1]


def _damage(n: int, found: str) -> str:
    return (
        f"Entry {n} of the site's log is not what was written: {found}. Nothing is recorded any "
        "more, so nothing leaves. Keep the file as evidence, run `hospitium audit verify`, and "
        "restore the log's folder from a backup."
    )
