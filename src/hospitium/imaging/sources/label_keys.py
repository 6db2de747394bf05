"""Class labels from a hospital's table, by accession number, study UID, patient or file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hospitium.errors import DataError, UsageError
from hospitium.imaging.instance import Uids
from hospitium.imaging.sources.queries import KEYS, Query, check_exact
from hospitium.imaging.sources.tables import Columns, Table, choose_columns, read_table

KEY_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "accession": ("accession", "accessionnumber", "accno"),
    "study": ("studyinstanceuid", "studyuid", "study"),
    "patient": ("patientid", "patient", "subject", "subjectid", "pid", "mrn"),
    "file": ("image", "file", "filename", "path", "filepath", "imagepath"),
}
"""What a row may be about, and the usual names of such a column, without case and punctuation."""

_NO_LABEL = frozenset({"", "?", "na", "n/a", "nan", "-1"})


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Labels by key, each key once. It stays at the site.

    Attributes:
        key: One of ``KEY_COLUMNS``.
        labels: The label of each key, in the words of the plan where the steward mapped them.
        conflicts: Keys with two different labels; they are in ``labels`` no more.
        num_rows: Rows of the table with a key and a label.
        num_repeated: Rows that say again what another row said.
        num_unlabelled: Rows without a label, or without a key.
        unmapped: Words that the steward's map does not hold, and how many rows have them. Such a
            label is kept as it is written.
    """

    key: str
    labels: Mapping[str, str]
    conflicts: frozenset[str] = frozenset()
    num_rows: int = 0
    num_repeated: int = 0
    num_unlabelled: int = 0
    unmapped: Mapping[str, int] = field(default_factory=dict)

    def key_of(self, uids: Uids, *, file: str = "") -> str:
        """Return what the table would call this study or file."""
        if self.key == "file":
            return _key_text(file, is_file=True)
        return _key_text(getattr(uids, self.key))

    def find(self, uids: Uids, *, file: str = "") -> tuple[str, str]:
        """Return the label and an empty reason, or why there is none.

        Returns:
            ``(label, "")``, or ``("", "no_label")``, or ``("", "label_conflict")``.
        """
        key = self.key_of(uids, file=file)
        if key in self.conflicts:
            return "", "label_conflict"
        label = self.labels.get(key, "")
        return label, "" if label else "no_label"

    def num_unmatched(self, used: Iterable[str]) -> int:
        """Return how many keys of the table were never asked for."""
        return len((set(self.labels) | self.conflicts) - set(used))


def read_label_table(
    path: Path,
    *,
    key: str = "",
    key_column: str = "",
    label_column: str = "",
    words: Mapping[str, str] | None = None,
) -> LabelTable:
    """Read labels from a CSV table with a key column and a label column.

    Args:
        path: The table.
        key: What the key column holds; empty: told by the column's name.
        key_column: Its name; empty: a usual one for ``key``.
        label_column: Its name; empty: a usual one.
        words: The steward's map from local words to the plan's names; case and spaces do not count.

    Raises:
        DataError: It cannot be read, or has no such columns.
        UsageError: ``key`` is none of ``KEY_COLUMNS``.
    """
    table = read_table(path)
    kind, name = _key_column(table, key=key, named=key_column)
    columns = choose_columns(table, Columns(image=name, label=label_column or None))
    rows = [(row[columns["image"]], row[columns["label"]]) for row in table.rows]
    good = [
        (_key_text(k, is_file=kind == "file"), " ".join(v.split()))
        for k, v in rows
        if k and v.casefold() not in _NO_LABEL
    ]
    known = {_folded(word): meant for word, meant in (words or {}).items()}
    unmapped = Counter(v for _, v in good if words is not None and _folded(v) not in known)
    by_key: dict[str, set[str]] = {}
    spelling: dict[str, str] = {}
    for key_value, value in good:
        label = known.get(_folded(value), value)
        by_key.setdefault(key_value, set()).add(_folded(label))
        spelling.setdefault(_folded(label), label)
    labels = {k: spelling[next(iter(v))] for k, v in by_key.items() if len(v) == 1}
    return LabelTable(
        key=kind,
        labels=labels,
        conflicts=frozenset(k for k, v in by_key.items() if len(v) > 1),
        num_rows=len(good),
        num_repeated=len(good) - len({(k, _folded(known.get(_folded(v), v))) for k, v in good}),
        num_unlabelled=len(rows) - len(good) + table.num_bad_rows,
        unmapped=dict(sorted(unmapped.items())),
    )


def read_words(path: Path) -> dict[str, str]:
    """Read the steward's map: a table with a local word and the plan's name in each row.

    Raises:
        DataError: It cannot be read, has not two columns, or maps one word twice.
    """
    table = read_table(path)
    found: dict[str, str] = {}
    for row in table.rows:
        if len(row) != 2 or found.setdefault(row[0], row[1]) != row[1]:
            raise DataError(
                f"{path}: found the row {', '.join(row)!r}, expected two columns, a local word and "
                "the plan's name for it, each word once. Nothing was read. Mend the table."
            )
    return found


def query_of(table: LabelTable) -> tuple[Query, int]:
    """Return the query for every key of a table, and how many keys no PACS may be asked for.

    Raises:
        UsageError: The table is about files, or holds no key that may be asked for.
    """
    keyword = next((name for name, attribute in KEYS.items() if attribute == table.key), "")
    if not keyword:
        raise UsageError(
            "Labels: their key is the file, and a PACS knows no files. Nothing was asked. Give a "
            "query, or a table with accession numbers, study UIDs or patients."
        )
    good = [key for key in table.labels if _is_exact(keyword, key)]
    if not good:
        raise UsageError(
            f"Labels: none of {len(table.labels)} keys may be asked for (a key holds no *, ? or "
            "\\). Nothing was asked. Mend the key column."
        )
    return Query(key=keyword, values=tuple(sorted(good))), len(table.labels) - len(good)


def _is_exact(keyword: str, key: str) -> bool:
    try:
        check_exact(keyword, key)
    except UsageError:
        return False
    return True


def _key_column(table: Table, *, key: str, named: str) -> tuple[str, str]:
    """Return what the key column holds and its name."""
    if key and key not in KEY_COLUMNS:
        raise UsageError(
            f"Labels: the key is {key!r}, expected one of {', '.join(KEY_COLUMNS)}. Nothing was "
            "read. Change it."
        )
    plain = {_plain(name): name for name in reversed(table.names)}
    if named:
        kinds = [kind for kind, usual in KEY_COLUMNS.items() if _plain(named) in usual]
        return key or next(iter(kinds), "accession"), named
    for kind in [key] if key else KEY_COLUMNS:
        for usual in KEY_COLUMNS[kind]:
            if usual in plain:
                return kind, plain[usual]
    raise DataError(
        f"{table.path}: no key column among {', '.join(table.names[:12])}, expected one of "
        "AccessionNumber, StudyInstanceUID, PatientID or file. Nothing was read. Rename the column."
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _key_text(text: str, *, is_file: bool = False) -> str:
    """Return a key as it is compared: exactly, but for blanks around it; files with ``/``."""
    return text.strip().replace("\\", "/") if is_file else text.strip()


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
