"""Params on disk under the SHA-256 of their bytes: never changed, only added or deleted."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from hospitium.errors import CorruptedError
from hospitium.state import durable
from hospitium.types import Params
from hospitium.wire import blob


class Store:
    """A folder of params files, each named by its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = durable.make_folder(folder)
        self.incoming = durable.make_folder(folder / "incoming")

    def path(self, digest: str) -> Path:
        """Return where the params of this digest are, or would be."""
        assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
        return self.folder / f"{digest}.safetensors"

    def put(self, params: Params, *, digest: str | None = None) -> str:
        """Write params, durably, unless they are here already; return their digest.

        A caller that has just computed their digest may hand it in, to spare a second time.
        """
        digest = digest or blob.digest_of(params)
        path = self.path(digest)
        if not path.exists():
            durable.write_atomically(path, lambda file: _write(file, params))
        return digest

    def adopt(self, path: Path, digest: str) -> Path:
        """Take over a file that was written on this disk, and whose digest is known.

        Where it was not synced, a power cut may tear it: see `drop_torn`.
        """
        with durable.storage_errors(path):
            durable.write_point("before adopt")
            durable.move(path, self.path(digest))
        return self.path(digest)

    def drop_torn(self, digest: str) -> bool:
        """Delete the file of this digest if its bytes are not whole; True where there is none."""
        path = self.path(digest)
        if path.is_file() and blob.file_digest(path) == digest:
            return False
        durable.delete(path)
        return True

    def get(self, digest: str) -> Params:
        """Return the params of this digest, mapped read-only, after checking every byte.

        Raises:
            CorruptedError: The file is not there, or its bytes are not those of the digest.
        """
        path = self.path(digest)
        if not path.exists():
            raise CorruptedError(
                f"{path}: the params of this run are gone. The ledger names them still; nothing "
                "was changed. Restore the file from a backup of the home folder, then resume."
            )
        found = blob.file_digest(path)
        if found != digest:
            raise CorruptedError(
                f"{path}: SHA-256 {found[:12]}… found, {digest[:12]}… expected: the file was "
                "damaged. It was left as it is, and nothing was changed. Restore it from a backup "
                "of the home folder, then resume."
            )
        return blob.read(path)

    def digests(self) -> set[str]:
        """Return what is here."""
        return {path.stem for path in self.folder.glob("*.safetensors")}

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete all other params, and what interrupted writes left behind."""
        for digest in sorted(self.digests() - set(digests)):
            durable.delete(self.path(digest))
        for left in sorted([*self.folder.glob(".*.part"), *self.incoming.rglob("*")]):
            if left.is_file():
                durable.delete(left)


def _write(file: BinaryIO, params: Params) -> str:
    """Write params whose digest is known: they are not hashed again."""
    file.writelines(blob.blocks_of(params))
    return ""
