"""Whole phantom volumes on disk: MR heads and CT trunks, their masks, and a CSV of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hospitium.errors import UsageError
from hospitium.imaging.writing import (
    Grid,
    Segment,
    Study,
    Tomogram,
    write_frames,
    write_nifti,
    write_segmentation,
    write_slices,
    write_structures,
)
from hospitium.randomness import rng
from hospitium.testing.phantoms.heads import (
    BRIGHTNESS,
    LESION,
    Contrast,
    draw_head,
    draw_tissues,
)
from hospitium.testing.phantoms.knobs import Knobs, Site, check_knobs
from hospitium.testing.phantoms.scanners3d import SCANNERS, Scanner, grid_of, scan_ct, scan_mr
from hospitium.testing.phantoms.schedule import Planned, subjects
from hospitium.testing.phantoms.solids import draw_pose, points_of, thicken
from hospitium.testing.phantoms.studies import Progress, Row
from hospitium.testing.phantoms.tables import write_table, writing
from hospitium.testing.phantoms.trunks import draw_densities, draw_trunk

VOLUME_CLASSES = ("normal", "lesion")
_THIN_MM = 2.6  # slices thicker than this are drawn in parts
_COLUMNS = ("image", "label", "subject", "site", "vendor", "mask", "num_lesions", "volume_ml")
_TIMES: dict[str, tuple[str, str]] = {  # repetition and echo time, ms
    "T1": ("600", "10"),
    "T2": ("4500", "95"),
    "FLAIR": ("9000", "120"),
}
_SEGMENT = Segment(label="lesion")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume before it is written: what is stored where, and where lesions are."""

    stored: npt.NDArray[np.integer[Any]]
    grid: Grid
    mask: npt.NDArray[np.bool_]


def write_volumes(
    folder: Path,
    *,
    kind: Literal["mr", "ct"],
    num_cases: int,
    seed: int,
    sites: Sequence[Site],
    size: int = 96,
    contrast: Contrast = "FLAIR",
    knobs: Knobs | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write MR heads or CT trunks with known lesions and their masks, and ``labels.csv``.

    Each vendor writes in its own way: slices, one multi-frame object, or NIfTI; masks as DICOM
    segmentation, structure set, or NIfTI. A mask without a lesion is empty. Same arguments, same
    bytes; ``labels.csv`` is written last.

    Args:
        folder: Made if need be. A volume is ``folder/SITE/STUDY/`` with its slices in ``image/``,
            or ``image.dcm``, or ``image.nii.gz``; its mask is ``mask.dcm`` or ``mask.nii.gz``.
        kind: ``"mr"`` or ``"ct"``.
        num_cases: How many volumes; > 0.
        seed: Of everything.
        sites: Who has whose scanner.
        size: Rows and columns, 64 to 2,048; the field of view stays, so 224 makes 1 mm at Birch.
        contrast: Of an MR: T1, T2 or FLAIR.
        knobs: ``prevalence``, ``seen_twice``, ``shared_subjects``, ``lesion_size``, ``noise`` and
            ``label_noise`` hold here.
        progress: Called with the number of volumes written and their total.

    Returns:
        The path of ``labels.csv``, with the columns image, label (normal or lesion), subject,
        site, vendor, mask, num_lesions and volume_ml (of all lesions together).

    Raises:
        UsageError: An argument is out of its range.
        StorageError: The folder cannot be written.
    """
    knobs = knobs or Knobs()
    check_knobs(knobs, sites=sites, vendors=SCANNERS[kind], size=size, count=num_cases)
    if knobs.awkward or knobs.effusion or knobs.cardiomegaly:
        raise UsageError(
            "Phantoms: awkward studies, effusion and cardiomegaly are of radiographs, not of "
            f"{kind.upper()} volumes. Nothing was written. Leave them out, or write --kind chest."
        )
    planned = list(islice(chain.from_iterable(subjects(sites, seed, knobs)), num_cases))
    rows: list[Row] = []
    with writing(folder):
        for study in planned:
            scanner = SCANNERS[kind][study.site.vendor]
            scan, num_lesions = draw_scan(
                study, scanner, seed=seed, size=size, contrast=contrast, knobs=knobs
            )
            row = _write_scan(folder, study, scanner, scan, seed=seed, contrast=contrast)
            rows.append({**row, "num_lesions": num_lesions})
            if progress:
                progress(len(rows), len(planned))
        return write_table(folder / "labels.csv", rows, columns=_COLUMNS)


def draw_scan(
    study: Planned, scanner: Scanner, *, seed: int, size: int, contrast: Contrast, knobs: Knobs
) -> tuple[Scan, int]:
    """Draw one volume as its scanner stores it; return it and the number of its lesions."""
    of_subject = rng(seed, "phantom-body", scanner.modality, study.subject)
    draw = rng(seed, "phantom-volume", scanner.modality, study.subject, study.number)
    grid = grid_of(scanner, size=size)
    parts = max(1, round(grid.gap_mm / _THIN_MM))
    num_lesions = int(draw.integers(1, 6)) if study.is_ill else 0
    args = {"num_lesions": num_lesions, "lesion_size": knobs.lesion_size}
    if scanner.modality == "MR":
        head = draw_head(of_subject)
        points = points_of(grid, draw_pose(draw, angle=0.12, shift_mm=6), parts=parts)
        tissues = draw_tissues(draw, head, points, **args)  # type: ignore[arg-type]
        bright = np.asarray(BRIGHTNESS[contrast], np.float32)[tissues]
        lesions = tissues == LESION
        stored: npt.NDArray[np.integer[Any]] = scan_mr(
            thicken(bright, parts=parts), scanner, draw, noise=knobs.noise
        )
    else:
        trunk = draw_trunk(of_subject)
        points = points_of(grid, draw_pose(draw, angle=0.05, shift_mm=6), parts=parts)
        hu, lesions = draw_densities(draw, trunk, points, **args)  # type: ignore[arg-type]
        stored = scan_ct(thicken(hu, parts=parts), scanner, draw, noise=knobs.noise)
    mask = thicken(lesions.astype(np.float32), parts=parts) >= 0.5
    return Scan(stored=stored, grid=grid, mask=mask), num_lesions


def _write_scan(
    folder: Path, study: Planned, scanner: Scanner, scan: Scan, *, seed: int, contrast: Contrast
) -> Row:
    """Write a volume and its mask; return its row."""
    place = folder / study.site.site_id / study.name
    place.mkdir(parents=True, exist_ok=True)
    header = _header(study, scanner, seed=seed, contrast=contrast)
    if scanner.files == "nifti":
        image, mask = place / "image.nii.gz", place / "mask.nii.gz"
        write_nifti(image, scan.stored.astype(np.int16).T, affine=scan.grid.affine_ras)
        write_nifti(mask, scan.mask.astype(np.uint8).T, affine=scan.grid.affine_ras)
    else:
        image, mask = place / "image", place / "mask.dcm"
        if scanner.files == "frames":
            image = place / "image.dcm"
            sources = write_frames(image, scan.stored, grid=scan.grid, header=header)
        else:
            image.mkdir(exist_ok=True)
            sources = write_slices(image, scan.stored, grid=scan.grid, header=header)
        if scanner.mask == "rtstruct":
            write_structures(mask, scan.mask, grid=scan.grid, study=header.study,
                             sources=sources, label="lesion")  # fmt: skip
        else:
            write_segmentation(mask, scan.mask, sources=sources,
                               name=f"{header.study.name}/mask", segment=_SEGMENT)  # fmt: skip
    voxel_ml = abs(float(np.linalg.det(scan.grid.affine[:3, :3]))) / 1000
    return {
        "image": image.relative_to(folder).as_posix(),
        "label": VOLUME_CLASSES[study.is_recorded],
        "subject": study.subject,
        "site": study.site.site_id,
        "vendor": study.site.vendor,
        "mask": mask.relative_to(folder).as_posix(),
        "volume_ml": round(float(scan.mask.sum()) * voxel_ml, 3),
    }


def _header(study: Planned, scanner: Scanner, *, seed: int, contrast: Contrast) -> Tomogram:
    """Return what the headers of a volume say."""
    draw = rng(seed, "phantom-person", scanner.modality, study.subject)
    sex, age = str(draw.choice(["F", "M"])), int(draw.integers(18, 90))
    month, day = draw.integers(1, 13), draw.integers(1, 29)
    more: tuple[tuple[str, Any], ...] = ()
    if scanner.modality == "MR":
        more = (("RepetitionTime", _TIMES[contrast][0]), ("EchoTime", _TIMES[contrast][1]))
    return Tomogram(
        study=Study(
            name=f"phantom/{seed}/{scanner.modality}/{study.subject}/{study.number}",
            patient_id=study.subject,
            patient_sex=sex,
            patient_age=age + study.number - 1,
            study_date=f"{2019 + study.number}{month:02d}{day:02d}",
            manufacturer=scanner.vendor,
        ),
        modality=scanner.modality,
        body_part="HEAD" if scanner.modality == "MR" else "ABDOMEN",
        bits_stored=scanner.bits_stored,
        slope=scanner.slope,
        padding=scanner.padding,
        attributes=scanner.attributes + more,
        encoding=scanner.encoding,
    )
