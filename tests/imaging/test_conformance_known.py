"""The known answers: what the checks must find in real sets, and in phantoms of every vendor."""

from dataclasses import replace

import numpy as np
import pytest

from hospitium.imaging.conformance import Capacity, Surroundings, gather, run_checks
from hospitium.imaging.conformance.pictures import THUMBNAIL
from hospitium.plan.reading import parse_plan
from hospitium.testing.phantoms.knobs import Site
from hospitium.testing.phantoms.volumes import write_volumes

ROOM = Surroundings(capacity=Capacity(free_bytes=1 << 40, device="cpu", step_s=0.01))
VOLUMES = """
name = "v"
[task]
{task}
[imaging]
kind = "volume"
[imaging.pipeline]
size = [40, 56, 40]
spacing_mm = [{spacing}, {spacing}, {spacing}]
resize = "crop"
intensity = "{intensity}"
"""
PARTS = 'kind = "segmentation"\nclasses = {classes}'


def volume_plan(*, intensity, spacing=1.0, classes='["anterior", "posterior"]', task=None):
    task = task or PARTS.format(classes=classes)
    return parse_plan(VOLUMES.format(intensity=intensity, spacing=spacing, task=task))


def checks_of(inventory, plan):
    return {check.code: check for check in run_checks(inventory, plan, ROOM).checks}


@pytest.fixture(scope="module")
def pneumonia(real_data):
    plan = parse_plan('name = "p"')
    return gather(real_data / "pneumoniamnist" / "pneumoniamnist.npz", plan=plan), plan


def test_pneumoniamnist_has_its_known_copies(pneumonia):
    checks = checks_of(*pneumonia)
    assert checks["C08"].status == "WARN"
    assert "(18 in train, 3 in test)" in checks["C08"].found
    assert checks["C09"].status == "FAIL"
    assert "8 images in both train and val, no image in both train and test" in checks["C09"].found
    assert "no image in both val and test" in checks["C09"].found


def test_pneumoniamnist_passes_what_else_can_be_checked(pneumonia):
    checks = checks_of(*pneumonia)
    assert {code for code, check in checks.items() if check.status != "PASS"} == {"C08", "C09"}
    assert "normal 1,583, pneumonia 4,273" in checks["C06"].found


def test_polarity_is_seldom_taken_for_turned_and_seldom_missed(pneumonia):
    """By symmetry the images missed among turned ones are those taken for turned among others."""
    contrasts = np.array([case.lung_contrast for case in pneumonia[0].cases])
    assert len(contrasts) == 5856
    assert np.mean(contrasts < 0) < 0.001
    turned = [replace(case, lung_contrast=-case.lung_contrast) for case in pneumonia[0].cases]
    found = checks_of(replace(pneumonia[0], cases=tuple(turned)), pneumonia[1])["C12"]
    assert found.status == "FAIL"


def test_a_copy_that_was_saved_again_is_found_as_a_near_duplicate(pneumonia):
    inventory, plan = pneumonia
    draw = np.random.default_rng(0)
    again = []
    for case in inventory.cases[:40]:
        noisy = np.frombuffer(case.thumbnail, np.uint8) + draw.normal(0, 3, THUMBNAIL**2)
        thumbnail = np.clip(np.round(noisy), 0, 255).astype(np.uint8).tobytes()
        again.append(
            replace(case, digest=f"{len(again):064x}", hash=case.hash ^ 3, thumbnail=thumbnail,
                    name=f"again-{len(again)}", subject=f"again-{len(again)}")
        )  # fmt: skip
    found = checks_of(replace(inventory, cases=inventory.cases + tuple(again)), plan)["C08"]
    assert "40 pairs of near duplicates" in found.found


@pytest.fixture(scope="module")
def hippocampus(real_data):
    def read(intensity):
        plan = volume_plan(intensity=intensity)
        return checks_of(gather(real_data / "hippocampus3d", plan=plan), plan)

    return read


@pytest.mark.ci
def test_hippocampus_names_its_intensity_problem_by_itself(hippocampus):
    checks = hippocampus("range")
    assert {code for code, check in checks.items() if check.status != "PASS"} == {"C18"}
    assert "4,299 times apart as stored" in checks["C18"].found
    assert "8 bits" in checks["C18"].found
    assert 'imaging.pipeline.intensity to "percentile"' in checks["C18"].remedy
    assert "anterior 160, posterior 160" in checks["C06"].found
    assert "160 of 160" in checks["C15"].found


@pytest.fixture(scope="module")
def few(real_data, tmp_path_factory):
    """Sixteen of the volumes, of either range of values."""
    folder = tmp_path_factory.mktemp("few")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for path in sorted((real_data / "hippocampus3d" / kind).iterdir())[::10]:
            (folder / kind / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
def test_hippocampus_passes_once_the_plan_scales_each_case(few, intensity):
    plan = volume_plan(intensity=intensity)
    checks = checks_of(gather(few, plan=plan), plan)
    assert {check.status for check in checks.values()} == {"PASS"}
    assert "times apart as stored" in checks["C18"].found


def test_a_background_class_and_an_unknown_value_are_told_apart(few):
    for classes, status in (
        ('["background", "anterior", "posterior"]', "PASS"),
        ('["anterior", "other"]', "PASS"),
        ('["hippocampus"]', "FAIL"),
    ):
        plan = volume_plan(intensity="zscore", classes=classes)
        assert checks_of(gather(few, plan=plan), plan)["C05"].status == status


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    vendors = ("Alder", "Birch", "Cedar", "Dogwood")
    sites = [Site(site_id=name.lower(), vendor=name) for name in vendors]
    write_volumes(folder, kind="mr", num_cases=6, seed=2, sites=sites, size=64)
    return folder


@pytest.mark.ci
def test_masks_of_every_vendor_are_found_as_seg_rtstruct_and_nifti(heads):
    plan = volume_plan(intensity="zscore", spacing=4.0, classes='["lesion"]')
    found = gather(heads, plan=plan)
    assert len(found.cases) == 6
    assert not found.skipped
    assert {case.mask.reason for case in found.cases} == {""}
    labelled = gather(heads, plan=volume_plan(
        intensity="zscore", spacing=4.0, task='classes = ["normal", "lesion"]'
    ))  # fmt: skip
    has_lesion = {case.name: bool(case.mask.values) for case in found.cases}
    assert {case.name: case.classes == (1,) for case in labelled.cases} == has_lesion
    assert set(has_lesion.values()) == {True, False}
