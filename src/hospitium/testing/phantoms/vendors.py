"""Four invented vendors: what each makes of the same beam, from detector to stored values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from hospitium.imaging.writing import Encoding
from hospitium.testing.phantoms.fields import Image, enlarge
from hospitium.testing.scanners import gaussian_blur

_REFERENCE_SIZE = 256  # photons and blur are given for images of this size


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """An invented maker of X-ray equipment.

    Attributes:
        name: Also the ``Manufacturer``.
        site_id: The invented hospital that bought from it.
        modality: DICOM ``Modality``: DX, CR or OT (a digitised film).
        bits_stored: Bits of a stored value.
        is_inverted: MONOCHROME1: the lowest value is white.
        is_mirrored: Rows are stored from the subject's left to the right (``R\\F``).
        encoding: How the stored values are usually written.
        field_mm: Side of the square field of view.
        photons: Mean number of photons behind air in a pixel, at 256 x 256.
        scatter: Share of the primary beam that arrives as a smooth veil.
        blur_px: Gaussian blur of the detector, in pixels at 256 x 256.
        local_contrast: How much the processing lifts detail over its surroundings.
        steepness: Of the S-shaped contrast curve; 0 is a straight line.
        middle: Where the curve is steepest, as a share of the exposed range.
        span: Lowest and highest stored value used, as shares of the full range.
        window_function: The ``VOILUTFunction`` that the header proposes for display.
    """

    name: str
    site_id: str
    modality: Literal["DX", "CR", "OT"]
    bits_stored: int
    is_inverted: bool = False
    is_mirrored: bool = False
    encoding: Encoding
    field_mm: float
    photons: float
    scatter: float
    blur_px: float
    local_contrast: float
    steepness: float
    middle: float
    span: tuple[float, float]
    window_function: Literal["LINEAR", "SIGMOID"] = "LINEAR"

    @property
    def native_encoding(self) -> Encoding:
        """How the stored values are written where nothing is to be compressed."""
        return "implicit" if self.encoding == "implicit" else "explicit"


VENDORS = MappingProxyType(
    {
        vendor.name: vendor
        for vendor in (
            Vendor(
                name="Alder",
                site_id="ashby",
                modality="DX",
                bits_stored=12,
                encoding="jpeg2000",
                field_mm=427.0,
                photons=30_000,
                scatter=0.06,
                blur_px=0.4,
                local_contrast=0.3,
                steepness=5.0,
                middle=0.4,
                span=(0.06, 0.94),
            ),
            Vendor(
                name="Birch",
                site_id="brindle",
                modality="CR",
                bits_stored=10,
                is_inverted=True,
                encoding="implicit",
                field_mm=410.0,
                photons=700,
                scatter=0.25,
                blur_px=2.4,
                local_contrast=0.0,
                steepness=0.0,
                middle=0.5,
                span=(0.25, 0.75),
            ),
            Vendor(
                name="Cedar",
                site_id="carrow",
                modality="DX",
                bits_stored=14,
                encoding="jpeg-ls",
                is_mirrored=True,
                field_mm=430.0,
                photons=20_000,
                scatter=0.08,
                blur_px=0.3,
                local_contrast=1.2,
                steepness=0.0,
                middle=0.5,
                span=(0.05, 0.75),
                window_function="SIGMOID",
            ),
            Vendor(
                name="Dogwood",
                site_id="dunmore",
                modality="OT",
                bits_stored=8,
                encoding="jpeg",
                field_mm=428.0,
                photons=6_000,
                scatter=0.15,
                blur_px=1.8,
                local_contrast=0.0,
                steepness=8.0,
                middle=0.62,
                span=(0.06, 0.94),
            ),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class StoredFacts:
    """What a header must say about stored values so that a reader can undo the vendor's choices."""

    bits_stored: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    spacing_mm: float
    patient_orientation: tuple[str, str]
    window: tuple[float, float, str]


def apply_vendor(
    image: Image, vendor: Vendor, draw: np.random.Generator, *, noise: float = 1.0
) -> tuple[npt.NDArray[np.uint16], StoredFacts]:
    """Return what a vendor stores for a log-attenuation image, and what its header must say.

    Beer-Lambert, scatter, detector blur and photon noise, then the vendor's processing: local
    contrast, an S-shaped curve, quantisation. Bone is bright before any MONOCHROME1 inversion.

    Args:
        image: ``(row, column)`` float32 log attenuation, square.
        vendor: Who built the equipment.
        draw: Where the photon noise and the exposure come from.
        noise: Factor on the vendor's own noise.

    Returns:
        ``(row, column)`` uint16 values below ``2 ** bits_stored``, and the facts.
    """
    size = len(image)
    processed = _process(_expose(image, vendor, draw, noise=noise), vendor)
    top = 2**vendor.bits_stored - 1
    drift, gamma = draw.uniform(-0.05, 0.05), math.exp(draw.uniform(-0.4, 0.4))  # operator's taste
    low, high = (share + drift for share in vendor.span)
    stored = np.rint(np.power(processed, gamma) * ((high - low) * top) + low * top)
    values = np.clip(stored, 0, top).astype(np.uint16)
    if vendor.is_inverted:
        values = np.uint16(top) - values
    if vendor.is_mirrored:
        values = np.ascontiguousarray(values[:, ::-1])
    return values, StoredFacts(
        bits_stored=vendor.bits_stored,
        photometric="MONOCHROME1" if vendor.is_inverted else "MONOCHROME2",
        spacing_mm=round(vendor.field_mm / size, 6),
        patient_orientation=("R", "F") if vendor.is_mirrored else ("L", "F"),
        window=(top / 2 + 0.5, top + 1, vendor.window_function),
    )


def _expose(image: Image, vendor: Vendor, draw: np.random.Generator, *, noise: float) -> Image:
    """Return the log signal of the detector, with scatter, blur and photon noise."""
    size = len(image)
    zoom = size / _REFERENCE_SIZE
    beam = np.exp(-image)
    beam += vendor.scatter * _surroundings(beam)
    beam = gaussian_blur(beam, sigma_px=vendor.blur_px * zoom)
    photons = vendor.photons * draw.uniform(0.6, 1.6) / zoom**2
    counted = draw.standard_normal(image.shape, dtype=np.float32)
    beam += np.sqrt(beam * (noise**2 / photons)) * counted
    return np.asarray(-np.log(np.clip(beam, 2e-3, None)))


def _process(signal: Image, vendor: Vendor) -> Image:
    """Return the picture in [0, 1] that the vendor's software makes of a log signal."""
    if vendor.local_contrast > 0:
        detail = signal - _surroundings(signal)
        signal = signal + vendor.local_contrast * detail
    edge = len(signal) // 8  # beyond it may be the collimator
    low, high = np.percentile(signal[edge:-edge:4, edge:-edge:4], (0.5, 99.5)).tolist()
    scaled = (signal - low) * (1 / max(high - low, 1e-3))
    scaled = np.asarray(np.clip(scaled, -0.1, 1.1) * (1 / 1.2) + 0.1 / 1.2)
    if vendor.steepness == 0:
        return scaled
    bottom, top = (1 / (1 + math.exp(-vendor.steepness * (x - vendor.middle))) for x in (0, 1))
    bent = 1 / (1 + np.exp(-vendor.steepness * (scaled - vendor.middle)))
    return np.asarray(np.clip((bent - bottom) * (1 / (top - bottom)), 0, 1))


def _surroundings(image: Image) -> Image:
    """Blur far: means over blocks of a sixteenth of the width, interpolated smoothly."""
    size = len(image)
    block = max(1, size // 16)
    cells = size // block
    cut = image[: cells * block, : cells * block]
    means = cut.reshape(cells, block, cells, block).mean(axis=(1, 3))
    return enlarge(means.astype(np.float32), size=size)
