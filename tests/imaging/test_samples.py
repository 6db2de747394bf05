"""The real DICOM files that developers share: every row about reading of the specification."""

import json
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.pixels import apply_color_lut, apply_voi_lut, pixel_array

from hospitium.imaging.instance import Header, Instance, ReadOptions, Skip, is_constant, unusable
from hospitium.imaging.reading import parse_dicom, pixel_sha256, read_dicom, read_header

PINNED = Path(__file__).with_name("sample_pixels.json")
SERIES = "series_Study1_HCropVolume"
OPTIONS = ReadOptions(take_maps=True)
SKIPPED = {
    "no_meta": "not_dicom",
    "meta_missing_tsyntax": "no_transfer_syntax",
    "MR_truncated": "truncated",
    "emri_small_jpeg_2k_lossless_too_short": "truncated",
    "nested_priv_SQ": "missing_attribute",
    "badVR": "bad_attribute",
    "rtplan": "no_pixels",
    "reportsi": "no_pixels",
    "waveform_ecg": "no_pixels",
    "rtdose": "not_an_image",
    "liver": "label_object",
    "liver_1frame": "label_object",
    "rtstruct": "label_object",
    "JPEG2000-embedded-sequence-delimiter": "codestream_mismatch",
}
VALUES = {
    "gdcm-CR-MONO1-10-chest": (44, 1023),
    "RG1_J2KI": (6255, 31964),
    "RG3_J2KI": (0, 1023),
    "CT_small": (-896, 1167),
    "GH342": (-1024, 1400),
    "bad_sequence": (-1011, 1243),
    "J2K_pixelrep_mismatch": (-2000, 1896),
    "JLSL_16_15_1_1F": (-16384, 16383),
    "JPGExtended": (0, 264),
    "MR_small": (127, 2145),
    "GH1261": (0, 0),
    "decimal_rescale": (-4096, -4096),
    "parametric_map_float": (0, pytest.approx(0.9416, abs=1e-4)),
}
CODES = {  # of what is looked at here; the rest is said for most of the files
    "MR_small_padded": {"trailing_bytes"},
    "JPGExtended": {"lossy"},
    "JPEG-lossy": {"lossy"},
    "gdcm-CR-MONO1-10-chest": {"inverted", "orientation_assumed"},
    "RG1_J2KI": {"inverted", "lossy"},
    "RG3_J2KI": {"inverted", "flipped", "lossy"},
    "693_J2KI": {"codestream_sign", "lossy"},
    "J2K_pixelrep_mismatch": {"codestream_sign"},
    "decimal_rescale": {"no_instance_uid"},
    "parametric_map_float": {"range_assumed"},
}
NO_CASES = {
    "GH342": "not_selected",
    "GH1261": "constant",
    "decimal_rescale": "constant",
    "epi_pe_ap-00001": "mosaic",
}
ITK = {"JPGExtended", "JPEG-lossy", "JPEG-LL", "GH1261", "bad_sequence"}  # one pydicom decoder only
MALFORMED = {"JPEG-lossy"}  # needs the codestream handed over bare
PLUGINS = {  # another than the reader's own, per transfer syntax
    "1.2.840.10008.1.2.5": "pydicom",
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.80": "gdcm",
    "1.2.840.10008.1.2.4.90": "gdcm",
    "1.2.840.10008.1.2.4.91": "gdcm",
}


def name_of(path: Path) -> str:
    return path.stem.split("__", 1)[-1]


def described(found: Instance | Header) -> tuple:
    return found.facts, found.uids, found.placements, found.cautions


@pytest.fixture(scope="module")
def files(real_data: Path) -> dict[str, Path]:
    folder = real_data / "dicom_samples" / "files"
    return {name_of(path): path for path in sorted(folder.glob("*.dcm"))}


@pytest.fixture(scope="module")
def samples(files: dict[str, Path]) -> dict[str, Instance | Skip]:
    return {name: read_dicom(path, options=OPTIONS) for name, path in files.items()}


@pytest.fixture(scope="module")
def images(samples: dict[str, Instance | Skip]) -> dict[str, Instance]:
    return {name: found for name, found in samples.items() if isinstance(found, Instance)}


def test_57_single_files_43_read_14_skipped_for_their_reasons(samples, images):
    skipped = {name: found.reason for name, found in samples.items() if isinstance(found, Skip)}
    assert (len(samples), len(images), len(skipped)) == (57, 43, 14)
    assert skipped == SKIPPED


def test_32_of_32_slices_of_the_series_are_read(real_data):
    folder = real_data / "dicom_samples" / "files" / SERIES
    found = [read_dicom(path) for path in sorted(folder.iterdir())]
    assert len(found) == 32
    assert all(one.values.shape == (1, 51, 35) and one.placements for one in found)
    assert min(one.values.min() for one in found) == 2
    assert max(one.values.max() for one in found) == 154


def test_known_values_are_found(images):
    found = {name: (images[name].values.min(), images[name].values.max()) for name in VALUES}
    assert found == VALUES
    assert images["MR2_J2KI"].values.max() == pytest.approx(2264.468, abs=1e-3)


def test_pixels_are_those_that_were_pinned(images, real_data):
    pinned = json.loads(PINNED.read_text())
    folder = real_data / "dicom_samples" / "files" / SERIES
    slices = {f"{SERIES}/{path.stem}": read_dicom(path) for path in folder.iterdir()}
    found = {name: pixel_sha256(one) for name, one in {**images, **slices}.items()}
    assert found == pinned


def test_pixels_are_those_of_an_independent_decoder(files, images):
    assert len(images) == 43
    for name, found in images.items():
        expected = independent(files[name], name)
        np.testing.assert_array_equal(found.values, expected, err_msg=name)


def independent(path: Path, name: str) -> np.ndarray:
    """Decode by another decoder where there is one, and apply what the header says by hand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        values = through_itk(path, name) if name in ITK else through_pydicom(dataset)
    if values.dtype == np.uint8 and values.ndim == 4:
        return values
    projection = dataset.get("Modality") in ("CR", "DX", "MG", "IO", "RG", "XA", "RF")
    if dataset.PhotometricInterpretation == "MONOCHROME1" and projection:
        values = (1 << dataset.BitsStored) - 1 - values
    if str(dataset.get("PatientOrientation", "")) == "['R', 'F']" and projection:
        values = values[..., ::-1]
    return values.astype(np.float32)


def through_pydicom(dataset: pydicom.Dataset) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = PLUGINS.get(syntax, "")
    stored = pixel_array(dataset, decoding_plugin=plugin, allow_excess_frames=False)
    colour = dataset.PhotometricInterpretation == "PALETTE COLOR"
    if colour:
        wide = apply_color_lut(stored, dataset)
        stored = (wide >> 8 if wide.dtype == np.uint16 else wide).astype(np.uint8)
    is_colour = colour or dataset.SamplesPerPixel == 3
    framed = stored if int(dataset.get("NumberOfFrames", 1)) > 1 else stored[np.newaxis]
    if is_colour or "RescaleSlope" not in dataset:
        return framed
    return framed.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def through_itk(path: Path, name: str) -> np.ndarray:
    if name not in MALFORMED:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    reference = path.with_name(path.name.replace("JPEG-lossy", "JPGExtended"))
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(reference)))


def test_seven_encodings_of_one_image_are_one_array_and_one_instance(images):
    forms = ("RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded")
    same = [images["MR_small"], *(images[f"MR_small_{form}"] for form in forms)]
    assert len({pixel_sha256(one) for one in same}) == 1
    assert len({one.uids.instance for one in same}) == 1
    assert len({one.digest for one in same}) == 7


def test_traps_leave_their_notes(images):
    for name, codes in CODES.items():
        assert codes <= set(images[name].notes), name
    for code in ("trailing_bytes", "flipped", "no_instance_uid", "codestream_sign"):
        named = {name for name, codes in CODES.items() if code in codes}
        found = {name for name, one in images.items() if code in one.notes}
        assert found == named | ({"GH1261", "bad_sequence"} if code == "codestream_sign" else set())


def test_some_can_be_read_but_are_no_cases(images):
    refused = {
        name: unusable(one.cautions, is_constant=is_constant(one)) for name, one in images.items()
    }
    assert {name: skip.reason for name, skip in refused.items() if skip} == NO_CASES


def test_values_lie_in_the_range_that_is_stated(images):
    for name, found in images.items():
        assert found.range[0] <= found.values.min() <= found.values.max(), name
        assert found.values.max() <= found.range[1], name
        assert found.range[0] < found.range[1], name


def test_nothing_of_spread_padding_is_valid(images):
    spread = images["693_J2KI"]
    assert spread.values.min() < -1024
    assert spread.values[spread.is_valid].min() >= -1024


def test_spacing_has_its_kind(images):
    assert (images["RG1_J2KI"].facts.spacing_mm, images["RG1_J2KI"].facts.spacing_kind) == (
        None,
        "none",
    )
    assert images["CT_small"].facts.spacing_kind == ""


def test_a_tilted_gantry_is_in_the_orientation_already(images):
    (place,) = images["J2K_pixelrep_mismatch"].placements
    assert np.degrees(np.arcsin(-place.orientation[5])) == pytest.approx(22, abs=0.1)


def test_colour_is_rgb_uint8_and_has_all_frames(images):
    shapes = {
        "examples_palette": (1, 350, 800, 3),
        "examples_rgb_color": (1, 240, 320, 3),
        "examples_ybr_color": (30, 240, 320, 3),
        "ExplVR_BigEnd": (1, 60, 80, 3),
    }
    found = {name: one.values.shape for name, one in images.items() if one.is_colour}
    assert found == shapes
    assert all(images[name].values.dtype == np.uint8 for name in shapes)


def test_frames_without_functional_groups_have_no_place(images):
    assert images["emri_small"].values.shape == (10, 64, 64)
    assert images["emri_small"].placements is None


def test_a_display_table_is_applied_only_when_asked_and_to_radiographs(files):
    raw, voi = files["vlut_04"].read_bytes(), ReadOptions(apply_voi=True)
    radiograph = raw.replace(b"\x08\0\x60\0CS\2\0OT", b"\x08\0\x60\0CS\2\0DX", 1)
    assert radiograph != raw
    dataset = pydicom.dcmread(files["vlut_04"])
    stored = pixel_array(dataset)
    for untouched in (parse_dicom(radiograph), parse_dicom(raw, options=voi)):
        np.testing.assert_array_equal(untouched.values[0], stored)
    found = parse_dicom(radiograph, options=voi)
    expected = apply_voi_lut(stored, dataset) / 65_535
    np.testing.assert_allclose(found.values[0], expected, atol=1e-7)


def test_no_name_or_date_of_a_header_is_in_the_facts(files, images):
    for name, found in images.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(files[name], force=True, stop_before_pixels=True)
            said = {
                str(dataset.get(keyword, ""))
                for keyword in ("PatientName", "PatientID", "StudyDate", "StudyInstanceUID")
            }
        text = repr(found.facts)
        assert not [word for word in said if len(word) > 3 and word in text], name


def test_a_header_alone_says_what_the_whole_object_says(files, images):
    for name, found in images.items():
        header = read_header(files[name], options=OPTIONS)
        assert described(header) == described(found), name
        assert set(header.notes) <= set(found.notes), name
