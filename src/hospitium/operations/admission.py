"""Who may join a run: sites whose reader turns the same bytes into the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from hospitium.errors import ReaderError
from hospitium.imaging.fingerprint.reader import (
    Difference,
    ReaderFingerprint,
    expected_reader,
    reader_differences,
    reader_fingerprint,
)
from hospitium.types import Json

_MOST_NAMED = 3


@cache
def this_reader() -> ReaderFingerprint:
    """Return the fingerprint of this installation's reader, made once in a process."""
    return reader_fingerprint()


def admit(
    readers: Mapping[str, ReaderFingerprint], *, expected: ReaderFingerprint | None = None
) -> dict[str, Json]:
    """Admit the sites whose reader is the expected one; if any is not, no site starts.

    Args:
        readers: What each site made of the shipped series.
        expected: Of the coordinator; None: what is shipped with this version.

    Returns:
        What the ledger keeps: the digest of each site's reader, and its versions.

    Raises:
        ReaderError: It names each refused site, the file and the trap, and other versions.
    """
    wanted = expected or expected_reader()
    refused = {site: reader_differences(found, wanted) for site, found in readers.items()}
    lines = [
        _line(site, differences, readers[site], wanted)
        for site, differences in sorted(refused.items())
        if differences
    ]
    if lines:
        listed = "\n".join(f"  - {line}" for line in lines)
        raise ReaderError(
            f"Readers: {len(lines)} of {len(readers)} sites read the shipped test series into "
            f"other numbers than this version must give, and may not join:\n{listed}\n"
            "Nothing was started. The engineer of each site named: install the versions that are "
            "expected, then start again."
        )
    return {
        site: {"digest": found.digest, "versions": dict(found.versions)}
        for site, found in sorted(readers.items())
    }


def admit_local(site_ids: Iterable[str]) -> dict[str, Json]:
    """Admit sites that are simulated on this machine: they all read with its one reader."""
    return admit(dict.fromkeys(site_ids, this_reader()))


def _line(
    site: str,
    differences: Sequence[Difference],
    found: ReaderFingerprint,
    wanted: ReaderFingerprint,
) -> str:
    """Say what is wrong with one site's reader, and which versions it should have."""
    named = "; ".join(str(difference) for difference in differences[:_MOST_NAMED])
    more = len(differences) - _MOST_NAMED
    other = ", ".join(
        f"{name} {found.versions.get(name, 'unknown')} (expected {version})"
        for name, version in sorted(wanted.versions.items())
        if found.versions.get(name) != version
    )
    return (
        f"{site}: {named}"
        + (f"; and {more} more" if more > 0 else "")
        + (f". Other versions: {other}" if other else ". All versions are the expected ones")
    )
