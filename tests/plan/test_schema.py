import hashlib
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import UsageError
from hospitium.plan import Plan, load_plan, parse_plan
from hospitium.plan.checking import problems_of
from hospitium.plan.schema import RoundsSection, TrainingSection
from hospitium.plan.writing import TEMPLATES, template, to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ARGS = st.dictionaries(
    TEXT,
    st.recursive(
        st.booleans() | st.integers(-(1 << 60), 1 << 60) | TEXT | st.floats(-1e9, 1e9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
        max_leaves=5,
    ),
    max_size=3,
)


def values_of(field, kind):
    """Return a strategy for what one key of a plan may hold."""
    bounds = field.metadata
    if allowed := (*bounds.get("choices", ()), *bounds.get("reserved", ())):
        one = st.sampled_from(allowed)
        return st.lists(one, max_size=3).map(tuple) if kind.startswith("tuple") else one
    if kind.startswith("tuple"):
        inner = values_of(field, kind.removeprefix("tuple[").removesuffix(", ...]"))
        return st.lists(inner, max_size=3).map(tuple)
    if kind == "float":
        low = bounds.get("low", bounds.get("above", -1e12))
        return st.floats(
            low, bounds.get("high", 1e12), exclude_min="above" in bounds and low == bounds["above"]
        )
    if kind == "int":
        return st.integers(bounds.get("low", -(1 << 60)), bounds.get("high", 1 << 60))
    return {
        "bool": st.booleans(),
        "str": TEXT,
        "Mapping[str, Json]": ARGS,
    }[kind]


def plans():
    """Any plan that the schema can hold, sensible or not."""

    def section(default):
        return st.builds(
            type(default),
            **{
                item.name: section(getattr(default, item.name))
                if is_dataclass(getattr(default, item.name))
                else values_of(item, item.type)
                for item in fields(default)
            },
        )

    return section(Plan())


@settings(max_examples=80, deadline=None)
@given(plans(), st.booleans())
def test_any_plan_written_as_toml_reads_back_to_the_same_plan(plan, comments):
    again = parse_plan(to_toml(plan, comments=comments))
    assert again == plan
    assert again.digest == plan.digest


def test_the_digest_of_a_plan_with_every_value_written_out_is_pinned():
    """If this changes, plans that hospitals have approved lose their name: raise the version."""
    plan = load_plan(Path(__file__).with_name("pinned.toml"))
    assert plan.digest == "f3bc28070a888833b8949e4a6fde179b0b07942a434ae0edc5ca7459be63e027"
    assert plan.digest == hashlib.sha256(plan.canonical).hexdigest()
    assert plan.canonical.startswith(b'{"agreement":{"licence":"",')


def test_the_digest_does_not_depend_on_the_order_of_keys_spaces_or_comments():
    one = parse_plan("seed = 3\nname = 'a'\n[model]\nargs = {dropout = 0.1, widths = [8]}")
    other = parse_plan("name='a' # agreed\nseed=0x3\n[model.args]\nwidths=[8]\ndropout=1e-1")
    assert one.digest == other.digest


def test_a_whole_number_where_a_number_is_due_has_one_digest():
    assert parse_plan("training.lr = 1").digest == parse_plan("training.lr = 1.0").digest


def test_every_single_value_is_part_of_the_digest():
    changed = list(each_changed(Plan()))
    assert len(changed) > 70
    assert len({Plan().digest, *(plan.digest for plan in changed)}) == 1 + len(changed)


def each_changed(section):
    """Yield a section once for each value in it and in the sections within, with that changed."""
    for item in fields(section):
        value = getattr(section, item.name)
        others = each_changed(value) if is_dataclass(value) else [other_than(value)]
        for other in others:
            yield replace(section, **{item.name: other})


def other_than(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {"x": 1}
    return (
        (*value, type(value[0])(9))
        if value and isinstance(value, tuple)
        else (value + "x" if isinstance(value, str) else (1.0,))
    )


def test_a_plan_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Plan().seed = 8


def test_the_length_of_the_schedule_is_rounds_times_steps():
    plan = Plan(rounds=RoundsSection(count=6), training=TrainingSection(steps=7))
    assert plan.total_steps == 42


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_usable_and_its_comments_explain_each_key(name):
    plan = template(name)
    text = to_toml(plan, comments=True)
    assert problems_of(plan) == [] and parse_plan(text) == plan
    for note in notes_of(plan):
        assert note in text


def notes_of(section):
    for item in fields(section):
        inner = getattr(section, item.name)
        yield from notes_of(inner) if is_dataclass(inner) else [item.metadata["note"]]


def test_a_template_that_does_not_exist_is_told_which_do():
    with pytest.raises(UsageError, match="Choose one of: xray-classification, xray-fedprox"):
        template("xray")
