from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.errors import DataError
from hospitium.imaging.writing import Radiograph, derive_uid, write_radiograph

HEADER = Radiograph(
    modality="DX",
    name="a study",
    patient_id="nobody-1",
    patient_sex="O",
    patient_age=44,
    study_date="20200229",
    manufacturer="Alder",
    bits_stored=12,
    photometric="MONOCHROME2",
    spacing_mm=1.668,
    window=(2048.0, 4096.0, "SIGMOID"),
)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("is_implicit", [False, True])
def test_the_values_come_back_at_every_bit_depth(
    tmp_path: Path, bits: int, is_implicit: bool
) -> None:
    stored = np.random.default_rng(bits).integers(0, 2**bits, (7, 5), dtype=np.uint16)
    header = replace(HEADER, bits_stored=bits, is_implicit=is_implicit)
    write_radiograph(tmp_path / "a.dcm", stored, header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert np.array_equal(read.pixel_array, stored)
    assert read.file_meta.TransferSyntaxUID.is_implicit_VR == is_implicit
    assert len(read.PixelData) % 2 == 0


def test_a_file_is_a_valid_part_10_file_with_the_facts_of_its_header(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), header=HEADER)
    assert (tmp_path / "a.dcm").read_bytes()[128:132] == b"DICM"
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert read.SOPClassUID.name == "Digital X-Ray Image Storage - For Presentation"
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
    assert read.PatientOrientation == ["L", "F"]
    assert read.ImagerPixelSpacing == [1.668, 1.668]
    assert read.VOILUTFunction == "SIGMOID"


@pytest.mark.parametrize("modality", ["DX", "CR", "OT"])
def test_only_a_digitised_film_is_a_secondary_capture(tmp_path: Path, modality: str) -> None:
    header = replace(HEADER, modality=modality)  # type: ignore[arg-type]
    write_radiograph(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    is_film = "Secondary" in read.SOPClassUID.name
    assert is_film == (modality == "OT") == ("NominalScannedPixelSpacing" in read)


def test_same_content_gives_same_bytes_and_another_name_other_uids(tmp_path: Path) -> None:
    for name, header in (("a", HEADER), ("b", HEADER), ("c", replace(HEADER, name="another"))):
        write_radiograph(tmp_path / name, np.ones((4, 4), np.uint16), header=header)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_an_inverted_image_says_so_in_each_place(tmp_path: Path) -> None:
    header = replace(HEADER, photometric="MONOCHROME1")
    write_radiograph(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert read.PhotometricInterpretation == "MONOCHROME1"
    assert (read.PresentationLUTShape, read.PixelIntensityRelationshipSign) == ("INVERSE", 1)


@pytest.mark.parametrize(
    "stored",
    [np.full((2, 2), 4096, np.uint16), np.zeros((2, 2), np.int16), np.zeros((2, 2, 3), np.uint8)],
)
def test_values_that_no_reader_could_get_back_are_refused(
    tmp_path: Path, stored: np.ndarray
) -> None:
    with pytest.raises(DataError, match="Nothing was written"):
        write_radiograph(tmp_path / "a.dcm", stored, header=HEADER)
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_a_derived_uid_is_a_valid_uid_under_2_25(name: str) -> None:
    uid = derive_uid(name)
    assert pydicom.uid.UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5
