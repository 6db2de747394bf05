"""A cohort: a query, rules for inclusion, labels; with counts at each step, ending as a folder.

The folder holds ``files/SERIES/INSTANCE.dcm`` under keyed names, ``labels.csv`` (image, label,
subject; one row for each series), ``flow.json``, ``flow.html``, and for the site's own staff
``problems.csv`` (study, reason, cause).
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hospitium.errors import StorageError
from hospitium.imaging.array_files import write_atomically
from hospitium.imaging.instance import Skip, Uids
from hospitium.imaging.reading import read_header
from hospitium.imaging.sources.fetching import Chosen, Fetch, Key, Outcome, series_folder
from hospitium.imaging.sources.flow import Flow, FlowBook, flow_page
from hospitium.imaging.sources.label_keys import LabelTable
from hospitium.imaging.sources.pace import Pace
from hospitium.imaging.sources.queries import Pacs, Query, StudyFound
from hospitium.imaging.sources.selecting import MASKS, Progress, Rules, Selection, select
from hospitium.imaging.sources.shelf import Shelf


def make_cohort(
    pacs: Pacs,
    *,
    query: Query,
    rules: Rules,
    labels: LabelTable | None,
    shelf: Shelf,
    key: Key,
    pace: Pace,
    num_not_asked: int = 0,
    progress: Progress | None = None,
) -> Flow:
    """Find, choose and fetch studies; write the folder's tables last.

    Call it again after an interruption: what is on the shelf is not fetched again. What is on it
    and not in the cohort any more is removed.

    Args:
        pacs: Where to ask.
        query: What to ask for.
        rules: What to take of it.
        labels: Only studies with one label are taken; None: labels come from elsewhere.
        shelf: Of this cohort.
        key: For names in place of UIDs and patients.
        pace: How politely.
        num_not_asked: Keys of the labels' table that no query may hold.
        progress: Told what is done, how many of how many.

    Raises:
        PacsError: The PACS cannot be asked or read any more.
        StorageError: The quota or the disk.
    """
    pace.check_open()
    found = [Chosen(study=study, series=()) for study in pacs.studies(query)]
    selection = Selection(pacs=pacs, book=FlowBook(), left=found)
    used = select(selection, rules, labels, pace, progress)
    chosen = selection.left

    def told(done: int, total: int) -> None:
        if progress:
            progress("studies fetched", done, total)

    outcome = Fetch(pacs, shelf, key, pace).all(chosen, told)
    shelf.keep_only({series_folder(key, series) for item in chosen for series in item.series})
    for name, reasons in (
        ("complete at the PACS", ("empty_study", "incomplete_study")),
        ("fetched", ("import_failed",)),
    ):
        counts = Counter(r for r in outcome.reasons.values() if r in reasons)
        count_in = selection.book.steps[-1].count_out
        selection.book.step(name, count_in=count_in, reasons=counts)
    label_rows = {} if labels is None else _label_counts(labels, used, num_not_asked)
    return _write(shelf, key, outcome, selection, label_rows, labels)


def _label_counts(labels: LabelTable, used: Iterable[str], num_not_asked: int) -> dict[str, int]:
    return {
        "rows": labels.num_rows,
        "repeated": labels.num_repeated,
        "unlabelled": labels.num_unlabelled,
        "conflicts": len(labels.conflicts),
        "unmatched": labels.num_unmatched(used),
        "not_asked": num_not_asked,
    }


def _write(
    shelf: Shelf,
    key: Key,
    outcome: Outcome,
    selection: Selection,
    label_rows: Mapping[str, int],
    labels: LabelTable | None,
) -> Flow:
    """Write the tables of the folder; return the flow."""
    rows = list(_rows(shelf, key, outcome.done))
    files = [kept for row in rows for kept in shelf.below(row["image"])]
    unmapped = selection.unmapped + Counter(labels.unmapped if labels else {})
    flow = Flow(
        steps=selection.book.steps,
        num_subjects=len({row["subject"] for row in rows}),
        num_series=len(rows),
        num_instances=len(files),
        num_fetched=outcome.num_fetched,
        size_bytes=sum(kept.size for kept in files),
        label_rows=label_rows,
        unmapped=dict(sorted(unmapped.items())),
    )
    problems = [
        {"study": uid, "reason": reason, "cause": outcome.causes[uid]}
        for uid, reason in sorted(outcome.reasons.items())
    ]
    page = flow_page(flow, title=f"How the cohort {shelf.folder.name} came about")
    text = json.dumps(flow.as_json(), indent=1, sort_keys=True) + "\n"
    tables = {
        "problems.csv": _table(problems, ["study", "reason", "cause"]),
        "flow.json": text,
        "flow.html": page,
        "labels.csv": _table(rows, ["image", "label", "subject"]),
    }
    try:
        for name, content in tables.items():
            write_atomically(shelf.folder / name, [content.encode()])
    except OSError as error:
        raise StorageError(
            f"{shelf.folder}: the tables of the cohort could not be written "
            f"({error.strerror or error}). The images are kept. Free space or mend the access "
            "rights, then run the same command again."
        ) from error
    return flow


def _rows(shelf: Shelf, key: Key, done: Iterable[Chosen]) -> Iterator[dict[str, str]]:
    """Yield a row for each series of images that is on the shelf, sorted."""
    rows = []
    for item in done:
        for series in item.series:
            folder = series_folder(key, series)
            if series.modality not in MASKS and (kept := shelf.below(folder)):
                names = key.pseudonyms(_person(shelf.folder / kept[0].file, item.study))
                subject = names.patient or names.study
                rows.append({"image": folder, "label": item.label, "subject": subject})
    yield from sorted(rows, key=lambda row: row["image"])


def _person(path: Path, study: StudyFound) -> Uids:
    """Return whose image it is, as its header says: what a PACS tells may lack the issuer."""
    header = read_header(path)
    uids = study.uids if isinstance(header, Skip) else header.uids
    return Uids(study=study.uids.study, patient=uids.patient, issuer=uids.issuer)


def _table(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
