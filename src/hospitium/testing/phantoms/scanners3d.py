"""What each invented vendor's MR and CT scanner makes of a body: grid, values, files."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hospitium.imaging.writing import Encoding, Grid
from hospitium.testing.phantoms.solids import Volume, smooth_volume, soften

Plane = Literal["axial", "sagittal", "oblique", "gantry"]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """An invented scanner.

    Attributes:
        vendor: Its maker, also the ``Manufacturer``.
        site_id: The invented hospital that bought it.
        modality: ``MR`` or ``CT``.
        plane: How slices lie; ``oblique`` slices are tilted with their stack, ``gantry`` ones
            within it, which shears the grid.
        field_mm: Side of the square field of view.
        slice_mm: Distance of slices along their normal; 0 makes voxels cubes.
        files: One file a slice, one multi-frame object, or NIfTI.
        mask: As segmentation, structure set, or NIfTI.
        encoding: How stored values are written.
        bits_stored: Bits of a stored value.
        slope: ``RescaleSlope`` and intercept; None writes none.
        padding: Stored outside the round field of a CT.
        noise: Deviation; MR: of white matter's brightness, Rician; CT: in HU.
        bias: MR: log of how much brightness changes over the field.
        gain: MR: stored value of the brightest tissue.
        attributes: More attributes of the header by keyword.
    """

    vendor: str
    site_id: str
    modality: Literal["MR", "CT"]
    plane: Plane
    field_mm: float
    slice_mm: float
    files: Literal["slices", "frames", "nifti"]
    mask: Literal["seg", "rtstruct", "nifti"]
    encoding: Encoding = "explicit"
    bits_stored: int
    slope: tuple[float, float] | None = None
    padding: int | None = None
    noise: float
    bias: float = 0.0
    gain: float = 1.0
    attributes: tuple[tuple[str, Any], ...] = ()


def _mr(tesla: str) -> tuple[tuple[str, Any], ...]:
    """Return the attributes of an MR scanner."""
    return (
        ("MagneticFieldStrength", tesla),
        ("ScanningSequence", "SE"),
        ("SequenceVariant", "NONE"),
        ("ScanOptions", ""),
        ("MRAcquisitionType", "2D"),
    )


def _ct(kernel: str, *, tilt: str = "0") -> tuple[tuple[str, Any], ...]:
    """Return the attributes of a CT scanner."""
    return (("KVP", "120"), ("ConvolutionKernel", kernel), ("GantryDetectorTilt", tilt))


_MR = (
    Scanner(
        vendor="Alder", site_id="ashby", modality="MR", plane="axial", field_mm=224, slice_mm=5,
        files="slices", mask="seg", encoding="jpeg2000", bits_stored=12, noise=0.03, bias=0.1,
        gain=900, attributes=_mr("1.5"),
    ),
    Scanner(
        vendor="Birch", site_id="brindle", modality="MR", plane="sagittal", field_mm=224,
        slice_mm=0, files="frames", mask="seg", bits_stored=16, slope=(2.5, 0.0), noise=0.05,
        bias=0.2, gain=14_000, attributes=_mr("3"),
    ),
    Scanner(
        vendor="Cedar", site_id="carrow", modality="MR", plane="oblique", field_mm=230, slice_mm=4,
        files="slices", mask="rtstruct", encoding="jpeg-ls", bits_stored=12, noise=0.04, bias=0.3,
        gain=2_600, attributes=_mr("1.5"),
    ),
    Scanner(
        vendor="Dogwood", site_id="dunmore", modality="MR", plane="axial", field_mm=240, slice_mm=3,
        files="nifti", mask="nifti", bits_stored=12, noise=0.06, bias=0.7, gain=240,
    ),
)  # fmt: skip
_CT = (
    Scanner(
        vendor="Alder", site_id="ashby", modality="CT", plane="axial", field_mm=380, slice_mm=5,
        files="slices", mask="seg", encoding="jpeg2000", bits_stored=12, slope=(1.0, -1024.0),
        noise=10, attributes=_ct("STANDARD"),
    ),
    Scanner(
        vendor="Birch", site_id="brindle", modality="CT", plane="axial", field_mm=360, slice_mm=3,
        files="slices", mask="seg", bits_stored=16, slope=(1.0, 0.0), padding=-2000, noise=16,
        attributes=_ct("SOFT"),
    ),
    Scanner(
        vendor="Cedar", site_id="carrow", modality="CT", plane="gantry", field_mm=380, slice_mm=4,
        files="slices", mask="rtstruct", encoding="jpeg-ls", bits_stored=14,
        slope=(0.5, -2048.0), noise=13, attributes=_ct("B30f", tilt="-15"),
    ),
    Scanner(
        vendor="Dogwood", site_id="dunmore", modality="CT", plane="axial", field_mm=400,
        slice_mm=0, files="nifti", mask="nifti", bits_stored=16, noise=20,
    ),
)  # fmt: skip
SCANNERS = MappingProxyType(
    {
        "mr": MappingProxyType({scanner.vendor: scanner for scanner in _MR}),
        "ct": MappingProxyType({scanner.vendor: scanner for scanner in _CT}),
    }
)
"""The scanners of each kind, by vendor."""

_DIRECTIONS: dict[str, tuple[Any, Any, Any]] = {  # across, down, from slice to slice
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}
_TILT = np.deg2rad(15)
_EXTENT_MM = {"MR": 190.0, "CT": 190.0}


def grid_of(scanner: Scanner, *, size: int) -> Grid:
    """Return the grid of a scanner with ``size`` rows and columns, centred on the body.

    Slices cover 190 mm; where voxels are cubes there are as many slices as rows.
    """
    spacing = scanner.field_mm / size
    gap = scanner.slice_mm or spacing
    num = max(8, round(_EXTENT_MM[scanner.modality] / gap)) if scanner.slice_mm else size
    across, down, step = (
        np.asarray(axis, float) for axis in _DIRECTIONS.get(scanner.plane, _DIRECTIONS["axial"])
    )
    if scanner.plane in ("oblique", "gantry"):
        down = np.array([0.0, np.cos(_TILT), np.sin(_TILT)])
        normal = np.cross(across, down)
        step = normal if scanner.plane == "oblique" else step / float(step @ normal)
    step = step * gap
    corner = (-0.5 * (size - 1) * spacing * across - 0.5 * (size - 1) * spacing * down) - 0.5 * (
        num - 1
    ) * step
    return Grid(
        shape=(num, size, size),
        origin_mm=_triple(corner),
        across=_triple(across),
        down=_triple(down),
        step_mm=_triple(step),
        spacing_mm=(spacing, spacing),
    )


def _triple(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in vector)
    return x, y, z


def scan_mr(
    brightness: Volume, scanner: Scanner, draw: np.random.Generator, *, noise: float = 1.0
) -> npt.NDArray[np.uint16]:
    """Return stored values of an MR scanner: bias field, point spread, Rician noise, gain."""
    shape = brightness.shape
    signal = soften(brightness)
    signal *= np.exp(scanner.bias * smooth_volume(draw, shape, cells=3))
    deviation = noise * scanner.noise * draw.uniform(0.7, 1.4)
    real = signal + deviation * draw.standard_normal(shape, dtype=np.float32)
    imaginary = deviation * draw.standard_normal(shape, dtype=np.float32)
    slope = scanner.slope[0] if scanner.slope else 1.0
    gain = scanner.gain * draw.uniform(0.7, 1.3) / slope
    top = 2**scanner.bits_stored - 1
    stored = np.clip(np.rint(np.hypot(real, imaginary) * gain), 0, top)
    return np.asarray(stored, dtype=np.uint16)


def scan_ct(
    hu: Volume, scanner: Scanner, draw: np.random.Generator, *, noise: float = 1.0
) -> npt.NDArray[np.integer[Any]]:
    """Return stored values of a CT scanner: point spread, noise, rescale, padding, bits."""
    measured = soften(hu)
    deviation = noise * scanner.noise * draw.uniform(0.7, 1.4)
    measured += deviation * draw.standard_normal(hu.shape, dtype=np.float32)
    slope, intercept = scanner.slope or (1.0, 0.0)
    is_signed = intercept == 0
    low = -(2 ** (scanner.bits_stored - 1)) if is_signed else 0
    floor = np.clip(measured, -1024, 3071)
    stored = np.clip(np.rint((floor - intercept) / slope), low, low + 2**scanner.bits_stored - 1)
    if scanner.padding is not None:
        _, rows, columns = hu.shape
        row = (np.arange(rows) - (rows - 1) / 2)[:, None] / (rows / 2)
        column = (np.arange(columns) - (columns - 1) / 2) / (columns / 2)
        stored[:, row**2 + column**2 > 1] = scanner.padding
    return np.asarray(stored, dtype=np.int16 if is_signed else np.uint16)
