"""Pixels -> the few numbers that the checks need of a case; nothing else of it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.conformance.case_facts import CaseFacts, Levels, MaskFacts
from hospitium.imaging.conformance.pictures import grey, picture_of, thumbnail_of
from hospitium.imaging.conformance.polarity import expects_chest, is_frontal_chest, lung_contrast
from hospitium.imaging.geometry import Volume
from hospitium.imaging.image_hash import difference_hash
from hospitium.imaging.instance import Facts, FloatArray, Instance, Mask
from hospitium.imaging.pipeline import Harmonise
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection

_SHARES = (0.01, 0.5, 0.99)
_SAMPLE = 512


def measure_image(instance: Instance, *, name: str, plan: Plan) -> CaseFacts:
    """Measure the first frame of an image, as the plan would train on it.

    Args:
        instance: One that the plan selects.
        name: What the site's staff call it.
        plan: Names the intensity step, and says whether a chest is expected.
    """
    frame = instance.values[0]
    valid = None if instance.is_valid is None else instance.is_valid[0]
    sample = sample_of(grey(frame), valid)
    levels = levels_of(sample)
    picture = picture_of(grey(frame), levels)
    is_chest = expects_chest(plan) and is_frontal_chest(instance.facts)
    return CaseFacts(
        name=name,
        facts=instance.facts,
        shape=(int(frame.shape[0]), int(frame.shape[1])),
        spacing_mm=instance.facts.spacing_mm,
        levels=levels,
        harmonised=_after(sample, instance.range, plan),
        digest=pixel_digest(instance.values),
        hash=difference_hash(picture),
        thumbnail=thumbnail_of(picture),
        lung_contrast=lung_contrast(picture) if is_chest and min(picture.shape) >= 8 else None,
        notes=instance.notes,
        uids=instance.uids,
    )


def measure_volume(
    volume: Volume, *, name: str, plan: Plan, mask: MaskFacts | None = None
) -> CaseFacts:
    """Measure a volume; its picture is the middle axial slice.

    Args:
        volume: One that the plan selects.
        name: What the site's staff call it.
        plan: Names the intensity step.
        mask: What is known about its mask, where the plan needs one.
    """
    sample = sample_of(volume.values[0], volume.is_valid)
    levels = levels_of(sample)
    middle = volume.values[0, ::-1, ::-1, volume.shape[2] // 2].T
    picture = picture_of(middle, levels)
    return CaseFacts(
        name=name,
        facts=volume.facts,
        shape=volume.shape,
        spacing_mm=volume.spacing_mm,
        levels=levels,
        harmonised=_after(sample, volume.range, plan),
        digest=pixel_digest(volume.values),
        hash=difference_hash(picture),
        thumbnail=thumbnail_of(picture),
        notes=volume.notes,
        mask=mask,
        uids=volume.uids,
    )


def sample_of(values: npt.NDArray[Any], valid: Mask | None) -> FloatArray:
    """Return valid values in a table of at most about 512 x 1024, taken at even steps."""
    chosen = values.reshape(-1) if valid is None else values[valid]
    chosen = chosen[:: max(1, len(chosen) // (_SAMPLE * _SAMPLE))]
    columns = min(len(chosen), _SAMPLE)
    rows = len(chosen) // max(1, columns)
    return chosen[: rows * columns].reshape(rows, columns).astype(np.float32)


def levels_of(sample: npt.NDArray[np.floating]) -> Levels:
    """Return the 1st, 50th and 99th percentile, each a value that occurs; all are 0 of nothing."""
    if sample.size == 0:
        return Levels(low=0.0, middle=0.0, high=0.0)
    places = [round(share * (sample.size - 1)) for share in _SHARES]
    low, middle, high = np.partition(sample, places, axis=None)[places].tolist()
    return Levels(low=low, middle=middle, high=high)


def pixel_digest(values: npt.NDArray[Any]) -> str:
    """Return SHA-256 of shape and values: equal for equal pixels, whatever file they came in."""
    content = np.ascontiguousarray(values)
    digest = hashlib.sha256(f"{content.dtype.str}{content.shape}".encode())
    digest.update(content.data)
    return digest.hexdigest()


def _after(sample: FloatArray, ends: tuple[float, float], plan: Plan) -> Levels:
    """Return levels after the plan's intensity step, which does not care where a value stands."""
    if sample.size == 0:
        return levels_of(sample)
    facts = Facts(
        modality="",
        manufacturer="",
        rows=sample.shape[0],
        columns=sample.shape[1],
        bits_stored=32,
        photometric="MONOCHROME2",
        spacing_mm=None,
    )
    instance = Instance(values=sample[np.newaxis], range=ends, facts=facts)
    return levels_of(_intensity_only(plan.imaging.pipeline).apply(instance))


@lru_cache(maxsize=16)
def _intensity_only(pipeline: PipelineSection) -> Harmonise:
    """Return the plan's steps without those that change the grid."""
    steps = Harmonise.of(Plan(imaging=ImagingSection(pipeline=pipeline)))
    return replace(steps, size=None, channels=1, crop_field=False, n4=False, spacing_mm=())
