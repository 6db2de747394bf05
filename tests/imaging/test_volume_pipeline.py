import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import Facts
from hospitium.imaging.labels import LabelMap
from hospitium.imaging.pipeline import Harmonise
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection

FACTS = Facts(
    modality="MR", manufacturer="", rows=1, columns=1, bits_stored=12, photometric="",
    spacing_mm=None,
)  # fmt: skip


def volume(values: np.ndarray, *, mm=(1.0, 1.0, 1.0), valid: np.ndarray | None = None) -> Volume:
    affine = np.diag([*mm, 1.0])
    affine[:3, 3] = (-40, 25, 7)
    return Volume(
        values=values[np.newaxis].astype(np.float32),
        affine=affine,
        range=(0.0, 4095.0),
        facts=FACTS,
        is_valid=valid,
    )


def labels_like(found: Volume, mask: np.ndarray) -> LabelMap:
    return LabelMap(labels=mask.astype(np.uint8), affine=found.affine)


def head(shape=(24, 20, 16), seed=1) -> np.ndarray:
    """Return a bright ball in darkness, of whole numbers."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    ball = (grid**2).sum(axis=0) < 0.6
    noise = np.random.default_rng(seed).normal(0, 30, shape)
    return np.clip(np.where(ball, 900, 40) + noise, 0, 4095).round()


STEPS = Harmonise(
    size=(20, 20, 20), resize="crop", spacing_mm=(1.5, 1.5, 1.5), intensity="percentile"
)


def test_a_case_has_the_size_of_the_plan_its_mask_and_where_it_is_valid():
    found = volume(head(), mm=(1.0, 2.0, 3.0))
    case = STEPS.apply_volume(found, labels_like(found, head() > 500))
    assert case.image.shape == (1, 20, 20, 20) and case.image.dtype == np.float32
    assert case.image.flags.c_contiguous and 0 <= case.image.min() < case.image.max() <= 1
    assert case.mask is not None and case.mask.dtype == np.uint8 and case.mask.max() == 1
    assert case.is_valid is not None and not case.is_valid[0].any()
    assert case.spacing_mm == pytest.approx((1.5, 1.5, 1.5))


@pytest.mark.parametrize("resize", ["crop", "fit"])
def test_a_point_of_the_patient_stays_where_it_is(resize):
    values = np.zeros((25, 31, 19))
    values[14:17, 20:23, 9:12] = 1000
    found = volume(values, mm=(1.0, 1.0, 2.0))
    spacing = (2.0, 1.0, 1.0) if resize == "crop" else ()
    steps = Harmonise(size=(28, 28, 36), resize=resize, spacing_mm=spacing)
    case = steps.apply_volume(found, labels_like(found, values > 0))
    for image, affine in ((values, found.affine), (case.image[0], case.affine)):
        where = np.array([np.average(ax, weights=image) for ax in np.indices(image.shape)])
        centre = affine[:3, :3] @ where + affine[:3, 3]
        np.testing.assert_allclose(centre, (-25, 46, 27), atol=0.3)
    assert case.mask is not None
    where = np.argwhere(case.mask).mean(axis=0)
    np.testing.assert_allclose(
        case.affine[:3, :3] @ where + case.affine[:3, 3], (-25, 46, 27), atol=1
    )


def test_all_of_a_volume_fits_into_the_size_at_one_spacing():
    found = volume(head((40, 20, 10)), mm=(1.0, 1.0, 2.0))
    case = Harmonise(size=(16, 16, 16)).apply_volume(found, None)
    assert case.shape == (16, 16, 16) and case.spacing_mm == pytest.approx((2.5, 2.5, 2.5))
    assert case.is_valid is not None
    assert case.is_valid.any(axis=(1, 2)).all() and case.is_valid.any(axis=(0, 2)).sum() == 8


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(3)), st.sampled_from(["percentile", "zscore", "range"]))
def test_the_order_of_axes_in_memory_changes_no_bit(order, intensity):
    values = head()
    stored = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    steps = Harmonise(
        size=(16, 16, 16), resize="crop", spacing_mm=(1.3, 0.9, 2), intensity=intensity
    )
    one, other = (steps.apply_volume(volume(each)) for each in (values, stored))
    assert one.image.tobytes() == other.image.tobytes()


def test_padding_is_in_no_statistic_and_becomes_background():
    values, valid = head(), np.ones((24, 20, 16), bool)
    valid[:3] = False
    steps = Harmonise(intensity="zscore", background=-5.0)
    cases = [
        steps.apply_volume(volume(np.where(valid, values, junk), valid=valid))
        for junk in (-2000, 30_000)
    ]
    assert cases[0].image.tobytes() == cases[1].image.tobytes()
    assert (cases[0].image[0, :3] == -5).all()
    np.testing.assert_array_equal(cases[0].is_valid, valid)


def test_a_mask_that_a_coarse_grid_or_a_crop_changes_is_noted():
    found = volume(np.pad(head((30, 30, 30)), 10))
    mask = np.zeros(found.shape, bool)
    mask[10:24, 12:26, 20:33] = True
    labels = labels_like(found, mask)
    keep = Harmonise(size=(50, 50, 50), resize="crop").apply_volume(found, labels)
    assert "mask_shrunk" not in keep.notes
    small = Harmonise(size=(24, 24, 24), resize="crop").apply_volume(found, labels)
    assert "mask_shrunk" in small.notes
    tiny = labels_like(found, np.pad(np.ones((5, 5, 5), bool), [(0, 45)] * 3))
    lost = Harmonise(size=(24, 24, 24), resize="crop").apply_volume(found, tiny)
    assert "mask_shrunk" not in lost.notes  # less than 1 ml


def test_nothing_passed_in_is_changed():
    values = head()
    found = volume(values)
    labels = labels_like(found, values > 500)
    before = found.values.copy(), found.affine.copy(), labels.labels.copy()
    for steps in (STEPS, Harmonise(intensity="zscore"), Harmonise(size=(12, 12, 12))):
        steps.apply_volume(found, labels)
    for old, new in zip(before, (found.values, found.affine, labels.labels), strict=True):
        np.testing.assert_array_equal(old, new)


def test_n4_takes_out_a_slow_change_of_brightness_and_gives_the_same_bytes_again():
    true = np.where(head((16, 16, 16)) > 500, 800.0, 20.0)
    true[6:10, 6:10, 6:10] = 1100
    slope = np.exp(np.linspace(-0.35, 0.35, 16))[:, None, None]
    steps = Harmonise(n4=True)
    one, other = (steps.apply_volume(volume(true * slope)) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes()
    tissue = true == 800
    before, after = (v[tissue].std() / v[tissue].mean() for v in (true * slope, one.image[0]))
    assert after < 0.5 * before


def test_n4_leaves_a_volume_without_foreground_as_it_is():
    flat = volume(np.full((9, 9, 9), 5.0))
    np.testing.assert_array_equal(
        Harmonise(n4=True).apply_volume(flat).image, Harmonise().apply_volume(flat).image
    )


def test_the_steps_of_a_plan_are_named_by_a_digest_that_each_of_them_changes():
    def digest(**steps):
        return Harmonise.of(Plan(imaging=ImagingSection(pipeline=PipelineSection(**steps)))).digest

    plain = digest()
    assert digest() == plain
    others = [{"size": (28, 30)}, {"background": -1.0}, {"n4": True}, {"resize": "crop"},
              {"crop_field": True}, {"low": 0.5}, {"spacing_mm": (1.0, 1.0)}]  # fmt: skip
    assert len({plain, *(digest(**other) for other in others)}) == 1 + len(others)
