"""From the sum of data fingerprints to the values of a plan, each with the reason for it.

The rules are those of nnU-Net (Isensee et al., Nat. Methods 2021), as far as sums of histograms
tell enough: spacing from the median, patches no larger than the images, intensity by the kind of
examination. A person edits and signs the plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hospitium.errors import DataError
from hospitium.imaging.fingerprint.data import Fingerprint
from hospitium.imaging.fingerprint.histograms import (
    FIELDS,
    NONE,
    OTHER,
    quantile,
    quantile_bin,
)
from hospitium.plan.schema import ImagingSection, PipelineSection
from hospitium.types import Json

_ANISOTROPY = 3.0  # nnU-Net's threshold
_LOW_SHARE = 0.10
_VOXELS_AT_8_GIB = 128**3
_LEAST_VOXELS, _MOST_VOXELS = 32**3, 256**3
_SIDE_STEP = 8
_MOST_SIDE_2D = 512
_WIDE_SCALE = 3.0


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """One value of a plan.

    Attributes:
        key: Where it stands in the plan, such as ``imaging.pipeline.size``.
        value: What is proposed.
        reason: From which figures, by which rule.
        otherwise: What the rule would have given otherwise, and when.
    """

    key: str
    value: Json
    reason: str
    otherwise: str = ""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A proposed section of a plan, and the reason for each of its values.

    Attributes:
        imaging: The section ``[imaging]``.
        classes: Of ``[task]``; empty where no site told any.
        class_weights: Of ``[training]``, in the order of ``classes``; empty where unknown.
        values: Every value that was derived, in the order of the plan.
    """

    imaging: ImagingSection
    classes: tuple[str, ...]
    class_weights: tuple[float, ...]
    values: tuple[Proposed, ...]


def propose(fingerprint: Fingerprint) -> Proposal:
    """Propose the values of a plan from the sum of all sites' fingerprints.

    Raises:
        DataError: The sum tells of no subject, or of no image's size.
    """
    sizes = [quantile(FIELDS[f"matrix.{a}"], fingerprint.of(f"matrix.{a}"), 0.5) for a in range(3)]
    if fingerprint.num_subjects == 0 or sizes[0] is None or sizes[1] is None:
        raise DataError(
            "Proposal: the fingerprints tell of no image, as every site has fewer than ten "
            "subjects. No plan was written. Ask for more subjects, or write the plan by hand."
        )
    is_volume = 2 * _known(fingerprint, "matrix.2") > fingerprint.num_subjects
    values = [_kind(fingerprint, is_volume=is_volume)]
    values += _volume(fingerprint, sizes) if is_volume else _image(fingerprint, sizes[:2])
    values += _intensity(fingerprint, is_volume=is_volume)
    values += _selection(fingerprint)
    classes, weights, more = _classes(fingerprint)
    values += more
    return Proposal(
        imaging=_section(values),
        classes=classes,
        class_weights=weights,
        values=tuple(values),
    )


def _section(values: Sequence[Proposed]) -> ImagingSection:
    """Return the section with the proposed values in it, and defaults elsewhere."""
    flat: dict[str, Any] = {
        one.key: tuple(one.value) if isinstance(one.value, list) else one.value for one in values
    }
    steps = {
        key.removeprefix("imaging.pipeline."): value
        for key, value in flat.items()
        if key.startswith("imaging.pipeline.")
    }
    section = {
        key.removeprefix("imaging."): value
        for key, value in flat.items()
        if key.startswith("imaging.") and key.count(".") == 1
    }
    return replace(ImagingSection(), pipeline=replace(PipelineSection(), **steps), **section)


def _known(fingerprint: Fingerprint, name: str) -> int:
    """Return for how many subjects a field has a value."""
    return sum(count for cell, count in fingerprint.of(name).items() if cell != NONE)


def _kind(fingerprint: Fingerprint, *, is_volume: bool) -> Proposed:
    known, number = _known(fingerprint, "matrix.2"), fingerprint.num_subjects
    return Proposed(
        key="imaging.kind",
        value="volume" if is_volume else "image",
        reason=f"{known} of {number} subjects have images with a third axis",
        otherwise='"image" if half or fewer had one' if is_volume else '"volume" if most had one',
    )


# --- size and spacing ----------------------------------------------------------------------------


def _image(fingerprint: Fingerprint, sizes: Sequence[float | None]) -> list[Proposed]:
    """Propose the size of radiographs and photographs; their spacing stays as it is."""
    middle = [float(size or 0) for size in sizes]
    largest = max(middle)
    factor = min(1.0, _MOST_SIDE_2D / largest)
    side = [_rounded(size * factor) for size in middle]
    is_colour = fingerprint.share("colour", "yes") > 0.5
    return [
        Proposed(
            key="imaging.pipeline.size",
            value=list(side),
            reason=f"the median image has about {middle[0]:.0f} x {middle[1]:.0f} pixels, to 13 %; "
            f"at most {_MOST_SIDE_2D} on the longer side, in steps of {_SIDE_STEP}",
            otherwise="smaller sides train faster; small findings need larger ones",
        ),
        Proposed(
            key="imaging.pipeline.channels",
            value=3 if is_colour else 1,
            reason=f"{fingerprint.share('colour', 'yes'):.0%} of the subjects have colour images",
        ),
        Proposed(
            key="imaging.pipeline.resize",
            value="fit",
            reason="the whole image is padded to the shape and averaged down: nothing is cut off",
        ),
    ]


def _volume(fingerprint: Fingerprint, sizes: Sequence[float | None]) -> list[Proposed]:
    """Propose spacing and patch of volumes, as nnU-Net does."""
    fields = [FIELDS[f"spacing_mm.{axis}"] for axis in range(3)]
    counts = [fingerprint.of(field.name) for field in fields]
    medians = [quantile_bin(field, cells, 0.5) for field, cells in zip(fields, counts, strict=True)]
    if any(mm is None for mm in medians):
        return [_patch(fingerprint, [float(size or 0) for size in sizes], "as they are")]
    spacing = [float(mm or 0) for mm in medians]
    coarse = int(max(range(3), key=lambda axis: spacing[axis]))
    others = [spacing[axis] for axis in range(3) if axis != coarse]
    reason = "the median over all subjects, of each axis"
    otherwise = f"percentile 10 on an axis {_ANISOTROPY:g} times coarser than the others"
    target = list(spacing)
    if spacing[coarse] >= _ANISOTROPY * max(others):
        low = quantile_bin(fields[coarse], counts[coarse], _LOW_SHARE)
        target[coarse] = max(float(low or spacing[coarse]), max(others))
        reason = (
            f"the median of each axis, but percentile 10 on axis {coarse + 1}: its median "
            f"{spacing[coarse]:.2g} mm is {_ANISOTROPY:g} times coarser than the others"
        )
        otherwise = f"{spacing[coarse]:.2g} mm, the median, if the axes were alike"
    target = [_two_digits(mm) for mm in target]
    shape = [
        float(size or 0) * mm / to for size, mm, to in zip(sizes, spacing, target, strict=True)
    ]
    return [
        Proposed(
            key="imaging.pipeline.spacing_mm", value=list(target), reason=reason,
            otherwise=otherwise,
        ),
        _patch(fingerprint, shape, f"at {' x '.join(f'{mm:g}' for mm in target)} mm"),
        Proposed(
            key="imaging.pipeline.resize", value="crop",
            reason="the spacing is given: what is larger than the patch is cut, nothing is scaled",
        ),
    ]  # fmt: skip


def _patch(fingerprint: Fingerprint, shape: Sequence[float], where: str) -> Proposed:
    """Propose a patch in the shape of the median volume that fits the smallest machine."""
    memory = [one.gpu_memory_gib or one.memory_gib for one in fingerprint.capacity]
    least = min((gib for gib in memory if gib), default=None)
    room = _VOXELS_AT_8_GIB * (least or 8.0) / 8.0
    room = min(max(room, _LEAST_VOXELS), _MOST_VOXELS)
    voxels = math.prod(shape)
    factor = min(1.0, (room / voxels) ** (1 / 3)) if voxels else 1.0
    patch = [_rounded(size * factor) for size in shape]
    median = " x ".join(f"{size:.0f}" for size in shape)
    memory_words = (
        f"of {least:.3g} GiB, the least of any site" if least else "of 8 GiB; no site told its own"
    )
    return Proposed(
        key="imaging.pipeline.size",
        value=list(patch),
        reason=f"the median volume has {median} voxels {where}"
        + (
            ", all of it fits"
            if factor == 1.0
            else f", made smaller to fit a memory {memory_words}"
        )
        + f"; in steps of {_SIDE_STEP}",
        otherwise=f"up to {room:.2g} voxels fit a memory {memory_words}",
    )


def _rounded(side: float) -> int:
    """Return the next multiple of 8, as networks halve their images three times or more."""
    return min(1024, max(_SIDE_STEP, _SIDE_STEP * math.ceil(side / _SIDE_STEP - 1e-6)))


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


# --- intensity -----------------------------------------------------------------------------------


def _intensity(fingerprint: Fingerprint, *, is_volume: bool) -> list[Proposed]:
    """Propose how values become comparable: by Hounsfield units, by volume, or by image."""
    if 2 * _known(fingerprint, "hu.p50") > fingerprint.num_subjects:
        return _hounsfield(fingerprint)
    spread = _scale_spread(fingerprint)
    told = (
        f"the brightest values differ by a factor of {spread:.0f} between percentiles 10 and 90 "
        "of the subjects"
        if spread
        else "no site told how bright its images are"
    )
    if is_volume:
        return [
            Proposed(
                key="imaging.pipeline.intensity",
                value="zscore",
                reason=f"volumes without a physical unit: mean 0 and sd 1 of each one; {told}",
                otherwise='"pooled" if the values were Hounsfield units',
            )
        ]
    is_photo = fingerprint.share("colour", "yes") > 0.5 and (spread or 1) < _WIDE_SCALE
    return [
        Proposed(
            key="imaging.pipeline.intensity",
            value="range" if is_photo else "percentile",
            reason="colour photographs of one bit depth"
            if is_photo
            else f"percentiles 1 to 99 of each image: {told}",
            otherwise='"percentile"' if is_photo else '"range" for photographs of one bit depth',
        )
    ]


def _scale_spread(fingerprint: Fingerprint) -> float | None:
    """Return how many times brighter percentile 90 of the subjects is than percentile 10."""
    low, high = (
        quantile_bin(FIELDS["scale"], fingerprint.of("scale"), share) for share in (0.1, 0.9)
    )
    return None if low is None or high is None or low <= 0 else high / low


def _hounsfield(fingerprint: Fingerprint) -> list[Proposed]:
    """Propose nnU-Net's clipping and scaling of CT by the foreground of all sites together."""
    low, lower, middle, upper, high = (
        quantile(FIELDS[name], fingerprint.of(name), 0.5)
        for name in ("hu.p0.5", "hu.p25", "hu.p50", "hu.p75", "hu.p99.5")
    )
    values = [float(value or 0) for value in (low, lower, middle, upper, high)]
    sd = max(1.0, (values[3] - values[1]) / 1.349)  # of a normal distribution's quartiles
    window = [round(values[0], -1), round(values[4], -1)]
    return [
        Proposed(
            key="imaging.pipeline.intensity",
            value="pooled",
            reason="CT: Hounsfield units mean the same everywhere, so no image is scaled by itself",
            otherwise='"zscore" for volumes without a unit',
        ),
        Proposed(
            key="imaging.pipeline.window",
            value=list(window),
            reason="medians of the subjects' percentiles 0.5 and 99.5 of the foreground, in HU",
        ),
        Proposed(
            key="imaging.pipeline.mean",
            value=round(values[2]),
            reason="median of the subjects' medians of the foreground, in HU",
        ),
        Proposed(
            key="imaging.pipeline.std",
            value=round(sd),
            reason="from the medians of the subjects' quartiles, as of a normal distribution",
        ),
    ]


# --- selection and classes -----------------------------------------------------------------------


def _selection(fingerprint: Fingerprint) -> list[Proposed]:
    """Propose what the plan takes, where the sites' images say something about it."""
    found = []
    modalities = sorted(set(fingerprint.of("modality")) - {NONE, OTHER})
    if modalities:
        counted = ", ".join(f"{name} {fingerprint.of('modality')[name]}" for name in modalities)
        found.append(
            Proposed(
                key="imaging.modalities",
                value=list(modalities),
                reason=f"subjects by modality: {counted}",
            )
        )
    if {"OT", "SC"} & set(modalities):
        found.append(
            Proposed(
                key="imaging.secondary_capture",
                value="accept",
                reason="OT or SC is among the modalities: digitised film, or screenshots",
                otherwise='"refuse" leaves these subjects out; then take OT and SC out too',
            )
        )
    lossy = fingerprint.share("lossy", "yes")
    if lossy > 0:
        found.append(
            Proposed(
                key="imaging.lossy",
                value="accept",
                reason=f"{lossy:.0%} of the subjects have images compressed with loss",
                otherwise='"refuse" leaves these subjects out',
            )
        )
    return found


def _classes(
    fingerprint: Fingerprint,
) -> tuple[tuple[str, ...], tuple[float, ...], list[Proposed]]:
    """Propose weights in inverse proportion to the subjects of each class, mean 1 over these."""
    counts: Mapping[str, int] = {
        name: count for name, count in fingerprint.of("class").items() if name not in (NONE, OTHER)
    }
    if len(counts) < 2:
        return (), (), []
    names = tuple(sorted(counts))
    number = sum(counts.values())
    weights = tuple(round(number / (len(names) * counts[name]), 6) for name in names)
    told = ", ".join(f"{name} {counts[name]}" for name in names)
    values = [
        Proposed(key="task.classes", value=list(names), reason=f"subjects of each class: {told}"),
        Proposed(
            key="training.class_weighting",
            value="balanced",
            reason="the same weights at every site, from the sum of all sites",
            otherwise='"logit_adjusted" takes the shares of each site by itself',
        ),
        Proposed(
            key="training.class_weights",
            value=list(weights),
            reason="in inverse proportion to the subjects of each class, mean 1",
            otherwise="1 for each if all classes were equally frequent",
        ),
    ]
    return names, weights, values
