"""Objects of many frames: native and encapsulated, each with its own values and place."""

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import RLELossless

from hospitium.imaging.instance import Instance, Limits, Skip
from hospitium.imaging.reading import parse_dicom, read_header

MR, CT = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"


def dataset(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def group(*, z: float | None = None, slope: float | None = None) -> Dataset:
    """Return what a frame has of its own: its position and its rescale."""
    made = Dataset()
    if z is not None:
        made.PlanePositionSequence = [dataset(ImagePositionPatient=[1.5, -2, z])]
    if slope is not None:
        values = dataset(RescaleSlope=str(slope), RescaleIntercept="-1", RescaleType="US")
        made.PixelValueTransformationSequence = [values]
    return made


def shared(*, slope: float | None = None) -> Dataset:
    made = group(slope=slope)
    made.PlaneOrientationSequence = [dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    made.PixelMeasuresSequence = [dataset(PixelSpacing=[0.5, 0.25], SliceThickness="3")]
    return made


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (3, 6, 8), np.uint16)


@pytest.fixture
def multi(dicom, stack):
    """Return a function that writes the stack as one enhanced MR object."""

    def make(**attributes) -> bytes:
        defaults = {
            "SOPClassUID": MR,
            "Modality": "MR",
            "PatientOrientation": None,
            "NumberOfFrames": 3,
            "PixelData": stack.tobytes(),
        }
        return dicom(stack[0], **{**defaults, **attributes})

    return make


def test_native_frames_are_all_read(multi, stack):
    found = parse_dicom(multi())
    np.testing.assert_array_equal(found.values, stack)
    assert (found.num_frames, found.facts.frames, found.placements) == (3, 3, None)


def test_each_frame_has_its_own_rescale_and_the_range_covers_all(multi, stack):
    slopes = (1.0, 2.0, 0.5)
    groups = [group(slope=slope) for slope in slopes]
    found = parse_dicom(multi(PerFrameFunctionalGroupsSequence=groups))
    expected = stack * np.array(slopes).reshape(3, 1, 1) - 1
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))
    assert found.range == (-1.0, 2.0 * 65_535 - 1)


def test_a_shared_group_comes_before_that_of_a_frame(multi, stack):
    attributes = {
        "SharedFunctionalGroupsSequence": [shared(slope=2.0)],
        "PerFrameFunctionalGroupsSequence": [group(z=z, slope=9.0) for z in range(3)],
    }
    found = parse_dicom(multi(**attributes))
    np.testing.assert_array_equal(found.values, stack * 2.0 - 1)


def test_each_frame_has_its_place(multi):
    attributes = {
        "SharedFunctionalGroupsSequence": [shared()],
        "PerFrameFunctionalGroupsSequence": [group(z=z) for z in (5.0, 0.0, 2.5)],
    }
    raw = multi(**attributes)
    places = parse_dicom(raw).placements
    assert [place.position_mm for place in places] == [(1.5, -2, 5), (1.5, -2, 0), (1.5, -2, 2.5)]
    assert {place.spacing_mm for place in places} == {(0.5, 0.25)}
    assert {place.orientation for place in places} == {(1, 0, 0, 0, 1, 0)}
    assert read_header(raw).placements == places
    assert parse_dicom(raw).facts.spacing_mm == (0.5, 0.25)


@pytest.mark.parametrize("missing", ["position", "orientation", "one group"])
def test_a_place_that_is_not_all_there_is_none(multi, missing):
    common, frames = shared(), [group(z=float(z)) for z in range(3)]
    if missing == "position":
        del frames[1].PlanePositionSequence
    elif missing == "orientation":
        del common.PlaneOrientationSequence
    else:
        frames.pop()
    attributes = {
        "SharedFunctionalGroupsSequence": [common],
        "PerFrameFunctionalGroupsSequence": frames,
    }
    assert parse_dicom(multi(**attributes)).placements is None


def test_a_ct_may_have_its_rescale_in_the_groups_only(multi):
    enhanced = {"SOPClassUID": CT, "Modality": "CT"}
    assert parse_dicom(multi(**enhanced)).reason == "no_rescale"
    found = parse_dicom(multi(**enhanced, SharedFunctionalGroupsSequence=[shared(slope=1.0)]))
    assert found.range[0] == -1.0


def test_padding_of_one_frame_leaves_the_others_valid(multi, stack):
    stack[1, 2, 3] = 4000
    found = parse_dicom(multi(PixelPaddingValue=4000))
    assert np.argwhere(~found.is_valid).tolist() == [[1, 2, 3]]


def rle(raw: bytes) -> pydicom.Dataset:
    made = pydicom.dcmread(io.BytesIO(raw))
    made.compress(RLELossless, generate_instance_uid=False)
    return made


def test_encapsulated_frames_are_found_by_every_table_of_offsets(multi, stack):
    made = rle(multi())
    frames = list(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=3))
    extended = encapsulate_extended(frames)
    variants = [
        {"PixelData": encapsulate(frames, has_bot=False)},
        {"PixelData": encapsulate(frames, fragments_per_frame=2)},
        {
            "PixelData": extended[0],
            "ExtendedOffsetTable": extended[1],
            "ExtendedOffsetTableLengths": extended[2],
        },
    ]
    for variant in variants:
        for keyword, value in variant.items():
            setattr(made, keyword, value)
        buffer = io.BytesIO()
        made.save_as(buffer)
        np.testing.assert_array_equal(parse_dicom(buffer.getvalue()).values, stack)


def test_frames_without_offsets_are_told_apart_by_their_end_markers(dicom, png):
    grey = np.random.default_rng(0).integers(0, 256, (3, 48, 64), np.uint8)
    streams = [png(frame, format="JPEG") for frame in grey]
    pieces = [part for one in streams for part in (one[:400], one[400:])]
    attributes = {"syntax": JPEG, "NumberOfFrames": 3}
    whole = parse_dicom(dicom(grey[0], PixelData=encapsulate(streams), **attributes))
    parts = parse_dicom(dicom(grey[0], PixelData=encapsulate(pieces, has_bot=False), **attributes))
    assert whole.values.shape == (3, 48, 64)
    np.testing.assert_array_equal(parts.values, whole.values)


@pytest.mark.parametrize("damage", ["a frame less", "no delimiter", "a cut fragment", "no items"])
def test_encapsulated_pixels_that_end_early_are_truncated(dicom, png, damage):
    grey = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    stream = png(grey, format="JPEG")
    frames = [stream] * (1 if damage == "a frame less" else 2)
    raw = dicom(grey, syntax=JPEG, NumberOfFrames=2, PixelData=encapsulate(frames))
    cut = {"no delimiter": 8, "a cut fragment": 40, "no items": 2 * len(stream) + 60}.get(damage, 0)
    found = parse_dicom(raw[: len(raw) - cut])
    assert isinstance(found, Skip)
    assert found.reason == "truncated"


def test_one_frame_that_contradicts_the_header_refuses_the_object(dicom, png):
    grey = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    streams = [png(grey, format="JPEG"), png(grey[:24], format="JPEG")]
    raw = dicom(grey, syntax=JPEG, NumberOfFrames=2, PixelData=encapsulate(streams))
    assert parse_dicom(raw).reason == "codestream_mismatch"


def test_the_limit_of_pixels_is_of_all_frames_together(multi):
    assert isinstance(parse_dicom(multi(), limits=Limits(max_pixels=144)), Instance)
    assert parse_dicom(multi(), limits=Limits(max_pixels=143)).reason == "too_large"
    assert parse_dicom(multi(), limits=Limits(max_frames=2)).reason == "too_large"


def test_a_file_of_hundreds_of_frames_is_read(dicom):
    frames = np.arange(500, dtype=np.uint16).reshape(500, 1, 1)
    groups = [group(z=float(z), slope=float(z + 1)) for z in range(500)]
    attributes = {
        "Modality": "MR",
        "NumberOfFrames": 500,
        "PixelData": frames.tobytes(),
        "SharedFunctionalGroupsSequence": [shared()],
        "PerFrameFunctionalGroupsSequence": groups,
    }
    found = parse_dicom(dicom(frames[0], **attributes))
    np.testing.assert_array_equal(found.values.ravel(), np.arange(500.0) * np.arange(1, 501) - 1)
    assert found.placements[499].position_mm[2] == 499


def test_bytes_of_big_endian_words_of_8_bits_change_places(dicom):
    grey = np.arange(15, dtype=np.uint8).reshape(3, 5)
    little = dicom(grey, NumberOfFrames=2, PixelData=grey.tobytes() * 2)
    made = pydicom.dcmread(io.BytesIO(little))
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    pairs = struct.unpack("<15H", made.PixelData)
    made["PixelData"]._value = struct.pack(">15H", *pairs)
    made["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, implicit_vr=False, little_endian=False)
    found = parse_dicom(buffer.getvalue())
    np.testing.assert_array_equal(found.values, np.stack([grey, grey]))
