"""Whole phantom studies on disk: DICOM radiographs in a folder, and a CSV of their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from hospitium.imaging.writing import (
    Radiograph,
    Segment,
    Study,
    write_radiograph,
    write_segmentation,
)
from hospitium.imaging.writing.radiographs import radiograph
from hospitium.imaging.writing.spoiling import SPOILED, spoil
from hospitium.randomness import rng
from hospitium.testing.phantoms.anatomy import draw_anatomy
from hospitium.testing.phantoms.chest import Chest, Findings, draw_chest
from hospitium.testing.phantoms.knobs import Knobs, Site, check_knobs
from hospitium.testing.phantoms.schedule import Planned, subjects
from hospitium.testing.phantoms.tables import write_table, writing
from hospitium.testing.phantoms.vendors import VENDORS, StoredFacts, apply_vendor

CLASSES = ("normal", "pneumonia")
AWKWARD = ("missing_file", *SPOILED)
"""Why awkward studies are left out, in the order in which they are added."""

_OPACITY = Segment(label="pneumonia", code=("95436008", "SCT", "Lung consolidation"))
_AWKWARD_SUBJECTS = "awkward"

Progress = Callable[[int, int], None]
Row = dict[str, object]


def write_phantoms(
    folder: Path,
    *,
    num_subjects: int,
    seed: int,
    vendors: Sequence[str] = ("Alder", "Birch", "Cedar", "Dogwood"),
    prevalence: float = 0.4,
    size: int = 256,
    site_column: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write radiographs of a number of subjects, uncompressed, one site for each vendor.

    Every fourth subject or so has two studies, each with its own finding. Otherwise as
    `write_chest`.

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
        The path of ``labels.csv``.

    Raises:
        UsageError: An argument is out of its range.
        StorageError: The folder cannot be written.
    """
    sites = [
        Site(site_id=VENDORS[name].site_id if name in VENDORS else name, vendor=name)
        for name in vendors
    ]
    knobs = Knobs(prevalence=prevalence, is_compressed=False)
    check_knobs(knobs, sites=sites, vendors=VENDORS, size=size, count=num_subjects)
    return _write(
        folder,
        list(chain.from_iterable(islice(subjects(sites, seed, knobs), num_subjects))),
        seed=seed,
        size=size,
        knobs=knobs,
        site_column=site_column,
        progress=progress,
    )


def write_chest(
    folder: Path,
    *,
    num_cases: int,
    seed: int,
    sites: Sequence[Site],
    size: int = 256,
    knobs: Knobs | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write chest-X-ray-like DICOM studies with known findings, and ``labels.csv``.

    Same arguments, same bytes. Files of the same name are replaced; ``labels.csv`` is written
    last, so that a folder with one is complete. Awkward studies come on top of ``num_cases``,
    stand in ``labels.csv`` like all others, and are told in ``awkward.csv`` with their reason.

    Args:
        folder: Made if need be. Images go to ``folder/SITE/SUBJECT-STUDY.dcm``, masks (DICOM
            segmentations on the stored pixels) to ``SUBJECT-STUDY-mask.dcm`` beside them.
        num_cases: How many studies; > 0. The last subject's further studies may be cut off.
        seed: Of everything.
        sites: Who has whose equipment.
        size: Rows and columns, 64 to 2,048.
        knobs: Everything else.
        progress: Called with the number of studies written and their total.

    Returns:
        The path of ``labels.csv``, with the columns image (relative, ``/``), label (normal or
        pneumonia), subject, site and vendor; ``mask``, ``lobe`` and ``area_mm2`` where there are
        masks; ``drawn`` (the label without its noise), ``effusion`` and ``cardiomegaly`` where
        these are asked for.

    Raises:
        UsageError: An argument is out of its range.
        StorageError: The folder cannot be written.
    """
    knobs = knobs or Knobs()
    check_knobs(knobs, sites=sites, vendors=VENDORS, size=size, count=num_cases)
    planned = list(islice(chain.from_iterable(subjects(sites, seed, knobs)), num_cases))
    return _write(folder, planned, seed=seed, size=size, knobs=knobs, progress=progress)


def _write(
    folder: Path,
    planned: Sequence[Planned],
    *,
    seed: int,
    size: int,
    knobs: Knobs,
    site_column: bool = True,
    progress: Progress | None,
) -> Path:
    """Write the images, then the tables; tables of an earlier writing go first."""
    awkward = list(_awkward(planned, knobs))
    total = len(planned) + len(awkward)
    rows: list[Row] = []
    with writing(folder):
        for study in planned:
            place = study.site.site_id if site_column else study.site.vendor
            rows.append(_write_study(folder, place, study, seed=seed, size=size, knobs=knobs))
            if progress:
                progress(len(rows), total)
        reasons = []
        for study, reason in awkward:
            rows.append(_write_awkward(folder, study, reason, seed=seed, size=size, knobs=knobs))
            reasons.append({"image": rows[-1]["image"], "reason": reason})
            if progress:
                progress(len(rows), total)
        if reasons:
            write_table(folder / "awkward.csv", reasons, columns=("image", "reason"))
        columns = _columns(knobs, site_column=site_column)
        return write_table(folder / "labels.csv", rows, columns=columns)


def _columns(knobs: Knobs, *, site_column: bool) -> list[str]:
    """Return the columns of ``labels.csv``."""
    return [
        *("image", "label", "subject"),
        *(["site"] if site_column else []),
        "vendor",
        *(["mask", "lobe", "area_mm2"] if knobs.has_masks else []),
        *(["drawn"] if knobs.label_noise else []),
        *(["effusion"] if knobs.effusion else []),
        *(["cardiomegaly"] if knobs.cardiomegaly else []),
    ]


def _awkward(planned: Sequence[Planned], knobs: Knobs) -> Iterable[tuple[Planned, str]]:
    """Yield the studies that a reader must leave out: one a reason, in turn, at turning sites."""
    count = math.ceil(knobs.awkward * len(planned))
    for number, reason in zip(range(1, count + 1), cycle(AWKWARD), strict=False):
        model = planned[number % len(planned)]
        subject = f"{model.site.site_id}-{_AWKWARD_SUBJECTS}-{number:04d}"
        yield replace(model, subject=subject, number=1), reason


def _write_study(
    folder: Path, place: str, study: Planned, *, seed: int, size: int, knobs: Knobs
) -> Row:
    """Draw one study and write its only image, and its mask; return its row."""
    scene, stored, facts, header = _drawn(study, seed=seed, size=size, knobs=knobs)
    path = folder / place / f"{study.name}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    source = write_radiograph(path, stored, header=header)
    row = _row(study, f"{place}/{path.name}")
    if knobs.has_masks:
        mask = scene.consolidated
        if facts.patient_orientation[0] == "R":
            mask = mask[:, ::-1]
        write_segmentation(
            path.with_name(f"{study.name}-mask.dcm"),
            mask[np.newaxis],
            sources=[source],
            name=f"{header.study.name}/mask",
            segment=_OPACITY,
        )
        row["mask"] = f"{place}/{study.name}-mask.dcm"
        row["lobe"] = scene.lobe
        row["area_mm2"] = round(float(mask.sum()) * facts.spacing_mm**2)
    return row


def _write_awkward(
    folder: Path, study: Planned, reason: str, *, seed: int, size: int, knobs: Knobs
) -> Row:
    """Write a study that a reader must leave out, or none where its file is missing."""
    place = study.site.site_id
    if reason != "missing_file":
        _, stored, _, header = _drawn(study, seed=seed, size=size, knobs=knobs)
        good = radiograph(stored, header=replace(header, encoding="explicit"))
        path = folder / place / f"{study.name}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(spoil(good, reason=reason))
    return _row(study, f"{place}/{study.name}.dcm")


def _row(study: Planned, image: str) -> Row:
    """Return what the tables say of one study."""
    return {
        "image": image,
        "label": CLASSES[study.is_recorded],
        "subject": study.subject,
        "site": study.site.site_id,
        "vendor": study.site.vendor,
        "drawn": CLASSES[study.is_ill],
        "effusion": int(study.has_effusion),
        "cardiomegaly": int(study.has_cardiomegaly),
    }


def _drawn(
    study: Planned, *, seed: int, size: int, knobs: Knobs
) -> tuple[Chest, np.ndarray, StoredFacts, Radiograph]:
    """Draw a study: the scene, what its vendor stores of it, and what the header says."""
    vendor = VENDORS[study.site.vendor]
    of_subject = rng(seed, "phantom-anatomy", study.subject)
    draw = rng(seed, "phantom", study.subject, study.number)
    findings = Findings(
        has_pneumonia=study.is_ill,
        has_effusion=study.has_effusion,
        has_cardiomegaly=study.has_cardiomegaly,
        lesion_size=knobs.lesion_size,
    )
    anatomy = draw_anatomy(of_subject)
    scene = draw_chest(draw, size=size, findings=findings, anatomy=anatomy)
    stored, facts = apply_vendor(scene.attenuation, vendor, draw, noise=knobs.noise)
    header = Radiograph(
        study=Study(
            name=f"phantom/{seed}/{study.subject}/{study.number}",
            patient_id=study.subject,
            patient_sex=str(of_subject.choice(["F", "M"])),
            patient_age=int(of_subject.integers(18, 90)) + study.number - 1,
            study_date=f"{2019 + study.number}{draw.integers(1, 13):02d}{draw.integers(1, 29):02d}",
            manufacturer=vendor.name,
        ),
        modality=vendor.modality,
        bits_stored=facts.bits_stored,
        photometric=facts.photometric,
        spacing_mm=facts.spacing_mm,
        patient_orientation=facts.patient_orientation,
        window=facts.window,
        encoding=vendor.encoding if knobs.is_compressed else vendor.native_encoding,
    )
    return scene, stored, facts, header
