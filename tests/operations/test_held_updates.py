"""A run with real workers on this machine, in which the labels of one hospital are flipped."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import folder_in_memory, prepare, tiny_plan

from hospitium.imaging.cache import read_cases, write_cases
from hospitium.operations.baselines import baseline_plan
from hospitium.operations.held_updates import decide, review_of, review_part
from hospitium.operations.progress import silent
from hospitium.operations.running import OnThisMachine, open_ledger, run_to_end
from hospitium.operations.runs import show_run
from hospitium.state.home import Home


@pytest.fixture(scope="module")
def home(tmp_path_factory, pool):
    for folder in folder_in_memory(tmp_path_factory):
        home = Home(folder / "home")
        plan = tiny_plan(rounds=6, steps=10, quorum=3, lr=0.05)
        run = prepare(home.new_run("odd"), plan, num_sites=5, scale=4, run_id="odd")
        cases = read_cases(run / "data" / "site-4")
        write_cases(run / "data" / "site-4", replace(cases, labels=1 - np.asarray(cases.labels)))
        run_to_end(run, engines=OnThisMachine(pool), say=silent, label="odd")
        yield home


@pytest.mark.ci
def test_the_site_is_held_and_the_report_has_its_figures_and_that_nobody_decided(home):
    ledger = open_ledger(home.run("odd"))
    part = review_part(ledger)
    ledger.close()
    assert {row["site_id"] for row in part["updates"]} == {"site-4"}
    assert part["num_updates"] == 30 and part["updates"][-1]["decision"] is None
    auroc = part["updates"][-1]["figures"]["auroc"]
    assert auroc["value"] < 0.5 < auroc["median"]


@pytest.mark.ci
def test_each_round_in_which_it_was_held_was_closed_without_it(home):
    found = show_run(home, "odd")
    out = {row["round"]: row["left_out"] for row in found["participation"] if row["left_out"]}
    assert set(out) == {row["round"] for row in found["review"]} and 1 not in out
    assert all(left == [{"site_id": "site-4", "reason": "held"}] for left in out.values())


@pytest.mark.ci
def test_a_decision_after_the_end_changes_nothing_but_what_is_said(home):
    number = show_run(home, "odd")["review"][0]["round"]
    chosen = show_run(home, "odd")["chosen"]
    done = decide(
        home,
        "odd",
        site_id="site-4",
        round_number=number,
        decision="excluded",
        by="Ada Berg",
        reason="labels were flipped",
    )
    assert not done["counts"] and show_run(home, "odd")["chosen"] == chosen
    (update, *_) = [row for row in review_of(home, "odd")["updates"] if row["verdict"] == "held"]
    assert (update["decision"], update["by"], update["waits"]) == ("excluded", "Ada Berg", False)


def test_nobody_reviews_a_baseline():
    assert baseline_plan(tiny_plan(), num_sites=3).review.mode == "off"
