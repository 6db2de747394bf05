"""Writes masks as DICOM segmentations, by highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hospitium.imaging.writing.objects import derive_uid, save

_FINDING = ("49755003", "SCT", "Morphologically abnormal structure")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What a mask marks: a label for people, and a code for machines (value, scheme, meaning)."""

    label: str
    code: tuple[str, str, str] = ("52988006", "SCT", "Lesion")


def write_segmentation(
    path: Path,
    mask: npt.NDArray[np.bool_],
    *,
    sources: Sequence[Dataset],
    name: str,
    segment: Segment,
) -> None:
    """Write a binary segmentation of one segment (PS3.3 A.51), replacing a file of this name.

    Frames without a voxel are left out, but for one where the whole mask is empty.

    Args:
        path: Of the file; its folder exists.
        mask: ``(frame, row, column)`` on the grid of the images.
        sources: The images it belongs to: one a slice, or one multi-frame object.
        name: Unique text from which its UIDs are derived.
        segment: What it marks.

    Raises:
        OSError: The disk refused.
    """
    save(_dataset(mask, sources, name, segment), path)


def _dataset(
    mask: npt.NDArray[np.bool_], sources: Sequence[Dataset], name: str, segment: Segment
) -> Dataset:
    """Return the object; whatever highdicom draws or takes from the clock is set to be the same."""
    import highdicom as hd  # heavy: half a second

    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=segment.label,
        segmented_property_category=hd.sr.CodedConcept(*_FINDING),
        segmented_property_type=hd.sr.CodedConcept(*segment.code),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    made: Dataset = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask.astype(np.uint8) if len(mask) > 1 else mask[0].astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        series_instance_uid=derive_uid(f"{name}/series"),
        series_number=2,
        sop_instance_uid=derive_uid(name),
        instance_number=1,
        manufacturer="Hospitium",
        manufacturer_model_name="Phantom",
        software_versions="1",
        device_serial_number="0",
        content_label="LESION",
        omit_empty_frames=bool(mask.any()),
    )
    _make_repeatable(made, name=name, date=str(sources[0].StudyDate))
    return made


def _make_repeatable(dataset: Dataset, *, name: str, date: str) -> None:
    """Replace drawn UIDs and today's date, so that the same content gives the same bytes."""
    axes = derive_uid(f"{name}/axes")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = axes
    for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        if keyword in dataset:
            setattr(dataset, keyword, date)
    for keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        if keyword in dataset:
            setattr(dataset, keyword, "120000")
    _drop_clock(dataset)


def _drop_clock(dataset: Any) -> None:
    """Take away what tells when this very file was made."""
    for keyword in ("ContributingEquipmentSequence", "TimezoneOffsetFromUTC"):
        if keyword in dataset:
            delattr(dataset, keyword)
