"""Every kind of input is measured, one vote per person, and what cannot be read is counted."""

import shutil

import numpy as np
import pytest

from hospitium.errors import DataError
from hospitium.imaging.fingerprint import gathering
from hospitium.imaging.fingerprint.gathering import gather
from hospitium.imaging.fingerprint.histograms import FIELDS
from hospitium.imaging.fingerprint.proposal import propose
from hospitium.imaging.fingerprint.reader import SERIES
from hospitium.imaging.fingerprint.release import suppress, to_bytes
from hospitium.imaging.writing.nifti import write_nifti


def _images(dicom, folder, *, persons: int, each: int, **attributes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(persons):
        for number in range(each):
            pixels = np.random.default_rng([person, number]).integers(0, 999, (16, 24), np.uint16)
            raw = dicom(pixels, PatientID=f"P{person}", StudyInstanceUID=f"1.2.{person}",
                        SOPInstanceUID=f"1.2.{person}.{number}", **attributes)  # fmt: skip
            (folder / f"{person}-{number}.dcm").write_bytes(raw)


def test_a_dicom_folder_counts_persons_not_images(dicom, tmp_path):
    _images(dicom, tmp_path, persons=4, each=3, Manufacturer="Agfa Healthcare", PatientSex="F",
            ImagerPixelSpacing=[0.2, 0.2], PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    found = gather(tmp_path)
    said = found.fingerprint
    assert (len(found.votes), said.num_subjects, found.skipped.total()) == (12, 4, 1)
    told = {name: said.of(name) for name in ("manufacturer", "sex", "monochrome1", "spacing_kind")}
    assert told == {
        "manufacturer": {"Agfa": 4},
        "sex": {"F": 4},
        "monochrome1": {"yes": 4},
        "spacing_kind": {"detector": 4},
    }
    assert said.of("spacing_mm.0") == {FIELDS["spacing_mm.0"].cell(0.2): 4}
    assert said.of("matrix.0") == {FIELDS["matrix.0"].cell(16): 4}


def test_slices_are_measured_as_the_volume_that_they_are(tmp_path):
    for path in (*SERIES.glob("tilt.*"), *SERIES.glob("slice_slope.*"), *SERIES.glob("enhanced.*")):
        shutil.copy(path, tmp_path)
    found = gather(tmp_path)
    assert len(found.votes) == found.fingerprint.num_subjects == 3 and not found.skipped
    slices = found.fingerprint.of("matrix.2")
    assert slices == {"0": 3}  # of 4 and 5 slices: the lowest bin
    gaps = found.fingerprint.of("spacing_mm.2")
    assert gaps == {FIELDS["spacing_mm.2"].cell(3.0): 2, FIELDS["spacing_mm.2"].cell(4.0): 1}
    assert found.fingerprint.of("modality") == {"CT": 1, "MR": 1, "PT": 1}


def test_a_table_names_images_classes_and_subjects(make_folder):
    rows = [
        {"image": f"{n}.png", "label": "well" if n < 4 else "ill", "subject": f"s{n // 2}"}
        for n in range(12)
    ]
    rows.append({"image": "gone.png", "label": "ill", "subject": "s9"})
    folder = make_folder(rows)
    (folder / "gone.png").unlink()
    found = gather(folder, classes=["well", "ill"])
    assert (found.fingerprint.num_subjects, found.skipped) == (6, {"missing_file": 1})
    assert sum(found.fingerprint.of("class").values()) == 6
    assert set(found.fingerprint.of("class")) == {"ill", "well"}


def test_a_table_may_lie_elsewhere(make_folder, tmp_path):
    folder = make_folder([{"image": f"{n}.png", "label": str(n % 2)} for n in range(4)])
    (folder / "labels.csv").rename(folder.parent / f"{folder.name}-other.csv")
    found = gather(folder, labels=folder.parent / f"{folder.name}-other.csv")
    assert found.fingerprint.num_subjects == 4


def test_an_npz_file_is_measured_with_its_classes(tmp_path):
    rng = np.random.default_rng(2)
    arrays = {}
    for split, count in (("train", 30), ("val", 10), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    np.savez(tmp_path / "set.npz", **arrays)
    said = gather(tmp_path / "set.npz").fingerprint
    assert said.num_subjects == 50
    assert said.of("class") == {"0": 25, "1": 25}


def test_volumes_find_their_masks_by_name(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for number in range(3):
        values = np.random.default_rng(number).normal(100, 20, (12, 14, 10)).astype(np.float32)
        mask = np.zeros(values.shape, np.uint8)
        mask[3 : 5 + number, 2:9, 2:7] = 1
        for folder, array in (("images", values), ("labels", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_nifti(tmp_path / folder / f"case{number}.nii.gz", array, affine=affine)
    said = gather(tmp_path).fingerprint
    assert said.num_subjects == 3
    assert sum(said.of("mask_volume_ml.1").values()) == 3 and "none" not in said.of(
        "mask_volume_ml.1"
    )
    assert said.of("spacing_mm.2") == {FIELDS["spacing_mm.2"].cell(3.0): 3}


def test_nothing_that_names_a_person_is_in_the_bytes(dicom, tmp_path):
    secrets = ("DOE^JANE", "P1234567", "19700101", "1.2.840.99.7", "St Elsewhere")
    _images(dicom, tmp_path / "DOE^JANE", persons=12, each=1, PatientName="DOE^JANE",
            PatientBirthDate="19700101", InstitutionName="St Elsewhere", Modality="DX",
            Manufacturer="P1234567", SeriesInstanceUID="1.2.840.99.7")  # fmt: skip
    raw = to_bytes(suppress(gather(tmp_path).fingerprint))
    assert b'"num_subjects":12' in raw
    assert not [secret for secret in secrets if secret.encode() in raw]
    assert str(tmp_path).encode() not in raw


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match="no image could be read"):
        gather(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        gather(tmp_path / "gone")


@pytest.mark.ci
def test_hippocampus_is_read_once_and_its_fingerprint_proposes_what_nnu_net_does(
    real_data, monkeypatch
):
    """Known answer: nnU-Net's own plan for this set has 1 mm and a patch of 40 x 56 x 40."""
    opened, read = [], gathering.read_nifti

    def counted(path, *rest, **more):
        opened.append(path)
        return read(path, *rest, **more)

    monkeypatch.setattr(gathering, "read_nifti", counted)
    found = gather(real_data / "hippocampus3d")
    assert len(opened) == len(set(opened)) == 160
    assert found.fingerprint.num_subjects == 160 and not found.skipped
    for said in (found.fingerprint, suppress(found.fingerprint)):
        section = propose(said).imaging
        assert section.kind == "volume"
        assert section.pipeline.spacing_mm == (1.0, 1.0, 1.0)
        assert section.pipeline.size == (40, 56, 40)
        assert section.pipeline.intensity == "zscore"
