from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hospitium.errors import StorageError, UsageError
from hospitium.testing.phantoms import VENDORS, write_phantoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantoms")
    write_phantoms(path, num_subjects=60, seed=5, size=64)
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_has_its_file_and_every_file_its_row(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.dcm")}
    assert sorted(files) == sorted(row["image"] for row in rows(folder))
    assert list(rows(folder)[0]) == ["image", "label", "subject", "site", "vendor"]
    assert {row["label"] for row in rows(folder)} == {"normal", "pneumonia"}


def test_some_subjects_have_two_studies_and_each_is_at_one_site(folder: Path) -> None:
    subjects = [row["subject"] for row in rows(folder)]
    assert len(set(subjects)) == 60
    assert 5 <= len(subjects) - 60 <= 25
    assert len({(row["subject"], row["site"]) for row in rows(folder)}) == 60


def test_each_header_says_what_its_vendor_does(folder: Path) -> None:
    found = {}
    for row in rows(folder):
        header = pydicom.dcmread(folder / row["image"])
        assert header.PatientID == row["subject"]
        assert header.pixel_array.shape == (64, 64)
        assert header.pixel_array.max() < 2**header.BitsStored
        found[header.Manufacturer] = (header.BitsStored, header.PhotometricInterpretation)
    assert found == {
        "Alder": (12, "MONOCHROME2"),
        "Birch": (10, "MONOCHROME1"),
        "Cedar": (14, "MONOCHROME2"),
        "Dogwood": (8, "MONOCHROME2"),
    }


def test_no_two_files_share_an_instance_or_study_uid(folder: Path) -> None:
    headers = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert len({header.StudyInstanceUID for header in headers}) == len(headers)


def test_same_seed_same_bytes_and_another_seed_another_folder(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_phantoms(tmp_path / name, num_subjects=4, seed=seed, size=64)
    contents = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in files}
        for name in "abc"
        if (files := [path for path in (tmp_path / name).rglob("*") if path.is_file()])
    ]
    assert contents[0] == contents[1] != contents[2]


def test_fewer_subjects_of_the_same_seed_are_the_first_of_more(
    folder: Path, tmp_path: Path
) -> None:
    write_phantoms(tmp_path, num_subjects=4, seed=5, size=64)
    for path in tmp_path.rglob("*.dcm"):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_without_a_site_column_folders_are_named_by_vendor(tmp_path: Path) -> None:
    write_phantoms(tmp_path, num_subjects=2, seed=5, size=64, vendors=["Cedar"], site_column=False)
    assert {row["image"].split("/")[0] for row in rows(tmp_path)} == {"Cedar"}
    assert "site" not in rows(tmp_path)[0]


def test_prevalence_is_kept_to_and_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantoms(
        tmp_path,
        num_subjects=5,
        seed=1,
        size=64,
        prevalence=1.0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {row["label"] for row in rows(tmp_path)} == {"pneumonia"}
    total = len(rows(tmp_path))
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize(
    "wrong",
    [{"num_subjects": 0}, {"vendors": ["Elm"]}, {"vendors": []}, {"vendors": ["Alder"] * 2},
     {"prevalence": 1.1}, {"prevalence": float("nan")}, {"size": 32}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="Nothing was written"):
        write_phantoms(tmp_path / "a", **({"num_subjects": 2, "seed": 1} | wrong))  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_phantoms(tmp_path / "file" / "a", num_subjects=1, seed=1, size=64)


def test_no_field_of_the_header_tells_the_label(tmp_path: Path) -> None:
    write_phantoms(tmp_path, num_subjects=160, seed=2, size=64)
    sick = np.array([row["label"] == "pneumonia" for row in rows(tmp_path)])
    headers = [pydicom.dcmread(tmp_path / row["image"], stop_before_pixels=True)
               for row in rows(tmp_path)]  # fmt: skip
    for element in headers[0]:
        if element.keyword.endswith("UID"):
            continue
        values = [str(header.get(element.keyword)) for header in headers]
        rank = np.unique(values, return_inverse=True)[1]
        above = (rank[sick][:, None] > rank[~sick]).mean()
        area = above + 0.5 * (rank[sick][:, None] == rank[~sick]).mean()
        assert abs(area - 0.5) < 0.1, element.keyword


def test_every_vendor_has_its_own_site() -> None:
    assert len({vendor.site_id for vendor in VENDORS.values()}) == len(VENDORS)
