"""What a person can do with a hospital's own data: name a folder, scan it, look at what it holds.

Nothing here leaves the site. A data set lives in ``<home>/site/data/NAME``: where its files are,
and the index of the last scan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hospitium.errors import (
    CorruptedError,
    InterruptedRunError,
    RunBusyError,
    StateConflictError,
    UsageError,
)
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.remedies import remedy
from hospitium.imaging.scanning import Record, ScanSummary, read_index, scan, summarise
from hospitium.operations.progress import Say, silent
from hospitium.state import durable
from hospitium.state.home import RUN_ID, Home, locked

GroupBy = Literal["uid", "folder"]
_FILE: Final = "dataset.json"
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Files of a site, under a name or for once.

    Attributes:
        name: Empty where the files were named by their path.
        path: A folder, or one file.
        labels: The table of labels that was named with them.
        group_by: ``folder``: the files of a folder are one series where UIDs are missing.
        folder: Where the index and what else is known of it are kept.
    """

    name: str
    path: Path
    folder: Path
    labels: Path | None = None
    group_by: GroupBy = "uid"

    @property
    def index(self) -> Path:
        """The index of the last scan."""
        return self.folder / "index.jsonl"

    @property
    def is_scanned(self) -> bool:
        """Whether a scan has been finished."""
        return self.index.is_file()

    @property
    def has_labels(self) -> bool:
        """Whether training will find labels: a table that was named, or in the folder, or an NPZ.

        What is in a table is not looked at.
        """
        if self.labels is not None or self.path.is_file():
            return True
        tables = (".csv", ".tsv")
        return any(place.suffix.lower() in tables for place in self.path.iterdir())

    def records(self) -> Iterator[Record]:
        """Yield what the last scan found, sorted by file; see `read_index`."""
        return read_index(self.index)


def site_key(home: Home) -> SiteKey:
    """Return the key of this site; it is made when it is first needed."""
    return SiteKey.load_or_make(home.folder / "site")


def make_site_folder(home: Home, folder: Path) -> Path:
    """Make a folder below ``<home>/site``, which is closed to other accounts from its beginning."""
    site = home.make() / "site"
    with durable.storage_errors(site):
        site.mkdir(mode=0o700, parents=True, exist_ok=True)
    return durable.make_folder(folder)


# --- names ---------------------------------------------------------------------------------------


def add_data_set(
    home: Home, name: str, path: Path, *, labels: Path | None = None, group_by: GroupBy = "uid"
) -> DataSet:
    """Give files a name; nothing is read yet. The same call again changes nothing.

    Raises:
        UsageError: The name is none, or there is nothing at the path.
        StateConflictError: The name stands for other files already.
    """
    if not RUN_ID.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a data set: expected 1 to 64 letters, digits, dots, dashes or "
            "underscores. Nothing was added."
        )
    for what, place in (("no file or folder", path), ("no table of labels", labels)):
        if place is not None and not place.exists():
            raise UsageError(
                f"{place}: there is {what}. Nothing was added. Check the path, and that the "
                "drive is mounted."
            )
    if labels is not None and not labels.is_file():
        raise UsageError(
            f"{labels}: a folder, expected the table of labels. Nothing was added. Name the file."
        )
    found = DataSet(
        name=name,
        path=path.resolve(),
        labels=None if labels is None else labels.resolve(),
        group_by=group_by,
        folder=_folder(home, name),
    )
    if (found.folder / _FILE).exists():
        return _require_same(_load(found.folder), found)
    site_key(home)  # first of all, for the folder that it makes is closed to other accounts
    _save(found)
    return found


def _require_same(present: DataSet, wanted: DataSet) -> DataSet:
    if present != wanted:
        raise StateConflictError(
            f"{wanted.name}: there is a data set of this name already, with other files, labels or "
            "grouping. Nothing was changed. Look at it with `hospitium site data show "
            f"{wanted.name}`, and choose another name."
        )
    return present


def _folder(home: Home, name: str) -> Path:
    return home.folder / "site" / "data" / name


def _save(data_set: DataSet) -> None:
    values = {
        "version": _VERSION,
        "name": data_set.name,
        "path": str(data_set.path),
        "labels": None if data_set.labels is None else str(data_set.labels),
        "group_by": data_set.group_by,
    }
    text = json.dumps(values, indent=1).encode() + b"\n"
    durable.make_folder(data_set.folder)
    durable.write_atomically(data_set.folder / _FILE, lambda file: str(file.write(text)))


def _load(folder: Path) -> DataSet:
    try:
        values = json.loads((folder / _FILE).read_bytes())
        if values["version"] != _VERSION or values["group_by"] not in ("uid", "folder"):
            raise ValueError("another version")
        return DataSet(
            name=values["name"],
            path=Path(values["path"]),
            labels=None if values["labels"] is None else Path(values["labels"]),
            group_by=values["group_by"],
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptedError(
            f"{folder / _FILE}: not what `hospitium site data add` wrote ({error}). Nothing was "
            "changed. Delete the folder and add the data set again; its images are not touched."
        ) from error


def data_sets(home: Home) -> list[DataSet]:
    """Return every named data set, sorted by name."""
    folder = home.folder / "site" / "data"
    return [_load(path.parent) for path in sorted(folder.glob(f"*/{_FILE}"))]


def named_data_set(home: Home, name: str) -> DataSet | None:
    """Return the data set of a name, None where there is none."""
    folder = _folder(home, name)
    return _load(folder) if RUN_ID.fullmatch(name) and (folder / _FILE).exists() else None


def find_data(home: Home, name_or_path: str) -> DataSet:
    """Return the data set of a name, or else the files at a path.

    Raises:
        UsageError: There is neither.
    """
    if (found := named_data_set(home, name_or_path)) is not None:
        return found
    path = Path(name_or_path)
    if not path.exists():
        known = ", ".join(data_set.name for data_set in data_sets(home)) or "none yet"
        raise UsageError(
            f"{name_or_path}: there is no data set of this name and nothing at this path. Nothing "
            f"was read. Data sets here: {known}. Add one with `hospitium site data add NAME PATH`."
        )
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return DataSet(name="", path=path, folder=home.folder / "site" / "scans" / digest)


# --- scanning ------------------------------------------------------------------------------------


def scan_data(
    home: Home, data_set: DataSet, *, workers: int | None = None, say: Say = silent
) -> ScanSummary:
    """Read every file of a data set that is new or changed; see `scanning.scan`.

    Raises:
        RunBusyError: Another process scans it.
        InterruptedRunError: A person stopped it; what was read is kept.
    """
    if not data_set.path.exists():
        raise UsageError(
            f"{data_set.path}: the files of {data_set.name} are not there. Nothing was read, and "
            "the index of the last scan is as it was. Check that the drive is mounted."
        )
    key = site_key(home)
    with _alone(data_set):
        try:
            return scan(
                data_set.path,
                index=data_set.index,
                workers=workers,
                key=key,
                group_by=data_set.group_by,
                progress=lambda done, of: say(
                    {"kind": "count", "text": "files looked at", "done": done, "of": of}
                ),
            )
        except KeyboardInterrupt as stop:
            raise InterruptedRunError(
                "The scan was interrupted. What was read is kept; run the same command again, and "
                "it goes on where it stopped."
            ) from stop


@contextmanager
def _alone(data_set: DataSet) -> Iterator[None]:
    """Hold the lock of a data set."""
    lock = locked(data_set.folder)
    try:
        lock.__enter__()
    except RunBusyError as error:
        raise RunBusyError(
            f"{data_set.name or data_set.path}: another process is scanning it. Nothing was "
            "changed. Wait until it has ended, then run the same command again."
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def published_summary(summary: ScanSummary) -> dict[str, Any]:
    """Return a summary as the last object of ``hospitium site data scan --json``."""
    return {"summary": True, **asdict(summary), "num_skipped": summary.num_skipped}


def skip_table(summary: ScanSummary) -> list[dict[str, Any]]:
    """Return what was skipped, most first: reason, count, what to do, and who can."""
    counts = sorted(summary.skipped.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "reason": reason,
            "count": count,
            "remedy": remedy(reason).text,
            "who": remedy(reason).who,
        }
        for reason, count in counts
    ]


# --- looking -------------------------------------------------------------------------------------


def list_data_sets(home: Home) -> list[dict[str, Any]]:
    """Return a row for each named data set: where it is, and how its last scan ended."""
    return [_row(data_set) for data_set in data_sets(home)]


def _row(data_set: DataSet) -> dict[str, Any]:
    summary = summarise(data_set.records()) if data_set.is_scanned else None
    return {
        "name": data_set.name,
        "path": str(data_set.path),
        "labels": None if data_set.labels is None else str(data_set.labels),
        "group_by": data_set.group_by,
        "is_scanned": summary is not None,
        "num_files": summary.num_files if summary else None,
        "num_read": summary.num_read if summary else None,
        "num_skipped": summary.num_skipped if summary else None,
    }


def show_data_set(home: Home, name_or_path: str, *, reason: str = "") -> dict[str, Any]:
    """Return what is known of a data set: counts, and what was skipped with its remedy.

    Args:
        home: Of this installation.
        name_or_path: A data set, or files that were scanned once.
        reason: Also list the files that were skipped for it, with the site's own detail.

    Raises:
        UsageError: There is no such data set, or it was never scanned.
    """
    data_set = find_data(home, name_or_path)
    if not data_set.is_scanned:
        raise UsageError(
            f"{name_or_path}: it was not scanned yet. Nothing was read. Run `hospitium site data "
            f"scan {name_or_path}` first."
        )
    summary = summarise(data_set.records())
    shown = {**_row(data_set), **published_summary(summary), "skips": skip_table(summary)}
    del shown["summary"]
    if reason:
        shown["files"] = [
            {"file": record.file, "reason": record.reason, "detail": record.detail}
            for record in data_set.records()
            if reason in (record.reason, *record.cautions)
        ]
    return shown
