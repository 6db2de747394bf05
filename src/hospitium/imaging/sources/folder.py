"""A folder of image files with a table of labels -> `Cases`."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.case_store import CaseStore
from hospitium.imaging.cases import Cases
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.image_store import ImageReader
from hospitium.imaging.instance import SKIP_REASONS, Skip, SkipError, Uids
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources.keyed import KeyedFolder, choose_key
from hospitium.imaging.sources.labels import MISSING, encode_labels, encode_splits
from hospitium.imaging.sources.tables import Columns, Table, read_table
from hospitium.imaging.splitting import (
    assign_splits,
    complete_splits,
    join_duplicates,
    require_all_splits,
)
from hospitium.plan.schema import ImagingSection

_LOG = logging.getLogger(__name__)
_TABLE = "labels.csv"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One file that the table names."""

    path: Path
    label: int
    split: int | None
    fields: tuple[str, ...]


@dataclass(kw_only=True)
class _Found:
    """What has been read so far: parallel lists, and counts by code.

    ``images`` has room for every file; the first ``len(rows)`` are filled.
    """

    images: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    digests: list[bytes] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def skip(self, skip: Skip) -> None:
        """Count something that is left out; its detail goes to the site's own log."""
        self.skipped[skip.reason] += 1
        self.details.append(f"{skip.reason}: {skip.detail}")
        _LOG.info("left out: %s: %s", skip.reason, skip.detail)


def read_folder(
    path: Path,
    *,
    harmonise: Harmonise,
    seed: int,
    columns: Columns | None = None,
    progress: Progress | None = None,
    classes: Sequence[str] | None = None,
    key: SiteKey | None = None,
    imaging: ImagingSection | None = None,
    labels: Path | None = None,
    store: CaseStore | None = None,
) -> Cases:
    """Read the images that a table names, with their labels.

    Args:
        path: A folder with ``labels.csv`` (or one other ``.csv`` or ``.tsv``), or the table
            itself; images are named relative to its folder. PNG, JPEG, TIFF and DICOM are told by
            their content. A name of a folder stands for every image below it. A column of
            accession numbers or UIDs is compared with the headers of all files there.
        harmonise: How an image becomes a case; it must have a size.
        seed: The plan's seed, for splits that are not given.
        columns: Which column means what, where the names are not usual ones.
        progress: Told how many files of how many were tried.
        key: The site's, to name patients with; None: a plain digest, for data of no hospital.
        imaging: The plan's data contract: which images are cases. None takes all of one frame
            that can be trained on.
        labels: The table, where it lies elsewhere; it is about the files below ``path``.
        store: Where harmonised images are kept and found again; the cases are the same without.

    Returns:
        One case for each readable image, in the order of the table. ``columns`` holds every
        column that is not image, label, subject or split, and the site also as ``"site"``.
        Without a subject column DICOM images belong to their patient, others to themselves;
        exact copies are one subject. What was left out is counted in ``skipped``.

    Raises:
        DataError: No table, no such column, no usable image, or too few subjects to split.
    """
    table = read_table(labels or _table_path(path))
    chosen, kind = choose_key(table, columns or Columns())
    root = path if path.is_dir() else path.parent
    found = _Found()
    found.notes.update(table.notes)
    if table.num_bad_rows:
        found.skipped["bad_row"] = table.num_bad_rows
    is_split_named = bool(columns and columns.split)
    given = _given_splits(table, chosen, found, is_named=is_split_named)
    encoded, names = encode_labels(
        [row[chosen["label"]] for row in table.rows],
        where=f'{table.path}, column "{table.names[chosen["label"]]}"',
        classes=classes,
    )
    rows = list(_rows(table, chosen, encoded, given, found, folder=KeyedFolder(root, kind)))
    reader = ImageReader(harmonise, imaging=imaging, store=store)
    assert harmonise.size is not None
    found.images = np.empty((len(rows), harmonise.channels, *harmonise.size), np.float32)
    for number, row in enumerate(rows, start=1):
        _read_row(row, found, reader, key=key)
        if progress is not None:
            progress(number, len(rows))
    _require_some(table.path, found, num_rows=len(table.rows))
    return _cases(
        table, chosen, found, root=root, classes=names, seed=seed, has_splits=given is not None
    )


def _table_path(path: Path) -> Path:
    """Return the table of a folder: ``labels.csv``, or the only one there is."""
    if not path.is_dir():
        return path
    if (path / _TABLE).is_file():
        return path / _TABLE
    try:
        tables = sorted(p for p in path.iterdir() if p.suffix.lower() in (".csv", ".tsv"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be listed ({error.strerror}). Nothing was read. Check that this "
            "account may read the folder."
        ) from error
    if len(tables) != 1:
        raise DataError(
            f"{path}: no {_TABLE}, and {len(tables)} other tables. Nothing was read. Put a "
            f"{_TABLE} there, with a head line and the columns image and label; or name the table."
        )
    return tables[0]


def _given_splits(
    table: Table, chosen: dict[str, int], found: _Found, *, is_named: bool
) -> list[int | None] | None:
    """Return the split of each row, or None where the table gives none.

    A column that only looks like splits, as ``fold`` with numbers does, is ignored with a note.
    """
    if "split" not in chosen:
        return None
    words = [row[chosen["split"]] for row in table.rows]
    splits = encode_splits(words)
    if any(split is not None for split in splits):
        return splits
    if is_named:
        raise DataError(
            f'{table.path}: column "{table.names[chosen["split"]]}" holds '
            f"{', '.join(sorted(set(words))[:5])}, expected train, val and test. Nothing was read. "
            "Name another split column, or none: then the split is made by subject."
        )
    del chosen["split"]
    found.notes["split_column_ignored"] += 1
    return None


def _rows(
    table: Table,
    chosen: Mapping[str, int],
    labels: npt.NDArray[np.int64],
    given: Sequence[int | None] | None,
    found: _Found,
    *,
    folder: KeyedFolder,
) -> Iterator[_Row]:
    """Yield each file once, in the order of the table; count what is left out."""
    rows: dict[Path, _Row] = {}
    conflicts: set[Path] = set()
    for number, cells in enumerate(table.rows):
        try:
            if labels[number] == MISSING:
                raise SkipError("no_label", f"row {number + 2}")
            split = None if given is None else given[number]
            if given is not None and split is None:
                raise SkipError("unknown_split", f"row {number + 2}")
            paths, notes = folder.find(cells[chosen["image"]])
        except SkipError as error:
            found.skip(error.skip)
            continue
        found.notes.update(notes)
        for path in paths:
            row = _Row(path=path, label=int(labels[number]), split=split, fields=cells)
            if rows.setdefault(path, row) is row:
                continue
            found.notes["duplicate_row"] += 1
            if rows[path].label != row.label:
                conflicts.add(path)
    for path in sorted(conflicts):
        found.skip(Skip(reason="label_conflict", detail=str(path)))
    yield from (row for path, row in rows.items() if path not in conflicts)


def _read_row(
    row: _Row,
    found: _Found,
    reader: ImageReader,
    *,
    key: SiteKey | None,
) -> None:
    """Read one file and keep it, or count why not."""
    case = reader.read(row.path)
    if isinstance(case, Skip):
        found.skip(Skip(reason=case.reason, detail=case.detail or str(row.path)))
        return
    seen, image = case
    found.notes.update(seen.notes)
    if seen.is_colour != (len(image) == 3):
        found.notes["colour_to_grey" if seen.is_colour else "grey_to_colour"] += 1
    found.images[len(found.rows)] = image
    found.digests.append(bytes.fromhex(seen.pixels))
    found.patients.append(_patient(seen.uids, key))
    found.rows.append(row)


def _patient(uids: Uids, key: SiteKey | None) -> str:
    """Return a keyed name or a digest of issuer and patient, empty where there is none.

    It only tells which images are of one person; a digest can be guessed by who knows the ids.
    """
    if key is not None:
        return key.pseudonyms(uids).patient
    patient = uids.patient.strip().casefold()
    if not patient:
        return ""
    issuer = uids.issuer.strip().casefold()
    return hashlib.sha256(f"{issuer}\0{patient}".encode("utf-8", "replace")).hexdigest()[:26]


def _require_some(where: Path, found: _Found, *, num_rows: int) -> None:
    if found.rows:
        return
    counts = "\n".join(
        f"  {count} x {reason}: {SKIP_REASONS[reason]}"
        for reason, count in found.skipped.most_common()
    )
    first = f" The first: {found.details[0]}." if found.details else ""
    raise DataError(
        f"{where}: none of {num_rows} rows gives a usable image, expected at least one of each "
        f"split. Nothing was kept.\n{counts}\n"
        f"Mend what is counted most, then try again.{first}"
    )


def _cases(
    table: Table,
    chosen: Mapping[str, int],
    found: _Found,
    *,
    root: Path,
    classes: tuple[str, ...],
    seed: int,
    has_splits: bool,
) -> Cases:
    labels = [row.label for row in found.rows]
    subjects, num_copies = join_duplicates(
        subjects=_subjects(chosen, found, root=root), digests=found.digests
    )
    found.notes["duplicate_image"] += num_copies
    if has_splits:
        given = np.array([row.split for row in found.rows], dtype=np.uint8)
        found.notes["subject_across_splits"] += _num_across(subjects, given)
        splits, more = complete_splits(splits=given, subjects=subjects, labels=labels, seed=seed)
        found.notes.update(more)
    else:
        splits = assign_splits(subjects=subjects, labels=labels, seed=seed)
        require_all_splits(splits, num_subjects=len(set(subjects)))
    return Cases(
        images=found.images[: len(found.rows)],
        labels=np.array(labels, dtype=np.int64),
        subjects=np.array(subjects, dtype=np.str_),
        splits=splits,
        classes=classes,
        columns=_further_columns(table, chosen, found.rows),
        skipped=dict(sorted(found.skipped.items())),
        notes={code: count for code, count in sorted(found.notes.items()) if count},
    )


def _subjects(chosen: Mapping[str, int], found: _Found, *, root: Path) -> list[str]:
    """Return the subject of each case: the table's, else the patient's digest, else the file."""
    at = chosen.get("subject")
    named = [row.fields[at] if at is not None else "" for row in found.rows]
    own = [row.path.relative_to(root.resolve()).as_posix() for row in found.rows]
    choices = zip(named, found.patients, own, strict=True)
    return [name or patient or f"file:{path}" for name, patient, path in choices]


def _num_across(subjects: Sequence[str], splits: npt.NDArray[np.uint8]) -> int:
    places: defaultdict[str, set[int]] = defaultdict(set)
    for subject, split in zip(subjects, splits.tolist(), strict=True):
        places[subject].add(split)
    return sum(len(found) > 1 for found in places.values())


def _further_columns(
    table: Table, chosen: Mapping[str, int], rows: Sequence[_Row]
) -> dict[str, npt.NDArray[np.str_]]:
    """Return the columns that have no other meaning, and the site's also as ``site``."""
    used = {chosen[what] for what in ("image", "label", "subject", "split") if what in chosen}
    wanted = {name: at for at, name in enumerate(table.names) if at not in used}
    if "site" in chosen:
        wanted["site"] = chosen["site"]
    return {
        name: np.array([row.fields[at] for row in rows], dtype=np.str_)
        for name, at in wanted.items()
    }
