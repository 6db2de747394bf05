"""What a person points at -> an `Inventory`: an NPZ file, a folder of images, or of volumes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hospitium.imaging.conformance.case_facts import (
    MAX_DETAILS,
    CaseFacts,
    Inventory,
    LabelTable,
)
from hospitium.imaging.conformance.checks_labels import is_segmentation, mask_values
from hospitium.imaging.conformance.examining import NIFTI, Request, from_bytes, prepare
from hospitium.imaging.conformance.gathering_npz import gather_npz
from hospitium.imaging.conformance.labelling import with_splits, with_table
from hospitium.imaging.conformance.pictures import MAX_THUMBNAILS
from hospitium.imaging.decode_pool import GaveUp, answers
from hospitium.imaging.instance import Limits, Skip, SkipError
from hospitium.imaging.parsing import parse
from hospitium.imaging.reading import read_bytes, read_header
from hospitium.imaging.sources.tables import Columns
from hospitium.plan import Plan

Progress = Callable[[int, int], None]
_TABLE = "labels.csv"
_IGNORED_NAMES = frozenset({"dicomdir"})
_IGNORED = frozenset(
    {*(".csv", ".tsv", ".txt", ".md", ".json", ".toml", ".xml", ".html", ".pdf", ".py"),
     *(".xlsx", ".xls", ".docx", ".ini", ".yaml", ".yml", ".part")}
)  # fmt: skip
_MASK_ENDS = ("mask", "_mask", "-mask", "_seg", "_label", "_labels")
_TIME_LIMIT_S = 300.0


def gather(
    path: Path,
    *,
    plan: Plan,
    labels: Path | None = None,
    columns: Columns | None = None,
    num_workers: int = 0,
    progress: Progress | None = None,
) -> Inventory:
    """Read all of a site's data once and keep a few numbers of each case.

    Args:
        path: An NPZ file in the MedMNIST layout; or a folder with images or volumes, with
            ``labels.csv`` in it for class labels. Masks are DICOM objects of the same study; NIfTI
            files of equal names in ``images/`` and ``labels/``; or ``mask.nii.gz`` and
            ``NAME_mask.nii.gz`` beside the image.
        plan: What the data are checked against.
        labels: A table of labels that lies elsewhere.
        columns: Which column of it means what, where the names are not usual ones.
        num_workers: Processes that decode; 0 decodes in this one.
        progress: Told how many cases of how many were read.

    Raises:
        DataError: There is nothing of that kind, or no worker process can start.
    """
    if path.is_file() and path.suffix.lower() not in (".csv", ".tsv"):
        return gather_npz(path, plan=plan, progress=progress)
    folder = path.parent if path.is_file() else path
    table = labels or (path if path.is_file() else _table_of(folder))
    requests, unread = _requests(folder, plan)
    found = _Gathered(plan, unread)
    for request, answer in _examined(requests, plan, num_workers=num_workers):
        found.take(request, answer)
        if progress is not None:
            progress(found.num_tried, len(requests))
    return found.inventory(folder, table=table, columns=columns, num_bytes=_size(requests))


class _Gathered:
    """What has been read so far."""

    def __init__(self, plan: Plan, unread: Sequence[tuple[str, Skip]]) -> None:
        self._plan = plan
        self._cases: list[CaseFacts] = []
        self._files: list[tuple[Path, ...]] = []
        self._left_out: list[Path] = []
        self._skipped: Counter[str] = Counter()
        self._details: list[tuple[str, str]] = []
        self.num_tried = 0
        for name, skip in unread:
            self._skip(name, skip)

    def take(self, request: Request, found: CaseFacts | Skip) -> None:
        """Keep a case, or count why there is none."""
        self.num_tried += 1
        if isinstance(found, Skip):
            self._skip(request.name, found)
            self._left_out += [Path(path) for path in request.paths]
            return
        if len(self._cases) >= MAX_THUMBNAILS:
            found = replace(found, thumbnail=b"")
        self._cases.append(replace(found, subject=_subject(found)))
        self._files.append(tuple(Path(path) for path in request.paths))

    def inventory(
        self, folder: Path, *, table: Path | None, columns: Columns | None, num_bytes: int
    ) -> Inventory:
        """Return everything, with labels, subjects and splits."""
        cases, labels = self._cases, LabelTable(num_unlabelled=len(self._cases))
        skipped = self._skipped
        if table is None:
            labels = replace(labels, problem=f"no table of labels: {_TABLE} is not there")
        else:
            cases, labels, more = with_table(
                cases,
                table_path=table,
                folder=folder,
                files=self._files,
                left_out=self._left_out,
                classes=self._plan.task.classes,
                columns=columns,
            )
            skipped = skipped + more
        if is_segmentation(self._plan):
            cases, labels = _with_masks(cases, self._plan, has_splits=labels.has_splits)
        if not labels.has_splits:
            cases = with_splits(cases, seed=self._plan.seed)
        return Inventory(
            kind="volumes" if self._plan.imaging.kind == "volume" else "folder",
            cases=tuple(cases),
            skipped=dict(sorted(skipped.items())),
            details=tuple(self._details),
            labels=labels,
            num_bytes=num_bytes,
        )

    def _skip(self, name: str, skip: Skip) -> None:
        self._skipped[skip.reason] += 1
        if len(self._details) < MAX_DETAILS:
            self._details.append((skip.reason, name))


def _with_masks(
    cases: Sequence[CaseFacts], plan: Plan, *, has_splits: bool
) -> tuple[list[CaseFacts], LabelTable]:
    """Take the classes of each case from the labels in its mask; a table's labels do not count."""
    index_of = mask_values(plan)
    labelled = [
        replace(case, classes=tuple(index_of[value] for value in case.mask.values))
        if case.mask is not None
        else case
        for case in cases
    ]
    missing = sum(case.mask is None or case.mask.reason == "mask_missing" for case in cases)
    labels = LabelTable(
        num_rows=len(cases) - missing, num_unlabelled=missing, has_splits=has_splits
    )
    return labelled, labels


def _examined(
    requests: Sequence[Request], plan: Plan, *, num_workers: int
) -> Iterator[tuple[Request, CaseFacts | Skip]]:
    """Yield each request with its answer, in order; a decoder that dies costs one case."""
    jobs: Iterable[tuple[Request, bytes | None]] = (
        (request, request.to_bytes()) for request in requests
    )
    for request, answer in answers(
        jobs,
        prepare=prepare,
        settings=plan.canonical,
        num_workers=num_workers,
        time_limit_s=_TIME_LIMIT_S,
    ):
        if isinstance(answer, bytes):
            yield request, from_bytes(answer)
        else:
            detail = answer.detail if isinstance(answer, GaveUp) else "no answer"
            yield request, Skip(reason="decode_failed", detail=detail)


def _requests(folder: Path, plan: Plan) -> tuple[list[Request], list[tuple[str, Skip]]]:
    """Return what is to be examined, sorted by name, and what can be no case already."""
    masks = folder / "labels"
    has_masks = is_segmentation(plan) and masks.is_dir() and (folder / "images").is_dir()
    root = folder / "images" if has_masks else folder
    files = [path for path in _files(root) if path.suffix.lower() not in _IGNORED]
    niftis = [path for path in files if path.name.lower().endswith(NIFTI) and not _is_mask(path)]
    others = [path for path in files if not path.name.lower().endswith(NIFTI)]
    requests = [
        Request(
            name=path.relative_to(folder).as_posix(),
            kind="nifti",
            paths=(str(path),),
            masks=_mask_of(path, masks if has_masks else path.parent),
        )
        for path in niftis
    ]
    if plan.imaging.kind == "volume":
        series, unread = _series(others, folder, has_label_objects=is_segmentation(plan))
        return [*requests, *series], unread
    return [
        *requests,
        *(
            Request(name=path.relative_to(folder).as_posix(), kind="image", paths=(str(path),))
            for path in others
        ),
    ], []


def _series(
    files: Sequence[Path], folder: Path, *, has_label_objects: bool
) -> tuple[list[Request], list[tuple[str, Skip]]]:
    """Group DICOM files by their series; a file whose header cannot be read is no case.

    In a plan of masks, the label objects of a study go with each of its series.
    """
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    study_of: dict[str, str] = {}
    masks: defaultdict[str, list[str]] = defaultdict(list)
    unread: list[tuple[str, Skip]] = []
    for path in files:
        header = read_header(path)
        if isinstance(header, Skip):
            study = _study_of(path) if header.reason == "label_object" else ""
            if has_label_objects and study:
                masks[study].append(str(path))
            else:
                unread.append((path.relative_to(folder).as_posix(), header))
        else:
            series = header.uids.series or str(path)
            groups[series].append(path)
            study_of[series] = header.uids.study
    requests = [
        Request(
            name=paths[0].relative_to(folder).as_posix(),
            kind="series",
            paths=tuple(str(path) for path in paths),
            masks=tuple(masks.get(study_of[series], ())),
        )
        for series, paths in groups.items()
    ]
    return requests, unread


def _study_of(path: Path) -> str:
    """Return the study of a label object; empty where it cannot be read."""
    raw = read_bytes(path)
    if isinstance(raw, Skip):
        return ""
    try:
        return parse(raw, limits=Limits()).elements.text("StudyInstanceUID")
    except SkipError:
        return ""


def _files(root: Path) -> list[Path]:
    """Return all files below a folder, sorted; links that leave it are not followed."""
    real = root.resolve()
    return sorted(
        path
        for parent, _, names in os.walk(root)
        for name in names
        if not name.startswith(".") and name.casefold() not in _IGNORED_NAMES
        for path in (Path(parent, name),)
        if not path.is_symlink() or _leads_into(path, real)
    )


def _leads_into(link: Path, folder: Path) -> bool:
    """Return whether a link ends in a folder, and not in itself."""
    try:
        return link.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):
        return False


def _is_mask(path: Path) -> bool:
    """Whether a NIfTI file is called a mask: ``mask``, or something that ends so."""
    return _stem(path).casefold().endswith(_MASK_ENDS)


def _mask_of(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the mask of an image: of the same name in a folder of masks, else ``mask`` beside it,
    or ``NAME_mask`` and the like; nothing where there is none.
    """
    stem = _stem(path)
    names = [stem] if folder != path.parent else [f"{stem}{end}" for end in _MASK_ENDS[1:]]
    names += [] if folder != path.parent else ["mask"]
    found = (folder / f"{name}{suffix}" for name in names for suffix in (".nii.gz", ".nii"))
    return tuple(str(place) for place in found if place.is_file())[:1]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _table_of(folder: Path) -> Path | None:
    """Return ``labels.csv``, or the only table of a folder."""
    if (folder / _TABLE).is_file():
        return folder / _TABLE
    tables = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".csv", ".tsv"))
    return tables[0] if len(tables) == 1 else None


def _subject(case: CaseFacts) -> str:
    """Return whose a case is: the patient with its issuer, else the study, else the file."""
    patient = case.uids.patient.strip().casefold()
    if patient:
        return f"patient:{case.uids.issuer.strip().casefold()}|{patient}"
    return f"study:{case.uids.study}" if case.uids.study else f"file:{case.name}"


def _size(requests: Sequence[Request]) -> int:
    """Return the bytes of all files that were examined; one that is gone counts nothing."""
    total = 0
    for request in requests:
        for path in request.paths:
            try:
                total += Path(path).stat().st_size
            except OSError:
                continue
    return total
