"""A table of labels: any usual CSV dialect in, columns by name out."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hospitium.errors import DataError

_MAX_BYTES = 1 << 28
_DELIMITERS = (",", ";", "\t", "|")
_USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image", "image_path", "img", "img_path", "image_file", "image_name", "image_index"),
        *("path", "file", "file_path", "filepath", "filename", "file_name", "dicom", "study"),
        *("image_id", "id"),
    ),
    "label": (
        *("label", "labels", "class", "class_label", "finding", "findings", "finding_labels"),
        *("diagnosis", "target", "y", "category"),
    ),
    "subject": ("subject", "subject_id", "patient", "patient_id", "patientid", "person", "pid"),
    "site": ("site", "site_id", "hospital", "center", "centre", "institution", "clinic"),
    "split": ("split", "set", "fold", "subset", "partition"),
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table mean what; None finds the usual names."""

    image: str | None = None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    split: str | None = None

    def named(self) -> dict[str, str]:
        """Return the columns that were named, by what they mean."""
        found = {what: getattr(self, what) for what in _USUAL_NAMES}
        return {what: name for what, name in found.items() if name is not None}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as text: stripped names and fields, rows of equal length.

    ``num_bad_rows`` counts rows that were left out because their length is another.
    """

    path: Path
    names: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    num_bad_rows: int
    notes: tuple[str, ...]


def read_table(path: Path) -> Table:
    """Read a CSV file with a head line; delimiter and encoding are found.

    UTF-8 or UTF-16 with or without a byte-order mark, else Windows-1252 (note
    ``encoding_assumed``); delimited by comma, semicolon, tab or bar.

    Raises:
        DataError: It cannot be read, or holds no row.
    """
    text, notes = _decoded(_bytes(path))
    lines = text.splitlines()
    head = next((line for line in lines if line.strip()), "")
    try:
        delimiter = max(
            _DELIMITERS, key=lambda mark: len(next(csv.reader([head], delimiter=mark), []))
        )
        parsed = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(
            f"{path}: not a CSV table ({error}). Nothing was read. Save it again as CSV, UTF-8."
        ) from error
    rows = [[field.strip() for field in row] for row in parsed if any(f.strip() for f in row)]
    if len(rows) < 2:
        raise DataError(
            f"{path}: {len(rows)} lines found, expected a head line with names and one row for "
            "each image. Nothing was read. Fill the table, then try again."
        )
    names = _unique(rows[0])
    good = [tuple(row) for row in rows[1:] if len(row) == len(names)]
    return Table(
        path=path, names=names, rows=good, num_bad_rows=len(rows) - 1 - len(good), notes=notes
    )


def choose_columns(table: Table, wanted: Columns) -> dict[str, int]:
    """Return the index of each column that is named, or has a usual name.

    Names are compared without case, spaces and punctuation.

    Raises:
        DataError: A named column is not there, or no column names images or labels.
    """
    named = wanted.named()
    chosen = {what: _index(table, name) for what, name in named.items()}
    plain = [_plain(name) for name in table.names]
    for what, usual in _USUAL_NAMES.items():
        free = [
            name for name in usual if name in plain and plain.index(name) not in chosen.values()
        ]
        if what not in chosen and free:
            chosen[what] = plain.index(free[0])
    for what in ("image", "label"):
        if what not in chosen:
            option = "--image-column" if what == "image" else "--label"
            also = ", AccessionNumber, StudyInstanceUID" if what == "image" else ""
            raise DataError(
                f"{table.path}: no {what} column among {_listed(table.names)}, expected one of "
                f"{', '.join(_USUAL_NAMES[what][:8])}{also}. Nothing was read. Rename the column, "
                f'or name it: {option} of the demo, {what} = "..." in a sites file.'
            )
    return chosen


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be opened ({error.strerror}). Nothing was read. Check that the file "
            "exists and that this account may read it."
        ) from error
    if raw is None:
        raise DataError(
            f"{path}: more than {_MAX_BYTES >> 20} MiB, too large for a table of labels. Nothing "
            "was read. Check that this is the right file."
        )
    return raw


def _decoded(raw: bytes) -> tuple[str, tuple[str, ...]]:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace"), ()
    try:
        return raw.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace"), ("encoding_assumed",)


def _index(table: Table, name: str) -> int:
    """Return the column of exactly this name, else of this name but for case and punctuation."""
    if name in table.names:
        return table.names.index(name)
    plain = [_plain(found) for found in table.names]
    if _plain(name) in plain:
        return plain.index(_plain(name))
    near = difflib.get_close_matches(name, table.names, n=1, cutoff=0.5)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise DataError(
        f'{table.path}: no column "{name}" among {_listed(table.names)}. Nothing was read.{hint} '
        "Name one of these columns."
    )


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Give columns without a name, or with a name that is taken, one of their own."""
    result: list[str] = []
    for number, name in enumerate(names, start=1):
        is_free = bool(name) and name not in result
        result.append(name if is_free else f"{name or 'column'}_{number}")
    return tuple(result)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"
