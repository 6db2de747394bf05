"""Labels meet images: which case a row of the table names, and which class its word is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hospitium.errors import DataError
from hospitium.imaging.cases import SPLITS, Split
from hospitium.imaging.conformance.case_facts import CaseFacts, LabelTable
from hospitium.imaging.instance import SkipError
from hospitium.imaging.sources.keyed import choose_key
from hospitium.imaging.sources.labels import MISSING, encode_labels, encode_splits
from hospitium.imaging.sources.paths import ImageFolder
from hospitium.imaging.sources.tables import Columns, Table, read_table
from hospitium.imaging.splitting import assign_splits, join_duplicates


@dataclass(kw_only=True)
class _Found:
    """What the rows say about each case, by its place, and what they could not be matched to."""

    words: dict[int, str] = field(default_factory=dict)
    subjects: dict[int, str] = field(default_factory=dict)
    splits: dict[int, Split] = field(default_factory=dict)
    conflicts: set[int] = field(default_factory=set)
    num_unmatched: int = 0


def with_table(
    cases: Sequence[CaseFacts],
    *,
    table_path: Path,
    folder: Path,
    files: Sequence[Sequence[Path]],
    classes: Sequence[str],
    left_out: Iterable[Path] = (),
    columns: Columns | None = None,
) -> tuple[list[CaseFacts], LabelTable, Counter[str]]:
    """Give each case its label, subject and split from a table.

    A row's key is a file or folder below ``folder``, or an accession number or UID. Rows of equal
    key and label count once. A word that is none of the plan's classes is counted, never dropped.

    Args:
        cases: As they were examined.
        table_path: A CSV file.
        folder: What names of files are relative to.
        files: The files of each case, in the order of ``cases``.
        classes: The plan's classes.
        left_out: Files that were skipped: a row that names one of them is matched, and no more.
        columns: Which column means what, where the names are not usual ones.

    Returns:
        The cases, how labels and images met, and how many rows gave nothing, by reason.
    """
    try:
        table = read_table(table_path)
        chosen, _ = choose_key(table, columns or Columns())
    except DataError as error:
        return list(cases), LabelTable(problem=str(error), num_unlabelled=len(cases)), Counter()
    skipped: Counter[str] = Counter({"bad_row": table.num_bad_rows} if table.num_bad_rows else {})
    found = _Found()
    has_splits = _read_rows(table, chosen, _Finder(cases, folder, files, left_out), found, skipped)
    skipped["label_conflict"] = len(found.conflicts)
    index_of, unknown = class_indices(
        [word for place, word in found.words.items() if place not in found.conflicts], classes
    )
    labelled = [
        replace(
            case,
            classes=()
            if place in found.conflicts
            else index_of.get(found.words.get(place, ""), ()),
            subject=found.subjects.get(place) or case.subject,
            split=found.splits.get(place),
        )
        for place, case in enumerate(cases)
    ]
    labels = LabelTable(
        unknown_words=unknown,
        num_rows=len(table.rows),
        num_unlabelled=sum(place not in found.words for place in range(len(cases))),
        num_unmatched=found.num_unmatched,
        has_splits=has_splits,
    )
    return labelled, labels, +skipped


def class_indices(
    words: Sequence[str], classes: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Return the class of each different word, as `encode_labels` tells it, and unknown words.

    Unknown words come with how often each stands, most frequent first; words that mean that there
    is no label, as ``NA`` does, are neither.
    """
    counts = Counter(words)
    different = list(counts)
    indices = _encoded(different, classes)
    if indices is None:
        each = {word: _encoded([word], classes) for word in different}
        unknown = {word: n for word, n in counts.most_common() if each[word] is None}
        known = {word: found[0] for word, found in each.items() if found is not None}
    else:
        unknown, known = {}, dict(zip(different, indices, strict=True))
    return {w: () if index == MISSING else (index,) for w, index in known.items()}, unknown


def _encoded(words: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Return the index of each word, or None where one of them is no class."""
    try:
        encoded, _ = encode_labels(words, where="labels", classes=classes)
    except DataError:
        return None
    return [int(index) for index in encoded]


def with_splits(cases: Sequence[CaseFacts], *, seed: int) -> list[CaseFacts]:
    """Give cases that bring no splits those that Hospitium would give them: by subject.

    Exact copies become one subject, as they do when cases are prepared for training.
    """
    labelled = [place for place, case in enumerate(cases) if case.classes or case.mask is not None]
    subjects, _ = join_duplicates(
        subjects=[cases[place].subject for place in labelled],
        digests=[bytes.fromhex(cases[place].digest) for place in labelled],
    )
    labels = [(cases[place].classes or (0,))[0] if cases[place].mask is None else 0
              for place in labelled]  # fmt: skip
    if not labelled:
        return list(cases)
    splits = assign_splits(subjects=subjects, labels=labels, seed=seed)
    given: dict[int, tuple[Split, str]] = {
        place: (SPLITS[int(split)], subject)
        for place, split, subject in zip(labelled, splits, subjects, strict=True)
    }
    return [
        replace(case, split=given[place][0], subject=given[place][1]) if place in given else case
        for place, case in enumerate(cases)
    ]


def _read_rows(
    table: Table,
    chosen: Mapping[str, int],
    finder: _Finder,
    found: _Found,
    skipped: Counter[str],
) -> bool:
    """Note what each row says about which cases; return whether the table gives splits."""
    at = chosen.get("split")
    splits = [None] * len(table.rows) if at is None else encode_splits(
        [row[at] for row in table.rows]
    )  # fmt: skip
    has_splits = any(split is not None for split in splits)
    for row, split in zip(table.rows, splits, strict=True):
        word = row[chosen["label"]]
        if has_splits and split is None:
            skipped["unknown_split"] += 1
        places = finder.find(row[chosen["image"]])
        found.num_unmatched += places is None
        for place in places or ():
            if found.words.setdefault(place, word) != word:
                found.conflicts.add(place)
            if "subject" in chosen and row[chosen["subject"]]:
                found.subjects[place] = row[chosen["subject"]]
            if split is not None:
                found.splits[place] = SPLITS[split]
    return has_splits


class _Finder:
    """Finds cases by what a table calls them."""

    def __init__(
        self,
        cases: Sequence[CaseFacts],
        folder: Path,
        files: Sequence[Sequence[Path]],
        left_out: Iterable[Path],
    ) -> None:
        self._folder = ImageFolder(folder)
        self._by_file = {
            path.resolve(): place for place, paths in enumerate(files) for path in paths
        }
        self._left_out = {path.resolve() for path in left_out}
        self._by_uid: defaultdict[str, list[int]] = defaultdict(list)
        for place, case in enumerate(cases):
            uids = case.uids
            for uid in {uids.accession, uids.study, uids.series, uids.instance} - {""}:
                self._by_uid[uid].append(place)

    def find(self, key: str) -> tuple[int, ...] | None:
        """Return the places of the cases that a key names, in order.

        None where it names nothing at all; nothing where it names only what was left out.
        """
        if key.strip() in self._by_uid:
            return tuple(self._by_uid[key.strip()])
        try:
            paths, _ = self._folder.find(key)
        except SkipError:
            return None
        real = [path.resolve() for path in paths]
        places = {self._by_file[path] for path in real if path in self._by_file}
        if not places and not self._left_out.intersection(real):
            return None
        return tuple(sorted(places))
