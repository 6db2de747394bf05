"""The reader fingerprint: proof that this site reads the same bytes into the same numbers.

Seventeen tiny synthetic series are shipped with the package, one for each trap of the DICOM
standard. A site reads them and sends what it got; `reader_differences` says which trap its reader
does not pass. Stored and physical values must be equal to the last bit, of lossy files too, as
each transfer syntax has one pinned decoder. Harmonised arrays and positions may differ by 1e-4:
floating point differs between processors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError
from hospitium.imaging.geometry import assemble
from hospitium.imaging.instance import FloatArray, Instance, ReadOptions, Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import parse_dicom, read_stored
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection
from hospitium.types import Json
from hospitium.wire.canonical import canonical_json

SERIES = Path(__file__).parent / "series"
EXPECTED = Path(__file__).parent / "expected.json"
MAX_DIFFERENCE = 1e-4
MAX_BYTES = 1 << 20
KIND = "reader_fingerprint"
VERSION = 1

TRAPS: Mapping[str, str] = MappingProxyType(
    {
        "native": "12 of 16 bits stored, garbage in the bits above",
        "rle": "RLE",
        "jpeg_8": "JPEG Baseline, 8 bits, lossy",
        "jpeg_12": "JPEG Extended, 12 bits, lossy",
        "jpeg_lossless": "JPEG Lossless",
        "jpeg_ls": "JPEG-LS, signed",
        "jpeg_2000": "JPEG 2000, reversible and irreversible",
        "monochrome1": "MONOCHROME1: white is low",
        "signed_padding": "signed values with padding",
        "slice_slope": "another rescale slope in each slice",
        "modality_lut": "Modality LUT",
        "sigmoid": "VOI function SIGMOID",
        "palette": "palette colour with 16-bit entries",
        "ybr": "YBR colour: halved chroma, and plane by plane",
        "enhanced": "enhanced multi-frame, frames out of order",
        "tilt": "tilted gantry",
        "turned": "rows run to the patient's right (R\\F)",
    }
)
"""Every trap, in the order in which differences are told."""

_VOLUMES = frozenset({"slice_slope", "enhanced", "tilt"})
_COLOUR = frozenset({"palette", "ybr"})
_WITH_VOI = frozenset({"sigmoid"})
_SIZE = 32
_SLICES_SEEN = (2, 5)  # of the 8 that a volume is harmonised to
_PACKAGES = (
    "hospitium", "numpy", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle",
    "pyjpegls", "python-gdcm", "SimpleITK", "pillow", "nibabel",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesValues:
    """What a reader made of one series.

    Attributes:
        trap: One of ``TRAPS``.
        stored: SHA-256 of the stored values of all its files, in the order of their names.
        physical: SHA-256 of the values and their validity that the reader gives for them.
        harmonised: ``(plane, 32, 32)`` float32 in [0, 1].
        affine: Of a volume, 16 numbers row by row, to mm RAS; empty for single images.
        reason: Why it could not be read, as a code of ``SKIP_REASONS``; then all else is empty.
    """

    trap: str
    stored: str = ""
    physical: str = ""
    harmonised: FloatArray = field(default_factory=lambda: np.empty((0, _SIZE, _SIZE), np.float32))
    affine: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReaderFingerprint:
    """What a reader made of all series, and the versions that it was made with.

    Versions explain a difference; they are not compared.
    """

    series: tuple[SeriesValues, ...]
    versions: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over stored and physical values of all series: equal for equal readers."""
        values = [(one.trap, one.stored, one.physical, one.reason) for one in self.series]
        return hashlib.sha256(json.dumps(sorted(values)).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way in which a reader is not the expected one.

    Attributes:
        trap: One of ``TRAPS``.
        files: Of that series, as shipped.
        what: ``missing``, ``not read``, ``stored values``, ``physical values``,
            ``harmonised values`` or ``position``.
        found: In words; no content of an image.
    """

    trap: str
    files: tuple[str, ...]
    what: str
    found: str

    def __str__(self) -> str:
        return f"{self.files[0] if self.files else self.trap} ({TRAPS[self.trap]}): {self.found}"


def series_files(trap: str) -> tuple[Path, ...]:
    """Return the files of a series, in order."""
    return tuple(sorted(SERIES.glob(f"{trap}.*.dcm")))


# --- reading -------------------------------------------------------------------------------------


def reader_fingerprint() -> ReaderFingerprint:
    """Read every series with the reader of this installation.

    It never raises for what a reader does to a file: a series that cannot be read has a reason.
    """
    with _quiet():
        series = tuple(_read(trap) for trap in TRAPS)
    return ReaderFingerprint(series=series, versions=versions())


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what a codec in C writes to stderr: GDCM complains of 12 bits, then reads them."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def versions() -> dict[str, str]:
    """Return the versions of everything that pixels pass through, and of the machine's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found["system"] = platform.system()
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _read(trap: str) -> SeriesValues:
    """Return what the reader makes of one series."""
    raws = [path.read_bytes() for path in series_files(trap)]
    stored, physical = hashlib.sha256(), hashlib.sha256()
    options = ReadOptions(apply_voi=trap in _WITH_VOI)
    instances: list[Instance] = []
    for raw in raws:
        words, instance = read_stored(raw), parse_dicom(raw, options=options)
        if isinstance(words, Skip) or isinstance(instance, Skip):
            skip = words if isinstance(words, Skip) else instance
            assert isinstance(skip, Skip)
            return SeriesValues(trap=trap, reason=skip.reason)
        _digest(stored, words)
        _digest(physical, instance.values)
        _digest(physical, np.ones(0, bool) if instance.is_valid is None else instance.is_valid)
        instances.append(instance)
    if not instances:
        return SeriesValues(trap=trap, reason="missing_file")
    arrays = _volume(trap, instances) if trap in _VOLUMES else _images(trap, instances)
    if isinstance(arrays, Skip):
        return SeriesValues(trap=trap, reason=arrays.reason)
    return SeriesValues(
        trap=trap,
        stored=stored.hexdigest(),
        physical=physical.hexdigest(),
        harmonised=arrays[0],
        affine=arrays[1],
    )


def _digest(total: Any, values: npt.NDArray[Any]) -> None:
    """Add an array to a digest: its shape, its kind, and its values as little-endian bytes."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    total.update(f"{little.dtype.kind}{little.dtype.itemsize}{little.shape};".encode())
    total.update(little.tobytes())


def _images(trap: str, instances: Sequence[Instance]) -> tuple[FloatArray, tuple[float, ...]]:
    """Return the planes of each image: one of a grey image, three of a colour image."""
    steps = _steps(kind="image", size=(_SIZE, _SIZE), channels=3 if trap in _COLOUR else 1)
    return np.concatenate([steps.apply(one) for one in instances]), ()


def _volume(
    trap: str, instances: Sequence[Instance]
) -> tuple[FloatArray, tuple[float, ...]] | Skip:
    """Return two slices of the volume, and where it lies."""
    volume = assemble(instances)
    if isinstance(volume, Skip):
        return volume
    steps = _steps(kind="volume", size=(_SIZE, _SIZE, 8), spacing_mm=(2.0, 2.0, 2.0))
    image = steps.apply_volume(volume, None).image[0]
    planes = np.stack([image[:, :, number] for number in _SLICES_SEEN])
    return planes, tuple(float(value) for value in volume.affine.reshape(-1))


def _steps(*, kind: str, **steps: Any) -> Harmonise:
    """Return the harmonisation of the fingerprint; it is no plan's, and never changes."""
    pipeline = replace(PipelineSection(), intensity="percentile", **steps)
    section = replace(ImagingSection(), kind=kind, pipeline=pipeline)
    return Harmonise.of(replace(Plan(), imaging=section))


# --- comparing -----------------------------------------------------------------------------------


def expected_reader() -> ReaderFingerprint:
    """Return what the reader of this version must make of the series, as shipped."""
    return from_json(EXPECTED.read_bytes(), where="the package")


def reader_differences(
    found: ReaderFingerprint, expected: ReaderFingerprint | None = None
) -> list[Difference]:
    """Return every way in which a reader is not the expected one; empty: they are the same.

    Args:
        found: Of a site.
        expected: Of the coordinator; None: the values that are shipped with this version.
    """
    wanted = {one.trap: one for one in (expected or expected_reader()).series}
    got = {one.trap: one for one in found.series}
    return [
        Difference(
            trap=trap,
            files=tuple(path.name for path in series_files(trap)),
            what=what,
            found=said,
        )
        for trap in TRAPS
        for what, said in _compare(got.get(trap), wanted.get(trap))
    ]


def _compare(found: SeriesValues | None, wanted: SeriesValues | None) -> list[tuple[str, str]]:
    """Return the first thing that differs in a series: what follows from it is not told."""
    if found is None or wanted is None:
        return [] if found is wanted else [("missing", "the series is not in both fingerprints")]
    if found.reason != wanted.reason:
        return [("not read", f"not read: {found.reason or 'read, but should not be'}")]
    if found.stored != wanted.stored:
        return [("stored values", "the decoder gives other stored values")]
    if found.physical != wanted.physical:
        return [("physical values", "the same stored values become other physical values")]
    off = _largest(found.affine, wanted.affine)
    if off > MAX_DIFFERENCE:
        return [("position", f"slices lie elsewhere, by {off:.3g} mm")]
    off = _largest(found.harmonised, wanted.harmonised)
    if off > MAX_DIFFERENCE:
        return [("harmonised values", f"harmonised values differ by {off:.3g}")]
    return []


def _largest(found: Any, wanted: Any) -> float:
    """Return the largest difference of two arrays, infinite where their shapes differ."""
    first, second = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if first.shape != second.shape:
        return float("inf")
    return float(np.abs(first - second).max()) if first.size else 0.0


# --- the bytes -----------------------------------------------------------------------------------


def to_json(fingerprint: ReaderFingerprint) -> bytes:
    """Return a reader fingerprint as canonical JSON: what a site sends, and what is shipped."""
    series: list[Json] = [
        {
            "trap": one.trap,
            "stored": one.stored,
            "physical": one.physical,
            "planes": len(one.harmonised),
            "harmonised": base64.b64encode(one.harmonised.astype("<f4").tobytes()).decode(),
            "affine": [round(value, 6) for value in one.affine],
            "reason": one.reason,
        }
        for one in fingerprint.series
    ]
    document: Json = {
        "kind": KIND,
        "version": VERSION,
        "series": series,
        "versions": dict(fingerprint.versions),
    }
    return canonical_json(document) + b"\n"


def from_json(raw: bytes, *, where: str) -> ReaderFingerprint:
    """Read a reader fingerprint that another site sent.

    Raises:
        DataError: It is too large, or not of this kind and version.
    """
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(f"{len(raw)} bytes")
        document = json.loads(raw)
        if (document["kind"], document["version"]) != (KIND, VERSION):
            raise ValueError("another kind or version")
        series = tuple(_series_from(one) for one in document["series"])
        if len(series) > len(TRAPS):
            raise ValueError(f"{len(series)} series")
        found = {str(name)[:64]: str(text)[:64] for name, text in document["versions"].items()}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        binascii.Error,
    ) as error:
        raise DataError(
            f"{where}: this is no reader fingerprint of version {VERSION} ({error}). The site was "
            "not admitted. Install the same version of Hospitium there, then try again."
        ) from error
    return ReaderFingerprint(series=series, versions=found)


def _series_from(one: Any) -> SeriesValues:
    if one["trap"] not in TRAPS:
        raise ValueError("an unknown trap")
    texts = {name: str(one[name])[:64] for name in ("stored", "physical", "reason")}
    planes = int(one["planes"])
    values = np.frombuffer(base64.b64decode(one["harmonised"], validate=True), "<f4")
    affine = tuple(float(value) for value in one["affine"])
    harmonised = values.reshape(planes, _SIZE, _SIZE).astype(np.float32)
    if not np.isfinite(harmonised).all() or not np.isfinite(affine).all():
        raise ValueError("a number is not finite")
    return SeriesValues(trap=one["trap"], harmonised=harmonised, affine=affine, **texts)
