"""NIfTI files become volumes as DICOM series do; nothing in them can make the reader fail."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import Skip
from hospitium.imaging.labels import LabelMap
from hospitium.imaging.nifti import parse_nifti, parse_nifti_labels, read_nifti, read_nifti_labels

AFFINE = np.array([[2.0, 0, 0, -5], [0, 1.5, 0, 7], [0, 0, 3.0, -9], [0, 0, 0, 1]])


def nifti(values, affine=AFFINE, *, kind=nibabel.Nifti1Image, form="sform", **fields) -> bytes:
    """Return a file of these voxels; ``form`` is the affine that it has, fields its header's."""
    image = kind(np.asarray(values), None)
    image.header.set_xyzt_units(fields.pop("units", "mm"))
    if form == "sform":
        image.header.set_sform(affine, 1)
    elif form == "qform":
        image.header.set_qform(affine, 1)
    for name, value in fields.items():
        image.header[name] = value
    return image.to_bytes()


def changed(raw: bytes, offset: int, form: str, *values) -> bytes:
    return raw[:offset] + struct.pack(form, *values) + raw[offset + struct.calcsize(form) :]


def noise(seed=0, shape=(4, 5, 6), dtype=np.int16):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def volume(raw, **options) -> Volume:
    found = parse_nifti(raw, **options)
    assert isinstance(found, Volume), found
    return found


def reason(raw, **options) -> str:
    found = parse_nifti(raw, **options)
    assert isinstance(found, Skip)
    return found.reason


@settings(max_examples=30, deadline=None)
@given(
    axes=st.permutations(range(3)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    dtype=st.sampled_from(["u1", "<i2", ">i2", "<i4", "<f4", ">f4", "<f8"]),
)
def test_any_storage_gives_the_volume_that_nibabel_calls_closest_to_ras(axes, flips, dtype):
    matrix = AFFINE[:3, :3][:, list(axes)] * np.where(flips, -1, 1)
    affine = np.eye(4)
    affine[:3] = np.column_stack([matrix, [1, 2, 3]])
    values = noise(dtype=np.dtype(dtype))
    usual = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
    found = volume(nifti(values, affine))
    assert np.array_equal(found.values[0], usual.get_fdata())
    assert np.allclose(found.affine, usual.affine)
    assert found.notes == ("range_assumed",) and found.is_valid is None


def test_version_2_and_gzip_are_read_alike():
    values = noise()
    plain = volume(nifti(values))
    for raw in (nifti(values, kind=nibabel.Nifti2Image), gzip.compress(nifti(values), mtime=0)):
        assert np.array_equal(volume(raw).values, plain.values)


def test_sform_goes_before_qform_and_without_either_there_is_no_geometry():
    both = nifti(noise(), form="sform", qform_code=1, pixdim=[1, 9, 9, 9, 0, 0, 0, 0])
    assert np.allclose(volume(both).affine, AFFINE)
    assert np.allclose(volume(nifti(noise(), form="qform")).affine, AFFINE)
    assert reason(nifti(noise(), form="none")) == "no_geometry"


@pytest.mark.parametrize(("units", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001)])
def test_units_become_millimetres(units, factor):
    found = volume(nifti(noise(), np.diag([*AFFINE.diagonal()[:3] / factor, 1]), units=units))
    assert np.allclose(found.spacing_mm, (2.0, 1.5, 3.0))


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(2.0, -7.0, (2, -7)), (0.0, 5.0, (1, 0)), (float("nan"), float("nan"), (1, 0))],
)
def test_scaling_is_applied_unless_its_slope_is_none(slope, intercept, expected):
    raw = changed(nifti(noise()), 112, "<2f", slope, intercept)
    assert np.array_equal(volume(raw).values[0], noise() * expected[0] + expected[1])


def test_scaling_with_half_a_meaning_is_refused():
    assert reason(changed(nifti(noise()), 112, "<2f", 2.0, float("nan"))) == "bad_attribute"


def test_of_several_volumes_the_plan_names_one():
    values = noise(shape=(4, 5, 6, 3))
    assert reason(nifti(values)) == "ambiguous_stack"
    assert np.array_equal(volume(nifti(values), volume=2).values[0], values[..., 2])
    assert reason(nifti(values), volume=3) == "not_selected"
    assert volume(nifti(noise(shape=(4, 5, 6, 1)))).shape == (4, 5, 6)


def test_what_is_no_number_is_not_valid():
    values = noise(dtype=np.float32)
    values[1, 2, 3], values[0, 0, 0] = np.nan, np.inf
    found = volume(nifti(values))
    assert np.argwhere(~found.is_valid).tolist() == [[0, 0, 0], [1, 2, 3]]
    assert np.isfinite(found.values).all() and "not_finite" in found.notes
    assert reason(nifti(np.full((3, 3, 3), np.nan, np.float32))) == "bad_attribute"


def test_a_sheared_grid_becomes_orthogonal_as_a_gantry_tilt_does():
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.7
    i, j, k = np.indices((6, 9, 5))
    values = ((sheared[1] @ np.stack([i, j, k, np.ones_like(i)]).reshape(4, -1)) * 10).reshape(
        6, 9, 5
    )
    found = volume(nifti(values.astype(np.float32), sheared))
    assert "tilt" in found.notes
    assert np.allclose(found.affine[:3, :3], np.diag([2, 1.5, 3]))
    ijk = np.argwhere(found.is_valid)
    expected = 10 * (found.affine[1, :3] @ ijk.T + found.affine[1, 3])
    assert np.allclose(found.values[0][tuple(ijk.T)], expected, atol=1e-3)
    skewed = AFFINE.copy()
    skewed[0, 1] = 0.7
    assert reason(nifti(noise(), skewed)) == "no_geometry"


# --- labels -------------------------------------------------------------------------------------


def labels(raw, like, **options):
    return parse_nifti_labels(raw, like=like, **options)


def test_labels_on_another_storage_of_the_same_grid_fit():
    like = volume(nifti(noise()))
    mask = (noise(1) % 3).astype(np.uint8)
    flipped = AFFINE.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] = AFFINE[:3, 3] + AFFINE[:3, 0] * 3
    found = labels(nifti(mask[::-1], flipped), like, values=(1, 2))
    assert isinstance(found, LabelMap) and np.array_equal(found.labels, mask)


@pytest.mark.parametrize("moved", [(0, 3, 0.01), (1, 1, 0.01)])
def test_labels_off_the_grid_are_refused(moved):
    row, column, by = moved
    affine = AFFINE.copy()
    affine[row, column] += by
    like = volume(nifti(noise()))
    assert labels(nifti(noise() % 2, affine), like).reason == "mask_geometry"
    assert labels(nifti(noise(shape=(4, 5, 7)) % 2), like).reason == "mask_geometry"
    affine[row, column] -= by - 5e-4
    assert isinstance(labels(nifti(noise() % 2, affine), like), LabelMap)


@pytest.mark.parametrize(
    ("value", "is_read"), [(2.0005, True), (2.002, False), (3, False), (-1, False), (np.nan, False)]
)
def test_only_whole_labels_that_the_plan_names_are_read(value, is_read):
    mask = (noise() % 3).astype(np.float32)
    mask[0, 0, 0] = value
    found = labels(nifti(mask), volume(nifti(noise())), values=(1, 2))
    assert isinstance(found, LabelMap) if is_read else found.reason == "mask_values"


def test_an_empty_mask_of_a_large_volume_is_no_bomb():
    like = volume(nifti(noise(shape=(256, 256, 64), dtype=np.uint8)))
    found = labels(gzip.compress(nifti(np.zeros((256, 256, 64), np.uint8))), like)
    assert isinstance(found, LabelMap) and not found.labels.any()


def test_labels_of_a_sheared_grid_follow_it():
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.75
    mask = np.zeros((6, 9, 5), np.uint8)
    mask[2:5, 3:7, 1:4] = 1
    like = volume(nifti(noise(shape=mask.shape), sheared))
    found = labels(nifti(mask, sheared), like)
    assert found.labels.shape == like.shape and found.labels.sum() == mask.sum()

    def places(labels, affine):  # slice by slice
        ijk = np.argwhere(labels.transpose(2, 0, 1))[:, [1, 2, 0]]
        return affine[:3, :3] @ ijk.T + affine[:3, 3:]

    off = places(found.labels, found.affine) - places(mask, sheared)
    assert np.abs(off).max() <= 0.75 + 1e-6  # half a pixel of 1.5 mm


# --- damage ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(data=st.data(), is_packed=st.booleans())
def test_damage_never_raises_anything(data, is_packed):
    raw = bytearray(nifti(noise(shape=(3, 3, 3))))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, 360))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.sampled_from([None, 3, 100, 360]))])
    found = parse_nifti(gzip.compress(cut) if is_packed else cut)
    assert isinstance(found, Volume | Skip)


@pytest.mark.parametrize("share", [0, 0.005, 0.2, 0.5, 0.8, 0.99])
def test_a_file_that_ends_early_is_told(share):
    raw, packed = nifti(noise()), gzip.compress(nifti(noise()))
    cut = raw[: int(len(raw) * share)]
    assert reason(cut) == ("not_an_image" if len(cut) < 4 else "truncated")
    cut = packed[: int(len(packed) * share)]  # a header that is not there may be of any file
    assert reason(cut) == ("not_an_image" if share < 0.5 else "truncated")


def test_other_files_are_not_images():
    assert reason(b"\x89PNG" + bytes(400)) == "not_an_image"
    assert reason(changed(nifti(noise()), 344, "4s", b"ni1\0")) == "not_an_image"
    assert reason(changed(nifti(noise()), 344, "4s", b"nope")) == "bad_attribute"
    assert reason(nifti(noise(dtype=np.complex64))) == "bad_attribute"


def test_bombs_are_refused_at_once_without_memory():
    small = nifti(noise(shape=(8, 8, 8), dtype=np.uint8))
    huge = changed(small, 40, "<8h", 3, 30_000, 30_000, 1_000, 1, 1, 1, 1)
    large = changed(small, 40, "<8h", 3, 1_000, 1_000, 500, 1, 1, 1, 1)
    tracemalloc.start()
    assert reason(huge) == reason(gzip.compress(huge)) == "too_large"
    assert reason(gzip.compress(large)) == "too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_bytes_behind_the_voxels_are_noted():
    assert "trailing_bytes" in volume(nifti(noise()) + b"more").notes


def test_a_folder_or_a_missing_file_is_unreadable(tmp_path: Path):
    assert read_nifti(tmp_path / "none.nii").reason == "unreadable_file"
    like = volume(nifti(noise()))
    assert read_nifti_labels(tmp_path / "none.nii", like=like).reason == "unreadable_file"


def test_all_hippocampus_pairs_are_read(real_data: Path):
    ranges = []
    paths = sorted((real_data / "hippocampus3d/images").glob("*.nii.gz"))
    for path in paths:
        image = read_nifti(path)
        mask = read_nifti_labels(
            real_data / "hippocampus3d/labels" / path.name, like=image, values=(1, 2)
        )
        assert isinstance(image, Volume) and isinstance(mask, LabelMap), path
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.shape == mask.labels.shape and np.array_equal(image.affine, mask.affine)
        assert set(np.unique(mask.labels)) == {0, 1, 2}
        ranges.append(image.values.max())
    assert len(paths) == 160
    assert min(ranges) < 150 and max(ranges) > 5000
