"""What people at a site said about plans, as signed files: kept, counted, and brought once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hospitium.errors import TrustError
from hospitium.state import durable
from hospitium.wire.approvals import Approval, Said, open_own
from hospitium.wire.signing import VerifyKey


class Statements:
    """The statements of one site in one federation, numbered in the order in which they were made.

    Args:
        folder: The federation's folder at this site.
    """

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        self._told = folder / "told"

    def keep(self, envelope: bytes) -> None:
        """Keep a statement, durably, under the next number."""
        durable.make_folder(self._said)
        number = len(self._paths()) + 1
        while not durable.write_once(self._said / f"{number:06d}.dsse", envelope):
            number += 1

    def signed_by(self, key: VerifyKey, *, federation: str, site_id: str) -> list[Said]:
        """Return what this key signed, in order; what was changed or signed by another is not."""
        found: list[Said] = []
        for path in self._paths():
            with suppress(TrustError):
                found.append(
                    open_own(path.read_bytes(), key, federation=federation, site_id=site_id)
                )
        return found

    def untold(self) -> list[tuple[int, bytes]]:
        """Return the numbered statements that the coordinator has not been told, in order."""
        told = int(self._told.read_text()) if self._told.is_file() else 0
        numbered = [(int(path.stem), path) for path in self._paths()]
        return [(number, path.read_bytes()) for number, path in numbered if number > told]

    def mark_told(self, number: int) -> None:
        """Remember that the coordinator has every statement up to this number."""
        data = str(number).encode()
        durable.write_atomically(self._told, lambda file: str(file.write(data)))

    def _paths(self) -> list[Path]:
        return sorted(self._said.glob("*.dsse"))


def counted(said: Iterable[Said]) -> list[Approval]:
    """Return the last approval of each person that agrees with the last one of all.

    A refusal undoes what was approved before it.
    """
    found: dict[str, Approval] = {}
    for one in said:
        if isinstance(one, Approval):
            found = {name: old for name, old in found.items() if _subject(old) == _subject(one)}
            found[one.approver.casefold()] = one
        else:
            found = {}
    return list(found.values())


def _subject(approval: Approval) -> tuple[str, str, str, int]:
    """Return what an approval is of: list, policy, cohort and weight."""
    return (
        approval.members_digest,
        approval.policy_digest,
        approval.cohort_digest,
        approval.num_cases,
    )
