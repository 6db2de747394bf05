"""A site's files -> the votes of each image, one image in memory at a time."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.files import read_file
from hospitium.imaging.fingerprint.data import Fingerprint, fingerprint_of_images
from hospitium.imaging.fingerprint.measuring import Picture, Votes, measure
from hospitium.imaging.geometry import Volume, assemble, assemble_series, unusable_volume
from hospitium.imaging.instance import (
    Header,
    Instance,
    Skip,
    SkipError,
    Uids,
    is_constant,
    unusable,
)
from hospitium.imaging.nifti import read_nifti, read_nifti_labels
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_dicom, read_header
from hospitium.imaging.scan_walk import walk
from hospitium.imaging.sources.keyed import KeyedFolder, choose_key
from hospitium.imaging.sources.labels import MISSING, encode_labels
from hospitium.imaging.sources.npz import read_npz
from hospitium.imaging.sources.paths import ImageFolder
from hospitium.imaging.sources.tables import Columns, read_table

Progress = Callable[[int, int], None]
_ZIP = b"PK\x03\x04"
_MASK_FOLDERS = ("labels", "masks", "labelsTr", "segmentations")
_MASK_COLUMNS = ("mask", "mask_path", "segmentation")
_TABLES = (".csv", ".tsv")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601-7, 2.5.1
_CROSS_SECTIONS = frozenset({"CT", "MR", "PT", "NM"})


@dataclass(kw_only=True)
class Gathered:
    """What was read at a site. It stays there: only its fingerprint may leave.

    Attributes:
        votes: Of each image or volume, with the subject whose it is.
        skipped: How many files, rows or series gave nothing, by reason.
        num_bytes: Size of the files that were read.
        seconds: How long that took.
    """

    votes: list[tuple[str, Votes]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    seconds: float = 0.0

    @property
    def fingerprint(self) -> Fingerprint:
        """The subjects' histograms, before suppression."""
        return fingerprint_of_images(self.votes)

    @property
    def read_mb_s(self) -> float | None:
        """Megabytes of files read, decoded and measured in a second; None of nothing."""
        return self.num_bytes / 1e6 / self.seconds if self.num_bytes and self.seconds else None


def gather(
    path: Path,
    *,
    labels: Path | None = None,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Gathered:
    """Measure every image that a person points at.

    Args:
        path: An NPZ file in the MedMNIST layout; a table of labels, or a folder with one; a folder
            of DICOM files or pictures; or one of NIfTI volumes, whose masks have the same names
            in a folder ``labels`` or ``masks`` beside them.
        labels: A table of labels that lies elsewhere; it names files below ``path``.
        classes: The plan's classes; None takes those of the table.
        progress: Told how many files of how many were tried.

    Raises:
        DataError: There is nothing of that kind, or nothing in it can be read.
    """
    gathered, started = Gathered(), time.perf_counter()
    for subject, picture in _pictures(path, gathered, labels, classes, progress):
        gathered.votes.append((subject, measure(picture)))
    gathered.seconds = time.perf_counter() - started
    if not gathered.votes:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in gathered.skipped.most_common(5))
        raise DataError(
            f"{path}: no image could be read{f' ({reasons})' if reasons else ''}. Nothing was "
            "counted. `hospitium site data scan` says what is wrong with each file."
        )
    return gathered


Found = Iterator[tuple[str, Picture]]


def _pictures(
    path: Path,
    gathered: Gathered,
    labels: Path | None,
    classes: Sequence[str] | None,
    progress: Progress | None,
) -> Found:
    """Choose how a path is read, by what is there."""
    if path.is_file() and _is_npz(path):
        return _npz(path, gathered, classes, progress)
    table = labels or _table(path)
    if table is not None:
        root = path if labels and path.is_dir() else table.parent
        return _tabled(table, root, gathered, classes, progress)
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder. Nothing was read. Give an NPZ file, a folder of "
            "images, or the name of a data set of this site."
        )
    return _walked(path, gathered, progress)


def _is_npz(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_ZIP)) == _ZIP


def _table(path: Path) -> Path | None:
    """Return the table of labels at a path, None where there is none."""
    if path.is_file():
        return path if path.suffix.lower() in _TABLES else None
    named = path / "labels.csv"
    return named if named.is_file() else None


# --- NPZ -----------------------------------------------------------------------------------------


def _npz(
    path: Path, gathered: Gathered, classes: Sequence[str] | None, progress: Progress | None
) -> Found:
    """Yield the images of an NPZ file; exact copies are one subject."""
    cases = read_npz(path, harmonise=Harmonise(), seed=0, progress=progress, classes=classes)
    gathered.num_bytes = path.stat().st_size
    gathered.skipped.update(cases.skipped)
    for image, label, subject in zip(cases.images, cases.labels, cases.subjects, strict=True):
        yield (
            str(subject),
            Picture(
                values=image[0],
                is_colour=len(image) == 3,
                label=cases.classes[int(label)],
                has_own_scale=False,
            ),
        )


# --- a table of labels ---------------------------------------------------------------------------


def _tabled(
    table_path: Path,
    root: Path,
    gathered: Gathered,
    classes: Sequence[str] | None,
    progress: Progress | None,
) -> Found:
    """Yield what a table names, once each, with its label and its subject."""
    table = read_table(table_path)
    chosen, kind = choose_key(table, Columns())
    labels, names = encode_labels(
        [row[chosen["label"]] for row in table.rows],
        where=f'{table_path}, column "{table.names[chosen["label"]]}"',
        classes=classes,
    )
    folder, masks = KeyedFolder(root, kind), ImageFolder(root)
    mask_at = next((i for i, name in enumerate(table.names) if name.lower() in _MASK_COLUMNS), None)
    seen: set[Path] = set()
    for number, cells in enumerate(table.rows):
        if progress is not None:
            progress(number + 1, len(table.rows))
        label = "" if labels[number] == MISSING else names[int(labels[number])]
        named = cells[chosen["subject"]] if "subject" in chosen else ""
        try:
            paths = [path for path in folder.find(cells[chosen["image"]])[0] if path not in seen]
            mask = (
                masks.find(cells[mask_at])[0][0] if mask_at is not None and cells[mask_at] else None
            )
        except SkipError as error:
            gathered.skipped[error.skip.reason] += 1
            continue
        seen.update(paths)
        for path in paths:
            for subject, picture in _file(path, gathered, label=label, mask=mask):
                yield named or subject, picture


# --- a folder without a table --------------------------------------------------------------------


def _walked(root: Path, gathered: Gathered, progress: Progress | None) -> Found:
    """Yield every volume and every single image below a folder."""
    found = list(walk(root))
    base = root if root.is_dir() else root.parent
    for item in found:
        if item.reason:
            gathered.skipped[item.reason] += 1
    paths = [item.path for item in found if not item.reason]
    masks = _masks(paths, base)
    paths = [path for path in paths if path not in masks.values()]
    series, single = _series(paths, gathered)
    done = 0
    for path in single:
        yield from _file(path, gathered, mask=masks.get(path))
        done += 1
        if progress is not None:
            progress(done, len(paths))
    for members in series:
        yield from _volume_of(members, gathered)
        done += len(members)
        if progress is not None:
            progress(done, len(paths))


def _masks(paths: Sequence[Path], base: Path) -> Mapping[Path, Path]:
    """Return the mask of each NIfTI image: the file of its name in a folder of masks."""
    masks = {
        path.name: path
        for path in paths
        if _is_nifti(path) and path.parent.name in _MASK_FOLDERS and path.parent != base
    }
    return {
        path: masks[path.name]
        for path in paths
        if path.name in masks and masks[path.name] != path and path.parent.name not in _MASK_FOLDERS
    }


def _series(
    paths: Sequence[Path], gathered: Gathered
) -> tuple[list[list[tuple[Path, Header]]], list[Path]]:
    """Sort DICOM slices into series by their headers; everything else stands alone."""
    single: list[Path] = []
    series: defaultdict[tuple[str, str], list[tuple[Path, Header]]] = defaultdict(list)
    for path in paths:
        header = None if _is_nifti(path) else read_header(path)
        if isinstance(header, Header) and _is_slice(header):
            series[header.uids.study, header.uids.series].append((path, header))
        else:
            single.append(path)
    for key in [key for key, members in series.items() if len(members) < 3]:
        single += [path for path, _ in series.pop(key)]
    return [series[key] for key in sorted(series)], sorted(single)


def _is_slice(header: Header) -> bool:
    return (
        header.facts.modality in _CROSS_SECTIONS
        and header.placements is not None
        and header.uids.series != ""
    )


def _volume_of(members: list[tuple[Path, Header]], gathered: Gathered) -> Found:
    """Yield the volume of one series, if it is one."""
    gathered.num_bytes += sum(path.stat().st_size for path, _ in members)
    volume = assemble_series(
        [header for _, header in members], lambda number: read_dicom(members[number][0])
    )
    subject = _subject(members[0][1].uids, members[0][0])
    yield from _of_volume(volume, subject, gathered)


def _file(path: Path, gathered: Gathered, *, label: str = "", mask: Path | None = None) -> Found:
    """Yield the one image or volume in a file."""
    try:
        gathered.num_bytes += path.stat().st_size
    except OSError:
        gathered.skipped["unreadable_file"] += 1
        return
    if _is_nifti(path):
        subject = path.name.removesuffix(".gz").removesuffix(".nii")
        yield from _of_volume(read_nifti(path), subject, gathered, label=label, mask=mask)
        return
    found = read_file(path)
    if isinstance(found, Skip):
        gathered.skipped[found.reason] += 1
        return
    subject = _subject(found.uids, path)
    if found.num_frames > 1 and found.placements is not None:
        yield from _of_volume(assemble([found]), subject, gathered, label=label)
        return
    skip = unusable(found.cautions, is_constant=is_constant(found))
    if skip is not None:
        gathered.skipped[skip.reason] += 1
        return
    yield subject, _picture(found, label=label)


def _of_volume(
    volume: Volume | Skip,
    subject: str,
    gathered: Gathered,
    *,
    label: str = "",
    mask: Path | None = None,
) -> Found:
    skip = volume if isinstance(volume, Skip) else unusable_volume(volume)
    if isinstance(volume, Skip) or skip is not None:
        assert skip is not None
        gathered.skipped[skip.reason] += 1
        return
    labels = None if mask is None else read_nifti_labels(mask, like=volume)
    if isinstance(labels, Skip):
        gathered.skipped[labels.reason] += 1
        labels = None
    yield (
        subject,
        Picture(
            values=volume.values[0],
            spacing_mm=volume.spacing_mm,
            is_valid=volume.is_valid,
            mask=None if labels is None else labels.labels,
            facts=volume.facts,
            bits=str(volume.facts.bits_stored),
            is_lossy=volume.facts.is_lossy if volume.facts.modality else None,
            label=label,
        ),
    )


def _picture(instance: Instance, *, label: str) -> Picture:
    frame = instance.values[0]
    grey: npt.NDArray[Any] = frame.astype(np.float32) @ _LUMA if instance.is_colour else frame
    return Picture(
        values=grey,
        spacing_mm=instance.facts.spacing_mm,
        is_valid=None if instance.is_valid is None else instance.is_valid[0],
        facts=instance.facts,
        is_colour=instance.is_colour,
        bits=str(instance.facts.bits_stored),
        is_lossy=instance.facts.is_lossy or "lossy" in instance.notes,
        label=label,
    )


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _subject(uids: Uids, path: Path) -> str:
    """Return whose image it is: the patient's, else the study's, else the file's own."""
    patient = uids.patient.strip().casefold()
    if patient:
        return f"patient {uids.issuer.strip().casefold()} {patient}"
    return f"study {uids.study}" if uids.study else f"file {path}"
