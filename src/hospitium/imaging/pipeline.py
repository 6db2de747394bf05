"""Harmonisation: from an image or a volume to an array that is alike at every site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hospitium.errors import UsageError
from hospitium.imaging.bias_field import without_bias
from hospitium.imaging.fitting import cropped, fit
from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import NOTES, FloatArray, Instance, Mask
from hospitium.imaging.intensity import (
    METHODS,
    Levels,
    Method,
    about,
    between,
    percentile_levels,
    zscore_levels,
)
from hospitium.imaging.labels import LabelMap
from hospitium.imaging.resampling import Line, resample
from hospitium.imaging.round_field import crop_to_field
from hospitium.imaging.volume_case import Harmonised, cut, fitting_lines, has_shrunk, on_lines
from hospitium.plan import Plan
from hospitium.wire.canonical import canonical_json, digest

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601-7, 2.5.1
_MAX_SIDE = 4096
_VERSION = 2
"""Of what the steps do: raised when the same steps give other numbers than before."""


@dataclass(frozen=True, kw_only=True)
class Harmonise:
    """The named steps from an image or a volume to a training case, the same at every site.

    In this order: orientation, which the readers have settled; the round field of a fundus
    photograph; bias field; spacing; intensity, after which pixels that are not valid become
    background; channels (grey from colour by ITU-R 601 luma, colour from grey by repetition); and
    size. Each is plain elementwise NumPy, or ITK with one thread: the same bytes give the same
    numbers for any number of workers. `hospitium.plan.schema.PipelineSection` says what each
    value means.

    Attributes:
        channels: 1 or 3.
        size: Rows and columns of the result, for volumes along ``(i, j, k)``; None keeps each
            image as it is.
        intensity: See `hospitium.imaging.intensity`; all of them look at valid pixels only.
        low: Lower percentile, 0 to 100.
        high: Upper percentile, above ``low``.
        window: Lowest and highest physical value.
        mean: Of the pooled foreground.
        std: Of the pooled foreground.
        background: Of pixels that are not valid, and of added borders.
        resize: ``"fit"`` or ``"crop"``.
        spacing_mm: As long as ``size``; empty keeps what is there.
        n4: Take out the bias field of a volume.
        crop_field: Cut a fundus photograph to its field.
    """

    channels: int = 1
    size: tuple[int, ...] | None = None
    intensity: Method = "range"
    low: float = 1.0
    high: float = 99.0
    window: tuple[float, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    background: float = 0.0
    resize: Literal["fit", "crop"] = "fit"
    spacing_mm: tuple[float, ...] = ()
    n4: bool = False
    crop_field: bool = False

    def __post_init__(self) -> None:
        needs_window = self.intensity in ("window", "pooled")
        problems = [
            (self.channels in (1, 3), f"channels is {self.channels}, expected 1 or 3"),
            (
                self.size is None or all(1 <= side <= _MAX_SIDE for side in self.size),
                f"size is {self.size}, expected rows and columns from 1 to {_MAX_SIDE}",
            ),
            (
                self.intensity in METHODS,
                f'intensity is "{self.intensity}", expected one of {", ".join(METHODS)}',
            ),
            (
                0 <= self.low < self.high <= 100,
                f"percentiles are {self.low} and {self.high}, expected 0 <= low < high <= 100",
            ),
            (
                not needs_window or (len(self.window) == 2 and self.window[0] < self.window[1]),
                f"window is {self.window}, expected the lowest and the highest value",
            ),
            (self.resize in ("fit", "crop"), f'resize is "{self.resize}", expected fit or crop'),
        ]
        for is_right, message in problems:
            if not is_right:
                raise UsageError(f"Harmonisation: {message}. Nothing was read. Mend the plan.")

    @classmethod
    def of(cls, plan: Plan) -> Harmonise:
        """Return the steps that a plan names."""
        return cls(**asdict(plan.imaging.pipeline))

    @property
    def digest(self) -> str:
        """SHA-256 of the steps and of the version of what they do."""
        return digest(canonical_json({"version": _VERSION, **asdict(self)}))

    # --- images ----------------------------------------------------------------------------------

    def apply(self, instance: Instance) -> FloatArray:
        """Return a new ``(channel, row, column)`` float32 array of an image's first frame.

        It is in [0, 1] unless the intensity is ``"zscore"`` or ``"pooled"``. With ``spacing_mm``
        the image must have a spacing: `selection.select` refuses those that have none.
        """
        values: npt.NDArray[Any] = instance.values[0]
        is_valid = None if instance.is_valid is None else instance.is_valid[0]
        if self.crop_field:
            values, is_valid = crop_to_field(values), None
        if self.spacing_mm:
            assert instance.facts.spacing_mm is not None, "selection.select has not been asked"
            lines = self._lines(values.shape, instance.facts.spacing_mm)
            values, is_valid = resample(values, lines, is_valid)
        levels = self._levels(values, is_valid, instance.range)
        scaled = levels.of(values)
        if is_valid is not None:
            scaled[~is_valid] = self.background
        ends = (min(levels.low, self.background), max(levels.high, self.background))
        planes = _planes(scaled, channels=self.channels, ends=ends)
        if self.size is not None and planes.shape[1:] != self.size:
            planes = self._sized(planes, (self.size[0], self.size[1]), ends)
        return np.ascontiguousarray(np.broadcast_to(planes, (self.channels, *planes.shape[1:])))

    def _sized(
        self, planes: FloatArray, size: tuple[int, int], ends: tuple[float, float]
    ) -> FloatArray:
        if self.resize == "crop":
            return cropped(planes, size, background=self.background)
        return np.stack([fit(plane, size, background=self.background, ends=ends)
                         for plane in planes])  # fmt: skip

    def _levels(
        self, values: npt.NDArray[Any], is_valid: Mask | None, ends: tuple[float, float]
    ) -> Levels:
        """Return what becomes of each value."""
        if self.intensity == "percentile":
            shares = (self.low, self.high)
            return percentile_levels(values, is_valid, shares=shares, ends=ends)
        if self.intensity == "zscore":
            return zscore_levels(values, is_valid)
        if self.intensity == "range":
            return between(*ends)
        window = (self.window[0], self.window[1])
        if self.intensity == "window":
            return between(*window)
        return about(self.mean, self.std, window=window)

    def _lines(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> list[Line]:
        """Return what becomes of each axis in the spacing step."""
        wanted = self.spacing_mm or spacing_mm
        return [
            Line.of(found, spacing_mm=mm, wanted_mm=wanted_mm)
            for found, mm, wanted_mm in zip(shape[: len(wanted)], spacing_mm, wanted, strict=True)
        ]

    # --- volumes ---------------------------------------------------------------------------------

    def apply_volume(self, volume: Volume, labels: LabelMap | None = None) -> Harmonised:
        """Return a volume, and the labels on its grid, as a new case.

        With ``resize = "fit"`` all of the volume is resampled to the one spacing, equal along all
        axes, at which it fits into ``size``. The mask follows each step by nearest neighbour;
        note ``mask_shrunk`` if a label of more than 1 ml has changed by 5 % in the end.
        """
        assert labels is None or labels.labels.shape == volume.shape
        given = Harmonised(
            image=volume.values,
            affine=volume.affine,
            mask=None if labels is None else labels.labels,
            is_valid=volume.is_valid,
        )
        case = given
        if self.n4:
            image = without_bias(given.image[0], given.is_valid, given.spacing_mm)
            case = replace(given, image=image[np.newaxis])
        case = on_lines(case, self._lines(case.shape, case.spacing_mm))
        levels = self._levels(case.image[0], case.is_valid, volume.range)
        levels.put(case.image)
        if self.size is not None and self.resize == "fit":
            case = on_lines(case, fitting_lines(case, self.size))
            np.clip(case.image, levels.low, levels.high, out=case.image)
        if case.is_valid is not None:
            case.image[0][~case.is_valid] = self.background
        if self.size is not None:
            case = cut(case, self.size, background=self.background)
        told = {*volume.notes, *(labels.notes if labels else ())}
        if has_shrunk(given, case):
            told.add("mask_shrunk")
        return replace(case, notes=tuple(code for code in NOTES if code in told))


def _planes(values: FloatArray, *, channels: int, ends: tuple[float, float]) -> FloatArray:
    """Return ``(1, row, column)``, or ``(3, row, column)`` for colour that stays colour."""
    if values.ndim == 2:
        return values[np.newaxis]
    if channels == 3:
        return np.moveaxis(values, 2, 0)
    red, green, blue = (values[..., index] for index in range(3))
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    clipped: FloatArray = np.clip(grey, *ends).astype(np.float32)
    return clipped[np.newaxis]
