from dataclasses import fields, is_dataclass, replace

import pytest

from hospitium.errors import PlanError
from hospitium.plan import Plan, parse_plan
from hospitium.plan.checking import Extra, check_plan, imaging_problems, problems_of
from hospitium.plan.schema import ImagingSection, PipelineSection

RESERVED = [
    (section.name, item.name, value)
    for section in fields(Plan)
    if is_dataclass(getattr(Plan(), section.name))
    for item in fields(getattr(Plan(), section.name))
    for value in item.metadata.get("reserved", ())
]


def test_the_default_plan_has_no_problem():
    check_plan(Plan(), num_sites=2)


@pytest.mark.parametrize(("section", "key", "value"), RESERVED)
def test_a_value_of_a_later_version_is_read_and_refused_by_its_name(section, key, value):
    plan = parse_plan(f"[{section}]\n{key} = '{value}'")
    found = [text for text in problems_of(plan) if text.startswith(f"{section}.{key} = {value!r}")]
    assert len(found) == 1
    assert "is not built yet in this version; use" in found[0] or value == "hub"


def test_what_is_reserved_covers_the_algorithms_and_the_privacy_of_the_specification():
    assert {"fedyogi", "scaffold", "fedbn", "trimmed_mean", "hub", "survival"} <= {
        value for _, _, value in RESERVED
    }
    assert {("privacy", "secure_sums", "on"), ("privacy", "record_dp", "on")} <= set(RESERVED)


SPACING = "[imaging]\npipeline = { spacing_mm = [0.5, 0.5], resize = 'crop' }\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = 'a b'", "name = 'a b': expected 1 to 64 letters"),
        ("name = ''", "name = ''"),
        ("model.name = 'smal_cnn'", "unknown name 'smal_cnn'; did you mean `small_cnn`?"),
        ("model.args = {width = 3}", "model.args of small_cnn: unknown name 'width'"),
        ("model.init_sha256 = 'abc'", "expected 64 hexadecimal characters"),
        ("model.init_file = 'x'", "needs model.init_sha256"),
        ("task.classes = ['a']", "expected at least two different names"),
        ("task.classes = ['a', 'a']", "expected at least two different names"),
        ("task.classes = ['a', '']", "expected at least two different names"),
        ("training.loss = 'focl'", "did you mean `focal`?"),
        ("training.class_weights = [1.0]", "expected one number for each of the 2 classes"),
        ("training.class_weights = [1.0, -1.0]", "none negative"),
        ("training.class_weights = [0, 0]", "not all zero"),
        ("algorithm.mu = 0.1", "algorithm.mu is FedProx's"),
        ("algorithm.name = 'fedprox'", "makes fedprox equal to fedavg"),
        ("privacy.epsilon = 8", "nothing would enforce it"),
        ("imaging.modalities = ['dx']", "expected different DICOM codes"),
        ("imaging.views = ['PA', 'PA']", "expected different DICOM codes"),
        ("imaging.pipeline.size = [28]", "expected 2 numbers for imaging.kind = 'image'"),
        ("imaging.pipeline.n4 = true", "n4 is for MR volumes"),
        ("imaging.pipeline.low = 99.5", "expected low < high"),
        ("imaging.pipeline.intensity = 'window'", "expected two numbers, the lowest"),
        ("imaging.pipeline.window = [-1000, 400]", "not used by intensity = 'range'"),
        ("[imaging]\nmodalities = ['CT']\npipeline.intensity = 'zscore'", "HU lose their meaning"),
        ("imaging.pipeline.std = 2", "used by intensity = 'pooled' only"),
        (SPACING + "spacing_kinds = ['none', 'detector']", "without 'none'"),
        (SPACING, "needs imaging.spacing_kinds"),
        (SPACING.replace("'crop'", "'fit'") + "spacing_kinds = ['detector']", "would undo"),
        (
            SPACING.replace("0.5, ", "") + "spacing_kinds = ['scanned']",
            "spacing_mm = [0.5]: expected",
        ),
    ],
)
def test_what_does_not_fit_together_is_said(text, expected):
    (problem,) = problems_of(parse_plan(text))
    assert expected in problem


@pytest.mark.parametrize(
    "text",
    [
        "training.class_weights = [0, 2]",
        SPACING + "spacing_kinds = ['detector', 'calibrated']",
        "imaging.pipeline = {intensity = 'pooled', window = [-1000, 400], mean = 3, std = 2}",
        "algorithm = {name = 'fedprox', mu = 0.01}",
        "model = {name = 'resnet18', args = {stem = 'small'}}",
        "model = {init_file = 'a.safetensors', init_sha256 = '" + "0" * 64 + "'}",
    ],
)
def test_what_fits_together_passes(text):
    assert problems_of(parse_plan(text)) == []


def test_a_quorum_above_the_number_of_sites_can_never_be_met():
    assert problems_of(Plan(), num_sites=1) == ["rounds.quorum = 2 but there are only 1 sites"]


VOLUME = "kind = 'volume'\npipeline = {size = [48, 48, 32], resize = 'crop'}\n"


def test_volumes_have_three_sides_and_one_channel_and_are_not_trained_on_yet():
    (problem,) = problems_of(parse_plan("[imaging]\n" + VOLUME))
    assert "no model of this version trains on them" in problem
    wrong = "size = [48, 48], channels = 3, crop_field = true, spacing_mm = [1, 1], resize = 'crop'"
    section = parse_plan(f"[imaging]\nkind = 'volume'\npipeline = {{{wrong}}}").imaging
    assert [text.split(":")[0].split(" = ")[0] for text in imaging_problems(section)] == [
        f"imaging.pipeline.{name}"
        for name in (
            "size",
            "spacing_mm",
            "channels",
            "crop_field is for fundus photographs, not for volumes",
        )
    ]


def test_all_problems_come_in_one_error_that_says_nothing_was_started():
    plan = parse_plan("name = '-'\nmodel.name = 'vit'\nprivacy.record_dp = 'on'")
    with pytest.raises(PlanError) as caught:
        check_plan(plan, num_sites=1)
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("plan '-': 4 problems found. Nothing was started.\n  - ")
    assert str(caught.value).endswith("then run `hospitium plan check` again.")


def test_names_of_a_plug_in_are_known_and_runs_with_one_stay_on_one_machine():
    plan = parse_plan("model = {name = 'mine', args = {any = 1}}\ntraining.loss = 'mine_too'")
    extra = Extra(models=["mine"], losses=["mine_too"])
    assert len(problems_of(plan)) == 2 and problems_of(plan, extra=extra) == []
    between = replace(parse_plan("engine.name = 'hub'"), plugin_sha256="0" * 64)
    found = problems_of(between)
    assert any("never between machines" in text for text in found)
    assert any("run start PLAN --federation NAME" in text for text in found)


def test_a_model_that_halves_too_often_for_small_images_is_refused_before_anything_starts():
    plan = replace(Plan(), model=replace(Plan().model, name="densenet121"))
    assert any("at least 32, found [28, 28]" in problem for problem in problems_of(plan))
    larger = replace(plan, imaging=ImagingSection(pipeline=PipelineSection(size=(32, 32))))
    assert problems_of(larger) == []
