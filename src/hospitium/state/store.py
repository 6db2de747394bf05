"""Params on disk under the SHA-256 of their bytes: never changed, only added or deleted.

Params that a site sealed are kept as they came, ``DIGEST.BINDING.sealed`` (the digest of what is in
them, and what they are bound to), and opened each time they are read: what is in them is on no disk
of the coordinator.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hospitium.errors import CorruptedError, UpdateError
from hospitium.state import durable
from hospitium.state.spares import Spares
from hospitium.types import Params
from hospitium.wire import blob
from hospitium.wire.sealing import RunKey, open_sealed

SEALED = ".sealed"

LARGE_BYTES = 1 << 22
"""From this size on params are written and hashed at once: both take as long."""


class Store:
    """A folder of params files, each named by its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = durable.make_folder(folder)
        self.incoming = durable.make_folder(folder / "incoming")
        self._run_key: RunKey | None = None
        self._spares = Spares(folder / "spares", most=0)

    def write_over(self, spares: Spares) -> None:
        """Write large params over spare files from now on, and let go of old params there.

        What a site sent is never let go of there: see `Uploads.discard`.
        """
        self._spares = spares

    def open_with(self, run_key: RunKey | None) -> None:
        """Open what is sealed with this key from now on; without one it cannot be read."""
        self._run_key = run_key

    def path(self, digest: str) -> Path:
        """Return where the params of this digest are, or would be."""
        assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
        return self.folder / f"{digest}.safetensors"

    def put(self, params: Params, *, digest: str | None = None) -> str:
        """Write params, durably, unless they are here already; return their digest.

        A caller that has just computed their digest may hand it in, to spare a second time.
        """
        if digest is None and blob.size_of(blob.manifest_of(params)) >= LARGE_BYTES:
            return self._put_large(params)
        digest = digest or blob.digest_of(params)
        path = self.path(digest)
        if not path.exists():
            durable.write_atomically(path, lambda file: _write(file, params))
        return digest

    def adopt(self, path: Path, digest: str) -> Path:
        """Take over a file that was written on this disk, and whose digest is known.

        Where it was not synced, a power cut may tear it: see `drop_torn`.
        """
        is_sealed = path.suffix == SEALED
        target = self.folder / path.name if is_sealed else self.path(digest)
        with durable.storage_errors(path):
            durable.write_point("before adopt")
            durable.move(path, target)
        return target

    def drop_torn(self, digest: str) -> bool:
        """Delete the file of this digest if its bytes are not whole; True where there is none.

        A sealed one that cannot be opened any more, because its key is lost, is not whole.
        """
        with suppress(CorruptedError):
            self.get(digest)
            return False
        self._delete(digest)
        return True

    def get(self, digest: str) -> Params:
        """Return the params of this digest, read-only, after checking every byte.

        They are mapped; or in memory, where they are kept sealed.

        Raises:
            CorruptedError: The file is not there, or its bytes are not those of the digest.
        """
        path = self.path(digest)
        if path.exists():
            found = blob.file_digest(path)
            if found == digest:
                return blob.read(path)
            raise _damaged(path, found=found, expected=digest)
        for sealed in self._sealed(digest):
            return self._opened(sealed, digest)
        raise CorruptedError(
            f"{path}: the params of this run are gone. The ledger names them still; nothing "
            "was changed. Restore the file from a backup of the home folder, then resume."
        )

    def digests(self) -> set[str]:
        """Return what is here."""
        return {_digest_of(path) for path in self._files()}

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete all other params, and what interrupted writes left behind."""
        for digest in sorted(self.digests() - set(digests)):
            self._delete(digest)
        for left in sorted([*self.folder.glob(".*.part"), *self.incoming.rglob("*")]):
            if left.is_file():
                durable.delete(left)

    def _put_large(self, params: Params) -> str:
        """Write params while another thread hashes them, then give the file its name."""
        part = self.incoming / "new.params"
        with ThreadPoolExecutor(1, thread_name_prefix="hash") as other:
            hashing = other.submit(blob.digest_of, params)
            durable.write_atomically(
                part, lambda file: _write(file, params), take=self._spares.take
            )
        digest = hashing.result()
        if self.path(digest).exists():
            durable.delete(part)
        else:
            self.adopt(part, digest)
        return digest

    def _files(self) -> list[Path]:
        return [*self.folder.glob("*.safetensors"), *self.folder.glob(f"*{SEALED}")]

    def _sealed(self, digest: str) -> list[Path]:
        """Return the sealed files of a digest: each site's, where several sent the same params."""
        return sorted(self.folder.glob(f"{digest}.*{SEALED}"))

    def _delete(self, digest: str) -> None:
        has_only_own = self._run_key is not None  # what sites send is sealed then
        (self._spares.keep if has_only_own else durable.delete)(self.path(digest))
        for path in self._sealed(digest):
            durable.delete(path)

    def _opened(self, path: Path, digest: str) -> Params:
        """Open a sealed file and check what is in it."""
        if self._run_key is None:
            raise CorruptedError(
                f"{path}: these params are sealed, and the key of the run is not here. Nothing was "
                "changed. Resume the run where its key is."
            )
        try:
            with path.open("rb") as file:
                binding = path.name.split(".")[1]
                content, found = open_sealed(file, key=self._run_key, binding=binding)
        except UpdateError as error:
            raise _damaged(path, found=error.reason, expected=digest) from error
        if found != digest:
            raise _damaged(path, found=found, expected=digest)
        return blob.arrays(content, name=path.name)


def _digest_of(path: Path) -> str:
    return path.name.partition(".")[0]


def _damaged(path: Path, *, found: str, expected: str) -> CorruptedError:
    return CorruptedError(
        f"{path}: SHA-256 {found[:12]}… found, {expected[:12]}… expected: the file was "
        "damaged. It was left as it is, and nothing was changed. Restore it from a backup "
        "of the home folder, then resume."
    )


def _write(file: BinaryIO, params: Params) -> str:
    """Write params whose digest is known: they are not hashed again."""
    file.writelines(blob.blocks_of(params))
    return ""
