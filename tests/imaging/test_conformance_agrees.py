import numpy as np
import pytest

from hospitium.imaging.conformance.examining import Request, examine
from hospitium.imaging.image_store import ImageReader
from hospitium.imaging.instance import Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection

SMALL = PipelineSection(size=(16, 16))
STRICT = ImagingSection(
    modalities=("CR", "DX", "CT"), lossy="refuse", spacing_kinds=("detector",), pipeline=SMALL
)
LOOSE = ImagingSection(
    secondary_capture="accept",
    raw="accept",
    burned_in="accept",
    voi="apply",
    pipeline=PipelineSection(size=(16, 16), channels=3),
)


def reasons(paths, imaging):
    """Return why the check and why training leave out each file; empty where they do not."""
    plan = Plan(imaging=imaging)
    reader = ImageReader(Harmonise.of(plan), imaging=imaging)
    for path in paths:
        request = Request(name=path.name, kind="image", paths=(str(path),))
        found = examine(request, plan=plan), reader.read(path)
        yield path.name, *(part.reason if isinstance(part, Skip) else "" for part in found)


@pytest.mark.parametrize("imaging", [STRICT, LOOSE])
def test_check_and_training_leave_out_the_same_samples_for_the_same_reason(real_data, imaging):
    paths = sorted(
        path
        for path in (real_data / "dicom_samples").rglob("*.dcm")
        if path.stat().st_size < 1 << 19
    )
    found = list(reasons(paths, imaging))
    assert [(name, check) for name, check, _ in found] == [
        (name, train) for name, _, train in found
    ]
    assert len({check for _, check, _ in found}) > 4  # some are taken, others left out


def test_a_picture_of_three_equal_channels_is_grey_to_both(tmp_path, png):
    grey = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    (tmp_path / "grey.png").write_bytes(png(grey))
    (tmp_path / "red.png").write_bytes(png(grey * np.array([1, 0, 0], np.uint8)))
    found = list(reasons(sorted(tmp_path.iterdir()), ImagingSection(pipeline=SMALL)))
    assert found == [
        ("grey.png", "", ""),
        ("red.png", "colour_not_in_plan", "colour_not_in_plan"),
    ]
