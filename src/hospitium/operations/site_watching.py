"""A membership's eye on the coordinator's logs, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hospitium.engines.hub.transport import WORK
from hospitium.engines.hub.watched import WATCH, stopped_runs
from hospitium.engines.hub.watching import Watch
from hospitium.site.membership import Membership
from hospitium.wire.members import parse_list
from hospitium.wire.signing import VerifyKey


def watch_of(place: Membership, folder: Path, *, coordinator: VerifyKey) -> Watch:
    """Return what watches the coordinator's logs for a membership.

    Args:
        place: The membership.
        folder: Its folder of work.
        coordinator: The coordinator's key.
    """
    return Watch(
        folder / WATCH,
        federation=place.settings.federation,
        site_id=place.settings.site_id,
        coordinator=coordinator,
        keys=_Keys(place),
    )


class _Keys:
    """The signing keys of each site; where no list is new, they are those of the last time."""

    def __init__(self, place: Membership) -> None:
        self._place = place
        self._before: tuple[list[bytes], Mapping[str, Sequence[VerifyKey]]] = ([], {})

    def __call__(self) -> Mapping[str, Sequence[VerifyKey]]:
        lists = self._place.chain.envelopes()
        if lists != self._before[0]:
            self._before = lists, signing_keys(self._place)
        return self._before[1]


def signing_keys(place: Membership) -> Mapping[str, Sequence[VerifyKey]]:
    """Return the signing keys of each site, by every member list that this site has seen.

    Raises:
        TrustError: A list is not what was written.
    """
    place.members()  # verifies every list, one by one
    found: dict[str, list[VerifyKey]] = {}
    for envelope in place.chain.envelopes():
        for row in parse_list(envelope).sites:
            key = VerifyKey.from_hex(row.signing_key)
            if key not in (known := found.setdefault(row.site_id, [])):
                known.append(key)
    return found


def left_runs(place: Membership) -> list[dict[str, str]]:
    """Return the runs that this site is out of because of what it was shown, and why."""
    return stopped_runs(place.folder / WORK / WATCH)
