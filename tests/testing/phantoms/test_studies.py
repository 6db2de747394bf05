from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from steps import steps_of

from hospitium.errors import StorageError, UsageError
from hospitium.imaging.instance import Instance, Skip, is_constant, unusable
from hospitium.imaging.reading import read_dicom
from hospitium.randomness import rng
from hospitium.testing.phantoms import (
    AWKWARD,
    VENDORS,
    Findings,
    Knobs,
    Site,
    apply_vendor,
    draw_chest,
    write_chest,
    write_phantoms,
)

SITES = [Site(site_id=f"at-{name.lower()}", vendor=name) for name in VENDORS]


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


def area_under_roc(values: np.ndarray, sick: np.ndarray) -> float:
    above = (values[sick][:, None] > values[~sick]).mean()
    return float(above + 0.5 * (values[sick][:, None] == values[~sick]).mean())


@pytest.mark.parametrize(
    ("num_cases", "has_each_site"), [(160, False), pytest.param(800, True, marks=pytest.mark.ci)]
)
def test_no_field_of_the_header_tells_the_label(
    tmp_path: Path, num_cases: int, has_each_site: bool
) -> None:
    """Over all sites 0.60 is the bar; within one, chance alone moves 200 studies by about 0.08."""
    write_chest(tmp_path, num_cases=num_cases, seed=2, size=64, sites=SITES)
    sick = np.array([row["label"] == "pneumonia" for row in rows(tmp_path)])
    headers = [pydicom.dcmread(tmp_path / row["image"]) for row in rows(tmp_path)]
    values = {
        keyword: np.unique([str(h.get(keyword)) for h in headers], return_inverse=True)[1]
        for keyword in {e.keyword for h in headers for e in h if e.VR not in ("OB", "OW")}
        if not keyword.endswith("UID")
    }
    values["brightness"] = np.array([np.mean(header.pixel_array) for header in headers])
    for name, value in values.items():
        assert abs(area_under_roc(value, sick) - 0.5) <= 0.1, name
    sites = np.array([row["site"] for row in rows(tmp_path)])
    for here in [sites == site for site in np.unique(sites)] if has_each_site else []:
        ill, well = int(sick[here].sum()), int((~sick[here]).sum())
        chance = 1.96 * np.sqrt((ill + well + 1) / (12 * ill * well))
        for name, value in values.items():
            area = area_under_roc(value[here], sick[here])
            assert abs(area - 0.5) <= 0.1 + chance, (name, area)


@pytest.mark.ci
@pytest.mark.parametrize("vendor", VENDORS)
def test_brightness_does_not_tell_the_label_within_a_site(vendor: str) -> None:
    """On 2,000 radiographs, where the area's own standard error is 0.013."""
    sick = np.arange(2000) % 5 < 2
    bright = np.empty(len(sick))
    for k, is_ill in enumerate(sick):
        found = Findings(has_pneumonia=bool(is_ill))
        scene = draw_chest(rng(99, vendor, k), size=64, findings=found).attenuation
        bright[k] = apply_vendor(scene, VENDORS[vendor], rng(98, vendor, k))[0].mean()
    assert abs(area_under_roc(bright, sick) - 0.5) <= 0.1


# --- what a user may turn ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("turned")
    knobs = Knobs(
        shared_subjects=0.3, label_noise=0.2, effusion=0.3, cardiomegaly=0.3, has_masks=True,
        awkward=len(AWKWARD) / 48,
    )  # fmt: skip
    write_chest(path, num_cases=48, seed=5, size=64, sites=SITES, knobs=knobs)
    return path


def good_rows(folder: Path) -> list[dict[str, str]]:
    return [row for row in rows(folder) if "awkward" not in row["image"]]


@pytest.mark.parametrize(
    ("vendor", "syntax", "facts"),
    [
        ("Alder", "4.90", ("DX", 12, "MONOCHROME2")),
        ("Birch", "2", ("CR", 10, "MONOCHROME1")),
        ("Cedar", "4.80", ("DX", 14, "MONOCHROME2")),
        ("Dogwood", "4.50", ("OT", 8, "MONOCHROME2")),
    ],
)
def test_each_vendor_writes_as_it_does(  # type: ignore[no-untyped-def]
    all_turned: Path, vendor: str, syntax: str, facts
) -> None:
    row = next(row for row in good_rows(all_turned) if row["vendor"] == vendor)
    header = pydicom.dcmread(all_turned / row["image"])
    assert (
        header.file_meta.TransferSyntaxUID
        == f"1.2.840.10008.1.{'' if syntax == '2' else '2.'}{syntax}"
    )
    assert (header.Modality, header.BitsStored, header.PhotometricInterpretation) == facts
    assert ("NominalScannedPixelSpacing" in header) == (vendor == "Dogwood")


def test_compressed_studies_show_the_same_as_native_ones(tmp_path: Path) -> None:
    for name, is_compressed in (("packed", True), ("plain", False)):
        knobs = Knobs(is_compressed=is_compressed)
        write_chest(tmp_path / name, num_cases=8, seed=5, size=64, sites=SITES, knobs=knobs)
    for row in rows(tmp_path / "packed"):
        packed, plain = (read_dicom(tmp_path / n / row["image"]) for n in ("packed", "plain"))
        assert isinstance(packed, Instance) and isinstance(plain, Instance)
        difference = np.abs(packed.values - plain.values).max()
        assert (0 < difference < 40) if row["vendor"] == "Dogwood" else difference == 0


def test_a_mask_lies_on_the_stored_pixels(all_turned: Path) -> None:
    seen = set()
    for row in good_rows(all_turned):
        mask = pydicom.dcmread(all_turned / row["mask"])
        image = pydicom.dcmread(all_turned / row["image"], stop_before_pixels=True)
        assert mask.pixel_array.shape == (64, 64)
        assert mask.pixel_array.any() == (row["drawn"] == "pneumonia") == bool(row["lobe"])
        area = mask.pixel_array.sum() * float(VENDORS[row["vendor"]].field_mm / 64) ** 2
        assert float(row["area_mm2"]) == pytest.approx(area, abs=1)
        if not row["lobe"]:
            continue
        columns = np.flatnonzero(mask.pixel_array.any(axis=0))
        is_mirrored = image.get("PatientOrientation")[0] == "R"
        is_at_the_left = row["lobe"].startswith("right") != is_mirrored
        assert columns.min() < 32 if is_at_the_left else columns.max() >= 32
        seen.add((row["vendor"], is_at_the_left))
    assert len(seen) >= 6


def test_knobs_turn_what_they_say(all_turned: Path) -> None:
    found = good_rows(all_turned)
    wrong = np.mean([row["label"] != row["drawn"] for row in found])
    assert 0.08 < wrong < 0.35
    for name in ("effusion", "cardiomegaly"):
        assert 0.15 < np.mean([int(row[name]) for row in found]) < 0.45
    places: dict[str, set[str]] = {}
    for row in found:
        places.setdefault(row["subject"], set()).add(row["site"])
    assert 0.1 < np.mean([len(sites) > 1 for sites in places.values()]) < 0.5


def test_every_awkward_study_is_left_out_for_its_reason(all_turned: Path) -> None:
    with (all_turned / "awkward.csv").open(newline="") as file:
        told = {row["reason"]: row["image"] for row in csv.DictReader(file)}
    assert sorted(told) == sorted(AWKWARD)
    assert set(told.values()) < {row["image"] for row in rows(all_turned)}
    in_plan = {"missing_file", "colour_not_in_plan", "uid_missing", "no_patient"}
    for reason in set(AWKWARD) - in_plan:
        found = read_dicom(all_turned / told[reason])
        skip = (
            found
            if isinstance(found, Skip)
            else unusable(found.cautions, is_constant=is_constant(found))
        )
        assert skip is not None and skip.reason == reason, (reason, skip)
    assert not (all_turned / told["missing_file"]).exists()
    colour = read_dicom(all_turned / told["colour_not_in_plan"])
    assert isinstance(colour, Instance) and colour.is_colour
    header = pydicom.dcmread(all_turned / told["uid_missing"])
    assert "StudyInstanceUID" not in header
    assert "PatientID" not in pydicom.dcmread(all_turned / told["no_patient"])


def test_sites_have_their_shares_and_may_share_a_vendor(tmp_path: Path) -> None:
    sites = [
        Site(site_id="one", vendor="Alder", share=3),
        Site(site_id="two", vendor="Alder", share=1),
    ]
    write_chest(tmp_path, num_cases=40, seed=1, size=64, sites=sites, knobs=Knobs(seen_twice=0))
    found = [row["site"] for row in rows(tmp_path)]
    assert (found.count("one"), found.count("two")) == (30, 10)


def test_more_noise_is_noisier(tmp_path: Path) -> None:
    rough = []
    for noise in (0.0, 3.0):
        knobs = Knobs(noise=noise)
        write_chest(tmp_path, num_cases=1, seed=1, size=64, sites=SITES[1:2], knobs=knobs)
        pixels = pydicom.dcmread(tmp_path / rows(tmp_path)[0]["image"]).pixel_array.astype(float)
        rough.append(np.abs(np.diff(pixels)).mean())
    assert rough[1] > 1.3 * rough[0]


@pytest.mark.parametrize(
    "wrong",
    [{"num_cases": 0}, {"sites": []}, {"sites": [Site(site_id="a", vendor="Elm")]},
     {"sites": SITES[:1] * 2}, {"sites": [Site(site_id="a", vendor="Alder", share=-1)]},
     {"knobs": Knobs(awkward=2)}, {"knobs": Knobs(lesion_size=float("nan"))}, {"size": 4096}],
)  # fmt: skip
def test_knobs_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="Nothing was written"):
        write_chest(tmp_path / "a", **({"num_cases": 2, "seed": 1, "sites": SITES} | wrong))  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def test_the_steps_to_write_studies_grow_in_proportion_to_their_number(tmp_path: Path) -> None:
    def steps(number: int) -> int:
        folder = tmp_path / str(number)
        return steps_of(
            lambda: write_chest(folder, num_cases=number, seed=1, size=64, sites=SITES)
        )[1]

    steps(1)  # what is made once
    few, many = steps(8), steps(24)
    assert few < many < 4 * few


def test_every_vendor_has_its_own_site() -> None:
    assert len({vendor.site_id for vendor in VENDORS.values()}) == len(VENDORS)
