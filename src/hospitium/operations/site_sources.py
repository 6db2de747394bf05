"""Where the sites of a run on one machine have their data: paths, or named data sets."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hospitium.errors import DataError, UsageError
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.sources import Columns
from hospitium.operations.site_data import data_sets, named_data_set, site_key
from hospitium.state.home import RUN_ID, Home

_SOURCE_KEYS = {"data", "image", "label", "subject", "split"}


@dataclass(frozen=True, kw_only=True)
class SiteSource:
    """Where a site of an ``in_process`` run has its data.

    Attributes:
        site_id: As the sites file names it.
        word: What the sites file says: a path, or the name of a data set.
        data: The folder or file; until `find_sources` the word taken as a path.
        columns: Which column of the labels means what.
        labels: The table that was named with a data set, where it is not in its folder.
        key: The site's, for data of a hospital; None for files that nobody registered.
    """

    site_id: str
    word: str
    data: Path
    columns: Columns
    labels: Path | None = None
    key: SiteKey | None = None


def read_sites(path: Path) -> list[SiteSource]:
    """Read a sites file: one table ``[sites.NAME]`` for each site, with ``data`` and columns.

    Raises:
        UsageError: It cannot be read, or a key in it is not known.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path}: the sites file cannot be read ({error}). Nothing was started. "
            'Write one table for each site: [sites.oslo] and data = "folder, NPZ or data set".'
        ) from error
    sites = table.get("sites")
    if set(table) != {"sites"} or not isinstance(sites, dict) or not sites:
        raise UsageError(
            f"{path}: expected only tables [sites.NAME], found {sorted(table)}. "
            "Nothing was started."
        )
    return [_site(path, name, values) for name, values in sites.items()]


def _site(path: Path, name: str, values: Any) -> SiteSource:
    if not RUN_ID.fullmatch(name) or not isinstance(values, dict):
        raise UsageError(f"{path}: {name!r} cannot name a site. Nothing was started.")
    unknown = sorted(set(values) - _SOURCE_KEYS)
    if unknown or not all(isinstance(value, str) for value in values.values()):
        raise UsageError(
            f"{path}: [sites.{name}] has unknown keys {unknown} or values that are not texts; "
            f"known are {sorted(_SOURCE_KEYS)}. Nothing was started."
        )
    if "data" not in values:
        raise UsageError(f"{path}: [sites.{name}] lacks the key data. Nothing was started.")
    columns = {key: value for key, value in values.items() if key != "data"}
    return SiteSource(
        site_id=name,
        word=values["data"],
        data=(path.parent / values["data"]).resolve(),
        columns=Columns(**columns),
    )


def find_sources(home: Home, sources: Iterable[SiteSource]) -> list[SiteSource]:
    """Return the sources with the files, labels and key of each data set that one names.

    Raises:
        DataError: There is neither a data set of this name nor anything at this path.
        UsageError: There are both, in two places.
    """
    return [_found(home, source) for source in sources]


def _found(home: Home, source: SiteSource) -> SiteSource:
    """Return one site with what its word stands for; the name of a data set comes first."""
    where = f"[sites.{source.site_id}] data = {source.word!r}"
    data_set = named_data_set(home, source.word)
    if data_set is None and not source.data.exists():
        known = ", ".join(found.name for found in data_sets(home)) or "none"
        raise DataError(
            f"{where}: nothing is at {source.data}, and no data set has this name. Nothing was "
            f"started. Data sets here: {known}. Mend the path, or add one "
            "with `hospitium site data add NAME PATH --labels CSV`."
        )
    if data_set is None:
        return source
    if source.data.exists() and source.data != data_set.path:
        raise UsageError(
            f"{where}: there is a data set of this name, of {data_set.path}, and also "
            f"{source.data}. Nothing was started. Write './{source.word}' for the latter, or "
            "rename it."
        )
    if not data_set.path.exists():
        raise DataError(
            f"{where}: its files at {data_set.path} are not there. Nothing was started. Check "
            "that the drive is mounted."
        )
    return replace(source, data=data_set.path, labels=data_set.labels, key=site_key(home))
