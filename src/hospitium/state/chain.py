"""The member lists of one federation on disk: a file for each epoch, verified before it is used.

The first file is verified against the officers of the invite (``root.json``), each other one
against the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hospitium.errors import TrustError
from hospitium.state import durable
from hospitium.wire.canonical import canonical_json
from hospitium.wire.members import Members, follow, open_first


class Chain:
    """A folder of signed member lists.

    Args:
        folder: Where they are; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before: tuple[bytes, list[bytes], Members] | None = None

    def plant(self, *, federation: str, officers: Sequence[str], threshold: int) -> None:
        """Write down by whom the first list must be signed.

        Once there is a list, it is what the next one is verified against, and this does nothing.
        """
        if self.envelopes():
            return
        durable.make_folder(self._folder)
        root = canonical_json(
            {"federation": federation, "officers": list(officers), "threshold": threshold}
        )
        durable.write_atomically(self._folder / "root.json", lambda file: str(file.write(root)))

    def envelopes(self, *, after: int = 0) -> list[bytes]:
        """Return the signed lists of later epochs than this one, in order.

        Where ``after`` is the newest, as at each request of a hub, that costs one look.
        """
        if after and not self._path(after + 1).exists():
            return []
        return [path.read_bytes() for path in self._paths() if int(path.stem) > after]

    def current(self) -> Members | None:
        """Return the newest list; None before the first.

        Raises:
            TrustError: A file is not what was written.
        """
        return self._verified(self.envelopes())

    def extend(self, envelopes: Sequence[bytes]) -> Members | None:
        """Verify further lists one by one and keep each that holds.

        Raises:
            TrustError: One cannot follow; see `hospitium.wire.members.follow`.
        """
        current = self.current()
        for envelope in envelopes:
            found = self._verified([envelope]) if current is None else follow(current, [envelope])
            assert found is not None
            if current is None or found != current:
                self._keep(found, envelope)
            current = found
        return current

    def _verified(self, envelopes: list[bytes]) -> Members | None:
        """Return the last of these lists; those that were verified before are compared, whole.

        A federation of 50 sites has a hundred lists, and verifying them takes a site 0.2 s.
        """
        if not envelopes:
            return None
        root = (self._folder / "root.json").read_bytes()
        before = self._before
        if before is not None and before[:2] == (root, envelopes[: len(before[1])]):
            found = follow(before[2], envelopes[len(before[1]) :])
        else:
            found = follow(open_first(envelopes[0], **json.loads(root)), envelopes[1:])
        self._before = root, list(envelopes), found
        return found

    def _keep(self, members: Members, envelope: bytes) -> None:
        path = self._path(members.members_epoch)
        if not durable.write_once(path, envelope) and path.read_bytes() != envelope:
            raise TrustError(
                "fork",
                f"Another process kept another member list of epoch {members.members_epoch}. "
                "This one was not kept. Look at both with the officers.",
            )

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch:08d}.dsse"

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.dsse"))
