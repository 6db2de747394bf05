import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from hospitium.imaging.geometry import assemble_series, unusable_volume
from hospitium.imaging.instance import Facts, Instance, ReadOptions, Skip, is_constant
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_dicom, read_header
from hospitium.imaging.selection import read_options, select, select_header
from hospitium.plan import Plan
from hospitium.plan.schema import ImagingSection, PipelineSection

DX, CAPTURE = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"
CHEST = Facts(
    modality="DX", manufacturer="", rows=9, columns=9, bits_stored=12, photometric="MONOCHROME2",
    spacing_mm=(0.2, 0.2), spacing_kind="detector", sop_class=DX, body_part="CHEST", view="PA",
)  # fmt: skip
PICTURE = Facts(
    modality="", manufacturer="", rows=9, columns=9, bits_stored=8, photometric="L",
    spacing_mm=None, spacing_kind="none",
)  # fmt: skip
COLOUR = PipelineSection(channels=3)
AT_ONE_SPACING = PipelineSection(spacing_mm=(1.0, 1.0), resize="crop")


def reason(facts, cautions=(), *, has_geometry=True, is_constant=False, num_slices=None, **imaging):
    found = select(
        facts,
        cautions,
        imaging=ImagingSection(**imaging),
        has_geometry=has_geometry,
        is_constant=is_constant,
        num_slices=num_slices,
    )
    return found.reason if found else None


def changed(**facts):
    return replace(CHEST, **facts)


@pytest.mark.parametrize(
    ("facts", "cautions", "refusing", "accepting", "expected"),
    [
        (CHEST, ["raw_detector"], {}, {"raw": "accept"}, "raw_detector"),
        (changed(is_lossy=True), [], {"lossy": "refuse"}, {}, "lossy_not_in_plan"),
        (changed(photometric="RGB"), [], {}, {"pipeline": COLOUR}, "colour_not_in_plan"),
        (changed(photometric="PALETTE COLOR"), [], {}, {"pipeline": COLOUR}, "colour_not_in_plan"),
        (changed(spacing_kind="none", spacing_mm=None), [], {"spacing_kinds": ("detector",)},
         {}, "spacing_not_in_plan"),
        (changed(spacing_kind="scanned"), [], {"spacing_kinds": ("detector",)},
         {"spacing_kinds": ("detector", "scanned")}, "spacing_not_in_plan"),
        (changed(spacing_mm=None, spacing_kind=""), [], {"pipeline": AT_ONE_SPACING}, {},
         "spacing_not_in_plan"),
        (changed(frames=2), [], {}, {"kind": "volume"}, "not_selected"),
        (CHEST, [], {"modalities": ("CR",)}, {"modalities": ("CR", "DX")}, "not_selected"),
        (changed(body_part=""), [], {"body_parts": ("CHEST",)}, {}, "not_selected"),
        (changed(view="LL"), [], {"views": ("PA", "AP")}, {"views": ("LL",)}, "not_selected"),
        (changed(sop_class=CAPTURE), [], {}, {"secondary_capture": "accept"}, "secondary_capture"),
        (changed(sop_class=CAPTURE + ".2"), [], {}, {"secondary_capture": "accept"},
         "secondary_capture"),
        (changed(image_type=("DERIVED", "SECONDARY", "SCREEN SAVE")), [], {},
         {"secondary_capture": "accept"}, "secondary_capture"),
        (changed(burned_in="YES"), ["burned_in"], {}, {"burned_in": "accept"}, "burned_in"),
    ],
)  # fmt: skip
def test_what_one_plan_refuses_another_takes(facts, cautions, refusing, accepting, expected):
    assert reason(facts, cautions, **refusing) == expected
    assert reason(facts, cautions, **accepting) is None


@pytest.mark.parametrize("caution", ["mosaic", "not_selected"])
def test_what_no_plan_can_lift_stays_refused(caution):
    lenient = {"raw": "accept", "burned_in": "accept", "secondary_capture": "accept"}
    assert reason(CHEST, [caution], **lenient) == caution


def test_a_volume_needs_geometry_and_enough_slices():
    assert reason(CHEST, kind="volume", has_geometry=False) == "no_geometry"
    assert reason(CHEST, kind="volume", min_slices=20, num_slices=19) == "too_few_slices"
    assert reason(CHEST, kind="volume", min_slices=20, num_slices=20) is None
    assert reason(CHEST, kind="volume", min_slices=20) is None  # not assembled yet
    assert reason(CHEST, has_geometry=False) is None


def test_of_several_reasons_the_first_in_the_order_of_the_specification_is_told():
    worst = changed(
        is_lossy=True, photometric="RGB", spacing_kind="none", spacing_mm=None, frames=3,
        modality="US", sop_class=CAPTURE, burned_in="YES",
    )  # fmt: skip
    told = []
    plan = ImagingSection(lossy="refuse", spacing_kinds=("detector",), modalities=("DX",))
    mended = [
        {"is_lossy": False}, {"photometric": "MONOCHROME2"}, {}, {"spacing_kind": "detector"},
        {"frames": 1}, {}, {"modality": "DX"}, {"sop_class": DX}, {"burned_in": "NO"},
    ]  # fmt: skip
    facts, cautions = worst, ["mosaic", "burned_in"]
    for number, change in enumerate(mended):
        found = select(facts, cautions, imaging=plan, is_constant=number < 3)
        told.append(found.reason if found else None)
        facts = replace(facts, **change)
        cautions = ["mosaic", "burned_in"] if number < 5 else ["burned_in"]
    assert told == [
        "lossy_not_in_plan", "colour_not_in_plan", "constant", "spacing_not_in_plan",
        "not_selected", "mosaic", "not_selected", "secondary_capture", "burned_in",
    ]  # fmt: skip


def test_lists_of_the_plan_do_not_apply_to_a_picture_file_that_states_nothing():
    wanted = {"modalities": ("CR",), "body_parts": ("CHEST",), "views": ("PA",)}
    assert reason(PICTURE, **wanted) is None
    assert reason(PICTURE, spacing_kinds=("detector",)) == "spacing_not_in_plan"
    assert reason(replace(PICTURE, photometric="RGB")) == "colour_not_in_plan"


def test_sections_of_ct_have_a_spacing_without_a_kind():
    ct = changed(modality="CT", spacing_kind="")
    assert reason(ct, spacing_kinds=("detector",), pipeline=AT_ONE_SPACING) is None


def test_the_plan_says_what_the_reader_is_asked_for():
    assert read_options(ImagingSection()) == ReadOptions()
    assert read_options(ImagingSection(voi="apply", raw="accept")) == ReadOptions(
        apply_voi=True, take_raw=True
    )


# --- the real files that developers share ---------------------------------------------------------


@pytest.fixture(scope="module")
def files(real_data: Path) -> list[Path]:
    folder = real_data / "dicom_samples" / "files"
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("secondary_capture", "cases"),
    [("refuse", {"gdcm-CR-MONO1-10-chest", "RG1_J2KI"}),
     ("accept", {"gdcm-CR-MONO1-10-chest", "RG1_J2KI", "test1", "test2"})],
)  # fmt: skip
def test_a_chest_plan_takes_two_of_the_samples_and_with_secondary_captures_four(
    files, secondary_capture, cases
):
    imaging = ImagingSection(
        modalities=("CR", "DX"), body_parts=("CHEST",), secondary_capture=secondary_capture
    )
    taken = {}
    for path in files:
        header = read_header(path)
        if isinstance(header, Skip) or select_header(header, imaging=imaging):
            continue
        found = read_dicom(path, options=read_options(imaging))
        assert isinstance(found, Instance) and not is_constant(found)
        taken[path.stem.split("__", 1)[-1]] = Harmonise.of(Plan(imaging=imaging)).apply(found)
    assert set(taken) == cases
    assert all(case.shape == (1, 28, 28) and case.std() > 0.02 for case in taken.values())


def test_of_colour_every_sample_is_refused_in_a_plan_of_one_channel(files):
    names = ("examples_palette", "examples_rgb_color", "examples_ybr_color", "ExplVR_BigEnd")
    for path in (path for path in files if path.stem.endswith(names)):
        header = read_header(path)
        assert not isinstance(header, Skip)
        found = select_header(header, imaging=ImagingSection())
        assert found is not None and found.reason == "colour_not_in_plan"


def test_an_mr_plan_of_volumes_takes_one_of_the_samples(files):
    imaging = ImagingSection(
        kind="volume",
        modalities=("MR",),
        min_slices=8,
        pipeline=PipelineSection(size=(32, 48, 32), resize="crop", intensity="percentile"),
    )
    series, refused = defaultdict(list), Counter()
    for path in files:
        header = read_header(path)
        skip = header if isinstance(header, Skip) else select_header(header, imaging=imaging)
        if isinstance(skip, Skip):
            refused[skip.reason] += 1
        elif not isinstance(header, Skip):
            series[header.uids.series].append((path, header))
    cases = []
    for members in series.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = assemble_series([header for _, header in members], _reader(members))
        if not isinstance(found, Skip) and unusable_volume(found) is None:
            num_slices = found.facts.frames
            if not select(found.facts, found.cautions, imaging=imaging, num_slices=num_slices):
                cases.append(found)
    assert [case.shape for case in cases] == [(35, 51, 32)]
    assert {"mosaic", "no_geometry", "not_selected"} <= set(refused)
    made = Harmonise.of(Plan(imaging=imaging)).apply_volume(cases[0])
    assert made.shape == (32, 48, 32) and made.spacing_mm == pytest.approx((1, 1, 1), abs=1e-4)


def _reader(members):
    return lambda number: read_dicom(members[number][0])
