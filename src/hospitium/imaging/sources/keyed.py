"""What a row of a table is about -> its files: by name, or by accession number or UID."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hospitium.errors import DataError
from hospitium.imaging.instance import Skip, SkipError
from hospitium.imaging.reading import read_header
from hospitium.imaging.scan_walk import walk
from hospitium.imaging.sources.paths import ImageFolder
from hospitium.imaging.sources.tables import Columns, Table, choose_columns

_ALL = ("instance", "series", "study", "accession")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "instance": ("sopinstanceuid", "instanceuid"),
    "series": ("seriesinstanceuid", "seriesuid"),
    "study": ("studyinstanceuid", "studyuid"),
    "accession": ("accessionnumber", "accession", "accno", "accessionno"),
}
"""Usual names of a key column, without case and punctuation; the finest key comes first."""
_ANY_KEY = ("study", "case", "caseid", "key", "id", "imageid")
_FILES = frozenset({"image", "img", "imagepath", "imgpath", "imagefile", "imagename", "path",
                    "imageindex", "file", "filepath", "filename", "dicom"})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeyColumn:
    """What the column that names images holds.

    Attributes:
        attributes: Which of a header's identifiers it may hold; empty: only names of files.
        is_identifier: It is called after one of them, so files are tried last.
    """

    attributes: tuple[str, ...]
    is_identifier: bool


def choose_key(table: Table, wanted: Columns) -> tuple[dict[str, int], KeyColumn]:
    """Return the columns by meaning, and what the one called ``image`` holds.

    A column of file names comes before one of identifiers. Of these the finest is taken: an
    instance before its series, study and accession number.

    Raises:
        DataError: A named column is not there, or no column names images or labels.
    """
    try:
        chosen = choose_columns(table, wanted)
    except DataError:
        name = _key_name(table)
        if name is None or wanted.image:
            raise
        chosen = choose_columns(table, replace(wanted, image=name))
    return chosen, _kind(table.names[chosen["image"]])


def _key_name(table: Table) -> str | None:
    plain = {_plain(name): name for name in reversed(table.names)}
    usual = [*(name for names in _KEYS.values() for name in names), *_ANY_KEY]
    return next((plain[name] for name in usual if name in plain), None)


def _kind(name: str) -> KeyColumn:
    plain = _plain(name)
    if plain in _FILES:
        return KeyColumn(attributes=(), is_identifier=False)
    named = tuple(attribute for attribute, usual in _KEYS.items() if plain in usual)
    return KeyColumn(attributes=named or _ALL, is_identifier=bool(named))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


class KeyedFolder:
    """Finds the files that a row is about, by what `choose_key` said of its column.

    Headers are read when the first key needs them, once each; pixels are not.
    """

    def __init__(self, root: Path, kind: KeyColumn) -> None:
        self._root = root
        self._kind = kind
        self._files = ImageFolder(root)

    def find(self, key: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Return the files that a key stands for, sorted, and notes.

        Raises:
            SkipError: As `ImageFolder.find`; ``missing_file`` where no header has the key.
        """
        if self._kind.is_identifier and (found := self._identified(key)):
            return found, ()
        try:
            return self._files.find(key)
        except SkipError as error:
            found = () if error.skip.reason != "missing_file" else self._identified(key)
            if not found:
                raise
            return found, ()

    def _identified(self, key: str) -> tuple[Path, ...]:
        return self._by_key.get(key.strip(), ()) if self._kind.attributes and key.strip() else ()

    @cached_property
    def _by_key(self) -> dict[str, tuple[Path, ...]]:
        """The files of each identifier, sorted."""
        found: defaultdict[str, set[Path]] = defaultdict(set)
        for file in walk(self._root):
            header = None if file.reason else read_header(file.path)
            if header is None or isinstance(header, Skip):
                continue
            for attribute in self._kind.attributes:
                found[getattr(header.uids, attribute).strip()].add(file.path.resolve())
        return {key: tuple(sorted(paths)) for key, paths in found.items() if key}
