import io
import logging
import struct
import zlib

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from hospitium.imaging.instance import Instance, Limits, Skip, is_constant, unusable
from hospitium.imaging.reading import parse_dicom, read_dicom

CT, SEG, RTDOSE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "66.4", "481.2"))
JPEG, JPEG_EXTENDED, J2K, MPEG2, DEFLATED = (
    f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.51", "4.90", "4.100", "1.99")
)


def reason(raw: bytes, **options) -> str:
    found = parse_dicom(raw, **options)
    assert isinstance(found, Skip), found
    return found.reason


def test_values_range_and_facts_come_from_the_header(dicom, ramp):
    found = parse_dicom(
        dicom(ramp, BitsStored=12, Manufacturer="Alder", ImagerPixelSpacing=[0.139, 0.139])
    )
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values[0], ramp)
    assert found.range == (0.0, 4095.0)
    assert found.facts.spacing_mm == (0.139, 0.139)
    assert (found.facts.manufacturer, found.facts.modality) == ("Alder", "DX")
    assert (found.facts.bits_stored, found.notes) == (12, ())


def test_monochrome1_is_inverted_for_projections_and_not_for_mr(dicom, ramp):
    chest = parse_dicom(dicom(ramp, BitsStored=10, PhotometricInterpretation="MONOCHROME1"))
    head = parse_dicom(dicom(ramp, Modality="MR", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(chest.values[0], 1023.0 - ramp)
    assert "inverted" in chest.notes
    np.testing.assert_array_equal(head.values[0], ramp)
    assert "inverted" not in head.notes


def test_bits_outside_those_stored_are_ignored(dicom, ramp):
    dirty = (ramp << 4 | 0xF00D & 0xF00F).astype(np.uint16)
    found = parse_dicom(dicom(dirty, BitsStored=8, HighBit=11))
    np.testing.assert_array_equal(found.values[0], ramp)
    assert found.range == (0.0, 255.0)


def test_signed_values_with_rescale_are_in_physical_units(dicom, ramp):
    stored = ramp.astype(np.int16) - 20
    found = parse_dicom(
        dicom(stored, SOPClassUID=CT, Modality="CT", RescaleSlope="2", RescaleIntercept="-10")
    )
    np.testing.assert_array_equal(found.values[0], stored * 2.0 - 10)


def test_a_modality_lookup_table_wins_over_rescale(dicom, ramp):
    item = Dataset()
    item.add_new(0x00283002, "US", [48, 0, 16])
    item.add_new(0x00283006, "US", list(range(480, 0, -10)))
    found = parse_dicom(dicom(ramp, ModalityLUTSequence=[item], RescaleSlope="3"))
    np.testing.assert_array_equal(found.values[0], 480.0 - 10.0 * ramp)
    assert "lut_and_rescale" in found.notes


def test_padding_is_marked_and_not_in_the_values_range(dicom, ramp):
    found = parse_dicom(dicom(ramp, PixelPaddingValue=0, PixelPaddingRangeLimit=3))
    assert (~found.is_valid).sum() == 4
    assert found.range == (0.0, 65535.0)


def test_a_mirrored_radiograph_is_turned_to_display_orientation(dicom, ramp):
    found = parse_dicom(dicom(ramp, PatientOrientation=["R", "H"]))
    lateral = parse_dicom(dicom(ramp, PatientOrientation=["A", "F"]))
    np.testing.assert_array_equal(found.values[0], ramp[::-1, ::-1])
    assert found.notes == ("flipped",)
    np.testing.assert_array_equal(lateral.values[0], ramp)


def test_colour_is_rgb_with_three_channels(dicom):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    found = parse_dicom(dicom(colours))
    np.testing.assert_array_equal(found.values[0], colours)
    assert found.is_colour
    assert found.range == (0.0, 255.0)


def test_run_length_coding_gives_the_same_values(dicom, ramp):
    dataset = pydicom.dcmread(io.BytesIO(dicom(ramp)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    np.testing.assert_array_equal(parse_dicom(buffer.getvalue()).values[0], ramp)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (struct.pack("<16L", 1, 64, *[0] * 14), "codestream_mismatch"),
        (struct.pack("<16L", 2, 64, 64, *[0] * 13), "codestream_mismatch"),
        (struct.pack("<16L", 2, 0, 70, *[0] * 13), "codestream_mismatch"),
        (struct.pack("<16L", 2, 64, 9999, *[0] * 13), "codestream_mismatch"),
        (struct.pack("<16L", 2, 64, 66, *[0] * 13), "decode_failed"),
        (b"\2\0\0\0", "truncated"),
    ],
)
def test_run_length_coding_that_does_not_fit_is_refused(dicom, ramp, head, expected):
    stream = encapsulate([head + b"\xfb\0\0\0"])
    assert reason(dicom(ramp, syntax=RLELossless, PixelData=stream)) == expected


def test_baseline_jpeg_gives_the_values_that_pillow_gives(dicom, png):
    grey = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    stream = png(grey, format="JPEG")
    found = parse_dicom(dicom(grey, syntax=JPEG, PixelData=encapsulate([stream])))
    np.testing.assert_array_equal(found.values[0], np.asarray(Image.open(io.BytesIO(stream))))
    assert "lossy" in found.notes


def test_jpeg_extended_of_16_bits_has_no_decoder(dicom, ramp):
    stream = b"\xff\xd8\xff\xc1\0\x0b\x10\0\6\0\x08\1\1\x11\0\xff\xd9"
    attributes = {"syntax": JPEG_EXTENDED, "PixelData": encapsulate([stream])}
    assert reason(dicom(ramp, **attributes)) == "transfer_syntax_unsupported"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Rows": None}, "missing_attribute"),
        ({"BitsStored": 17}, "bad_attribute"),
        ({"RescaleSlope": "0"}, "bad_attribute"),
        ({"Modality": "CT"}, "no_rescale"),
        ({"NumberOfFrames": 0}, "bad_attribute"),
        ({"PixelData": b"\0" * 94}, "truncated"),
        ({"NumberOfFrames": 2}, "truncated"),
        ({"NumberOfFrames": 8193, "PixelData": bytes(8193 * 96)}, "too_large"),
        ({"RescaleSlope": "nan"}, "bad_attribute"),
        ({"BitsAllocated": 12}, "bad_attribute"),
        ({"PixelData": None}, "truncated"),
        ({"PixelData": None, "Rows": None}, "no_pixels"),
        ({"SOPClassUID": SEG}, "label_object"),
        ({"SOPClassUID": RTDOSE}, "not_an_image"),
        ({"PhotometricInterpretation": None}, "missing_attribute"),
        ({"SamplesPerPixel": 3}, "bad_attribute"),
        ({"syntax": JPEG, "PixelData": encapsulate([b"\xff\xd8\xff\xd9"])}, "codestream_mismatch"),
        ({"syntax": MPEG2, "PixelData": encapsulate([b"video"])}, "transfer_syntax_unsupported"),
    ],
)
def test_what_cannot_be_trusted_is_left_out_with_its_reason(dicom, ramp, attributes, expected):
    assert reason(dicom(ramp, **attributes)) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw_detector"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "mosaic"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "not_selected"),
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"PixelData": b"\7" * 96}, "constant"),
    ],
)
def test_some_images_can_be_read_but_are_no_cases(dicom, ramp, attributes, expected):
    found = parse_dicom(dicom(ramp, **attributes))
    assert isinstance(found, Instance)
    assert unusable(found.cautions, is_constant=is_constant(found)).reason == expected


def test_a_file_that_cannot_be_opened_is_not_a_data_error(tmp_path):
    assert read_dicom(tmp_path / "gone.dcm").reason == "unreadable_file"
    assert read_dicom(tmp_path).reason == "unreadable_file"


def test_a_cut_file_is_left_out_wherever_it_is_cut(dicom, ramp):
    raw = dicom(ramp)
    header = {reason(raw[:length]) for length in range(0, len(raw) - 120, 7)}
    assert header <= {
        "not_dicom",
        "truncated",
        "no_transfer_syntax",
        "missing_attribute",
        "no_pixels",
    }
    assert {reason(raw[:-cut]) for cut in range(1, 96, 5)} == {"truncated"}


def test_bombs_are_refused_before_they_are_decoded(dicom, ramp):
    siz = b"\xff\x4f\xff\x51" + bytes(4) + (60_000).to_bytes(4, "big") * 2 + bytes(24)
    stream = siz + b"\0\1\7\1\1" + b"\xff\xd9"
    huge = {"syntax": J2K, "Rows": 60_000, "Columns": 60_000, "PixelData": encapsulate([stream])}
    assert reason(dicom(ramp, **huge)) == "too_large"
    liar = {"syntax": J2K, "PixelData": encapsulate([stream])}
    assert reason(dicom(ramp, **liar)) == "codestream_mismatch"
    assert reason(dicom(ramp), limits=Limits(max_pixels=47)) == "too_large"


def test_a_deflated_bomb_is_refused_before_it_is_inflated(dicom, ramp):
    raw = dicom(ramp, syntax=DEFLATED)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    start = 132 + 12 + int.from_bytes(raw[140:144], "little")
    bomb = raw[:start] + packer.compress(bytes(1 << 25)) + packer.flush()
    assert isinstance(parse_dicom(raw), Instance)
    assert reason(bomb, limits=Limits(max_inflated_bytes=1 << 24)) == "too_large"


def test_the_patients_identifier_is_with_the_uids_only_and_the_name_is_nowhere(dicom, ramp):
    found = parse_dicom(dicom(ramp, PatientID="MRN-77", PatientName="Roe^Jane"))
    assert found.uids.patient == "MRN-77"
    assert "MRN" not in repr(found.facts)
    assert "Roe" not in repr(found)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_to_a_file_raises_anything(dicom, data):
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    raw = bytearray(dicom(np.arange(48, dtype=np.uint16).reshape(6, 8), WindowWidth="0"))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(raw), len(raw), len(raw) // 2]))
    assert isinstance(parse_dicom(bytes(raw[:cut])), Instance | Skip)
