import json
from dataclasses import replace

import numpy as np
import pytest

from hospitium.errors import CorruptedError, DataError, VersionError
from hospitium.imaging.cache import INDEX, read_cases, read_facts, verify_cases, write_cases
from hospitium.imaging.cases import Cases


@pytest.fixture
def cases() -> Cases:
    rng = np.random.default_rng(0)
    return Cases(
        images=rng.random((20, 2, 5, 4), np.float32),
        labels=rng.integers(0, 2, 20),
        subjects=np.array([f"Zoë {number}" for number in range(20)]),
        splits=np.array([0] * 12 + [1] * 3 + [2] * 5, np.uint8),
        classes=("normal", "pneumonia"),
        columns={"site": np.array(["oslo", "bergen"] * 10), "../odd name": np.array([""] * 20)},
        skipped={"no_label": 2},
        notes={"inverted": 5},
    )


def test_what_is_written_is_read_back(tmp_path, cases):
    write_cases(tmp_path, cases)
    found = read_cases(tmp_path)
    for name in ("images", "labels", "subjects", "splits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(cases, name))
        assert getattr(found, name).dtype.kind == getattr(cases, name).dtype.kind
    assert {name: list(column) for name, column in found.columns.items()} == {
        name: list(column) for name, column in cases.columns.items()
    }
    assert (found.classes, found.skipped, found.notes) == (
        cases.classes,
        cases.skipped,
        cases.notes,
    )
    verify_cases(tmp_path)


def test_images_are_mapped_and_read_only(tmp_path, cases):
    write_cases(tmp_path, cases)
    images = read_cases(tmp_path).images
    assert isinstance(images.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_facts_hold_counts_and_statistics_of_training_images(tmp_path, cases):
    facts = write_cases(tmp_path, cases)
    train = cases.images[:12]
    np.testing.assert_allclose(facts.mean, train.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(facts.std, train.std(axis=(0, 2, 3)), rtol=1e-5)
    assert {name: sum(counts.values()) for name, counts in facts.splits.items()} == {
        "train": 12,
        "val": 3,
        "test": 5,
    }
    assert read_facts(tmp_path) == facts


def test_equal_cases_have_one_digest_and_others_another(tmp_path, cases):
    first, second = (write_cases(tmp_path / name, cases) for name in "ab")
    other = write_cases(tmp_path / "c", replace(cases, classes=("no", "yes")))
    assert first == second
    assert other.digest != first.digest


def test_writing_again_replaces_everything_and_leaves_nothing_behind(tmp_path, cases):
    write_cases(tmp_path, cases)
    write_cases(tmp_path, cases.take(np.arange(5)))
    files = {path.name for path in tmp_path.iterdir()}
    named = {
        entry["file"] for entry in json.loads((tmp_path / INDEX).read_text())["arrays"].values()
    }
    assert len(read_cases(tmp_path)) == 5
    assert files == {INDEX, *named}


def test_an_interrupted_write_leaves_the_old_cases(tmp_path, cases, monkeypatch):
    write_cases(tmp_path, cases)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr("hospitium.imaging.cache._facts", lambda *_, **__: 1 / 0)
        write_cases(tmp_path, cases.take(np.arange(5)))
    assert len(read_cases(tmp_path)) == 20
    verify_cases(tmp_path)


def test_a_missing_byte_is_found_on_opening_and_a_changed_one_by_verifying(tmp_path, cases):
    write_cases(tmp_path, cases)
    path = max(tmp_path.glob("*.bin"), key=lambda path: path.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    read_cases(tmp_path)
    with pytest.raises(CorruptedError, match="images"):
        verify_cases(tmp_path)
    path.write_bytes(raw[:-1])
    with pytest.raises(CorruptedError, match="expected"):
        read_cases(tmp_path)


@pytest.mark.parametrize("change", [{"arrays": {}}, {"classes": 3}, {"facts": None}])
def test_a_changed_index_is_corrupted(tmp_path, cases, change):
    write_cases(tmp_path, cases)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps({**index, **change}))
    with pytest.raises(CorruptedError, match="prepare the site's cases again"):
        verify_cases(tmp_path)


def test_an_index_cannot_name_a_file_elsewhere(tmp_path, cases):
    write_cases(tmp_path, cases)
    text = (tmp_path / INDEX).read_text()
    index = json.loads(text)
    index["arrays"]["images"]["file"] = "../secret.bin"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CorruptedError, match="never written"):
        read_cases(tmp_path)


def test_no_cases_no_index_and_later_versions_say_so(tmp_path, cases):
    with pytest.raises(DataError, match="no cases here"):
        read_cases(tmp_path)
    write_cases(tmp_path, cases.take(np.zeros(20, bool)))
    assert len(read_cases(tmp_path)) == 0
    assert read_facts(tmp_path).mean is None
    (tmp_path / INDEX).write_text('{"version": 2}')
    with pytest.raises(VersionError):
        read_cases(tmp_path)
