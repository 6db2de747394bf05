"""Where the hub keeps what is on its way: one port for every backend.

``tests/engines/hub/test_backend.py`` is its contract. A backend knows nothing of HTTP and nothing
of signatures: who may do what was decided before it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hospitium.engines.hub.local import LocalBackend
from hospitium.errors import EngineError
from hospitium.state.hub_store import OpenTask, StoredAnswer
from hospitium.state.spares import Spares
from hospitium.state.unfinished import Shape

if TYPE_CHECKING:
    from hospitium.engines.hub.nats_settings import NatsSettings


class Backend(Protocol):
    """Open tasks, blobs, uploads and answers; safe to call from several threads."""

    spares: Spares
    """Files on this machine that nobody needs any more, for large ones that are written next."""

    # --- the coordinator's side -----------------------------------------------------------------

    def enqueue(self, tasks: Sequence[OpenTask], *, blob: Path) -> None:
        """Put tasks for sites, durably, and wake the sites that wait; the same again is put anew.

        What belongs to earlier tasks of the same run is deleted.

        Args:
            tasks: All of one run and one nonce.
            blob: The file of the params that they name; neither changed nor copied.
        """

    def withdraw(self, nonce: str, *, site_ids: Collection[str]) -> None:
        """Close a task for these sites, with their rights to its blob and to upload for it."""

    def forget(self, run_id: str) -> None:
        """Delete tasks, answers, files and blobs of a run that is over."""

    def answers(self, nonce: str, *, after: int, wait_s: float) -> list[StoredAnswer]:
        """Return the answers to a task that came after a number; wait for one if there is none."""

    def received(self, answer: StoredAnswer) -> Path:
        """Return the local file that came with an answer; the caller may move it away."""

    def drop_answer(self, answer: StoredAnswer) -> None:
        """Forget an answer whose file is gone, so that the site is asked for it again."""

    # --- a site's side: everything is by the site that signed the request -----------------------

    def tasks(self, site_id: str, *, after: int) -> list[OpenTask]:
        """Return this site's open and unanswered tasks after a number, in order."""

    def listen(self, site_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` (from any thread) whenever tasks were put for a site; return the end."""

    def open_task(self, site_id: str, nonce: str) -> OpenTask | None:
        """Return one open task of this site."""

    def blob_size(self, site_id: str, digest: str) -> int | None:
        """Return the size of a blob that an open task of this site names; else None."""

    def read(self, digest: str, *, start: int, size: int) -> bytes:
        """Return some bytes of a blob; fewer at its end."""

    def upload_bytes(self, site_id: str) -> int:
        """Return the largest file that an open task of this site asks for; 0 if none does."""

    def chunks(self, site_id: str, upload_id: str) -> tuple[Shape, list[int]] | None:
        """Return the shape of this site's upload and which chunks are here."""

    def put_chunk(
        self,
        site_id: str,
        upload_id: str,
        shape: Shape,
        index: int,
        pieces: Sequence[bytes],
        *,
        sha256: bytes,
        is_through: bool = False,
    ) -> None:
        """Write a chunk of this SHA-256; the same bytes again change nothing.

        With ``is_through`` it is said to be that of the file through this chunk, and is looked at.

        Raises:
            StateConflictError: Other bytes are here; they stay, and it is noted.
            UpdateError: It does not fit the shape.
            NotNextError: The bytes before it are not here in order, or this backend does not know.
            OtherDigestError: The file through it has another SHA-256.
        """

    def finish_upload(self, site_id: str, upload_id: str) -> str | None:
        """Make an upload durable and return the SHA-256 found; None if chunks are missing."""

    def answer(self, answer: StoredAnswer) -> StoredAnswer:
        """Compare and set: take an answer if its place is free; wake the coordinator.

        Raises:
            StateConflictError: Another answer is there; it stays, both are kept.
        """

    def stored_answer(self, site_id: str, sha256: str) -> StoredAnswer | None:
        """Return an answer of this site that was taken, by the SHA-256 of its statement."""

    def conflicts(self, site_id: str) -> list[tuple[str, str]]:
        """Return place and SHA-256 of what this site sent for places that were taken.

        The place of a statement is the nonce of its task.
        """

    def conflicting(self, site_id: str, place: str, sha256: str) -> bytes:
        """Return the bytes of such a statement; empty for a chunk, whose bytes are not kept."""

    def close(self) -> None:
        """Let go of files; what is stored stays. Safe to call twice."""


def open_backend(
    kind: Literal["local", "nats"], folder: Path, *, nats: NatsSettings | None = None
) -> Backend:
    """Open the backend of this kind; ``folder`` is the hub's own, on this machine.

    Raises:
        EngineError: The cluster cannot serve this hub, or its client is not installed.
        HubError: The cluster was away for too long.
    """
    if kind == "local":
        return LocalBackend(folder)
    assert nats is not None, "the nats backend needs its settings"
    try:
        from hospitium.engines.hub.nats import NatsBackend
    except ModuleNotFoundError as error:
        raise EngineError(
            "The client of NATS is not installed; the hub was not started. Whoever runs the hub: "
            "`pip install hospitium[nats]`, or start it with the local backend."
        ) from error
    return NatsBackend(nats, folder)
