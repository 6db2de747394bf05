"""The rules by which an update is odd: properties, and cases that a person would judge alike."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.evaluation.review_rules import (
    LASTING,
    LEAST_PAST,
    MEASURES,
    MILLION,
    Past,
    distance,
    judge,
    middle_of,
)

LIMITS = {"flag_at": 4.0, "hold_at": 6.0, "lasting_at": 3.2}
HONEST = {"norm": -2.0, "loss": 0.4, "auroc": 0.95, "cosine": 0.4}


def figures(**values: float) -> dict[str, int]:
    return {name: round(MILLION * value) for name, value in {**HONEST, **values}.items()}


def family(*odd: dict[str, int], num_sites: int = 5) -> dict[str, dict[str, int]]:
    """Return sites that differ a little, the first ones replaced by odd ones."""
    sites = [
        figures(
            norm=-2 + 0.2 * n, loss=0.4 + 0.02 * n, auroc=0.95 - 0.01 * n, cosine=0.4 + 0.02 * n
        )
        for n in range(num_sites)
    ]
    return {f"site-{n + 1}": each for n, each in enumerate([*odd, *sites[len(odd) :]])}


def said(sites, site_id="site-1", past=(), **limits):
    return judge(site_id, family=sites, past=past, **{**LIMITS, **limits})


values = st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=20)


@given(values, st.floats(1e-3, 10))
def test_the_distance_is_that_of_its_formula(found, floor):
    middle = sorted(found)[len(found) // 2] if len(found) % 2 else median(found)
    mad = median([abs(each - middle) for each in found])
    for each in found:
        expected = 0.6745 * (each - middle) / max(mad, floor)
        assert distance(each, found, floor=floor) == pytest.approx(expected)


@given(values, st.floats(-10, 10), st.floats(1e-3, 10))
def test_the_distance_does_not_change_when_all_move_alike(found, by, floor):
    before = [distance(each, found, floor=floor) for each in found]
    moved = [each + by for each in found]
    assert [distance(each, moved, floor=floor) for each in moved] == pytest.approx(before, abs=1e-6)


def test_nobody_is_odd_among_sites_that_differ_a_little():
    sites = family()
    assert {said(sites, name).verdict for name in sites} == {"clear"}
    assert said(sites).scores.keys() == MEASURES.keys() and not said(sites).why


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"norm": 6.0}, "norm/family"),
        ({"norm": -9.0}, "norm/family"),
        ({"loss": 30.0}, "loss/family"),
        ({"auroc": 0.1}, "auroc/family"),
        ({"cosine": -1.0}, "cosine/family"),
    ],
)
def test_an_odd_update_is_held_and_the_others_are_not(odd, why):
    sites = family(figures(**odd))
    judged = said(sites)
    assert (judged.verdict, judged.why) == ("held", (why,))
    assert {said(sites, name).verdict for name in list(sites)[1:]} == {"clear"}


@pytest.mark.parametrize("good", [{"loss": 0.001}, {"cosine": 1.0}])
def test_what_is_better_than_the_others_is_not_odd(good):
    assert said(family(figures(**good))).verdict == "clear"


def test_one_whose_model_does_well_where_the_others_do_badly_is_odd_too():
    """The largest site has turned the model around: it is the one that fits."""
    bad = [figures(auroc=0.1 + 0.01 * n) for n in range(4)]
    assert said(family(figures(auroc=0.95), *bad)).why == ("auroc/family",)


def test_between_the_limits_an_update_is_flagged_which_is_not_held():
    floor = MEASURES["auroc"].floor
    off = 5.0 * floor / 0.6745
    sites = {f"site-{n}": figures(auroc=0.9) for n in range(2, 6)}
    judged = said({"site-1": figures(auroc=0.9 - off), **sites})
    assert (judged.verdict, judged.why) == ("flagged", ("auroc/family",))
    assert judged.scores["auroc"]["family"] == 500
    assert said({"site-1": figures(auroc=0.9 - off), **sites}, hold_at=4.9).verdict == "held"


def test_an_auroc_of_few_cases_is_not_held_for_bad_luck():
    few = {**figures(auroc=0.4), "auroc_error": round(0.3 * MILLION)}
    assert said(family(few)).verdict == "clear"
    assert said(family(figures(auroc=0.4))).verdict == "held"


def test_scores_that_are_not_finite_are_held_whatever_else_there_is():
    assert said({"site-1": {"not_finite": 1}}).verdict == "held"
    assert said(family({**figures(), "not_finite": 2})).why == ("not_finite",)


def test_below_five_sites_no_site_is_compared_with_others():
    for count in (1, 2, 4):
        sites = family(figures(auroc=0.1, norm=9), num_sites=count)
        assert said(sites).scores == {} and said(sites).verdict == "clear"
    assert middle_of(family(num_sites=4)) == {}


@given(st.permutations(list(family(figures(auroc=0.2)))))
def test_the_order_of_sites_changes_nothing(order):
    sites = family(figures(auroc=0.2))
    assert said({name: sites[name] for name in order}) == said(sites)


def test_what_is_not_judged_has_no_distance():
    sites = family(figures(cosine=-1.0))
    judged = judge("site-1", family=sites, past=(), measures={"norm"}, **LIMITS)
    assert judged.verdict == "clear" and set(judged.scores) == {"norm"}


# --- over rounds -----------------------------------------------------------------------------


def rounds_of(odd, *, count, num_sites=5, **known):
    """Return what is known of a site that was a little odd for some rounds."""
    past: list[Past] = []
    for _ in range(count):
        sites = family(odd, num_sites=num_sites)
        scores = said(sites, past=past).scores
        past.append(Past(figures=odd, middle=middle_of(sites), scores=scores, **known))
    return past


def test_a_little_odd_for_long_is_held_and_once_is_not():
    odd = figures(cosine=-0.5)
    past = rounds_of(odd, count=LASTING - 1)
    assert said(family(odd)).verdict != "held"
    assert said(family(odd), past=past[1:]).verdict != "held"
    assert said(family(odd), past=past).why == ("cosine/lasting",)


def test_a_site_that_mended_what_was_wrong_is_let_in_at_once():
    past = rounds_of(figures(cosine=-0.9), count=9, is_held=True)
    assert said(family(), past=past).verdict != "held"


def test_below_five_sites_a_site_is_compared_with_its_own_past():
    past = rounds_of(figures(), count=LEAST_PAST, num_sites=3)
    odd = family(figures(auroc=0.3), num_sites=3)
    assert said(odd, past=past).why == ("auroc/own",)
    assert said(odd, past=past[1:]).verdict == "clear"
    better = family(figures(auroc=1.0, loss=0.01, norm=-30), num_sites=3)
    assert said(better, past=past).verdict == "clear"


def test_what_changed_at_all_sites_alike_is_no_fault_of_one():
    past = rounds_of(figures(), count=8)
    worse = {
        name: {**each, "auroc": each["auroc"] - 600_000, "norm": each["norm"] + 9 * MILLION}
        for name, each in family().items()
    }
    assert said(worse, past=past).verdict == "clear"


def test_rounds_that_were_held_are_no_past_of_a_site_unless_they_were_released():
    odd = figures(auroc=0.3)
    good = rounds_of(figures(), count=LEAST_PAST, num_sites=3)
    held = [Past(figures=odd, is_held=True)] * 5
    now = family(odd, num_sites=3)
    assert said(now, past=[*good, *held]).verdict == "held"
    released = [replace(each, is_released=True) for each in held]
    assert said(now, past=[*good, *released]).verdict == "clear"


def test_a_release_widens_the_limit_of_that_measure_for_ten_rounds():
    odd = figures(auroc=0.1)
    scores = said(family(odd)).scores
    past = [Past(figures=odd, scores=scores, is_held=True, is_released=True)]
    assert said(family(odd)).verdict == "held"
    assert said(family(odd), past=past).verdict == "flagged"
    assert said(family(figures(norm=9.0)), past=past).verdict == "held"
    since = rounds_of(figures(), count=10)
    assert said(family(odd), past=[*past, *since]).verdict == "held"


def test_doublings_are_compared_not_differences():
    near, far = (distance(math.log2(x), [-1.0] * 5, floor=0.35) for x in (1.0, 8.0))
    sites = {f"site-{n}": figures(loss=0.5) for n in range(2, 7)}
    for loss, expected in ((1.0, near), (8.0, far)):
        found = said({"site-1": figures(loss=loss), **sites}).scores["loss"]["family"]
        assert found == pytest.approx(100 * expected, abs=1)


def test_a_model_that_is_nearly_always_right_is_not_held_for_a_loss_that_is_still_small():
    past = rounds_of(figures(loss=0.0004), count=10, num_sites=2)
    assert said(family(figures(loss=0.04), num_sites=2), past=past).verdict == "clear"
    assert said(family(figures(loss=4.0), num_sites=2), past=past).why == ("loss/own",)
