"""Makes the 17 tiny synthetic series of the reader fingerprint, and what must be read from them.

Run it after a wanted change of the reader, the harmonisation or a pinned decoder:

    .venv/bin/python scripts/reader_fingerprint.py            # series and expected values
    .venv/bin/python scripts/reader_fingerprint.py --values   # only the expected values

The same code and the same encoders give the same bytes. Each series holds one trap of the DICOM
standard; no real image is in any of them. DCMTK's `dcmcjpeg` must be installed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openjpeg
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hospitium.imaging.fingerprint.reader import EXPECTED, SERIES, reader_fingerprint, to_json
from hospitium.imaging.writing import derive_uid

ROWS, COLUMNS = 32, 40  # not square: an exchanged axis shows; 32 for JPEG 2000
_CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def scene(*, high: int, number: int = 0) -> np.ndarray:
    """Return an asymmetric picture from 0 to ``high``: a slope, two blobs, an edge, some grain."""
    row, column = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    slope = row / (ROWS - 1) * 0.4 + column / (COLUMNS - 1) * 0.2
    blob = 0.5 * np.exp(-((row - 7 - number) ** 2 + (column - 19) ** 2) / 18)
    second = 0.25 * np.exp(-((row - 16) ** 2 + (column - 6 - number) ** 2) / 9)
    edge = 0.15 * (column > 12 + row / 3)
    grain = np.random.default_rng(1000 + number).uniform(0, 0.05, (ROWS, COLUMNS))
    picture = slope + blob + second + edge + grain
    return ((picture - picture.min()) / np.ptp(picture) * high).round()


# --- one data set --------------------------------------------------------------------------------


def image(
    name: str, stored: np.ndarray, *, modality: str, bits: int, number: int = 0, **more: Any
) -> Dataset:
    """Return an uncompressed object of these stored values; attributes by keyword."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = more.pop("SOPClassUID", _CLASSES[modality])
    dataset.SOPInstanceUID = derive_uid(f"reader/{name}/{number}")
    dataset.StudyInstanceUID = derive_uid(f"reader/{name}/study")
    dataset.SeriesInstanceUID = derive_uid(f"reader/{name}/series")
    dataset.PatientName, dataset.PatientID = "READER^FINGERPRINT", f"READER-{name}"
    dataset.Modality, dataset.Manufacturer = modality, "Hospitium"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = number + 1
    dataset.BurnedInAnnotation = "NO"
    frames = stored.shape[0] if "NumberOfFrames" in more else None
    is_colour = stored.shape[-1] == 3
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[1:3] if frames else stored.shape[:2]
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    if modality in ("DX", "CR"):
        dataset.PatientOrientation = ["L", "F"]
        dataset.ViewPosition, dataset.BodyPartExamined = "PA", "CHEST"
        dataset.ImagerPixelSpacing = ["0.2", "0.2"]
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    if modality == "DX":
        dataset.PresentationIntentType = "FOR PRESENTATION"
    words = stored.astype(f"<{'i' if stored.dtype.kind == 'i' else 'u'}{1 if bits <= 8 else 2}")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.add_new("PixelData", "OB" if bits <= 8 else "OW", words.tobytes())
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def placed(dataset: Dataset, *, position: tuple[float, float, float], spacing: float) -> Dataset:
    """Give an axial slice its place in the patient."""
    dataset.FrameOfReferenceUID = derive_uid(f"reader/frame/{dataset.PatientID}")
    dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{spacing:g}", f"{spacing:g}"]
    dataset.PatientPosition = "HFS"
    return dataset


def compressed(dataset: Dataset, stream: bytes, *, syntax: str, lossy: bool = False) -> Dataset:
    """Put a codestream in place of the pixels."""
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    if lossy:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = "4"
    return dataset


def file_bytes(dataset: Dataset) -> bytes:
    """Return the object as a file, the same bytes for the same content."""
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = derive_uid("hospitium.imaging.writing")
    dataset.file_meta.ImplementationVersionName = "HOSPITIUM_1"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


# --- encoders ------------------------------------------------------------------------------------


def by_dcmtk(dataset: Dataset, *options: str) -> bytes:
    """Return DCMTK's JPEG of a data set; the encoders of our dependencies lack these kinds."""
    program = shutil.which("dcmcjpeg")
    if program is None:
        raise SystemExit("dcmcjpeg is not installed: apt-get install dcmtk")
    with tempfile.TemporaryDirectory() as folder:
        plain, encoded = Path(folder) / "plain.dcm", Path(folder) / "encoded.dcm"
        plain.write_bytes(file_bytes(dataset))
        subprocess.run([program, *options, plain, encoded], check=True)
        return get_frame(dcmread(encoded).PixelData, 0, number_of_frames=1)


def by_pillow(stored: np.ndarray, **options: Any) -> bytes:
    """Return Pillow's JPEG of an 8-bit picture."""
    stream = io.BytesIO()
    Image.fromarray(stored.astype(np.uint8)).save(stream, "JPEG", **options)
    return stream.getvalue()


# --- the 17 series -------------------------------------------------------------------------------


def native() -> Iterator[Dataset]:
    """12 of 16 bits, with an old overlay in the four bits above, which must be ignored."""
    stored = scene(high=4095).astype(np.uint16)
    garbage = (np.indices(stored.shape).sum(axis=0) % 16).astype(np.uint16) << 12
    yield image("native", stored | garbage, modality="DX", bits=12)


def rle() -> Iterator[Dataset]:
    """RLE of 16-bit words."""
    dataset = image("rle", scene(high=30_000).astype(np.uint16), modality="MR", bits=16)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    yield dataset


def jpeg_8() -> Iterator[Dataset]:
    """JPEG Baseline of 8 bits, lossy."""
    stored = scene(high=255).astype(np.uint8)
    dataset = image("jpeg_8", stored, modality="DX", bits=8)
    stream = by_pillow(stored, quality=80)
    yield compressed(dataset, stream, syntax=JPEGBaseline8Bit, lossy=True)


def jpeg_12() -> Iterator[Dataset]:
    """JPEG Extended of 12 bits, lossy."""
    stored = scene(high=4095).astype(np.uint16)
    dataset = image("jpeg_12", stored, modality="DX", bits=12)
    stream = by_dcmtk(dataset, "+ee", "+q", "85")
    yield compressed(dataset, stream, syntax=JPEGExtended12Bit, lossy=True)


def jpeg_lossless() -> Iterator[Dataset]:
    """JPEG Lossless, first-order prediction, of 14 bits."""
    stored = scene(high=16_383).astype(np.uint16)
    dataset = image("jpeg_lossless", stored, modality="DX", bits=14)
    stream = by_dcmtk(dataset, "+e1")
    yield compressed(dataset, stream, syntax=JPEGLosslessSV1)


def jpeg_ls() -> Iterator[Dataset]:
    """JPEG-LS of signed 12-bit values."""
    stored = (scene(high=4095) - 2048).astype(np.int16)
    dataset = image("jpeg_ls", stored, modality="MR", bits=12)
    dataset.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    yield dataset


def jpeg_2000() -> Iterator[Dataset]:
    """JPEG 2000, reversible and irreversible."""
    stored = scene(high=4095).astype(np.uint16)
    first = image("jpeg_2000", stored, modality="DX", bits=12)
    yield compressed(first, _jpeg_2000(stored), syntax=JPEG2000Lossless)
    second = image("jpeg_2000", stored, modality="DX", bits=12, number=1)
    yield compressed(second, _jpeg_2000(stored, ratio=4), syntax=JPEG2000, lossy=True)


def _jpeg_2000(stored: np.ndarray, *, ratio: int | None = None) -> bytes:
    options = {} if ratio is None else {"compression_ratios": [ratio]}
    return bytes(openjpeg.encode(stored, bits_stored=12, photometric_interpretation=2, **options))


def monochrome1() -> Iterator[Dataset]:
    """White is low: 10 bits of a CR are turned over."""
    stored = scene(high=1023).astype(np.uint16)
    yield image(
        "monochrome1",
        stored,
        modality="CR",
        bits=10,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
    )


def signed_padding() -> Iterator[Dataset]:
    """Signed CT with padding that is no air."""
    stored = (scene(high=2500) - 1024).astype(np.int16)
    row, column = np.indices(stored.shape)
    stored[(row - 15.5) ** 2 + (column - 19.5) ** 2 > 250] = -2000
    dataset = image("signed_padding", stored, modality="CT", bits=16)
    placed(dataset, position=(-50, -40, 10), spacing=2)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    yield dataset


def slice_slope() -> Iterator[Dataset]:
    """PET slices, each with a slope of its own, in an order that is not that of their names."""
    for number, height in enumerate((9.0, 3.0, 6.0, 0.0)):
        stored = scene(high=32_000, number=number).astype(np.int16)
        dataset = image("slice_slope", stored, modality="PT", bits=16, number=number)
        placed(dataset, position=(-28, -24, height), spacing=2)
        slope = (0.125, 3.774114, 0.0625, 1.5)[number]
        dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), "0"
        dataset.Units = "BQML"
        yield dataset


def modality_lut() -> Iterator[Dataset]:
    """A Modality LUT that is shorter than the range of the stored values."""
    dataset = image("modality_lut", scene(high=1023).astype(np.uint16), modality="CR", bits=10)
    table = Dataset()
    entries = (np.linspace(0, 1, 900) ** 0.5 * 4095).round().astype("<u2")
    table.add_new("LUTDescriptor", "US", [900, 50, 12])
    table.ModalityLUTType = "OD"
    table.add_new("LUTData", "OW", entries.tobytes())
    dataset.ModalityLUTSequence = Sequence([table])
    yield dataset


def sigmoid() -> Iterator[Dataset]:
    """A window with the function SIGMOID, applied."""
    yield image(
        "sigmoid",
        scene(high=4095).astype(np.uint16),
        modality="DX",
        bits=12,
        WindowCenter="1800",
        WindowWidth="1500",
        VOILUTFunction="SIGMOID",
    )


def palette() -> Iterator[Dataset]:
    """Palette colour with 16-bit entries."""
    stored = scene(high=255).astype(np.uint8)
    dataset = image("palette", stored, modality="US", bits=8)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    at = np.arange(256)
    tables = {"Red": at * 257, "Green": (255 - at) * 257, "Blue": ((at * 7) % 256) * 257}
    for name, entries in tables.items():
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", entries.astype("<u2").tobytes())
    yield dataset


def ybr() -> Iterator[Dataset]:
    """Colour as YBR: a JPEG with halved chroma, and plain words, plane by plane."""
    colour = np.stack([scene(high=255, number=number) for number in range(3)], axis=-1)
    colour = colour.astype(np.uint8)
    first = image("ybr", colour, modality="US", bits=8, PlanarConfiguration=0)
    first.PhotometricInterpretation = "YBR_FULL_422"
    stream = by_pillow(colour, quality=85, subsampling="4:2:2")
    yield compressed(first, stream, syntax=JPEGBaseline8Bit, lossy=True)
    planes = np.ascontiguousarray(np.moveaxis(colour, -1, 0))
    second = image("ybr", colour, modality="US", bits=8, number=1, PlanarConfiguration=1)
    second.PhotometricInterpretation = "YBR_FULL"
    second.PixelData = planes.tobytes()
    yield second


def enhanced() -> Iterator[Dataset]:
    """Enhanced MR: four frames out of order, each with its own slope."""
    order = (2, 0, 3, 1)
    stored = np.stack([scene(high=4095, number=number) for number in order]).astype(np.uint16)
    dataset = image(
        "enhanced", stored, modality="MR", bits=12, SOPClassUID=_ENHANCED_MR, NumberOfFrames=4
    )
    dataset.FrameOfReferenceUID = derive_uid("reader/frame/enhanced")
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["1.5", "1.5"], "4"
    orientation.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_frame(number) for number in order])
    yield dataset


def _frame(number: int) -> Dataset:
    position, transformation, group = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = ["-21", "-18", f"{3 * number}"]
    transformation.RescaleSlope = f"{0.5 + 0.25 * number:g}"
    transformation.RescaleIntercept, transformation.RescaleType = f"{10 * number}", "US"
    group.PlanePositionSequence = Sequence([position])
    group.PixelValueTransformationSequence = Sequence([transformation])
    return group


def tilt() -> Iterator[Dataset]:
    """CT slices whose positions step aside, as those of a tilted gantry do."""
    for number in range(5):
        stored = scene(high=2500, number=number).astype(np.uint16)
        dataset = image("tilt", stored, modality="CT", bits=12, number=number)
        placed(dataset, position=(-28, -24 + 1.4 * number, 4.0 * number), spacing=2)
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        yield dataset


def turned() -> Iterator[Dataset]:
    r"""A frontal view whose rows run to the patient's right: ``R\F``."""
    stored = scene(high=1023).astype(np.uint16)
    yield image("turned", stored, modality="DX", bits=10, PatientOrientation=["R", "F"])


_MAKERS: tuple[Callable[[], Iterator[Dataset]], ...] = (
    native,
    rle,
    jpeg_8,
    jpeg_12,
    jpeg_lossless,
    jpeg_ls,
    jpeg_2000,
    monochrome1,
    signed_padding,
    slice_slope,
    modality_lut,
    sigmoid,
    palette,
    ybr,
    enhanced,
    tilt,
    turned,
)


def make_series() -> dict[str, bytes]:
    """Return the bytes of every file by its name, ``trap.1.dcm``."""
    return {
        f"{maker.__name__}.{number}.dcm": file_bytes(dataset)
        for maker in _MAKERS
        for number, dataset in enumerate(maker(), start=1)
    }


def main() -> None:
    """Write the series, then what the reader of this version makes of them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--values", action="store_true", help="only the expected values")
    if not options.parse_args().values:
        SERIES.mkdir(parents=True, exist_ok=True)
        made = make_series()
        for old in set(SERIES.glob("*.dcm")) - {SERIES / name for name in made}:
            old.unlink()
        for name, raw in made.items():
            (SERIES / name).write_bytes(raw)
        print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes in {SERIES}")
    found = reader_fingerprint()
    unread = [series.trap for series in found.series if series.reason]
    if unread:
        raise SystemExit(f"not read: {unread}; expected values were not written")
    EXPECTED.write_bytes(to_json(found))
    print(f"{len(found.series)} series, {EXPECTED.stat().st_size:,} bytes in {EXPECTED}")


if __name__ == "__main__":
    main()
