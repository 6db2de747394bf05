import numpy as np
import pytest

from hospitium.errors import DataError
from hospitium.imaging.cases import SPLITS
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import Columns, read_source
from hospitium.plan.schema import ImagingSection


def rows(count: int, **fields) -> list[dict[str, str]]:
    return [
        {
            "image": f"i{number}.png",
            "label": str(number % 2),
            **{name: give(number) for name, give in fields.items()},
        }
        for number in range(count)
    ]


def read(path, **options):
    return read_source(path, harmonise=Harmonise(), seed=7, **options)


def test_a_folder_with_a_table_becomes_cases(make_folder):
    folder = make_folder(rows(12, site=lambda n: f"s{n % 3}", sex=lambda n: "F"), size=64)
    cases = read(folder)
    assert cases.images.shape == (12, 1, 64, 64)
    assert cases.labels.tolist() == [0, 1] * 6
    assert set(cases.columns) == {"site", "sex"}
    assert cases.columns["site"].tolist()[:3] == ["s0", "s1", "s2"]
    assert set(cases.splits.tolist()) == {0, 1, 2}


def test_a_table_or_its_folder_may_be_named_and_its_columns(make_folder):
    folder = make_folder(rows(9, grade=lambda n: str(n % 3)), name="my table.csv")
    by_folder, by_table = (
        read(folder),
        read(folder / "my table.csv", columns=Columns(label="grade")),
    )
    assert by_folder.classes == ("0", "1")
    assert by_table.classes == ("0", "1", "2")
    assert "label" in by_table.columns


def test_colour_grey_dicom_and_16_bits_mix(make_folder, dicom, png, tmp_path):
    noise = np.random.default_rng(1)
    colour = noise.integers(0, 256, (9, 7, 3), np.uint8)
    deep = noise.integers(0, 65536, (5, 5), np.uint16)
    for name, raw in (
        ("i0.png", png(colour)),
        ("i1.png", png(deep)),
        ("i2.png", dicom(deep >> 4, BitsStored=12)),
        ("i3.png", png(colour, format="JPEG")),
    ):
        (tmp_path / name).write_bytes(raw)
    cases = read(make_folder(rows(6)))
    assert len(cases) == 6
    assert cases.notes["colour_to_grey"] == 2
    assert 0 <= cases.images.min() < cases.images.max() <= 1


def test_what_cannot_be_used_is_counted_by_reason_and_never_stops_the_rest(make_folder, tmp_path):
    table = rows(8)
    (tmp_path / "i0.png").write_bytes(b"not an image at all")
    table[1]["label"] = "-1"
    table[2]["label"] = ""
    folder = make_folder(table)
    (folder / "i3.png").unlink()
    (folder / "i4.png").write_bytes((folder / "i4.png").read_bytes()[:60])
    cases = read(folder)
    assert len(cases) == 3
    assert cases.skipped["no_label"] == 2
    assert cases.skipped["missing_file"] == 1
    assert cases.skipped["not_an_image"] == 1
    assert sum(cases.skipped.values()) == 5


@pytest.mark.parametrize(
    "name", ["../x.png", "/etc/passwd", "C:\\x.png", "a/../../x.png", "link.png"]
)
def test_no_name_leads_outside_the_folder(make_folder, tmp_path, tmp_path_factory, png, name):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    outside.write_bytes(png(np.eye(8, dtype=np.uint8)))
    if name == "link.png":
        (tmp_path / name).symlink_to(outside)
    table = rows(5)
    folder = make_folder(table)
    with (folder / "labels.csv").open("a") as stream:
        stream.write(f"{name},1\n")
    cases = read(folder)
    assert len(cases) == 5
    assert cases.skipped == {"outside_folder": 1}


def test_a_subject_stays_in_one_split_and_copies_join_subjects(make_folder, tmp_path, png):
    same = png(np.eye(8, dtype=np.uint8) * 200)
    for name in ("i0.png", "i59.png"):
        (tmp_path / name).write_bytes(same)
    cases = read(make_folder(rows(60, patient_id=lambda n: f"p{n // 2}")))
    assert cases.notes["duplicate_image"] == 1
    assert len({cases.subjects[0], cases.subjects[1], cases.subjects[58], cases.subjects[59]}) == 1
    pairs = set(zip(cases.subjects.tolist(), cases.splits.tolist(), strict=True))
    assert len(pairs) == len(set(cases.subjects.tolist())) == 29


def test_given_splits_are_kept_under_their_usual_names(make_folder):
    words = ["training", "valid", "holdout", "unknown"]
    cases = read(make_folder(rows(12, subset=lambda n: words[n % 4])))
    assert cases.splits.tolist() == [0, 1, 2] * 3
    assert cases.skipped == {"unknown_split": 3}


def test_without_validation_cases_some_are_taken_from_training(make_folder):
    cases = read(make_folder(rows(40, split=lambda n: "train" if n < 32 else "test")))
    assert (cases.splits[32:] == SPLITS.index("test")).all()
    assert 2 <= (cases.splits == SPLITS.index("val")).sum() <= 6
    assert cases.notes["val_taken_from_train"] == 1


def test_a_column_of_folds_is_not_taken_for_splits_unless_named(make_folder):
    folder = make_folder(rows(12, fold=lambda n: str(n % 5)))
    cases = read(folder)
    assert cases.notes["split_column_ignored"] == 1
    assert "fold" in cases.columns
    with pytest.raises(DataError, match="expected train, val and test"):
        read(folder, columns=Columns(split="fold"))


def test_a_file_with_two_labels_is_left_out_and_with_one_counts_once(make_folder):
    table = rows(8)
    cases = read(make_folder([*table, table[0], {**table[1], "label": "0"}]))
    assert len(cases) == 7
    assert cases.skipped == {"label_conflict": 1}
    assert cases.notes["duplicate_row"] == 2


def test_a_name_may_be_a_folder_or_lie_deeper_with_or_without_extension(make_folder):
    table = rows(8)
    for row in table[:2]:
        row["image"] = "study1/" + row["image"]
    table[1]["label"] = "0"
    folder = make_folder(table)
    lines = (folder / "labels.csv").read_text().splitlines()
    text = "\n".join([lines[0], "study1,0", *lines[3:5], "i4,0", *lines[6:]])
    (folder / "labels.csv").write_text(text.replace("i2.png", "i0"))
    cases = read(folder)
    assert len(cases) == 7
    assert cases.notes["duplicate_row"] == 1
    assert cases.notes["found_by_name"] == 2


def test_dicom_without_a_subject_column_is_split_by_patient(make_folder, tmp_path, dicom):
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 4096, (6, 6), np.uint16)
        raw = dicom(pixels, BitsStored=12, PatientID=f"MRN{number // 2}")
        (tmp_path / f"i{number}.png").write_bytes(raw)
    cases = read(make_folder(rows(8)))
    assert len(set(cases.subjects.tolist())) == 4
    assert not any("MRN" in subject for subject in cases.subjects.tolist())


def test_no_usable_image_says_why_and_what_to_do(make_folder):
    folder = make_folder(rows(4))
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of 4 rows(.|\n)*4 x missing_file(.|\n)*Mend"):
        read(folder)


def test_two_subjects_cannot_be_split_in_three(make_folder):
    with pytest.raises(DataError, match="no cases for val"):
        read(make_folder(rows(8, subject=lambda n: str(n % 2))))


def test_a_path_to_nothing_and_a_folder_without_a_table_say_so(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match="0 other tables"):
        read(tmp_path)


def test_the_order_and_the_splits_are_the_same_on_every_reading(make_folder):
    folder, seen = make_folder(rows(20)), []
    first = read(folder, progress=lambda done, total: seen.append((done, total)))
    second = read(folder)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.splits, second.splits)
    assert seen[-1] == (20, 20)


def test_a_plan_leaves_out_what_it_does_not_take_and_counts_why(make_folder, dicom, png, tmp_path):
    noise = np.random.default_rng(1)
    deep = noise.integers(0, 4096, (9, 9), np.uint16)
    colour = noise.integers(0, 256, (9, 7, 3), np.uint8)
    for name, raw in (
        ("i0.png", dicom(deep, BodyPartExamined="HAND")),
        ("i1.png", dicom(deep, BodyPartExamined="CHEST", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
        ("i2.png", png(colour)),
        ("i3.png", dicom(deep + 1, BodyPartExamined="CHEST")),
        ("i4.png", png(np.repeat(colour[..., :1], 3, axis=2))),
    ):
        (tmp_path / name).write_bytes(raw)
    cases = read(make_folder(rows(14)), imaging=ImagingSection(body_parts=("CHEST",)))
    assert cases.skipped == {"colour_not_in_plan": 1, "not_selected": 1, "secondary_capture": 1}
    assert len(cases) == 11 and cases.notes["colour_to_grey"] == 1


def test_without_a_plan_all_that_can_be_trained_on_is_taken(make_folder, dicom, tmp_path):
    deep = np.random.default_rng(1).integers(0, 4096, (9, 9), np.uint16)
    (tmp_path / "i0.png").write_bytes(dicom(deep, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    assert len(read(make_folder(rows(12)))) == 12
