"""What ``hospitium doctor`` finds of a site's images: folders, PACS, and the reader itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hospitium.errors import HospitiumError
from hospitium.imaging.fingerprint.reader import reader_differences, reader_fingerprint
from hospitium.operations.cohorts import probe_pacs, read_pacs_settings
from hospitium.operations.doctor_checks import ENGINEER, PACS_TEAM, Check, failed, passed, skipped
from hospitium.operations.site_data import DataSet, data_sets
from hospitium.state.home import Home

MAX_LOOKED_AT = 50
"""Files of a data set that are opened: who may read these may mostly read the others."""


def check_sources(home: Home, pacs: Sequence[Path]) -> Iterator[Check]:
    """Yield whether this account may read each data set, and what each PACS answers."""
    try:
        known = data_sets(home)
    except HospitiumError as error:
        yield failed("data", str(error), remedy="As it says.", who=ENGINEER)
        return
    if not known and not pacs:
        yield skipped("data", "no data set was added, no --pacs was given")
    for data_set in known:
        yield _data_set(data_set)
    for path in pacs:
        yield _pacs(path)


def _data_set(data_set: DataSet) -> Check:
    """Look whether this very account may read: a permission is never called missing data."""
    name = f"data {data_set.name}"
    if not data_set.path.exists():
        return failed(
            name,
            f"nothing is at {data_set.path}, or this account may not look there",
            remedy="Is the drive mounted for the account of the service?",
            who=ENGINEER,
        )
    paths = [data_set.path] if data_set.path.is_file() else _some_files(data_set.path)
    closed = [path for path in paths if not os.access(path, os.R_OK)]
    if closed:
        return failed(
            name,
            f"this account may not read {len(closed)} of the {len(paths)} files looked at, first "
            f"{closed[0]}",
            remedy="Give the account of the service the right to read them. It is a matter of "
            "permission: the files are there.",
            who=ENGINEER,
        )
    if not paths:
        return failed(name, f"there is no file in {data_set.path}", remedy="Is this the folder?",
                      who=ENGINEER)  # fmt: skip
    return passed(name, f"{data_set.path} can be read by this account ({len(paths)} files tried)")


def _some_files(folder: Path) -> list[Path]:
    """Return some files of a folder; a folder that cannot be opened counts as one."""
    found: list[Path] = []

    def closed(error: OSError) -> None:
        found.append(Path(error.filename))

    for place, names, files in os.walk(folder, onerror=closed):
        names.sort()
        found += [Path(place, name) for name in sorted(files)]
        if len(found) >= MAX_LOOKED_AT:
            break
    return found[:MAX_LOOKED_AT]


def _pacs(path: Path) -> Check:
    name = f"pacs {path.stem}"
    try:
        found = probe_pacs(read_pacs_settings(path))
    except HospitiumError as error:
        return failed(name, str(error), remedy="As it says.", who=PACS_TEAM)
    answers = ", ".join(f"{question}: {answer}" for question, answer in found.answers.items())
    return passed(name, f"{found.address} answers ({answers})")


def check_reader() -> Check:
    """Read the images that are shipped, and compare what comes out with what must."""
    found = reader_fingerprint()
    differences = reader_differences(found)
    if differences:
        return failed(
            "reader",
            f"{len(differences)} images are not read as they must be, first {differences[0]}",
            remedy="Install the codecs in the versions of constraints.txt "
            "(docs/how-to/fingerprint.md).",
            who=ENGINEER,
        )
    return passed("reader", f"reads all {len(found.series)} images as it must")
