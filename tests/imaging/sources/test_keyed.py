import csv

import numpy as np
import pytest

from hospitium.errors import DataError
from hospitium.imaging.fingerprint.gathering import gather
from hospitium.imaging.instance import SkipError
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import Columns, read_source
from hospitium.imaging.sources.keyed import KeyedFolder, choose_key
from hospitium.imaging.sources.tables import read_table

STEPS = Harmonise(size=(8, 8))


@pytest.fixture
def export(tmp_path, dicom, png):
    """An export without names that mean anything: 8 studies, the first with two images; a PNG."""
    folder = tmp_path / "export"
    (folder / "S0").mkdir(parents=True)
    for number in range(9):
        study = max(0, number - 1)
        pixels = np.random.default_rng(number).integers(0, 4096, (6, 5), np.uint16)
        raw = dicom(
            pixels, BitsStored=12, AccessionNumber=f"A{study}", StudyInstanceUID=f"1.2.{study}",
            SeriesInstanceUID=f"1.3.{number}", SOPInstanceUID=f"1.4.{number}",
            PatientID=f"P{study}",
        )  # fmt: skip
        (folder / "S0" / f"IM{number}").write_bytes(raw)
    (folder / "photo.png").write_bytes(png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    return folder


@pytest.fixture
def write(tmp_path):
    def write(names, rows):
        path = tmp_path / "truth.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
        return path

    return write


def read(folder, labels, **options):
    return read_source(folder, harmonise=STEPS, seed=1, labels=labels, **options)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("AccessionNumber", "A{}"),
        ("accession number", " A{} "),
        ("StudyInstanceUID", "1.2.{}"),
        ("study", "1.2.{}"),
        ("case_id", "1.2.{}"),
    ],
)
def test_a_table_elsewhere_names_studies_by_what_their_headers_say(export, write, name, key):
    labels = write(
        [name, "finding"], [[key.format(n), "sick" if n % 2 else "well"] for n in range(8)]
    )
    cases = read(export, labels)
    assert len(cases) == 9 and cases.class_counts() == {"sick": 4, "well": 5}
    assert len(set(cases.subjects.tolist())) == 8
    assert cases.subjects[0] == cases.subjects[1]
    counted = gather(export, labels=labels)
    assert len(counted.votes) == 9 and not counted.skipped


def test_labels_by_key_and_by_file_give_equal_cases(export, write):
    by_file = read(export, write(["file", "label"], [[f"S0/IM{n}", n % 2] for n in range(9)]))
    by_uid = read(
        export, write(["SOPInstanceUID", "label"], [[f"1.4.{n}", n % 2] for n in range(9)])
    )
    assert (by_file.images == by_uid.images).all()
    assert by_file.subjects.tolist() == by_uid.subjects.tolist()
    assert by_file.splits.tolist() == by_uid.splits.tolist()


def test_conflicts_and_keys_of_nothing_are_counted(export, write):
    rows = [[f"A{n}", n % 2] for n in range(8)] + [["A0", 1], ["A3", 1], ["A99", 1], ["A5", ""]]
    cases = read(export, write(["AccessionNumber", "label"], rows))
    assert cases.skipped == {"label_conflict": 2, "missing_file": 1, "no_label": 1}
    assert cases.notes["duplicate_row"] == 3
    assert len(cases) == 7


def test_the_finest_identifier_is_the_key_and_a_file_name_comes_first(export, write):
    names = ["AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "label"]
    rows = [[f"A{max(0, n - 1)}", f"1.2.{max(0, n - 1)}", f"1.3.{n}", n % 2] for n in range(9)]
    cases = read(export, write(names, rows))
    assert len(cases) == 9 and "label_conflict" not in cases.skipped
    table = read_table(write(["AccessionNumber", "label", "file"], [["A1", "x", "photo.png"]]))
    chosen, kind = choose_key(table, Columns())
    assert chosen["image"] == 2 and kind.attributes == ()


def test_an_accession_number_that_is_also_a_file_name_means_the_study(export, write):
    table = read_table(write(["AccessionNumber", "label"], [["photo", "x"], ["A0", "y"]]))
    _, kind = choose_key(table, Columns())
    (export / "A0").write_bytes((export / "photo.png").read_bytes())
    folder = KeyedFolder(export, kind)
    assert [path.name for path in folder.find("A0")[0]] == ["IM0", "IM1"]
    assert [path.name for path in folder.find("photo")[0]] == ["photo.png"]
    with pytest.raises(SkipError, match="missing_file"):
        folder.find("1.2.0")  # another identifier than the column's


def test_a_named_column_of_any_name_may_hold_identifiers(export, write):
    labels = write(["Fall", "Befund"], [[f"A{n}", n % 2] for n in range(8)])
    cases = read(export, labels, columns=Columns(image="Fall", label="Befund"))
    assert len(cases) == 9


def test_a_table_that_names_no_image_says_what_it_may_hold(export, write):
    with pytest.raises(DataError, match="AccessionNumber, StudyInstanceUID"):
        read(export, write(["PatientID", "label"], [["P1", "x"], ["P2", "y"]]))


def test_an_npz_takes_no_table(tmp_path, write):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="brings its own labels"):
        read(tmp_path / "a.npz", write(["image", "label"], [["a", "b"]]))
