"""What a header says: facts, identifiers, spacing kinds, polarity, padding, cautions."""

import hashlib
import io
import tracemalloc

import numpy as np
import pydicom
import pytest

from hospitium.imaging.header import age_band
from hospitium.imaging.instance import Header, ReadOptions, Skip, is_constant, unusable
from hospitium.imaging.reading import parse_dicom, read_dicom, read_header

RAW = {"PresentationIntentType": "FOR PROCESSING"}
TAKE_RAW = ReadOptions(take_raw=True)
SC = "1.2.840.10008.5.1.4.1.1.7"


def refusal(instance):
    return unusable(instance.cautions, is_constant=is_constant(instance))


@pytest.mark.parametrize(
    ("attributes", "distance", "kind"),
    [
        ({}, None, "none"),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "detector"),
        ({"ImagerPixelSpacing": [0.1, 0.2], "PixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.1, 0.1]}, (0.1, 0.1), "calibrated"),
        (
            {
                "ImagerPixelSpacing": [0.1, 0.1],
                "PixelSpacing": [0.1, 0.1],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            (0.1, 0.1),
            "calibrated",
        ),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.1]}, (0.1, 0.1), "detector"),
        ({"NominalScannedPixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "scanned"),
        ({"PixelSpacing": [0, 0]}, None, "none"),
        ({"Modality": "MR", "PixelSpacing": [0.5, 0.6]}, (0.5, 0.6), ""),
    ],
)
def test_the_spacing_of_a_projection_has_its_kind(dicom, ramp, attributes, distance, kind):
    found = parse_dicom(dicom(ramp, **attributes)).facts
    assert (found.spacing_mm, found.spacing_kind) == (distance, kind)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("065Y", "60-69"),
        ("060Y", "60-69"),
        ("059Y", "50-59"),
        ("089Y", "80-89"),
        ("090Y", "90+"),
        ("104Y", "90+"),
        ("018M", "0-9"),
        ("003D", "0-9"),
        ("", ""),
        ("old", ""),
        ("65", ""),
        ("9" * 400 + "Y", ""),  # beyond a float
        ("9" * 5000 + "Y", ""),  # beyond what Python turns into a number
    ],
)
def test_ages_are_known_in_bands_of_ten_years(age, band):
    assert age_band(age) == band


def test_facts_come_from_the_allow_list(dicom, ramp):
    found = parse_dicom(
        dicom(
            ramp,
            BodyPartExamined="chest",
            ViewPosition="PA",
            PatientSex="F",
            PatientAge="071Y",
            KVP="120",
            ImageType=["DERIVED", "PRIMARY"],
            ContrastBolusAgent="",
            ConvolutionKernel="B30f",
            StudyDescription="a secret",
        )
    ).facts
    assert (found.body_part, found.view, found.sex, found.age_band) == ("CHEST", "PA", "F", "70-79")
    assert (found.kvp, found.image_type, found.kernel) == (120.0, ("DERIVED", "PRIMARY"), "B30f")
    assert found.has_contrast is None
    assert parse_dicom(dicom(ramp)).facts.has_contrast is False
    assert "secret" not in repr(found)


def test_an_illegible_number_that_only_describes_is_none(dicom, ramp):
    raw = dicom(ramp, KVP="120").replace(b"120 ", b"1a0 ")
    assert parse_dicom(raw).facts.kvp is None


@pytest.mark.parametrize(
    ("attributes", "lossy"),
    [
        ({}, False),
        ({"LossyImageCompression": "00"}, False),
        ({"LossyImageCompression": "01"}, True),
    ],
)
def test_loss_in_an_earlier_life_is_a_fact_and_a_note(dicom, ramp, attributes, lossy):
    found = parse_dicom(dicom(ramp, **attributes))
    assert found.facts.is_lossy == ("lossy" in found.notes) == lossy


def test_text_burnt_into_the_pixels_is_a_caution_and_its_absence_unknown(dicom, ramp):
    yes, no, absent = (
        parse_dicom(dicom(ramp, BurnedInAnnotation=said)) for said in ("YES", "NO", None)
    )
    assert refusal(yes).reason == "burned_in"
    assert (refusal(no), refusal(absent)) == (None, None)
    assert "burned_in_unknown" in absent.notes
    assert "burned_in_unknown" not in no.notes + yes.notes


# --- polarity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photometric", "shape", "conflict"),
    [
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_the_photometric_interpretation_wins_over_the_shape(
    dicom, ramp, photometric, shape, conflict
):
    attributes = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    found = parse_dicom(dicom(ramp, BitsStored=8, **attributes))
    expected = 255 - ramp if photometric == "MONOCHROME1" else ramp
    np.testing.assert_array_equal(found.values[0], expected)
    assert ("polarity_conflict" in found.notes) == conflict


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "IO", "RG", "XA", "RF"])
def test_monochrome1_of_a_projection_is_turned_over(dicom, ramp, modality):
    raw = dicom(ramp, Modality=modality, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(parse_dicom(raw).values[0], 65_535.0 - ramp)


@pytest.mark.parametrize(
    ("attributes", "inverted"),
    [
        ({"Modality": "NM"}, False),
        ({"Modality": "PT"}, False),
        ({"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "0"}, False),
        ({"Modality": "OT", "SOPClassUID": SC}, True),
        ({"Modality": "OT", "SOPClassUID": SC + ".2"}, True),
        ({"Modality": "OP", "SOPClassUID": SC + "7.1.5.1"}, False),  # an eye's photograph
    ],
)
def test_other_modalities_keep_their_values_but_for_captures(dicom, ramp, attributes, inverted):
    raw = dicom(ramp, PhotometricInterpretation="MONOCHROME1", **attributes)
    assert ("inverted" in parse_dicom(raw).notes) == inverted


def test_detector_data_is_no_case_unless_it_is_asked_for(dicom, ramp):
    raw = dicom(ramp, PixelIntensityRelationshipSign=-1, **RAW)
    assert refusal(parse_dicom(raw)).reason == "raw_detector"
    assert refusal(parse_dicom(raw, options=TAKE_RAW)) is None


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_alone_decides_the_polarity_of_detector_data(dicom, ramp, photometric, sign):
    raw = dicom(
        ramp, PhotometricInterpretation=photometric, PixelIntensityRelationshipSign=sign, **RAW
    )
    found = parse_dicom(raw, options=TAKE_RAW)
    np.testing.assert_array_equal(found.values[0], 65_535.0 - ramp if sign == 1 else ramp)


def test_detector_data_without_a_sign_is_not_guessed(dicom, ramp):
    assert parse_dicom(dicom(ramp, **RAW), options=TAKE_RAW).reason == "missing_attribute"


# --- padding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "limit", "count"), [(3, None, 1), (3, 5, 3), (5, 3, 3)])
def test_padding_is_a_value_or_an_inclusive_range_in_either_order(dicom, ramp, value, limit, count):
    found = parse_dicom(dicom(ramp, PixelPaddingValue=value, PixelPaddingRangeLimit=limit))
    assert (~found.is_valid).sum() == count


def test_padding_is_of_stored_values_also_where_they_are_signed(dicom, ramp):
    stored = ramp.astype(np.int16) - 2000
    raw = dicom(stored, PixelPaddingValue=-2000, Modality="MR", RescaleSlope="2")
    found = parse_dicom(raw)
    assert np.argwhere(~found.is_valid).tolist() == [[0, 0, 0]]


def test_below_air_nothing_of_a_ct_is_valid_though_only_one_value_is_declared(dicom, ramp):
    stored = ramp.astype(np.int16) - 1030
    stored[5, 7] = -2016
    ct = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "0"}
    found = parse_dicom(dicom(stored, PixelPaddingValue=-2000, **ct))
    np.testing.assert_array_equal(found.is_valid[0], stored >= -1024)


# --- identifiers -------------------------------------------------------------------------------


def test_an_object_without_an_instance_uid_is_named_by_its_digest(dicom, ramp):
    raw = dicom(ramp, SOPInstanceUID=None)
    found = parse_dicom(raw)
    assert found.uids.instance == found.digest == hashlib.sha256(raw).hexdigest()
    assert "no_instance_uid" in found.notes
    assert read_header(raw).uids == found.uids


def test_identifiers_are_read_in_the_character_set_of_the_file(dicom, ramp):
    raw = dicom(ramp, SpecificCharacterSet="ISO_IR 100", PatientID="Zoë 7", IssuerOfPatientID="H")
    assert parse_dicom(raw).uids.patient == "Zoë 7"
    broken = raw.replace(b"ISO_IR 100", b"ISO_IR 999")
    assert parse_dicom(broken).uids.issuer == "H"


# --- the file ----------------------------------------------------------------------------------


def test_a_data_set_without_preamble_is_read_if_its_class_is_known(dicom, ramp):
    made = pydicom.dcmread(io.BytesIO(dicom(ramp)))
    for implicit, little in ((True, True), (False, True), (False, False)):
        bare = pydicom.Dataset(made)
        bare.PixelData = ramp.astype("<u2" if little else ">u2").tobytes()
        bare["PixelData"].VR = "OW"
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, bare, implicit_vr=implicit, little_endian=little)
        found = parse_dicom(buffer.getvalue())
        np.testing.assert_array_equal(found.values[0], ramp)
        assert "no_file_meta" in found.notes
    made.SOPClassUID = "1.2.3.4"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, pydicom.Dataset(made), implicit_vr=True, little_endian=True)
    assert parse_dicom(buffer.getvalue()).reason == "not_dicom"
    assert parse_dicom(b"x" + buffer.getvalue()).reason == "not_dicom"


def test_a_pad_byte_is_no_trailing_byte(dicom):
    odd = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert "trailing_bytes" not in parse_dicom(dicom(odd)).notes
    assert "trailing_bytes" in parse_dicom(dicom(odd, PixelData=odd.tobytes() + bytes(3))).notes


def test_a_syntax_that_is_not_the_one_written_is_tolerated_aloud(dicom, ramp):
    raw = dicom(ramp)
    told = raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1)
    found = parse_dicom(told)
    np.testing.assert_array_equal(found.values[0], ramp)
    assert "reader_warning" in found.notes


def test_floating_point_pixels_are_read_only_when_asked(dicom):
    maps = np.array([[0.5, np.nan], [2.5, -1.0]], np.float32)
    raw = dicom(maps, FloatPixelData=maps.tobytes(), PixelData=None)
    assert parse_dicom(raw).reason == "not_selected"
    found = parse_dicom(raw, options=ReadOptions(take_maps=True))
    np.testing.assert_array_equal(found.values[0], np.nan_to_num(maps))
    np.testing.assert_array_equal(found.is_valid[0], np.isfinite(maps))
    assert found.range == (-1.0, 2.5)


def test_of_a_large_file_only_the_header_is_read(dicom, ramp, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(ramp, PatientComments="x" * 100_000))
    with path.open("r+b") as stream:
        stream.truncate(1 << 27)
    tracemalloc.start()
    try:
        assert isinstance(read_header(path), Header)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["gone.dcm", "."])
def test_a_file_that_cannot_be_opened_has_no_header(tmp_path, name):
    assert read_header(tmp_path / name).reason == "unreadable_file"


def test_a_file_that_is_no_image_has_no_header(dicom, ramp, tmp_path):
    for number, raw in enumerate((b"", b"hello" * 99, dicom(ramp)[:200], dicom(ramp, Rows=None))):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(raw)
        header, whole = read_header(path), read_dicom(path)
        assert isinstance(header, Skip)
        assert header.reason == whole.reason


def test_no_text_of_a_header_can_steer_a_terminal(dicom, ramp):
    raw = dicom(ramp, Manufacturer="\x1b[2JAlder\x07")
    assert parse_dicom(raw).facts.manufacturer == "\ufffd[2JAlder\ufffd"


def test_a_photograph_is_not_turned_as_a_radiograph_is(dicom, ramp):
    photograph = {"Modality": "OP", "SOPClassUID": SC + "7.1.5.1"}
    found = parse_dicom(dicom(ramp, PatientOrientation=["R", "F"], **photograph))
    assert "flipped" not in found.notes and found.facts.spacing_kind == ""
    np.testing.assert_array_equal(found.values[0], ramp)
