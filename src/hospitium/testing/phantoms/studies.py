"""Whole phantom studies on disk: DICOM files in a folder, and a CSV of their labels."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hospitium.errors import StorageError, UsageError
from hospitium.imaging.writing import Radiograph, write_radiograph
from hospitium.randomness import rng
from hospitium.testing.phantoms.anatomy import draw_anatomy
from hospitium.testing.phantoms.chest import draw_chest
from hospitium.testing.phantoms.vendors import VENDORS, Vendor, apply_vendor

CLASSES = ("normal", "pneumonia")
_SHARE_SEEN_TWICE = 0.25
_SIZES = (64, 2048)


@dataclass(frozen=True, kw_only=True)
class _Study:
    """One study to be drawn: whose, where, and the how-many-eth of this subject."""

    vendor: Vendor
    subject: str
    number: int
    label: str
    image: str


def write_phantoms(
    folder: Path,
    *,
    num_subjects: int,
    seed: int,
    vendors: Sequence[str] = ("Alder", "Birch", "Cedar", "Dogwood"),
    prevalence: float = 0.4,
    size: int = 256,
    site_column: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write chest-X-ray-like DICOM studies with known findings, and ``labels.csv``.

    Subjects go to the vendors in turn, each vendor being one hospital; every fourth subject or so
    has two studies, each with its own finding. Same arguments, same bytes. Files of the same name
    are replaced; ``labels.csv`` is written last, so that a folder with one is complete.

    Args:
        folder: Made if need be. Images go to ``folder/SITE/SUBJECT-STUDY.dcm``.
        num_subjects: How many people, over all vendors; > 0.
        seed: Of everything.
        vendors: Names out of ``VENDORS``, each once.
        prevalence: Share of studies with a pneumonia, 0 to 1; the same at every vendor.
        size: Rows and columns, 64 to 2,048.
        site_column: Whether ``labels.csv`` names the site; else the folders are named by vendor.
        progress: Called with the number of studies written and their total.

    Returns:
        The path of ``labels.csv``, with the columns image (relative, ``/``), label (normal or
        pneumonia), subject, site and vendor.

    Raises:
        UsageError: An argument is out of its range.
        StorageError: The folder cannot be written.
    """
    _check(num_subjects=num_subjects, vendors=vendors, prevalence=prevalence, size=size)
    chosen = [VENDORS[name] for name in vendors]
    studies = _schedule(num_subjects, chosen, seed, prevalence=prevalence, by_site=site_column)
    try:
        return _write_all(
            folder, studies, seed=seed, size=size, site_column=site_column, progress=progress
        )
    except OSError as error:
        raise StorageError(
            f"Phantoms: {folder} cannot be written ({error.strerror or error}). It may hold part "
            "of the studies, and has no labels.csv of them. Choose a folder with space, or make it "
            "writable, and write them again."
        ) from error


def _write_all(
    folder: Path,
    studies: Sequence[_Study],
    *,
    seed: int,
    size: int,
    site_column: bool,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Write the images, then the labels; labels of an earlier writing go first."""
    (folder / "labels.csv").unlink(missing_ok=True)
    for done, study in enumerate(studies, start=1):
        _write_study(folder, study, seed=seed, size=size)
        if progress:
            progress(done, len(studies))
    return _write_labels(folder, studies, site_column=site_column)


def _check(*, num_subjects: int, vendors: Sequence[str], prevalence: float, size: int) -> None:
    """Refuse arguments out of range before anything is written."""
    problem = ""
    if num_subjects < 1:
        problem = f"num_subjects is {num_subjects} against 1 or more"
    elif not vendors or len(set(vendors)) < len(vendors) or not set(vendors) <= set(VENDORS):
        problem = f"vendors are {tuple(vendors)} against each at most once of {tuple(VENDORS)}"
    elif not 0 <= prevalence <= 1:
        problem = f"prevalence is {prevalence} against 0 to 1"
    elif not _SIZES[0] <= size <= _SIZES[1]:
        problem = f"size is {size} against {_SIZES[0]} to {_SIZES[1]}"
    if problem:
        raise UsageError(f"Phantoms: {problem}. Nothing was written. Change this argument.")


def _schedule(
    num_subjects: int, vendors: Sequence[Vendor], seed: int, *, prevalence: float, by_site: bool
) -> list[_Study]:
    """List every study, in the order of subjects."""
    studies = []
    for index in range(num_subjects):
        vendor = vendors[index % len(vendors)]
        subject = f"{vendor.site_id}-{index // len(vendors) + 1:04d}"
        draw = rng(seed, "phantom-subject", subject)
        for number in range(1, 3 if draw.random() < _SHARE_SEEN_TWICE else 2):
            label = CLASSES[int(draw.random() < prevalence)]
            place = vendor.site_id if by_site else vendor.name
            image = f"{place}/{subject}-{number}.dcm"
            studies.append(
                _Study(vendor=vendor, subject=subject, number=number, label=label, image=image)
            )
    return studies


def _write_study(folder: Path, study: _Study, *, seed: int, size: int) -> None:
    """Draw one study and write its only image."""
    of_subject = rng(seed, "phantom-anatomy", study.subject)
    draw = rng(seed, "phantom", study.subject, study.number)
    scene = draw_chest(
        draw,
        size=size,
        has_pneumonia=study.label == "pneumonia",
        anatomy=draw_anatomy(of_subject),
    )
    stored, facts = apply_vendor(scene, study.vendor, draw)
    header = Radiograph(
        modality=study.vendor.modality,
        name=f"phantom/{seed}/{study.subject}/{study.number}",
        patient_id=study.subject,
        patient_sex=str(of_subject.choice(["F", "M"])),
        patient_age=int(of_subject.integers(18, 90)) + study.number - 1,
        study_date=f"{2019 + study.number}{draw.integers(1, 13):02d}{draw.integers(1, 29):02d}",
        manufacturer=study.vendor.name,
        bits_stored=facts.bits_stored,
        photometric=facts.photometric,
        spacing_mm=facts.spacing_mm,
        patient_orientation=facts.patient_orientation,
        window=facts.window,
        is_implicit=study.vendor.is_implicit,
    )
    path = folder / study.image
    path.parent.mkdir(parents=True, exist_ok=True)
    write_radiograph(path, stored, header=header)


def _write_labels(folder: Path, studies: Sequence[_Study], *, site_column: bool) -> Path:
    """Write the CSV under a temporary name, then give it its own."""
    columns = ["image", "label", "subject", *(["site"] if site_column else []), "vendor"]
    unfinished, path = folder / "labels.csv.part", folder / "labels.csv"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for study in studies:
            row = {"image": study.image, "label": study.label, "subject": study.subject}
            writer.writerow(row | {"site": study.vendor.site_id, "vendor": study.vendor.name})
    unfinished.replace(path)
    return path
