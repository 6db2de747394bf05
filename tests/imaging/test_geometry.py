"""Instances become volumes by their positions alone, and what is doubtful is left out, said why."""

import dataclasses
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging.geometry import Volume, assemble, assemble_series, unusable_volume
from hospitium.imaging.instance import Facts, Header, Instance, Placement, Skip, Uids
from hospitium.imaging.reading import read_dicom, read_header
from hospitium.imaging.stacking import stacks
from hospitium.imaging.writing import Grid, Study, Tomogram, write_frames, write_slices

AXIAL = np.array([[1.0, 0, 0], [0, 1.0, 0]])
DIAGONAL = np.array([[0.5**0.5, 0.5**0.5, 0], [-(0.5**0.5), 0.5**0.5, 0], [0, 0, 1.0]])
TO_RAS = np.diag([-1.0, -1.0, 1.0])


def make_slice(values, position, directions=AXIAL, spacing=(2.0, 1.5), *, name="", **known):
    """Return an instance of one frame; ``known`` are facts, cautions or is_valid."""
    values = np.asarray(values, np.float32)
    of_instance = {key: known.pop(key) for key in ("cautions", "is_valid") if key in known}
    place = Placement(
        position_mm=tuple(map(float, position)),
        orientation=tuple(map(float, np.ravel(directions))),
        spacing_mm=spacing,
    )
    facts = {
        "modality": "MR",
        "manufacturer": "",
        "rows": values.shape[0],
        "columns": values.shape[1],
        "bits_stored": 12,
        "photometric": "MONOCHROME2",
        "spacing_mm": spacing,
        **known,
    }
    return Instance(
        values=values[np.newaxis],
        range=(0.0, 4095.0),
        facts=Facts(**facts),
        uids=Uids(series="1.2", instance=name or f"1.2.{position}", frame_of_reference="1.9"),
        placements=(place,),
        digest=f"{name}{position}",
        **of_instance,
    )


def make_stack(values, *, directions=AXIAL, step=(0, 0, 3.0), origin=(-10.0, 20, 30), **more):
    return [
        make_slice(plane, np.add(origin, np.multiply(step, number)), directions, **more)
        for number, plane in enumerate(values)
    ]


def noise(seed=0, shape=(4, 5, 6)):
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.float32)


def rotation(seed):
    """Return a rotation at random, far or near the axes."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


def volume(instances, **options) -> Volume:
    found = assemble(instances, **options)
    assert isinstance(found, Volume), found
    return found


def reason(instances, **options) -> str:
    found = assemble(instances, **options)
    assert isinstance(found, Skip)
    return found.reason


def assert_same(one: Volume, other: Volume) -> None:
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(one.affine, other.affine)
    assert (one.is_valid is None) == (other.is_valid is None)
    assert one.is_valid is None or np.array_equal(one.is_valid, other.is_valid)
    assert (one.digests, one.notes, one.slices) == (other.digests, other.notes, other.slices)


# --- even stacks: every voxel is where its file says ----------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_voxel_is_where_its_slice_says(seed):
    turn, values = rotation(seed), noise(seed)
    instances = make_stack(values, directions=turn[:2], step=3.0 * turn[2])
    found = volume(instances)
    to_ijk = np.linalg.inv(found.affine)
    for number, row, column in np.ndindex(values.shape):
        place = np.array(instances[number].placements[0].position_mm)
        place = place + turn[0] * column * 1.5 + turn[1] * row * 2.0
        i, j, k = to_ijk[:3, :3] @ TO_RAS @ place + to_ijk[:3, 3]
        nearest = round(i), round(j), round(k)
        assert np.abs(np.subtract(nearest, (i, j, k))).max() < 1e-6
        assert found.values[0][nearest] == values[number, row, column]
    assert found.notes == () and found.is_valid is None
    assert sorted(found.spacing_mm) == pytest.approx([1.5, 2.0, 3.0])
    assert nibabel.aff2axcodes(found.affine) == ("R", "A", "S")


@settings(max_examples=30, deadline=None)
@given(
    order=st.permutations(range(6)),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["even", "tilt", "uneven", "copy"]),
)
def test_any_order_of_files_gives_the_same_volume_bit_for_bit(order, seed, kind):
    turn, step = rotation(seed), [0.0, 0, 3]
    step = [0.0, 0.8, 3] if kind == "tilt" else step
    instances = make_stack(noise(seed, (6, 5, 7)), directions=turn[:2], step=step @ turn)
    if kind == "uneven":
        place = instances[2].placements[0]
        moved = np.add(place.position_mm, 0.2 * turn[2])
        instances[2] = make_slice(instances[2].values[0], moved, turn[:2])
    if kind == "copy":
        copied = dataclasses.replace(instances[4].uids, instance="9")
        instances[5] = dataclasses.replace(instances[4], uids=copied)
    assert_same(volume(instances), volume([instances[number] for number in order]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    flip_rows=st.booleans(),
    flip_columns=st.booleans(),
    is_transposed=st.booleans(),
    lean=st.sampled_from([0.0, 0.004, 0.3]),
)
def test_the_way_slices_are_stored_changes_nothing(
    seed, flip_rows, flip_columns, is_transposed, lean
):
    turn, values = DIAGONAL if seed % 4 == 0 else rotation(seed), noise(seed)
    step = np.array([0.0, lean * 3, 3]) @ turn
    usual = make_stack(values, directions=turn[:2], step=step)
    stored, origin, across, down, spacing = values, np.array([-10.0, 20, 30]), *turn[:2], (2.0, 1.5)
    if flip_columns:
        origin = origin + across * 1.5 * (values.shape[2] - 1)
        across, stored = -across, stored[:, :, ::-1]
    if flip_rows:
        origin = origin + down * 2.0 * (values.shape[1] - 1)
        down, stored = -down, stored[:, ::-1]
    if is_transposed:
        across, down, stored = down, across, stored.transpose(0, 2, 1)
        spacing = (1.5, 2.0)
    other = make_stack(stored, directions=[across, down], step=step, origin=origin, spacing=spacing)
    one, two = volume(usual), volume(other)
    assert np.allclose(one.affine, two.affine, atol=1e-6)
    if lean == 0.3:  # interpolated at places that differ by floating point
        assert np.allclose(one.values, two.values, atol=1e-2)
    else:
        assert np.array_equal(one.values, two.values)


@settings(max_examples=20, deadline=None)
@given(slope=st.sampled_from([0.25, 1.0, 8.0]), intercept=st.integers(-1024, 1024))
def test_slope_and_intercept_commute_with_stacking(slope, intercept):
    values = noise()
    scaled = volume(make_stack(values * np.float32(slope) + np.float32(intercept)))
    assert np.array_equal(scaled.values, volume(make_stack(values)).values * slope + intercept)


def test_a_slice_may_have_its_own_padding():
    instances = make_stack(noise())
    valid = np.ones((1, 5, 6), bool)
    valid[0, 1, 2] = False
    instances[2] = dataclasses.replace(instances[2], is_valid=valid)
    found = volume(instances)
    i, j, k = (int(n) for n in np.argwhere(~found.is_valid)[0])
    assert np.count_nonzero(~found.is_valid) == 1
    assert found.values[0, i, j, k] == instances[2].values[0, 1, 2]


# --- what is wrong with a stack is told -----------------------------------------------------------


def at_heights(heights, **more):
    return [
        make_slice(plane, (0, 0, height), **more)
        for plane, height in zip(noise(shape=(len(heights), 5, 6)), heights, strict=True)
    ]


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0, 3, 6, 12, 15], "missing_slice"),
        ([0, 3, 6, 9.5, 12.5], "uneven_spacing"),
        ([0, 3, 6, 8.6, 11.6], "uneven_spacing"),
        ([0, 3, 6, 6, 9], "ambiguous_stack"),
        ([0], "too_few_slices"),
        ([], "too_few_slices"),
    ],
)
def test_doubtful_positions_are_left_out_with_their_reason(heights, expected):
    assert reason(at_heights(heights)) == expected


def test_spacing_is_the_median_gap_whatever_the_header_says():
    assert volume(at_heights([0, 3, 6.01, 9.01, 12])).spacing_mm == pytest.approx((1.5, 2, 3.0))


def test_slices_somewhat_uneven_are_interpolated_from_their_true_positions():
    heights = [0, 3, 6.2, 9, 12.1, 15]
    ramp = [np.full((5, 6), 10.0 * height) for height in heights]
    stack = [make_slice(plane, (0, 0, height)) for plane, height in zip(ramp, heights, strict=True)]
    found = volume(stack)
    assert found.notes == ("uneven_slices",)
    assert found.spacing_mm[2] == pytest.approx(3.0)
    assert found.values[0, 2, 3] == pytest.approx(10 * 3.0 * np.arange(6), rel=1e-5)


def linear(place):
    return place @ np.array([1.0, 2.0, 4.0]) + 500


@pytest.mark.parametrize("turned_by", [None, 1, 2])
def test_a_tilted_stack_becomes_an_orthogonal_one_with_the_same_values(turned_by):
    turn = np.eye(3) if turned_by is None else rotation(turned_by)
    step = np.array([0.4, -1.1, 3.0]) @ turn
    rows, columns = np.indices((9, 8)).reshape(2, -1)
    pixels = rows[:, None] * 2.0 * turn[1] + columns[:, None] * 1.5 * turn[0]
    stack = [
        make_slice(linear(pixels + number * step).reshape(9, 8), number * step, turn[:2])
        for number in range(6)
    ]
    found = volume(stack)
    assert found.notes == ("tilt",)
    axes = found.affine[:3, :3] / found.spacing_mm
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    ijk = np.argwhere(found.is_valid)
    places = (found.affine[:3, :3] @ ijk.T + found.affine[:3, 3:]).T @ TO_RAS
    assert len(ijk) >= 6 * 7 * 6
    assert np.allclose(found.values[0][tuple(ijk.T)], linear(places), rtol=1e-5)
    assert np.ptp(found.values) <= np.ptp([one.values for one in stack]) * (1 + 1e-6)


def test_a_lean_below_half_a_degree_stays_in_the_affine():
    found = volume(make_stack(noise(), step=(0, 0.02, 3.0)))
    assert found.notes == () and found.affine[1, 2] == pytest.approx(-0.02)


def test_a_slice_beside_the_line_of_the_others_is_left_out():
    stack = make_stack(noise())
    stack[2] = make_slice(stack[2].values[0], (-9.0, 20, 36))
    assert reason(stack) == "uneven_spacing"


def test_equal_slices_at_one_place_count_once():
    stack = make_stack(noise())
    copy = dataclasses.replace(
        stack[1], uids=dataclasses.replace(stack[1].uids, instance="1.2.0"), digest="copy"
    )
    found = volume([*stack, copy])
    assert found.notes == ("duplicate_position",) and found.shape == (6, 5, 4)
    assert np.array_equal(found.values, volume(stack).values)


@pytest.mark.parametrize(
    "attribute",
    [
        {"echo_time": 30.0},
        {"temporal_position": 2},
        {"b_value": 1000.0},
        {"acquisition_number": 2},
        {"image_type": ("DERIVED", "PRIMARY", "MPR")},
    ],
)
def test_stacks_at_one_place_are_told_apart_and_the_plan_chooses(attribute):
    (name, value), one = next(iter(attribute.items())), make_stack(noise(1), name="")
    other = make_stack(noise(2), **attribute)
    other = [
        dataclasses.replace(found, uids=dataclasses.replace(found.uids, instance=f"3.{number}"))
        for number, found in enumerate(other)
    ]
    both = [*one, *other]
    assert reason(both) == "ambiguous_stack"
    chosen = volume(both, select=lambda stack: getattr(stack.facts, name) == value)
    assert np.array_equal(chosen.values, volume(other).values)
    assert reason(both, select=lambda stack: False) == "not_selected"


def test_acquisitions_one_above_the_other_stay_one_stack():
    stack = make_stack(noise())
    stack[2:] = [
        dataclasses.replace(one, facts=dataclasses.replace(one.facts, acquisition_number=2))
        for one in stack[2:]
    ]
    assert volume(stack).shape == (6, 5, 4)


def test_localizers_are_left_out_and_other_directions_are_ambiguous():
    stack = make_stack(noise())
    sagittal = [[0, 1.0, 0], [0, 0, -1.0]]
    scout = make_stack(noise(1), directions=sagittal, step=(4.0, 0, 0), cautions=("not_selected",))
    assert np.array_equal(volume([*scout, *stack]).values, volume(stack).values)
    other = make_stack(noise(1), directions=sagittal, step=(4.0, 0, 0))
    assert reason([*other, *stack]) == "ambiguous_stack"
    assert len(stacks([*other, *stack])) == 2
    assert reason(scout) == "not_selected"


def test_an_object_without_a_place_or_with_colour_is_no_part_of_a_volume():
    stack = make_stack(noise())
    lost = dataclasses.replace(stack[0], placements=None)
    assert reason([*stack[1:], lost]) == "no_geometry"
    colour = dataclasses.replace(stack[0], values=np.zeros((1, 5, 6, 3), np.uint8))
    assert reason([*stack[1:], colour]) == "colour_not_in_plan"
    twisted = make_stack(noise(), directions=[[1.0, 0, 0], [0.5, 0.8, 0]])
    assert reason(twisted) == "no_geometry"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300, -1e9])
def test_impossible_places_are_no_geometry(bad):
    stack = make_stack(noise())
    for number in range(3):
        position = [0.0, 0, 0]
        position[number] = bad
        assert reason([*stack, make_slice(noise()[0], position)]) == "no_geometry"
    for directions in ([[bad, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 1, 0]]):
        assert reason(make_stack(noise(), directions=directions)) == "no_geometry"


def test_a_constant_volume_is_no_case():
    found = volume(make_stack(np.full((4, 5, 6), 7.0)))
    assert unusable_volume(found).reason == "constant"
    assert unusable_volume(volume(make_stack(noise()))) is None


# --- headers first ------------------------------------------------------------------------------


def test_pixels_are_read_once_and_let_go():
    planes = noise(shape=(24, 128, 128))
    headers = [
        Header(facts=one.facts, uids=one.uids, placements=one.placements)
        for one in make_stack(planes)
    ]
    reads = []

    def read(number):
        reads.append(number)
        return make_slice(planes[number], headers[number].placements[0].position_mm)

    tracemalloc.start()
    found = assemble_series(headers, read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(reads) == list(range(24))
    assert np.array_equal(found.values, volume(make_stack(planes)).values)
    assert peak < 1.5 * found.values.nbytes


def test_a_volume_too_large_is_refused_before_anything_is_read():
    def read(number):
        raise AssertionError("read")

    found = assemble_series(make_stack(noise()), read, max_voxels=100)
    assert isinstance(found, Skip) and found.reason == "too_large"


def test_a_slice_that_cannot_be_decoded_says_why():
    stack = make_stack(noise())
    found = assemble_series(stack, lambda number: Skip(reason="decode_failed", detail="x"))
    assert found == Skip(reason="decode_failed", detail="x")


# --- from files -------------------------------------------------------------------------------

HEADER = Tomogram(
    study=Study(
        name="geometry",
        patient_id="P1",
        patient_sex="F",
        patient_age=40,
        study_date="20200101",
        manufacturer="Alder",
    ),
    modality="MR",
    body_part="HEAD",
    bits_stored=12,
    slope=(0.5, -3.0),
)
SAGITTAL = Grid(
    shape=(5, 8, 7),
    origin_mm=(20.0, -30.0, 40.0),
    across=(0.0, 1.0, 0.0),
    down=(0.0, 0.0, -1.0),
    step_mm=(-2.5, 0.0, 0.0),
    spacing_mm=(1.25, 0.75),
)


def test_one_multi_frame_object_gives_the_volume_of_its_slices(tmp_path: Path):
    stored = noise(shape=SAGITTAL.shape).astype(np.uint16)
    write_slices(tmp_path, stored, grid=SAGITTAL, header=HEADER)
    slices = [read_dicom(path) for path in sorted(tmp_path.glob("*.dcm"))]
    write_frames(tmp_path / "frames.dcm", stored, grid=SAGITTAL, header=HEADER)
    one, many = volume([read_dicom(tmp_path / "frames.dcm")]), volume(slices)
    assert one.spacing_mm == pytest.approx((2.5, 0.75, 1.25))
    assert np.array_equal(one.values, many.values) and np.allclose(one.affine, many.affine)
    assert np.array_equal(
        many.values[0], stored.astype(np.float32)[:, ::-1, ::-1].transpose(0, 2, 1) * 0.5 - 3
    )
    assert one.slices[0][1] in (1, 5) and one.uids.instance and not many.uids.instance


def test_simpleitk_finds_the_same_values_at_the_same_places(tmp_path: Path):
    stored = noise(shape=SAGITTAL.shape).astype(np.uint16)
    write_slices(tmp_path, stored, grid=SAGITTAL, header=HEADER)
    found = volume([read_dicom(path) for path in tmp_path.glob("*.dcm")])
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(names), "LPS")
    assert np.array_equal(found.values[0], SimpleITK.GetArrayFromImage(image).T[::-1, ::-1])
    for corner in [(0, 0, 0), (4, 6, 7), (1, 2, 3)]:
        i, j, k = np.subtract((4, 6, 0), corner) * (1, 1, -1)  # LPS counts the other way
        place = found.affine @ [*corner, 1]
        there = image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))
        assert np.allclose(place[:3], TO_RAS @ there)


def test_the_sample_series_is_one_volume_and_tells_a_missing_slice(real_data: Path):
    paths = sorted((real_data / "dicom_samples/files/series_Study1_HCropVolume").glob("*.dcm"))
    headers = [read_header(path) for path in paths]
    found = assemble_series(headers, lambda number: read_dicom(paths[number]))
    assert found.values.shape == (1, 35, 51, 32)
    assert found.spacing_mm == pytest.approx((1, 1, 1))
    assert (found.values.min(), found.values.max()) == (2, 154)
    assert_same(found, volume([read_dicom(path) for path in reversed(paths)]))
    without = [path for path in paths if path.stem != "16"]
    assert reason([read_dicom(path) for path in without]) == "missing_slice"


def test_the_sample_with_a_tilt_in_its_orientation_is_not_tilted_again(real_data: Path):
    one = read_dicom(real_data / "dicom_samples/files/pydicom__J2K_pixelrep_mismatch.dcm")
    directions = np.reshape(one.placements[0].orientation, (2, 3))
    origin = np.array(one.placements[0].position_mm)

    def stacked(step):
        return volume(
            [
                dataclasses.replace(
                    one,
                    placements=(
                        dataclasses.replace(
                            one.placements[0], position_mm=tuple(origin + number * step)
                        ),
                    ),
                    uids=dataclasses.replace(one.uids, instance=str(number)),
                )
                for number in range(3)
            ]
        )

    along_normal = stacked(5.0 * np.cross(*directions))
    assert "tilt" not in along_normal.notes and along_normal.shape == (512, 512, 3)
    assert "tilt" in stacked(np.array([0, 0, 5.0])).notes


def test_the_sample_without_functional_groups_has_no_geometry(real_data: Path):
    found = read_dicom(real_data / "dicom_samples/files/pydicom-data__emri_small.dcm")
    assert found.num_frames == 10 and reason([found]) == "no_geometry"
