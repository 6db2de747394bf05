"""Cohorts from a PACS: probe it, fetch a cohort into a folder, draw how it came about."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hospitium.errors import StateConflictError, UsageError
from hospitium.imaging.sources.cohort import make_cohort
from hospitium.imaging.sources.fetching import Key
from hospitium.imaging.sources.flow import FLOW_REASONS, Flow
from hospitium.imaging.sources.label_keys import (
    LabelTable,
    query_of,
    read_label_table,
    read_words,
)
from hospitium.imaging.sources.pace import Pace
from hospitium.imaging.sources.pacs import PacsSettings, read_pacs_settings
from hospitium.imaging.sources.queries import Capability, Pacs, Query, parse_query
from hospitium.imaging.sources.selecting import Rules
from hospitium.imaging.sources.shelf import Shelf
from hospitium.operations.progress import Say, silent
from hospitium.operations.site_data import add_data_set, data_sets, site_key
from hospitium.state.home import RUN_ID, Home, locked

__all__ = [
    "FLOW_REASONS",
    "Flow",
    "LabelFile",
    "PacsSettings",
    "Query",
    "Rules",
    "fetch_cohort",
    "fetch_data_set",
    "parse_query",
    "parse_rules",
    "probe_pacs",
    "read_label_table",
    "read_pacs_settings",
    "read_words",
]


def probe_pacs(settings: PacsSettings) -> Capability:
    """Ask a PACS what it can do; nothing is fetched.

    Raises:
        PacsError: It cannot be reached, or refuses us.
        UsageError: The password of the settings cannot be had.
    """
    with closing(_connect(settings)) as pacs:
        return pacs.probe()


def fetch_cohort(
    settings: PacsSettings,
    query: Query | None,
    rules: Rules,
    labels: LabelTable | None,
    *,
    folder: Path,
    key: Key,
    progress: Say = silent,
    pace: Pace | None = None,
) -> Flow:
    """Fetch a cohort from a PACS into a folder that training can read.

    Afterwards the folder holds the DICOM files under keyed names, ``labels.csv`` (image, label,
    subject), ``flow.json``, ``flow.html`` and ``problems.csv``. Call it again after an
    interruption: it goes on.

    Args:
        settings: Of the PACS.
        query: What to ask for; None: every key of the labels' table, one by one.
        rules: What to take of it.
        labels: Labels by accession number, study UID or patient; None: no labels yet.
        folder: Of this cohort alone; made if need be.
        key: The site's, for names in place of UIDs and patients.
        progress: Told what is done.
        pace: For tests; None: that of the settings and of the clock.

    Raises:
        PacsError: The PACS cannot be reached, refuses us, or broke off.
        StorageError: The quota or the disk.
        UsageError: Neither query nor labels say what to ask for.
    """
    num_not_asked = 0
    if query is None:
        if labels is None:
            raise UsageError(
                "A cohort needs a query or a table of labels, and neither was given. Nothing was "
                "asked. Say which studies are meant, as Modality=DX and StudyDate=20200101-."
            )
        query, num_not_asked = query_of(labels)
    shelf = Shelf(
        folder,
        quota_bytes=int(settings.quota_gib * 2**30),
        max_instance_bytes=settings.max_instance_mib << 20,
    )

    def told(text: str, done: int, of: int) -> None:
        progress({"kind": "count", "text": text, "done": done, "of": of})

    progress({"kind": "stage", "text": f"Asking {settings.name} ({settings.address})"})
    with closing(_connect(settings)) as pacs:
        return make_cohort(
            pacs,
            query=query,
            rules=rules,
            labels=labels,
            shelf=shelf,
            key=key,
            pace=pace or Pace(settings=settings),
            num_not_asked=num_not_asked,
            progress=told,
        )


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A hospital's table of labels, and what its columns mean; see `read_label_table`."""

    path: Path
    key: str = ""
    key_column: str = ""
    label_column: str = ""
    words: Path | None = None


def fetch_data_set(
    home: Home,
    name: str,
    *,
    pacs: Path,
    query: Sequence[str] = (),
    labels: LabelFile | None = None,
    rules: Path | None = None,
    say: Say = silent,
) -> tuple[Flow, Path]:
    """Fetch a cohort into the home folder and make it a data set of the site.

    Args:
        home: Of this site.
        name: Of the data set.
        pacs: File with the settings of the PACS.
        query: ``Keyword=value`` words; none: every key of the labels.
        labels: The hospital's table; None: no labels yet.
        rules: TOML file; see `parse_rules`. None: everything found is taken.
        say: Told what is done.

    Returns:
        How the cohort came about, and its folder.

    Raises:
        UsageError, DataError: The call or one of its files is wrong. Nothing was asked.
        PacsError, StorageError: See `fetch_cohort`.
        StateConflictError: The name stands for other files already.
        RunBusyError: Another process works on this data set.
    """
    if not RUN_ID.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a data set: expected 1 to 64 letters, digits, dots, dashes or "
            "underscores. Nothing was asked."
        )
    settings = read_pacs_settings(pacs)
    asked = parse_query(query) if query else None
    wanted = Rules() if rules is None else _read_rules(rules)
    table = None if labels is None else _read_labels(labels)
    folder = home.folder / "site" / "cohorts" / name
    key = site_key(home)
    _require_free(home, name, folder)
    with locked(home.folder / "site" / "data" / name):
        flow = fetch_cohort(settings, asked, wanted, table, folder=folder, key=key, progress=say)
        add_data_set(home, name, folder, labels=folder / "labels.csv")
    return flow, folder


def _require_free(home: Home, name: str, folder: Path) -> None:
    """Refuse a name that stands for other files, before anything is asked."""
    taken = [found for found in data_sets(home) if found.name == name]
    if taken and taken[0].path != folder.resolve():
        raise StateConflictError(
            f"{name}: there is a data set of this name already, with files of another place. "
            "Nothing was asked. Choose another name."
        )


def _read_rules(path: Path) -> Rules:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _rules_error(str(path), f"cannot be read ({error})") from error
    return parse_rules(text, folder=path.parent, where=str(path))


def _read_labels(labels: LabelFile) -> LabelTable:
    return read_label_table(
        labels.path,
        key=labels.key,
        key_column=labels.key_column,
        label_column=labels.label_column,
        words=None if labels.words is None else read_words(labels.words),
    )


def parse_rules(text: str, *, folder: Path, where: str = "rules") -> Rules:
    """Read the rules of inclusion from TOML.

    Keys: ``modalities``, ``body_parts``, ``descriptions`` (lists of words), ``dates`` (first and
    last), ``ages`` (youngest and oldest, -1 is open), ``words`` (the steward's table, a CSV file
    relative to ``folder``), ``with_masks``.

    Raises:
        UsageError: Not TOML, an unknown key, or a value that is none.
        DataError: The steward's table cannot be read.
    """
    try:
        table = tomllib.loads(text)
    except ValueError as error:
        raise _rules_error(where, f"not TOML ({error})") from error
    known = {field.name for field in fields(Rules)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise _rules_error(where, f"{', '.join(unknown)}: expected {', '.join(sorted(known))}")
    lists = {name: _words(table, name, where) for name in ("modalities", "body_parts")}
    descriptions = _words(table, "descriptions", where)
    words = read_words(folder / table["words"]) if isinstance(table.get("words"), str) else {}
    if descriptions and not words:
        raise _rules_error(where, 'descriptions need the steward\'s table: words = "words.csv"')
    with_masks = table.get("with_masks", False)
    if not isinstance(with_masks, bool):
        raise _rules_error(where, f"with_masks is {with_masks!r}, expected true or false")
    first, last = _pair(table, "dates", ("", ""), where)
    youngest, oldest = _pair(table, "ages", (-1, -1), where)
    return Rules(
        **lists,
        descriptions=descriptions,
        words=words,
        dates=(first, last),
        ages=(None if youngest < 0 else youngest, None if oldest < 0 else oldest),
        with_masks=with_masks,
    )


def _connect(settings: PacsSettings) -> Pacs:
    if settings.kind == "dicomweb":
        from hospitium.imaging.sources.dicomweb import DicomwebPacs

        return DicomwebPacs(settings)
    from hospitium.imaging.sources.dimse import DimsePacs

    return DimsePacs(settings)


def _words(table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise _rules_error(where, f"{name} is {value!r}, expected a list of words")
    return tuple(value)


def _pair(table: Mapping[str, Any], name: str, default: Sequence[Any], where: str) -> Sequence[Any]:
    value = table.get(name, list(default))
    kind = type(default[0])
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(type(part) is not kind for part in value)
    ):
        raise _rules_error(where, f"{name} is {value!r}, expected two of type {kind.__name__}")
    return value


def _rules_error(where: str, found: str) -> UsageError:
    return UsageError(f"{where}: {found}. Nothing was asked. Mend the rules.")
