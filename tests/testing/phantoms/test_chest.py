from __future__ import annotations

import numpy as np
import pytest
from steps import steps_of

from hospitium.randomness import rng
from hospitium.testing.phantoms import (
    VENDORS,
    Findings,
    apply_vendor,
    draw_anatomy,
    draw_chest,
)
from hospitium.testing.phantoms.fields import enlarge, smooth_field, step


def attenuation(draw, *, size: int, ill: bool, anatomy=None) -> np.ndarray:  # type: ignore[no-untyped-def]
    found = Findings(has_pneumonia=ill)
    return draw_chest(draw, size=size, findings=found, anatomy=anatomy).attenuation


def area_under_roc(values: np.ndarray, sick: np.ndarray) -> float:
    larger = values[sick][:, None] > values[~sick]
    return float(larger.mean() + 0.5 * (values[sick][:, None] == values[~sick]).mean())


@pytest.mark.parametrize("size", [64, 100, 256])
def test_a_chest_is_a_finite_attenuation_of_the_size_asked_for(size: int) -> None:
    image = attenuation(rng(1, "a"), size=size, ill=True)
    assert image.shape == (size, size)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert 0 <= image.min() < image.max() < 20


def test_same_generator_same_chest() -> None:
    first, again = (attenuation(rng(1, "a"), size=64, ill=True) for _ in range(2))
    assert np.array_equal(first, again)


def test_the_lungs_let_more_of_the_beam_through_than_the_rest() -> None:
    image = np.mean([attenuation(rng(k, "a"), size=64, ill=False) for k in range(30)], axis=0)
    right, left, spine = image[25:35, 17:22], image[20:30, 43:48], image[25:35, 30:34]
    assert max(right.mean(), left.mean()) < 0.7 * spine.mean()


def test_studies_of_one_subject_are_alike_but_not_equal() -> None:
    anatomy = draw_anatomy(rng(1, "subject"))
    one, two = (attenuation(rng(1, n), size=64, ill=False, anatomy=anatomy) for n in (1, 2))
    assert not np.array_equal(one, two)


def test_a_consolidation_is_where_the_mask_says() -> None:
    for k in range(12):
        ill = draw_chest(rng(k, "a"), size=96, findings=Findings(has_pneumonia=True))
        assert 0.002 < ill.consolidated.mean() < 0.25
        side, _, _ = ill.lobe.partition(" ")
        columns = np.flatnonzero(ill.consolidated.any(axis=0))
        assert side in ("right", "left")
        assert columns.min() < 48 if side == "right" else columns.max() >= 48
    healthy = draw_chest(rng(1, "a"), size=96, findings=Findings())
    assert not healthy.consolidated.any() and healthy.lobe == ""


def test_a_larger_lesion_has_a_larger_mask() -> None:
    def area(factor: float) -> float:
        found = Findings(has_pneumonia=True, lesion_size=factor)
        scenes = [draw_chest(rng(k, "a"), size=96, findings=found) for k in range(10)]
        return float(np.mean([scene.consolidated.mean() for scene in scenes]))

    assert area(0.5) < area(1.0) < area(1.5)


@pytest.mark.parametrize("other", ["has_effusion", "has_cardiomegaly"])
def test_other_findings_are_denser_and_change_nothing_else(other: str) -> None:
    plain = draw_chest(rng(3, "a"), size=96, findings=Findings()).attenuation
    found = draw_chest(rng(3, "a"), size=96, findings=Findings(**{other: True})).attenuation
    assert (found - plain).min() > -1e-4
    assert 0.01 < (found - plain > 0.05).mean() < 0.3


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS.keys())
def test_bone_is_bright_once_the_header_is_followed(vendor) -> None:  # type: ignore[no-untyped-def]
    scene = attenuation(rng(1, "a"), size=128, ill=False)
    stored, facts = apply_vendor(scene, vendor, rng(1, "b"))
    shown = stored.astype(np.float64)
    if facts.photometric == "MONOCHROME1":
        shown = 2**facts.bits_stored - 1 - shown
    if facts.patient_orientation[0] == "R":
        shown = shown[:, ::-1]
    middle = slice(24, 104)
    assert np.corrcoef(shown[middle, middle].ravel(), scene[middle, middle].ravel())[0, 1] > 0.6
    assert stored.dtype == np.uint16 and stored.max() < 2**vendor.bits_stored


def test_brightness_does_not_tell_the_label_at_any_vendor() -> None:
    sick = np.arange(300) % 2 == 1
    scenes = [attenuation(rng(7, k), size=64, ill=bool(sick[k])) for k in range(300)]
    for name, vendor in VENDORS.items():
        shown = [apply_vendor(s, vendor, rng(8, k))[0].mean() for k, s in enumerate(scenes)]
        assert abs(area_under_roc(np.array(shown), sick) - 0.5) < 0.1, name


def test_a_study_is_drawn_without_a_step_for_each_pixel() -> None:
    for k, vendor in enumerate(VENDORS.values()):
        _, steps = steps_of(
            lambda k=k, vendor=vendor: apply_vendor(  # type: ignore[misc]
                attenuation(rng(1, k), size=256, ill=True), vendor, rng(2, k)
            )
        )
        assert steps < 256 * 256 / 2


def test_a_smooth_field_has_mean_0_and_deviation_1() -> None:
    fields = np.stack([smooth_field(rng(k, "a"), size=64, cells=9) for k in range(200)])
    assert abs(fields.mean()) < 0.05
    assert fields.std() == pytest.approx(1, abs=0.05)


def test_enlarging_keeps_a_constant_and_a_step_rises_from_0_to_1() -> None:
    flat = np.full((16, 16), 3, dtype=np.float32)
    np.testing.assert_allclose(enlarge(flat, size=64), 3, rtol=1e-5)
    edge = step(np.linspace(-1, 1, 41, dtype=np.float32), width=0.5)
    assert (edge[0], edge[20], edge[-1]) == (0, 0.5, 1)
    assert (np.diff(edge) >= 0).all()
