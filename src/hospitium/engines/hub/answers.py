"""A site's answers on disk: kept before they leave, and until the coordinator has signed for them.

One small file for each answered task, named by the SHA-256 of the task, and the file of the change
in the outbox. They are deleted when a receipt is here and the run has gone on to a later round;
without a receipt they stay.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hospitium.errors import CorruptedError
from hospitium.state import durable
from hospitium.types import Json, Task
from hospitium.wire.canonical import canonical_json, digest


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer as it leaves: an update's envelope with its file, or words about an error."""

    kind: Literal["update", "error"]
    content: bytes
    file: Path | None


class Answers:
    """The answers of one site.

    Args:
        folder: The site's own folder.
    """

    def __init__(self, folder: Path) -> None:
        self.outbox = durable.make_folder(folder / "outbox")
        self._folder = durable.make_folder(folder / "answers")

    def find(self, task: bytes) -> Kept | None:
        """Return the answer that was given to a task, if it is kept still and whole."""
        path = self._path(task)
        if not path.is_file():
            return None
        fields = _read(path)
        file = self.outbox / fields["file"] if fields["file"] else None
        if file is not None and not file.is_file():
            return None
        return Kept(kind="update", content=base64.b64decode(fields["envelope"]), file=file)

    def keep(self, task_bytes: bytes, *, task: Task, envelope: bytes, file: Path | None) -> Kept:
        """Write an answer, durably, before it leaves."""
        fields: Json = {
            "run_id": task.run_id,
            "round_number": task.round_number,
            "envelope": base64.b64encode(envelope).decode(),
            "file": "" if file is None else file.name,
        }
        data = canonical_json(fields)
        durable.write_atomically(self._path(task_bytes), lambda out: str(out.write(data)))
        return Kept(kind="update", content=envelope, file=file)

    def receipted(self, task: bytes, receipt: bytes) -> None:
        """Keep the receipt for the answer to a task; an error's is not needed."""
        if self._path(task).is_file():
            path = self._path(task).with_suffix(".receipt")
            durable.write_atomically(path, lambda out: str(out.write(receipt)))

    def delete_before(self, run_id: str, round_number: int) -> None:
        """Delete a run's answers of earlier rounds, where a receipt is here."""
        for receipt in sorted(self._folder.glob("*.receipt")):
            path = receipt.with_suffix(".json")
            fields = _read(path) if path.is_file() else None
            if fields is None:
                durable.delete(receipt)
            elif fields["run_id"] == run_id and fields["round_number"] < round_number:
                if fields["file"]:
                    durable.delete(self.outbox / fields["file"])
                durable.delete(path)
                durable.delete(receipt)

    def _path(self, task: bytes) -> Path:
        return self._folder / f"{digest(task)}.json"


def _read(path: Path) -> dict[str, Any]:
    """Return what was kept of an answer."""
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        return {name: fields[name] for name in ("run_id", "round_number", "envelope", "file")}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptedError(
            f"{path.name}: an answer that was kept cannot be read. It was left as it is. "
            "The site: restore it from a backup, or delete it, then the task is worked on again."
        ) from error
