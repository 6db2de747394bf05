from __future__ import annotations

import gzip
import uuid
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hospitium.errors import DataError
from hospitium.imaging.instance import Instance
from hospitium.imaging.reading import read_dicom
from hospitium.imaging.writing import (
    ENCODINGS,
    Grid,
    Radiograph,
    Segment,
    Study,
    Tomogram,
    derive_uid,
    trace,
    write_frames,
    write_nifti,
    write_radiograph,
    write_segmentation,
    write_slices,
    write_structures,
)

STUDY = Study(
    name="a study",
    patient_id="nobody-1",
    patient_sex="O",
    patient_age=44,
    study_date="20200229",
    manufacturer="Alder",
)
HEADER = Radiograph(
    study=STUDY,
    modality="DX",
    bits_stored=12,
    photometric="MONOCHROME2",
    spacing_mm=1.668,
    window=(2048.0, 4096.0, "SIGMOID"),
)
TILT = np.deg2rad(15)
GRID = Grid(
    shape=(5, 8, 6),
    origin_mm=(-20.0, -30.0, 10.0),
    across=(1.0, 0.0, 0.0),
    down=(0.0, float(np.cos(TILT)), float(np.sin(TILT))),
    step_mm=(0.0, 0.0, 3.0),
    spacing_mm=(1.5, 2.0),
)
SCAN = Tomogram(
    study=STUDY, modality="CT", body_part="ABDOMEN", bits_stored=16, slope=(1.0, -1024.0),
    padding=-2000, attributes=(("KVP", "120"),),
)  # fmt: skip
MASK = np.zeros(GRID.shape, bool)
MASK[1:4, 2:6, 1:4] = True
MASK[2, 3, 2] = False  # a hole


def stored(bits: int) -> np.ndarray:
    ramp = np.arange(32 * 40).reshape(32, 40)
    return (ramp * 2**bits // ramp.size).astype(np.uint16)


def slices() -> np.ndarray:
    return np.random.default_rng(1).integers(-2000, 3000, GRID.shape, dtype=np.int16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e != "jpeg"])
def test_the_values_come_back_at_every_bit_depth(tmp_path: Path, bits: int, encoding) -> None:  # type: ignore[no-untyped-def]
    header = replace(HEADER, bits_stored=bits, encoding=encoding)
    write_radiograph(tmp_path / "a.dcm", stored(bits), header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert np.array_equal(read.pixel_array, stored(bits))
    assert read.file_meta.TransferSyntaxUID.is_implicit_VR == (encoding == "implicit")
    found = read_dicom(tmp_path / "a.dcm")
    assert isinstance(found, Instance), found
    assert np.array_equal(np.squeeze(found.values), stored(bits))


def test_a_jpeg_is_near_and_says_that_it_lost_something(tmp_path: Path) -> None:
    header = replace(HEADER, bits_stored=8, encoding="jpeg", modality="OT")
    write_radiograph(tmp_path / "a.dcm", stored(8), header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert read.LossyImageCompression == "01"
    assert read.LossyImageCompressionMethod == "ISO_10918_1"
    found = read_dicom(tmp_path / "a.dcm")
    assert isinstance(found, Instance) and "lossy" in found.notes
    assert 0 < np.abs(np.squeeze(found.values) - stored(8)).mean() < 10


def test_a_jpeg_of_more_than_8_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8 bits"):
        write_radiograph(tmp_path / "a.dcm", stored(12), header=replace(HEADER, encoding="jpeg"))
    assert not list(tmp_path.iterdir())


def test_an_image_too_small_for_jpeg_2000_is_refused(tmp_path: Path) -> None:
    header = replace(HEADER, encoding="jpeg2000")
    with pytest.raises(DataError, match="32"):
        write_radiograph(tmp_path / "a.dcm", stored(12)[:31], header=header)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_same_content_gives_same_bytes_and_another_name_other_uids(
    tmp_path: Path, encoding
) -> None:  # type: ignore[no-untyped-def]
    header = replace(HEADER, bits_stored=8, encoding=encoding)
    other = replace(header, study=replace(STUDY, name="another"))
    for name, used in (("a", header), ("b", header), ("c", other)):
        write_radiograph(tmp_path / name, stored(8), header=used)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_an_inverted_image_says_so_in_each_place(tmp_path: Path) -> None:
    header = replace(HEADER, photometric="MONOCHROME1")
    write_radiograph(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert read.PhotometricInterpretation == "MONOCHROME1"
    assert (read.PresentationLUTShape, read.PixelIntensityRelationshipSign) == ("INVERSE", 1)


@pytest.mark.parametrize(
    "wrong",
    [np.full((2, 2), 4096, np.uint16), np.zeros((2, 2), np.int16), np.zeros((2, 2, 3), np.uint8)],
)
def test_values_that_no_reader_could_get_back_are_refused(
    tmp_path: Path, wrong: np.ndarray
) -> None:
    with pytest.raises(DataError, match="Nothing was written"):
        write_radiograph(tmp_path / "a.dcm", wrong, header=HEADER)
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_a_derived_uid_is_a_valid_uid_under_2_25(name: str) -> None:
    uid = derive_uid(name)
    assert pydicom.uid.UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5


# --- volumes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["explicit", "implicit", "jpeg-ls"])
def test_slices_come_back_in_their_units_and_places(tmp_path: Path, encoding) -> None:  # type: ignore[no-untyped-def]
    values = slices()
    written = write_slices(tmp_path, values, grid=GRID, header=replace(SCAN, encoding=encoding))
    assert len(written) == len(list(tmp_path.iterdir())) == 5
    for index in range(5):
        read = pydicom.dcmread(tmp_path / f"{index + 1:04d}.dcm")
        assert np.array_equal(read.pixel_array, values[index])
        assert (read.PixelPaddingValue, read.KVP) == (-2000, 120)
        assert read.ImagePositionPatient == pytest.approx([-20, -30, 10 + 3 * index])
        found = read_dicom(tmp_path / f"{index + 1:04d}.dcm")
        assert isinstance(found, Instance), found
        assert np.array_equal(np.squeeze(found.values), values[index].astype(np.float32) - 1024)
    assert len({each.SOPInstanceUID for each in written}) == 5
    assert len({each.SeriesInstanceUID for each in written}) == 1


def test_frames_come_back_from_one_object(tmp_path: Path) -> None:
    values = slices().astype(np.uint16) >> 4
    header = replace(SCAN, modality="MR", bits_stored=12, padding=None, slope=(2.0, 0.0))
    write_frames(tmp_path / "a.dcm", values, grid=GRID, header=header)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    assert np.array_equal(read.pixel_array, values)
    last = read.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0]
    assert last.ImagePositionPatient == pytest.approx([-20, -30, 22])
    found = read_dicom(tmp_path / "a.dcm")
    assert isinstance(found, Instance), found
    assert np.array_equal(found.values, values.astype(np.float32) * 2)


def test_values_of_another_shape_than_the_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="grid"):
        write_slices(tmp_path, slices()[1:], grid=GRID, header=SCAN)
    assert not list(tmp_path.iterdir())


def test_the_affine_of_a_grid_leads_to_the_places_of_its_slices() -> None:
    for index in range(5):
        place = (GRID.affine @ [0, 0, index, 1])[:3]
        assert [float(value) for value in GRID.position(index)] == pytest.approx(place.tolist())
    assert np.array_equal(GRID.affine_ras[:2], -GRID.affine[:2])
    assert GRID.gap_mm == pytest.approx(3 * np.cos(TILT))


# --- masks -------------------------------------------------------------------------------------


def filled(outlines: list[list[tuple[int, int]]], shape: tuple[int, int]) -> np.ndarray:
    """Fill by the even-odd rule, one pixel centre at a time."""
    result = np.zeros(shape, bool)
    for row, column in np.ndindex(*shape):
        y, x = row + 0.5, column + 0.5
        crossings = 0
        for outline in outlines:
            for (y0, x0), (y1, _) in zip(outline, [*outline[1:], outline[0]], strict=True):
                crossings += (y0 > y) != (y1 > y) and x0 > x
        result[row, column] = crossings % 2
    return result


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (6, 5)))
def test_filling_the_outlines_of_a_mask_gives_it_back(mask: np.ndarray) -> None:
    outlines = trace(mask)
    assert np.array_equal(filled(outlines, (6, 5)), mask)
    for outline in outlines:  # no point within a straight run
        turns = np.diff(np.array([*outline, *outline[:2]]), axis=0)
        assert (np.abs(np.sign(turns[1:]) - np.sign(turns[:-1])).sum(axis=1) > 0).all()


def test_a_segmentation_holds_the_mask_on_the_slices_it_names(tmp_path: Path) -> None:
    sources = write_slices(tmp_path, slices(), grid=GRID, header=SCAN)
    for name in ("mask", "again"):
        write_segmentation(
            tmp_path / name, MASK, sources=sources, name="m", segment=Segment(label="lesion")
        )
    assert (tmp_path / "mask").read_bytes() == (tmp_path / "again").read_bytes()
    read = pydicom.dcmread(tmp_path / "mask")
    assert read.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    uids = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in read.PerFrameFunctionalGroupsSequence
    ]
    places = [[source.SOPInstanceUID for source in sources].index(uid) for uid in uids]
    again = np.zeros_like(MASK)
    again[places] = read.pixel_array.astype(bool)
    assert np.array_equal(again, MASK)


def test_an_empty_mask_is_a_segmentation_too(tmp_path: Path) -> None:
    sources = write_slices(tmp_path, slices(), grid=GRID, header=SCAN)
    write_segmentation(
        tmp_path / "mask",
        np.zeros_like(MASK),
        sources=sources,
        name="m",
        segment=Segment(label="lesion"),
    )
    assert not pydicom.dcmread(tmp_path / "mask").pixel_array.any()


def test_a_radiograph_without_geometry_can_have_a_segmentation(tmp_path: Path) -> None:
    source = write_radiograph(tmp_path / "a.dcm", stored(12), header=HEADER)
    mask = (stored(12) > 2000)[np.newaxis]
    write_segmentation(
        tmp_path / "mask", mask, sources=[source], name="m", segment=Segment(label="opacity")
    )
    assert np.array_equal(pydicom.dcmread(tmp_path / "mask").pixel_array.astype(bool), mask[0])


def test_the_contours_of_a_structure_set_lie_on_their_slices(tmp_path: Path) -> None:
    sources = write_slices(tmp_path, slices(), grid=GRID, header=SCAN)
    write_structures(tmp_path / "rt", MASK, grid=GRID, study=STUDY, sources=sources, label="lesion")
    read = pydicom.dcmread(tmp_path / "rt")
    again = np.zeros_like(MASK)
    uids = [source.SOPInstanceUID for source in sources]
    outlines: dict[int, list[list[tuple[float, float]]]] = {}
    for contour in read.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        voxels = np.linalg.solve(GRID.affine, np.c_[points, np.ones(len(points))].T)[:3].T
        index = uids.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
        np.testing.assert_allclose(voxels[:, 2], index, atol=1e-4)
        corners = [(round(row + 0.5), round(column + 0.5)) for column, row, _ in voxels]
        outlines.setdefault(index, []).append(corners)
    for index, found in outlines.items():
        again[index] = filled(found, GRID.shape[1:])
    assert np.array_equal(again, MASK)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_file_has_its_values_and_its_affine(tmp_path: Path, name: str) -> None:
    values = slices()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_nifti(tmp_path / folder / name, values.T, affine=GRID.affine_ras)
    raw = (tmp_path / "a" / name).read_bytes()
    assert raw == (tmp_path / "b" / name).read_bytes()
    plain = gzip.decompress(raw) if name.endswith("gz") else raw
    read = nib.Nifti1Image.from_bytes(plain)
    assert np.array_equal(np.asanyarray(read.dataobj), values.T)
    np.testing.assert_allclose(read.affine, GRID.affine_ras, atol=1e-5)
