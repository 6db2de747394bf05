"""The reader fingerprint: right by other means than our reader; planted faults are named."""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from steps import steps_of

from hospitium.errors import DataError
from hospitium.imaging import chains, decoding, frame_values, geometry, reading
from hospitium.imaging.fingerprint import reader
from hospitium.imaging.fingerprint.reader import (
    EXPECTED,
    SERIES,
    TRAPS,
    expected_reader,
    from_json,
    reader_differences,
    reader_fingerprint,
    to_json,
)
from hospitium.imaging.instance import ReadOptions
from hospitium.imaging.reading import parse_dicom, read_stored

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "reader_fingerprint.py"


@pytest.fixture(scope="module")
def made() -> dict:
    """Return the script that made the series, for the pictures that it started from."""
    return runpy.run_path(str(SCRIPT))


def _file(name: str) -> bytes:
    return (SERIES / f"{name}.dcm").read_bytes()


def _values(name: str, **options) -> np.ndarray:
    return parse_dicom(_file(name), options=ReadOptions(**options)).values


# --- what is shipped -----------------------------------------------------------------------------


def test_seventeen_traps_are_shipped_in_less_than_300_kb():
    shipped = list(SERIES.glob("*.dcm"))
    assert len(TRAPS) == 17
    assert {path.name.split(".")[0] for path in shipped} == set(TRAPS)
    assert sum(path.stat().st_size for path in (*shipped, EXPECTED)) < 300_000


def test_the_shipped_patterns_of_the_package_hold_the_series():
    text = (SCRIPT.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '"**/*.dcm"' in text and '"**/*.json"' in text


def test_this_reader_is_the_expected_one_and_takes_few_steps():
    found, steps = steps_of(reader_fingerprint)
    assert steps < 300_000
    assert reader_differences(found) == []
    assert found.digest == expected_reader().digest


@pytest.mark.ci
def test_the_script_makes_the_shipped_bytes_again(made):
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg (dcmtk) is not installed")
    assert made["make_series"]() == {path.name: path.read_bytes() for path in SERIES.glob("*.dcm")}


# --- stored values, against the pictures that were encoded, and against other decoders -----------


@pytest.mark.parametrize(
    ("name", "high", "number", "low"),
    [
        ("native.1", 4095, 0, 0),
        ("rle.1", 30_000, 0, 0),
        ("jpeg_lossless.1", 16_383, 0, 0),
        ("jpeg_ls.1", 4095, 0, -2048),
        ("jpeg_2000.1", 4095, 0, 0),
        ("slice_slope.3", 32_000, 2, 0),
        ("tilt.5", 2500, 4, 0),
    ],
)
def test_lossless_files_give_the_picture_that_was_stored(made, name, high, number, low):
    assert np.array_equal(
        read_stored(_file(name))[0], made["scene"](high=high, number=number) + low
    )


def test_lossy_files_give_what_another_decoder_gives():
    eight = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(SERIES / "jpeg_8.1.dcm")))
    assert np.array_equal(read_stored(_file("jpeg_8.1")), eight)
    twelve = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(SERIES / "jpeg_12.1.dcm")))
    assert np.array_equal(read_stored(_file("jpeg_12.1")), twelve)
    wavelet = pydicom.dcmread(SERIES / "jpeg_2000.2.dcm")
    wavelet.pixel_array_options(decoding_plugin="gdcm")
    assert np.array_equal(read_stored(_file("jpeg_2000.2"))[0], wavelet.pixel_array)


# --- physical values, against the standard's formulas --------------------------------------------


def test_physical_values_are_those_of_the_standard():
    def stored(name: str) -> np.ndarray:
        return read_stored(_file(name)).astype(np.float64)

    assert np.array_equal(_values("monochrome1.1"), 1023 - stored("monochrome1.1"))
    assert np.array_equal(_values("turned.1"), stored("turned.1")[:, :, ::-1])
    for number, slope in enumerate((0.125, 3.774114, 0.0625, 1.5), start=1):
        name = f"slice_slope.{number}"
        assert np.array_equal(_values(name), (stored(name) * slope).astype(np.float32))
    table = (np.linspace(0, 1, 900) ** 0.5 * 4095).round()
    index = np.clip(stored("modality_lut.1") - 50, 0, 899).astype(int)
    assert np.array_equal(_values("modality_lut.1"), table[index].astype(np.float32))
    bent = 1 / (1 + np.exp(-4 * (stored("sigmoid.1") - 1800) / 1500))
    assert np.abs(_values("sigmoid.1", apply_voi=True) - bent).max() < 1e-6
    slopes = np.array([1.0, 0.5, 1.25, 0.75])[:, None, None]  # frames 3, 1, 4, 2 of 0.5 + n / 4
    shifts = np.array([20, 0, 30, 10])[:, None, None]
    assert np.array_equal(_values("enhanced.1"), stored("enhanced.1") * slopes + shifts)


def test_padding_is_not_valid_and_everything_else_is():
    found = parse_dicom(_file("signed_padding.1"))
    assert np.array_equal(found.is_valid, found.values != -2000)
    assert 0.3 < found.is_valid.mean() < 0.7


def test_colours_are_those_of_the_tables_and_of_the_matrix(made):
    at = read_stored(_file("palette.1"))
    expected = np.stack([at, 255 - at, at.astype(int) * 7 % 256], axis=-1)
    assert np.array_equal(_values("palette.1"), expected)
    luma, blue, red = (made["scene"](high=255, number=n) for n in range(3))
    rgb = [
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    ]
    wanted = np.clip(np.stack(rgb, axis=-1), 0, 255)
    assert np.abs(_values("ybr.2")[0] - wanted).max() <= 1


# --- planted faults ------------------------------------------------------------------------------


def _traps() -> set[str]:
    return {difference.trap for difference in reader_differences(reader_fingerprint())}


def test_a_decoder_with_one_wrong_bit_is_named(monkeypatch):
    right = decoding._decode_12_bit
    monkeypatch.setattr(decoding, "_decode_12_bit", lambda *given: right(*given) ^ 1)
    (found,) = reader_differences(reader_fingerprint())
    assert (found.trap, found.what, found.files) == ("jpeg_12", "stored values", ("jpeg_12.1.dcm",))
    assert "JPEG Extended, 12 bits" in str(found)


def test_another_decoder_of_a_lossless_syntax_is_as_good(monkeypatch):
    monkeypatch.setitem(decoding._PLUGINS, decoding.RLE, "pydicom")
    assert _traps() == set()


def test_a_missing_decoder_is_named(monkeypatch):
    monkeypatch.setitem(decoding._PLUGINS, "1.2.840.10008.1.2.4.80", "nobody's")
    (found,) = reader_differences(reader_fingerprint())
    assert (found.trap, found.what) == ("jpeg_ls", "not read")
    assert "transfer_syntax_unsupported" in found.found


def test_a_wrong_polarity_is_named(monkeypatch):
    right = chains.Chain
    monkeypatch.setattr(chains, "Chain", lambda **given: right(**{**given, "is_inverted": False}))
    assert _traps() == {"monochrome1"}


def test_a_view_that_is_not_turned_is_named(monkeypatch):
    monkeypatch.setattr(reading, "flips", lambda elements: (False, False, ()))
    assert _traps() == {"turned"}


def test_padding_taken_for_image_is_named(monkeypatch):
    right = frame_values.physical_values

    def careless(stored, steps):
        values, ends, _ = right(stored, steps)
        return values, ends, None

    monkeypatch.setattr(frame_values, "physical_values", careless)
    assert _traps() == {"signed_padding"}


def test_garbage_in_the_unused_bits_is_named(monkeypatch):
    monkeypatch.setattr(frame_values, "stored_values", lambda words, **given: words.copy())
    assert "native" in _traps()


def test_one_slope_for_all_slices_is_named(monkeypatch):
    right = chains.Chain

    def same(**given):
        return right(**{**given, "slope": 1.0, "intercept": 0.0})

    monkeypatch.setattr(chains, "Chain", same)
    assert {"slice_slope", "enhanced", "tilt"} <= _traps()


def test_slices_in_the_order_of_their_names_are_named(monkeypatch):
    right = geometry.stacks

    def crooked(headers, **options):
        moved = [
            replace(
                one,
                placements=tuple(
                    replace(place, position_mm=(0.0, 0.0, 3.0 * (number + frame)))
                    for frame, place in enumerate(one.placements)
                ),
            )
            for number, one in enumerate(headers)
        ]
        return right(moved, **options)

    monkeypatch.setattr(geometry, "stacks", crooked)
    found = {one.trap: one.what for one in reader_differences(reader_fingerprint())}
    assert set(found) == {"slice_slope", "enhanced", "tilt"}
    assert set(found.values()) == {"position"}


def test_harmonised_values_may_differ_by_rounding_and_no_more():
    expected = expected_reader()
    for by, count in ((0.9e-4, 0), (2e-4, 17)):
        moved = tuple(replace(one, harmonised=one.harmonised + by) for one in expected.series)
        assert len(reader_differences(replace(expected, series=moved))) == count


# --- the bytes -----------------------------------------------------------------------------------


def test_a_fingerprint_reads_back_from_its_bytes():
    found = reader_fingerprint()
    back = from_json(to_json(found), where="oslo")
    assert to_json(back) == to_json(found)
    assert reader_differences(back) == [] and back.versions == found.versions


def test_the_series_and_traps_of_another_version_are_differences():
    found = reader_fingerprint()
    (lost,) = reader_differences(replace(found, series=found.series[1:]))
    assert (lost.trap, lost.what) == ("native", "missing")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "update"},
        {"version": 2},
        {"series": [{}]},
        {"series": [{"trap": "unheard"}]},
        {"series": 7},
        {"versions": []},
    ],
)
def test_what_is_no_reader_fingerprint_is_refused(change):
    document = json.loads(to_json(expected_reader()))
    with pytest.raises(DataError, match="oslo: this is no reader fingerprint"):
        from_json(json.dumps({**document, **change}).encode(), where="oslo")


@pytest.mark.parametrize("raw", [b"", b"null", b"[" * 99_999, b"\xff", b"{}" + b" " * (1 << 20)])
def test_bytes_of_any_kind_are_refused(raw):
    with pytest.raises(DataError, match="no reader fingerprint"):
        from_json(raw, where="oslo")


def test_a_number_that_is_not_finite_is_refused():
    one = reader.SeriesValues(trap="native", harmonised=np.full((1, 32, 32), np.nan, np.float32))
    spoilt = replace(expected_reader(), series=(one,))
    with pytest.raises(DataError, match="not finite"):
        from_json(to_json(spoilt), where="oslo")
