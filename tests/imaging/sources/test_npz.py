import io
import struct
import zipfile

import numpy as np
import pytest

from hospitium.errors import DataError
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import Columns, read_source


def arrays(counts=(20, 6, 8), *, shape=(6, 5), dtype=np.uint8, high=256) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        found[f"{split}_images"] = rng.integers(0, high, (count, *shape)).astype(dtype)
        found[f"{split}_labels"] = (np.arange(count) % 2).reshape(-1, 1)
    return found


@pytest.fixture
def read(tmp_path):
    def go(content: dict[str, np.ndarray] | bytes, **harmonise):
        path = tmp_path / "data.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez_compressed(path, **content)
        return read_source(path, harmonise=Harmonise(**harmonise), seed=7)

    return go


def test_images_labels_and_splits_are_those_of_the_file(read):
    content = arrays()
    cases = read(content)
    assert cases.images.shape == (34, 1, 6, 5)
    np.testing.assert_allclose(cases.images[0, 0], content["train_images"][0] / 255, atol=1e-6)
    assert np.bincount(cases.splits).tolist() == [20, 6, 8]
    assert cases.classes == ("0", "1")
    assert cases.subjects[[0, 20, 33]].tolist() == ["train-000000", "val-000000", "test-000007"]


@pytest.mark.parametrize(
    ("dtype", "high", "end"),
    [(np.uint16, 65536, 65535), (np.float64, 2, 1), (np.int64, 200, 255), (np.float32, 900, 65535)],
)
def test_every_type_of_number_has_its_range(read, dtype, high, end):
    content = arrays(dtype=dtype, high=high)
    cases = read(content)
    np.testing.assert_allclose(cases.images[3, 0], content["train_images"][3] / end, atol=1e-6)


def test_colour_may_become_grey_and_grey_colour_of_another_size(read):
    assert read(arrays(shape=(6, 6, 3))).images.shape == (34, 1, 6, 6)
    assert read(arrays(), channels=3, size=(9, 9)).images.shape == (34, 3, 9, 9)


def test_copies_are_one_subject_and_counted_across_splits(read):
    content = arrays()
    content["train_images"][4] = content["train_images"][1]
    content["test_images"][0] = content["train_images"][2]
    cases = read(content)
    assert cases.subjects[4] == "train-000001"
    assert cases.subjects[26] == "train-000002"
    assert cases.notes == {"duplicate_image": 2, "duplicate_across_splits": 1}
    assert cases.splits[26] == 2


def test_unlabelled_cases_are_left_out_and_a_missing_split_is_made(read):
    content = arrays((60, 0, 8))
    content["train_labels"][:5] = -1
    del content["val_images"], content["val_labels"]
    cases = read(content)
    assert cases.skipped == {"no_label": 5}
    assert (cases.splits == 1).sum() > 0
    assert cases.notes["val_taken_from_train"] == 1


def _with(**changes) -> dict[str, np.ndarray]:
    return {**arrays(), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": np.zeros(3)}, "MedMNIST layout"),
        (_with(val_images=np.zeros((6, 7, 7))), r"\(7, 7\) against"),
        (_with(test_labels=np.zeros((8, 14), int)), "expected one for each"),
        (_with(train_images=np.zeros((20, 4, 4, 4))), "not 2D"),
        (_with(train_labels=np.full((20, 1), 0.5)), "measured value"),
        (_with(train_images=np.full((20, 6, 5), np.nan)), "NaN"),
        (_with(train_images=np.array([{}] * 20, object)), "object"),
        (b"PK\3\4 not a zip", "not a readable NPZ"),
    ],
)
def test_other_layouts_and_damage_are_refused_with_what_was_found(read, content, message):
    with pytest.raises(DataError, match=message):
        read(content)


def test_a_header_that_claims_too_much_takes_no_memory(read):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 8, 8), }\n"
    liar = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train_images.npy", liar)
    with pytest.raises(DataError, match="not what the file holds"):
        read(buffer.getvalue())


def test_a_zip_bomb_is_refused_by_its_directory(read):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", bytes(1 << 25))
    with pytest.raises(DataError, match="too many"):
        read(buffer.getvalue())


def test_an_npz_has_no_columns_to_name(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    with pytest.raises(DataError, match="has no columns"):
        read_source(path, harmonise=Harmonise(), seed=1, columns=Columns(label="y"))


def test_the_shared_chest_x_rays_have_the_copies_that_are_known(real_data):
    path = real_data / "pneumoniamnist" / "pneumoniamnist.npz"
    cases = read_source(path, harmonise=Harmonise(), seed=1)
    assert np.bincount(cases.splits).tolist() == [4708, 524, 624]
    assert cases.split("test").class_counts() == {"normal": 234, "pneumonia": 390}
    assert cases.notes == {"duplicate_image": 18 + 3 + 8, "duplicate_across_splits": 8}


def test_images_without_a_spacing_are_refused_by_a_plan_that_resamples(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.zeros((4, 8, 8), np.uint8), train_labels=np.arange(4) % 2)
    steps = Harmonise(size=(8, 8), resize="crop", spacing_mm=(1.0, 1.0))
    with pytest.raises(DataError, match="have no spacing"):
        read_source(path, harmonise=steps, seed=7)
