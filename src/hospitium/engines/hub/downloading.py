"""A file on its way in: hashed as it comes, and gone on with where an earlier try ended.

Where it is written over a spare file, its length says nothing of how much has come: that is noted
beside it, in ``.came``, every few megabytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from hospitium.errors import CorruptedError

NOTE_BYTES = 1 << 23
"""How much may come before it is noted: at most this is fetched once more after ``kill -9``."""


class Download:
    """One download; `resume` it, `add` what comes, `finish` it.

    Args:
        path: Where it is until it is whole.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        self._note = path.with_suffix(".came")
        self._sha256 = hashlib.sha256()

    def resume(self, take: Callable[[Path], bool]) -> None:
        """Take what an earlier try had fetched; begin on a spare file where nothing is here.

        Args:
            take: Puts a spare file where it is told, if there is one.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._note.exists():
            self._cut_off(int.from_bytes(self._note.read_bytes()[:8], "little"))
        if not self._path.exists() or not self._path.stat().st_size:
            self._note.write_bytes(bytes(8))
            if take(self._path):
                return
            self._note.unlink()
        self._path.touch()
        with self._path.open("rb") as file:
            self._sha256 = hashlib.file_digest(file, "sha256")
            self.size = file.tell()

    def add(self, blocks: Iterable[bytes], *, most: int) -> None:
        """Append what arrives; what is beyond the size that was agreed is not written.

        Raises:
            CorruptedError: More came. What was there is deleted.
        """
        noted = self.size
        with self._path.open("r+b", buffering=0) as file:
            file.seek(self.size)
            try:
                for block in blocks:
                    if self.size + len(block) > most:
                        break
                    file.write(block)
                    self._sha256.update(block)
                    self.size += len(block)
                    if self.size >= noted + NOTE_BYTES:
                        noted = self._noted()
                else:
                    return
            finally:
                self._noted()
        self._delete()
        raise CorruptedError(
            f"{self._path.stem[:12]}…: more than the {most} bytes of the task came from the hub. "
            "They were deleted. The site asks again; if it lasts, tell the coordinator."
        )

    def finish(self, sha256: str, target: Path) -> None:
        """Give the file its name, once it is whole.

        Raises:
            CorruptedError: It came with another digest. It was deleted.
        """
        if self._sha256.hexdigest() != sha256:
            self._delete()
            raise CorruptedError(
                f"{sha256[:12]}…: the hub sent other bytes than those of the task. They were "
                "deleted. The site asks again; if it lasts, tell the coordinator."
            )
        self._cut_off(self.size)
        self._path.replace(target)

    @staticmethod
    def sweep(folder: Path, *, but: str) -> None:
        """Delete what is left of downloads in a folder, but of that of one name."""
        for suffix in (".part", ".came"):  # a part without its note would be believed whole
            for left in folder.glob(f"*{suffix}"):
                if left.stem != but:
                    left.unlink(missing_ok=True)

    def _noted(self) -> int:
        """Note how much has come, where the file's length does not say it."""
        with suppress(FileNotFoundError), self._note.open("r+b") as note:
            note.write(self.size.to_bytes(8, "little"))
        return self.size

    def _cut_off(self, size: int) -> None:
        """Cut off the old bytes behind what has come; from here on the length says it again."""
        if self._path.exists():
            with self._path.open("r+b") as file:
                file.truncate(min(size, self._path.stat().st_size))
        self._note.unlink(missing_ok=True)

    def _delete(self) -> None:
        self._path.unlink()
        self._note.unlink(missing_ok=True)
