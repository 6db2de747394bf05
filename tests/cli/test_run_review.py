"""``hospitium run review``: what it lists, and how a person decides."""

import pytest
from reviewed import FAULTY, RUN, begin, go_on, plan_with

from hospitium.errors import HeldError
from hospitium.state.home import Home

LONG = "length stated x255"


@pytest.fixture
def held(tmp_path):
    folder = begin(Home(tmp_path / "home"), plan_with(rounds=2, on_held="wait"), fault=LONG)
    with pytest.raises(HeldError):
        go_on(folder, fault=LONG)
    return folder


def test_what_is_held_is_listed_with_its_figures_and_what_to_do(call, held):
    said = call("run", "review", RUN)
    assert said.status == 0
    assert "round 1, site-2: held; the round waits for a decision" in said.out
    assert "odd: length of the change, against the other sites of the round" in said.out
    assert "--release SITE | --exclude SITE --round N --as NAME --reason TEXT" in said.out
    (row,) = call("run", "review", RUN, "--json").json["updates"]
    assert row["figures"]["norm"]["distances"]["family"] > 6 and row["history"] == []
    assert "site-2 held, a person must decide" in call("run", "show", RUN).out


def test_a_decision_is_kept_with_its_name_and_shown_from_then_on(call, held):
    words = ("--release", FAULTY, "--round", 1, "--as", "Ada Berg", "--reason", "new scanner")
    said = call("run", "review", RUN, *words)
    assert "is released. It counts in this round. Next: `hospitium run resume held`" in said.out
    assert "released by Ada Berg: new scanner" in call("run", "review", RUN).out
    again = call("run", "review", RUN, *words, "--json")
    assert (again.status, again.json["code"]) == (1, "E301")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--release", "site-2"), 2),
        (("--release", "site-2", "--round", 1, "--as", "Ada"), 2),
        (("--release", "site-2", "--exclude", "site-3"), 2),
        (("--exclude", "site-1", "--round", 1, "--as", "Ada", "--reason", "odd"), 2),
    ],
)
def test_a_decision_without_all_it_needs_changes_nothing(call, held, words, status):
    before = call("run", "review", RUN, "--json").json
    assert call("run", "review", RUN, *words).status == status
    assert call("run", "review", RUN, "--json").json == before


def test_where_nothing_is_looked_at_it_says_so(call, tmp_path):
    begin(Home(tmp_path / "home"), plan_with(mode="off"))
    assert "review.mode = off" in call("run", "review", RUN).out


def test_where_nothing_was_odd_it_says_so_and_what_few_sites_mean(call, tmp_path):
    begin(Home(tmp_path / "home"), plan_with(), num_sites=3)
    said = call("run", "review", RUN).out
    assert "No update was flagged or held." in said and "no statistical rule means much" in said
