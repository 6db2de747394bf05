import tomllib
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import HospitiumError, PlanError, VersionError
from hospitium.plan import Plan, load_plan, parse_plan
from hospitium.plan.reading import plan_from_dict
from hospitium.plan.writing import to_toml


def problems_of(text):
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    return caught.value.problems


def test_an_empty_file_is_the_default_plan():
    assert parse_plan("") == Plan()


SECTIONS = [name for name, value in vars(Plan()).items() if is_dataclass(value)]


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_of_any_section_names_its_nearest_key_and_its_line(section):
    known = fields(getattr(Plan(), section))[0].name
    (problem,) = problems_of(f"# a comment\n\n[{section}]\n{known}x = 1\n")
    assert problem == f"line 4: unknown key {section}.{known}x; did you mean `{known}`?"


def test_an_unknown_section_names_its_nearest_section_and_its_line():
    assert problems_of("seed = 1\n[trainin]\nsteps = 3") == (
        "line 2: unknown key trainin; did you mean `training`?",
    )


def test_an_unknown_key_like_no_other_has_no_hint():
    assert problems_of("zzzzzz = 1") == ("line 1: unknown key zzzzzz",)


def test_everything_that_is_wrong_is_reported_at_once():
    text = """
sead = 7
seed = -1
rounds = 5
[training]
lr = "fast"
steps = 0
batch_size = true
optimizer = "adam"
class_weights = [1, "two"]
"""
    assert problems_of(text) == (
        "line 2: unknown key sead; did you mean `seed`?",
        "line 3: seed = -1: expected at least 0",
        "line 4: rounds is a section: write [rounds]",
        "line 6: training.lr = 'fast': expected a number",
        "line 7: training.steps = 0: expected at least 1",
        "line 8: training.batch_size = True: expected a whole number",
        "line 9: training.optimizer = 'adam': expected 'adamw' or 'sgd'; did you mean `adamw`?",
        "line 10: training.class_weights = [1, 'two']: expected a list of numbers",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.lr = 0", "expected more than 0.0"),
        ("training.lr = nan", "expected a finite number"),
        ("training.lr = inf", "expected a finite number"),
        ("training.lr = 1" + "0" * 400, "expected a finite number"),
        ("training.class_weights = [nan, 1]", "expected a finite number"),
        ("training.class_weights = [1e999]", "expected a finite number"),
        ("training.mixed_precision = 1", "expected true or false"),
        ("training.label_smoothing = 0.6", "expected at most 0.5"),
        ("training.steps = 1.0", "expected a whole number"),
        ("name = 3", "expected a text"),
        ("imaging.pipeline.channels = 2", "expected 1 or 3"),
        ("imaging.pipeline.size = [28.0, 28]", "expected a list of whole numbers"),
        ("imaging.pipeline.size = [28, 4]", "expected at least 8"),
        ("imaging.pipeline.spacing_mm = [0]", "expected more than 0"),
        ("imaging.spacing_kinds = ['detektor']", "did you mean `detector`?"),
        ("task.classes = 'a'", "expected a list of texts"),
        ("model.args = 3", "expected a table"),
        ("model.args = { a = 1979-05-27 }", "expected numbers, texts, true or false"),
        ("model.args = { a = [nan] }", "expected a finite number"),
        ("model.args = { a = { b = inf } }", "expected a finite number"),
    ],
)
def test_a_value_out_of_bounds_is_told_what_was_expected(text, expected):
    (problem,) = problems_of(text)
    assert expected in problem


@pytest.mark.parametrize(
    "text", ["=", "a = 1\na = 2", "x = " + "9" * 5000, "x = " + "[" * 5000, "[[rounds]]"]
)
def test_what_is_not_a_plan_at_all_is_a_plan_error(text):
    assert len(problems_of(text)) == 1


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('[]{}=."\n#,aseed1-_ \x85'), max_size=30))
def test_whatever_the_text_holds_only_our_errors_come_out(text):
    try:
        plan = parse_plan(text)
    except HospitiumError:
        return
    assert parse_plan(to_toml(plan)) == plan


@pytest.mark.parametrize("version", ["0", "1", "3", "'2'", "2.0", "true", "[2]"])
def test_a_plan_of_another_version_is_a_version_error(version):
    with pytest.raises(VersionError, match=r"this Hospitium reads 2.*Nothing was started"):
        parse_plan(f"schema_version = {version}\nwhatever = 3")


MOVED = ["image_size", "channels", "intensity", "normalise"]


def test_a_plan_of_version_1_is_told_where_each_key_of_its_data_section_went():
    with pytest.raises(VersionError) as caught:
        plan_from_dict({"schema_version": 1, "data": {"image_size": 28}}, where="ledger of a")
    told = str(caught.value)
    assert all(f"data.{name}" in told for name in MOVED) and "write schema_version = 2" in told
    assert "can only be finished with it" in told


def test_a_data_section_is_told_where_each_of_its_keys_went_beside_all_else_that_is_wrong():
    data, sead = problems_of("sead = 3\n[data]\nimage_size = 28\nintensity = 'range'")
    assert data.startswith("line 2: there is no section [data].") and "sead" in sead
    assert all(f"data.{name}" in data for name in MOVED)


def test_a_file_is_read_as_utf_8_with_or_without_a_mark_and_named_in_errors(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("seed = 9", encoding="utf-8-sig")
    assert load_plan(path).seed == 9
    path.write_text("sead = 9", encoding="utf-8")
    with pytest.raises(PlanError, match=r"plan\.toml: 1 problem found"):
        load_plan(path)


def test_a_file_that_cannot_be_read_is_a_plan_error_that_says_why(tmp_path):
    with pytest.raises(PlanError, match="No such file"):
        load_plan(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(PlanError, match="not UTF-8"):
        load_plan(tmp_path / "latin.toml")


def test_the_stored_form_of_a_plan_reads_back_to_it():
    plan = parse_plan("[model]\nargs = { widths = [8, 16], dropout = 0.1 }")
    assert plan_from_dict(plan.as_dict()) == plan
    assert tomllib.loads(to_toml(plan))["schema_version"] == 2
