"""A SEG and an RTSTRUCT come back voxel for voxel, on the image's grid or not at all."""

import dataclasses
import io
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from hospitium.imaging.contours import filled
from hospitium.imaging.geometry import Volume, assemble
from hospitium.imaging.instance import Facts, Skip, Uids
from hospitium.imaging.masks import (
    LabelMap,
    is_shrunk,
    read_mask,
    read_rtstruct,
    read_seg,
    volume_ml,
)
from hospitium.imaging.reading import read_dicom
from hospitium.imaging.writing import (
    Grid,
    Segment,
    Study,
    Tomogram,
    trace,
    write_frames,
    write_segmentation,
    write_slices,
    write_structures,
)

STUDY = Study(
    name="masks",
    patient_id="P1",
    patient_sex="F",
    patient_age=40,
    study_date="20200101",
    manufacturer="Alder",
)
HEADER = Tomogram(study=STUDY, modality="CT", body_part="HEAD", bits_stored=12, slope=(1.0, 0.0))
SHAPE = (5, 16, 14)
C, S = np.cos(0.3), np.sin(0.3)
GRIDS = {
    "axial": Grid(
        shape=SHAPE,
        origin_mm=(-20.0, -30.0, 5.0),
        across=(1.0, 0.0, 0.0),
        down=(0.0, 1.0, 0.0),
        step_mm=(0.0, 0.0, 4.0),
        spacing_mm=(1.25, 0.75),
    ),
    "sagittal": Grid(
        shape=SHAPE,
        origin_mm=(20.0, -30.0, 40.0),
        across=(0.0, 1.0, 0.0),
        down=(0.0, 0.0, -1.0),
        step_mm=(-2.5, 0.0, 0.0),
        spacing_mm=(0.75, 0.75),
    ),
    "oblique": Grid(
        shape=SHAPE,
        origin_mm=(20.0, 30.0, -40.0),
        across=(float(-C), float(S), 0.0),
        down=(0.0, 0.0, -1.0),
        step_mm=(float(3 * S), float(3 * C), 0.0),
        spacing_mm=(1.5, 1.0),
    ),
    "tilted": Grid(
        shape=SHAPE,
        origin_mm=(-20.0, -30.0, 5.0),
        across=(1.0, 0.0, 0.0),
        down=(0.0, 1.0, 0.0),
        step_mm=(0.0, 1.25, 4.0),
        spacing_mm=(1.25, 0.75),
    ),
}


def blob(seed=0, shape=SHAPE):
    """Return a mask with holes, islands, and pixels that touch by their corners."""
    return np.random.default_rng(seed).random(shape) < 0.4


@pytest.fixture(params=list(GRIDS))
def case(request, tmp_path: Path):
    return make_case(GRIDS[request.param], tmp_path)


def make_case(grid, folder: Path, write=write_slices):
    """Return a volume, the objects that it was made of, and its grid."""
    stored = np.random.default_rng(1).integers(0, 4096, grid.shape).astype(np.uint16)
    name = folder / "frames.dcm" if write is write_frames else folder
    sources = write(name, stored, grid=grid, header=HEADER)
    found = assemble([read_dicom(path) for path in sorted(folder.glob("*.dcm"))])
    assert isinstance(found, Volume), found
    return found, sources, grid


def expected(mask, volume, grid):
    """Return where a mask must lie in the volume, by the place of each of its pixels alone."""
    result = np.zeros(volume.shape, bool)
    slices, rows, columns = np.nonzero(mask)
    places = grid.affine_ras @ np.stack([columns, rows, slices, np.ones(len(rows))])
    ijk = np.linalg.inv(volume.affine) @ places
    nearest = np.floor(ijk[:3] + 0.5 + 1e-6).astype(int)
    result[tuple(nearest)] = True
    return result


def seg_bytes(mask, sources, folder: Path, **options) -> bytes:
    write_segmentation(
        folder / "seg",
        mask,
        sources=sources,
        name="seg",
        segment=Segment(label="Lesion"),
        **options,
    )
    return (folder / "seg").read_bytes()


def changed(raw: bytes, change) -> bytes:
    """Return the object after ``change`` was made to its data set."""
    dataset = pydicom.dcmread(io.BytesIO(raw))
    change(dataset)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer)
    return buffer.getvalue()


def labels(found) -> np.ndarray:
    assert isinstance(found, LabelMap), found
    return found.labels


def reason(found) -> str:
    assert isinstance(found, Skip), found
    return found.reason


# --- SEG ------------------------------------------------------------------------------------------


def test_a_segmentation_comes_back_voxel_for_voxel(case, tmp_path):
    volume, sources, grid = case
    raw = seg_bytes(blob(), sources, tmp_path)
    found = read_seg(raw, volume=volume, structures=["lesion"])
    assert np.array_equal(labels(found), expected(blob(), volume, grid))
    assert np.array_equal(found.affine, volume.affine) and found.labels.sum() == blob().sum()


@pytest.mark.parametrize("group", ["DerivationImageSequence", "PlanePositionSequence"])
def test_either_the_source_image_or_the_plane_is_enough(case, tmp_path, group):
    volume, sources, grid = case

    def drop(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame[group]

    raw = changed(seg_bytes(blob(), sources, tmp_path), drop)
    assert np.array_equal(labels(read_seg(raw, volume=volume)), expected(blob(), volume, grid))


def test_a_multi_frame_image_has_its_segmentation(tmp_path):
    volume, sources, grid = make_case(GRIDS["sagittal"], tmp_path, write_frames)
    raw = seg_bytes(blob(), sources, tmp_path)
    assert np.array_equal(labels(read_seg(raw, volume=volume)), expected(blob(), volume, grid))


@pytest.fixture
def axial(tmp_path):
    return make_case(GRIDS["axial"], tmp_path)


def test_frames_may_lie_the_other_way_round_and_be_smaller(axial, tmp_path):
    volume, sources, grid = axial
    mask = np.zeros(SHAPE, bool)
    mask[:, 4:9, 3:12] = blob(shape=(5, 5, 9))

    def shrink(dataset):
        """Keep the part that is drawn on, transposed, its columns reversed."""
        frames = dataset.PerFrameFunctionalGroupsSequence
        heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames]
        order = [round((height - 5.0) / 4.0) for height in heights]
        bits = mask[order, 4:9, 3:12].transpose(0, 2, 1)[:, :, ::-1]
        dataset.Rows, dataset.Columns = 9, 5
        packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, -1, 0, 1, 0, 0]
        shared.PixelMeasuresSequence[0].PixelSpacing = [0.75, 1.25]
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            x, y, z = place.ImagePositionPatient
            place.ImagePositionPatient = [x + 3 * 0.75, y + 8 * 1.25, z]

    raw = changed(seg_bytes(np.ones(SHAPE, bool), sources, tmp_path), shrink)
    assert np.array_equal(labels(read_seg(raw, volume=volume)), expected(mask, volume, grid))


def move(axis, by):
    def change(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            found = list(place.ImagePositionPatient)
            found[axis] += by
            place.ImagePositionPatient = found

    return change


@pytest.mark.parametrize(
    ("axis", "by", "is_read"),
    [(2, 0.3, True), (2, 0.5, False), (0, 0.05, True), (0, 0.2, False), (0, 7.5, False)],
)
def test_a_segmentation_off_the_grid_is_refused(axial, tmp_path, axis, by, is_read):
    volume, sources, _ = axial
    raw = changed(seg_bytes(blob(), sources, tmp_path), move(axis, by))
    found = read_seg(raw, volume=volume)
    assert isinstance(found, LabelMap) if is_read else found.reason == "mask_geometry"


def test_frames_of_reference_must_be_one(axial, tmp_path):
    volume, sources, _ = axial
    raw = seg_bytes(blob(), sources, tmp_path)
    other = changed(raw, lambda dataset: setattr(dataset, "FrameOfReferenceUID", "1.2.3"))
    assert reason(read_seg(other, volume=volume)) == "mask_geometry"
    nameless = dataclasses.replace(
        volume, uids=dataclasses.replace(volume.uids, frame_of_reference="")
    )
    assert reason(read_seg(raw, volume=nameless)) == "mask_geometry"
    without = changed(raw, lambda dataset: delattr(dataset, "FrameOfReferenceUID"))
    assert isinstance(read_seg(without, volume=nameless), LabelMap)
    nearly = changed(without, move(0, 0.002))
    assert reason(read_seg(nearly, volume=nameless)) == "mask_geometry"


def described(number, label, code):
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=highdicom.sr.CodedConcept("49755003", "SCT", "Abnormal"),
        segmented_property_type=highdicom.sr.CodedConcept(*code),
        algorithm_type="MANUAL",
    )


LIVER, LESION = ("10200004", "SCT", "Liver"), ("52988006", "SCT", "Lesion")
SEGMENTS = [
    described(1, "lesion", LIVER),
    described(2, "Läsion 1", LESION),
    described(3, "lesion 2", LESION),
]


def made(kind, pixels, sources, *, segments=SEGMENTS, **options) -> bytes:
    """Return what highdicom writes of pixels ``(frame, row, column[, segment])``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid="1.2.9",
            series_number=2,
            sop_instance_uid="1.2.9.1",
            instance_number=1,
            manufacturer="x",
            manufacturer_model_name="x",
            software_versions="1",
            device_serial_number="0",
            **options,
        )
        buffer = io.BytesIO()
        dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_structures_are_chosen_by_code_then_by_label(axial, kind):
    volume, sources, grid = axial
    pixels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    raw = made(kind, pixels, sources)
    by_code = labels(read_seg(raw, volume=volume, structures=["SCT:10200004", "Lesion"]))
    by_label = labels(read_seg(raw, volume=volume, structures=["läsion 1", "liver", "absent"]))
    every = labels(read_seg(raw, volume=volume))
    for found, numbers in ((by_code, (0, 1, 2, 2)), (by_label, (0, 2, 1, 0)), (every, range(4))):
        for value in (1, 2, 3):
            mask = np.isin(pixels, [old for old, new in enumerate(numbers) if new == value])
            assert np.array_equal(found == value, expected(mask, volume, grid))
    assert reason(read_seg(raw, volume=volume, structures=["spleen"])) == "mask_missing"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"])
def test_a_compressed_label_map_is_read(axial, syntax):
    volume, sources, grid = axial
    pixels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    raw = made("LABELMAP", pixels, sources, transfer_syntax_uid=syntax)
    assert np.array_equal(
        labels(read_seg(raw, volume=volume)) == 2, expected(pixels == 2, volume, grid)
    )


def test_fractional_segments_need_a_threshold(axial):
    volume, sources, grid = axial
    share = np.random.default_rng(0).random((*SHAPE, 1)).astype(np.float32)
    raw = made("FRACTIONAL", share, sources, segments=SEGMENTS[:1], max_fractional_value=200)
    assert reason(read_seg(raw, volume=volume)) == "mask_values"
    found = read_seg(raw, volume=volume, threshold=0.5)
    stored = np.around(share[..., 0] * 200)
    assert np.array_equal(labels(found), expected(stored >= 100, volume, grid))
    assert found.notes == ("fractional",)


def test_where_structures_overlap_the_one_named_later_counts(axial):
    volume, sources, grid = axial
    pixels = np.stack([blob(1), blob(2)], axis=-1).astype(np.uint8)
    raw = made("BINARY", pixels, sources, segments=SEGMENTS[:2])
    for names, order in ((["liver", "lesion"], (0, 1)), (["lesion", "liver"], (1, 0))):
        found = read_seg(raw, volume=volume, structures=names)
        below, above = pixels[..., order[0]] == 1, pixels[..., order[1]] == 1
        assert found.notes == ("mask_overlap",)
        assert np.array_equal(labels(found) == 2, expected(above, volume, grid))
        assert np.array_equal(labels(found) == 1, expected(below & ~above, volume, grid))


def test_an_empty_segmentation_is_an_empty_mask(axial, tmp_path):
    volume, sources, _ = axial
    raw = seg_bytes(np.zeros(SHAPE, bool), sources, tmp_path)
    assert not labels(read_seg(raw, volume=volume)).any()


def test_an_undescribed_segment_is_refused(axial, tmp_path):
    volume, sources, _ = axial

    def rename(dataset):
        dataset.SegmentSequence[-1].SegmentNumber = 4

    raw = changed(seg_bytes(blob(), sources, tmp_path), rename)
    assert reason(read_seg(raw, volume=volume)) == "mask_values"
    raw = changed(made("LABELMAP", blob().astype(np.uint8), sources, segments=SEGMENTS[:1]), rename)
    assert reason(read_seg(raw, volume=volume)) == "mask_values"


def test_the_liver_sample_has_the_known_voxels(real_data):
    raw = (real_data / "dicom_samples/files/pydicom-data__liver.dcm").read_bytes()
    volume = volume_under(pydicom.dcmread(io.BytesIO(raw)))
    found = labels(read_seg(raw, volume=volume, structures=["SRT:T-62000"]))
    assert sorted(found.sum(axis=(0, 1)).tolist()) == [35_220, 35_645, 36_233]
    again = labels(read_seg(raw, volume=volume, structures=["Liver"]))
    assert np.array_equal(found, again)


def volume_under(dataset: Dataset) -> Volume:
    """Return an empty volume that lies where the frames of a segmentation lie."""
    frames = dataset.PerFrameFunctionalGroupsSequence
    places = sorted(
        tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient)) for frame in frames
    )
    rows, columns = map(
        float, dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    )
    affine = np.diag([columns, rows, places[1][2] - places[0][2], 1.0])
    last = np.array([columns * (dataset.Columns - 1), rows * (dataset.Rows - 1), 0])
    affine[:3, 3] = np.multiply(places[0] + last, (-1, -1, 1))
    return Volume(
        values=np.zeros((1, dataset.Columns, dataset.Rows, len(places)), np.float32),
        affine=affine,
        range=(0, 1),
        facts=Facts(
            modality="CT",
            manufacturer="",
            rows=dataset.Rows,
            columns=dataset.Columns,
            bits_stored=12,
            photometric="MONOCHROME2",
            spacing_mm=(rows, columns),
        ),
        uids=Uids(frame_of_reference=dataset.FrameOfReferenceUID),
    )


# --- RTSTRUCT -------------------------------------------------------------------------------------


def contours(mask, sources, grid, folder: Path) -> bytes:
    write_structures(folder / "rt", mask, grid=grid, study=STUDY, sources=sources, label="Lesion")
    return (folder / "rt").read_bytes()


def test_contours_come_back_voxel_for_voxel(case, tmp_path):
    volume, sources, grid = case
    raw = contours(blob(), sources, grid, tmp_path)
    found = read_rtstruct(raw, volume=volume, structures=["LESION"])
    assert np.array_equal(labels(found), expected(blob(), volume, grid))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_filling_a_traced_mask_gives_it_back(seed, rows, columns):
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.5
    outlines = [np.array(outline, np.float64) - 0.5 for outline in trace(mask)]
    assert np.array_equal(filled(outlines, rows=rows, columns=columns), mask)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_corners=st.integers(3, 9))
def test_filling_follows_the_even_odd_rule(seed, num_corners):
    corners = np.random.default_rng(seed).uniform(-3, 12, (num_corners, 2))
    found = filled([corners], rows=8, columns=10)
    for row, column in np.ndindex(8, 10):  # how often the outline is crossed on the way left
        crossings = 0
        for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if min(r0, r1) <= row < max(r0, r1):
                crossings += c0 + (row - r0) * (c1 - c0) / (r1 - r0) <= column
        assert found[row, column] == (crossings % 2 == 1)


def test_an_outline_within_another_is_a_hole():
    outer = np.array([[0.5, 0.5], [0.5, 7.5], [7.5, 7.5], [7.5, 0.5]])
    inner = np.array([[2.5, 2.5], [2.5, 5.5], [5.5, 5.5], [5.5, 2.5]])
    found = filled([outer, inner], rows=9, columns=9)
    assert found.sum() == 49 - 9 and not found[3:6, 3:6].any()


@pytest.mark.parametrize(("by", "is_read"), [(0.3, True), (-0.3, True), (0.5, False)])
def test_contours_off_the_plane_by_more_than_a_tenth_are_refused(axial, tmp_path, by, is_read):
    volume, sources, grid = axial

    def lift(dataset):
        contour = dataset.ROIContourSequence[0].ContourSequence[0]
        points = np.array(contour.ContourData, float).reshape(-1, 3) + np.array([0, 0, by])
        contour.ContourData = [f"{value:.4f}" for value in points.ravel()]

    raw = changed(contours(blob(), sources, grid, tmp_path), lift)
    found = read_rtstruct(raw, volume=volume)
    assert isinstance(found, LabelMap) if is_read else found.reason == "mask_geometry"


def set_frame(dataset):
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def set_series(dataset):
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def set_kind(dataset):
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "OPEN_PLANAR"


def set_points(dataset):
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]


def set_far(dataset):
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = ["1e300", 0, 0] * 3


@pytest.mark.parametrize(
    ("change", "expected_reason"),
    [
        (set_frame, "mask_geometry"),
        (set_series, "mask_geometry"),
        (set_far, "mask_geometry"),
        (set_kind, "mask_missing"),
        (set_points, "bad_attribute"),
    ],
)
def test_contours_that_are_not_of_this_image_are_refused(axial, tmp_path, change, expected_reason):
    volume, sources, grid = axial
    raw = changed(contours(blob(), sources, grid, tmp_path), change)
    assert reason(read_rtstruct(raw, volume=volume)) == expected_reason


def test_a_region_is_found_by_its_code_before_its_name(axial, tmp_path):
    volume, sources, grid = axial

    def add(dataset):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "10200004", "SCT", "Liver"
        dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence = [code]

    raw = changed(contours(blob(), sources, grid, tmp_path), add)
    for name in ("SCT:10200004", "liver", "Lesion"):
        assert labels(read_rtstruct(raw, volume=volume, structures=["other", name])).max() == 2
    assert reason(read_rtstruct(raw, volume=volume, structures=["spleen"])) == "mask_missing"


def test_the_structure_set_sample_fits_its_own_place_only(real_data, axial):
    raw = (real_data / "dicom_samples/files/pydicom__rtstruct.dcm").read_bytes()
    volume, _, _ = axial
    assert reason(read_rtstruct(raw, volume=volume, structures=["patient"])) == "mask_geometry"
    own = "1.2.826.0.1.3680043.8.498.2010020400001.2"
    affine = np.diag([100.0, 100.0, 10.0, 1.0])
    affine[:3, 3] = (-250, -200, -200)
    fits = Volume(
        values=np.zeros((1, 6, 6, 3), np.float32),
        affine=affine,
        range=(0, 1),
        facts=volume.facts,
        uids=Uids(frame_of_reference=own),
    )
    found = labels(read_rtstruct(raw, volume=fits, structures=["patient"]))
    # -200 to 200 mm from side to side, -150 to 150 mm from back to front, three slices
    assert found.sum() == 4 * 3 * 3 and found[1:5, 1:4].all()
    assert reason(read_rtstruct(raw, volume=fits, structures=["Isocenter 1"])) == "mask_missing"
    turned = dataclasses.replace(fits, affine=np.diag([-100.0, 100.0, 10.0, 1.0]))
    assert reason(read_rtstruct(raw, volume=turned, structures=["patient"])) == "mask_geometry"


def test_thousands_of_contours_of_undefined_length_are_read(axial, tmp_path):
    volume, sources, grid = axial

    def repeat(dataset):
        """Draw every contour 251 times: an odd number, so that the filling stays the same."""
        region = dataset.ROIContourSequence[0]
        region.ContourSequence = list(region.ContourSequence) * 251
        dataset["ROIContourSequence"].is_undefined_length = True
        region["ContourSequence"].is_undefined_length = True
        for contour in region.ContourSequence:
            contour.is_undefined_length_sequence_item = True

    mask = np.zeros(SHAPE, bool)
    mask[:, 3:9, 4:7] = mask[:, 11:13, 8] = True
    raw = changed(contours(mask, sources, grid, tmp_path), repeat)
    assert np.array_equal(labels(read_rtstruct(raw, volume=volume)), expected(mask, volume, grid))


# --- both -----------------------------------------------------------------------------------------


def test_a_mask_of_either_kind_is_read_and_an_image_is_none(axial, tmp_path):
    volume, sources, grid = axial
    seg, rt = seg_bytes(blob(), sources, tmp_path), contours(blob(), sources, grid, tmp_path)
    one, other = read_mask(seg, volume=volume), read_mask(rt, volume=volume)
    assert np.array_equal(labels(one), labels(other))
    image = next(tmp_path.glob("0*.dcm")).read_bytes()
    assert reason(read_mask(image, volume=volume)) == "not_selected"
    assert reason(read_mask(b"nothing", volume=volume)) == "not_dicom"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["seg", "rt"]))
def test_damage_never_raises_anything(data, kind, damaged):
    volume, files = damaged
    raw = bytearray(files[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = read_mask(bytes(raw), volume=volume, structures=["lesion"])
    assert isinstance(found, LabelMap | Skip)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    volume, sources, grid = make_case(GRIDS["axial"], folder)
    mask = np.zeros(SHAPE, bool)
    mask[2, 4:8, 5:9] = True
    return volume, {
        "seg": seg_bytes(mask, sources, folder),
        "rt": contours(mask, sources, grid, folder),
    }


def test_volume_is_in_millilitres():
    affine = np.diag([2.0, 2.5, 4.0, 1.0])
    assert volume_ml(np.ones((10, 10, 5)), affine) == pytest.approx(10.0)
    assert is_shrunk(10.0, 9.4) and not is_shrunk(10.0, 9.6) and not is_shrunk(0.9, 0.1)
