"""Colour: planes, YBR and palettes, against pydicom's own conversion."""

import io
import struct

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_color_lut, pixel_array

from hospitium.imaging.instance import Skip
from hospitium.imaging.reading import parse_dicom

NAMES = ("Red", "Green", "Blue")


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def palette(tables: list[bytes], *, entries: int, bits: int, first: int = 0, prefix: str = ""):
    """Return the attributes of a palette image; tables of red, green, blue."""
    attributes = {"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}
    for name, data in zip(NAMES, tables, strict=True):
        described = f"{name}PaletteColorLookupTable"
        attributes[f"{described}Descriptor"] = [entries % 65536, first, bits]
        attributes[f"{prefix}{described}Data"] = data
    return attributes


def test_planes_are_put_side_by_side(dicom, colours):
    planes = np.ascontiguousarray(np.moveaxis(colours, 2, 0)).tobytes()
    found = parse_dicom(dicom(colours, PlanarConfiguration=1, PixelData=planes))
    np.testing.assert_array_equal(found.values[0], colours)
    assert parse_dicom(dicom(colours, PlanarConfiguration=None)).reason == "missing_attribute"


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_ybr_becomes_rgb_once(dicom, colours, photometric):
    data = colours.tobytes()[: 96 if photometric.endswith("422") else 144]
    raw = dicom(colours, PhotometricInterpretation=photometric, PixelData=data)
    expected = pixel_array(pydicom.dcmread(io.BytesIO(raw)))
    np.testing.assert_array_equal(parse_dicom(raw).values[0], expected)


def test_colour_of_16_bits_keeps_its_upper_8_and_says_so(dicom):
    wide = np.random.default_rng(0).integers(0, 4096, (6, 8, 3), np.uint16)
    found = parse_dicom(dicom(wide, BitsStored=12))
    np.testing.assert_array_equal(found.values[0], wide >> 4)
    assert "reduced_to_8_bits" in found.notes


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_those_of_pydicom(dicom, bits):
    rng = np.random.default_rng(bits)
    stored = rng.integers(0, 256, (6, 8), np.uint8)
    tables = [rng.integers(0, 1 << bits, 200).astype(f"<u{bits // 8}").tobytes() for _ in NAMES]
    raw = dicom(stored, **palette(tables, entries=200, bits=bits, first=20))
    expected = apply_color_lut(stored, pydicom.dcmread(io.BytesIO(raw))) >> (bits - 8)
    found = parse_dicom(raw)
    np.testing.assert_array_equal(found.values[0], expected)
    assert (found.facts.photometric, found.range) == ("PALETTE COLOR", (0.0, 255.0))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_segmented_palettes_are_expanded_as_pydicom_does(dicom, data):
    word = st.integers(0, 65535)
    discrete = st.lists(word, min_size=1, max_size=6).map(lambda v: ([0, len(v), *v], len(v)))
    linear = st.tuples(st.integers(1, 9), word).map(lambda v: ([1, *v], v[0]))
    segments = [data.draw(discrete), *data.draw(st.lists(discrete | linear, max_size=5))]
    code = [number for segment, _ in segments for number in segment]
    count = sum(length for _, length in segments)
    tables = [struct.pack(f"<{len(code)}H", *code)] * 3
    stored = np.arange(64, dtype=np.uint8).reshape(8, 8)
    raw = dicom(stored, **palette(tables, entries=count, bits=16, prefix="Segmented"))
    expected = apply_color_lut(stored, pydicom.dcmread(io.BytesIO(raw))) >> 8
    np.testing.assert_array_equal(parse_dicom(raw).values[0], expected)


def test_an_indirect_segment_repeats_what_stands_at_its_byte(dicom):
    code = [0, 2, 256, 512, 1, 2, 1024, 2, 1, 8, 0]  # the last one: the linear one again
    table = struct.pack("<11H", *code)
    stored = np.arange(6, dtype=np.uint8).reshape(1, 6)
    raw = dicom(stored, **palette([table] * 3, entries=6, bits=16, prefix="Segmented"))
    assert parse_dicom(raw).values[0, 0, :, 0].tolist() == [1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize(
    "code",
    [
        [1, 5, 7],  # a line without a beginning
        [0, 9, 1],  # ends early
        [0, 1, 5, 2, 9, 0, 0],  # repeats itself
        [7, 1, 1],
        [0, 3, 1, 2, 3],  # fewer than the descriptor says
        [0, 1, 1] + [1, 65535, 9] * 4000,
    ],
)
def test_a_segmented_palette_that_does_not_fit_is_refused(dicom, code):
    table = struct.pack(f"<{len(code)}H", *code)
    raw = dicom(
        np.zeros((4, 4), np.uint8),
        **palette([table] * 3, entries=250, bits=16, prefix="Segmented"),
    )
    found = parse_dicom(raw)
    assert isinstance(found, Skip)
    assert found.reason == "bad_attribute"


def test_a_palette_image_without_its_palette_is_refused(dicom, ramp):
    raw = dicom(ramp, PhotometricInterpretation="PALETTE COLOR")
    assert parse_dicom(raw).reason == "missing_attribute"
