"""Windows and display tables: checked against pydicom's own and against the standard's text."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from hospitium.imaging.instance import ReadOptions, Skip
from hospitium.imaging.reading import parse_dicom
from hospitium.imaging.voi import Window

APPLY = ReadOptions(apply_voi=True)
WIDTHS = {"LINEAR": st.floats(1, 5000), "LINEAR_EXACT": st.floats(0.01, 5000)}


def table(entries: list[int], *, first: int = 0, bits: int = 16) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first, bits])
    item.add_new(0x00283006, "US", entries)
    return item


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
def test_windows_are_those_of_pydicom_scaled_to_0_to_1(dicom, data, function):
    # narrower sigmoids overflow in pydicom
    width = data.draw(WIDTHS.get(function, st.floats(50, 5000)))
    centre = data.draw(st.floats(-500, 5000))
    stored = np.random.default_rng(0).integers(0, 4096, (6, 8), np.uint16)
    raw = dicom(
        stored,
        BitsStored=12,
        WindowCenter=f"{centre:.6g}",
        WindowWidth=f"{width:.6g}",
        VOILUTFunction=function,
    )
    expected = apply_voi_lut(stored, pydicom.dcmread(io.BytesIO(raw))) / 4095
    found = parse_dicom(raw, options=APPLY)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)
    assert 0.0 <= found.range[0] <= found.values.min() <= found.values.max() <= found.range[1] <= 1


@pytest.mark.parametrize("value", [-1, 0, 99, 100, 127.4, 127.6, 227, 228, 400])
def test_linear_is_as_the_standard_writes_it(value):
    centre, width = 128.0, 200.0
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    middle = (value - (centre - 0.5)) / (width - 1) + 0.5
    expected = 0 if value <= low else 1 if value > high else middle
    assert Window(centre=centre, width=width).of(np.array(value)) == pytest.approx(expected)


def test_a_window_of_width_1_is_a_threshold():
    window = Window(centre=10.0, width=1.0)
    assert window.of(np.array([9.0, 9.5, 9.6, 10.0])).tolist() == [0, 0, 1, 1]


def test_a_table_comes_before_a_window_and_its_first_item_counts(dicom, ramp):
    items = [table(list(range(100, 148)), bits=8), table([0] * 48)]
    window = {"WindowCenter": "1", "WindowWidth": "2"}
    found = parse_dicom(dicom(ramp, VOILUTSequence=items, **window), options=APPLY)
    np.testing.assert_allclose(found.values[0], (ramp + 100) / 255, atol=1e-7)
    assert found.range == (np.float32(100 / 255), np.float32(147 / 255))


def test_the_window_is_in_units_after_the_rescale(dicom, ramp):
    attributes = {"RescaleSlope": "2", "RescaleIntercept": "-10", "VOILUTFunction": "LINEAR_EXACT"}
    raw = dicom(ramp, WindowCenter="40", WindowWidth="100", **attributes)
    found = parse_dicom(raw, options=APPLY)
    expected = np.clip((ramp * 2.0 - 10 - 40) / 100 + 0.5, 0, 1)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-7)


def test_monochrome1_is_turned_over_after_the_window(dicom, ramp):
    attributes = {"BitsStored": 10, "VOILUTFunction": "SIGMOID", "WindowCenter": "20"}
    raw = {
        name: dicom(ramp, PhotometricInterpretation=name, WindowWidth="30", **attributes)
        for name in ("MONOCHROME1", "MONOCHROME2")
    }
    dark, light = (parse_dicom(one, options=APPLY) for one in raw.values())
    low, high = (1 / (1 + np.exp(-4 * (x - 20) / 30)) for x in (0, 1023))
    np.testing.assert_allclose(dark.values, low + high - light.values, atol=1e-6)
    assert dark.range == light.range == pytest.approx((low, high))


@pytest.mark.parametrize(
    "wrong",
    [
        {"WindowWidth": "0.5"},
        {"WindowWidth": "0", "VOILUTFunction": "SIGMOID"},
        {"WindowWidth": "-3", "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowWidth": "10", "VOILUTFunction": "CUBIC"},
    ],
)
def test_an_illegal_window_is_ignored_and_noted(dicom, ramp, wrong):
    found = parse_dicom(dicom(ramp, WindowCenter="20", **wrong), options=APPLY)
    np.testing.assert_array_equal(found.values[0], ramp)
    assert "window_ignored" in found.notes


def test_a_window_is_not_used_unasked_nor_for_other_modalities(dicom, ramp):
    window = {"WindowCenter": "20", "WindowWidth": "10"}
    np.testing.assert_array_equal(parse_dicom(dicom(ramp, **window)).values[0], ramp)
    for modality in ("MR", "PT", "XA"):
        found = parse_dicom(dicom(ramp, Modality=modality, **window), options=APPLY)
        np.testing.assert_array_equal(found.values[0], ramp)


@pytest.mark.parametrize("first", [1e300, -1e300, 70_000.0])
def test_a_table_whose_first_value_no_16_bits_can_say_is_refused(dicom, first):
    item = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the type
        item.add_new(0x00283002, "FD", [4.0, first, 16.0])
        item.add_new(0x00283006, "OW", np.arange(4, dtype="<u2").tobytes())
        raw = dicom(np.arange(16, dtype=np.uint16).reshape(4, 4), ModalityLUTSequence=[item])
    found = parse_dicom(raw)
    assert isinstance(found, Skip) and found.reason == "bad_attribute"
