"""A coordinator that splits its sites and hides it better: asks twice, skips, counts one twice.

The plain lies are in ``tests/engines/hub/test_cosigning.py``.
"""

from dataclasses import replace

import numpy as np
import pytest
from witnesses import MEMBERS, PLAN, SITES, Centre, Site, task_of

from hospitium.errors import TrustError
from hospitium.state.run_log import log_append

OTHER = {"w": np.full(3, 77, np.float32)}
HONEST = ("bergen", "turin")


@pytest.fixture
def centre(tmp_path):
    centre = Centre(tmp_path / "centre")
    yield centre
    centre.close()


@pytest.fixture
def sites(tmp_path):
    return {site_id: Site(tmp_path / "sites", site_id) for site_id in SITES}


def found(site, ask, number):
    """Return the reason for which a site does not answer; None where it does."""
    try:
        site.watch.look(ask, replace(task_of(number), params={}), PLAN)
    except TrustError as error:
        return error.reason
    return None


def ask_one_with_another_model(centre, sites, victim, number):
    """Ask all alike, and one also with a crafted model; use its answer, and log that it was late.

    Both askings are in the one log: every site sees a log that only grows.
    """
    asks = centre.ask(task_of(number))
    for site_id in HONEST:
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(number)))
    crafted = task_of(number, params=OTHER)
    opening = centre.cosigning.begin(
        crafted, sites=SITES, members_digest=MEMBERS, site_ids=[victim]
    )[victim]
    ask = replace(asks[victim], opening=opening)
    sites[victim].answer(ask, crafted)
    centre.task = task_of(number)
    centre.leave_out(victim)
    centre.close_round()


def test_a_crafted_model_for_one_site_is_found_at_its_next_task(centre, sites):
    centre.round(1, sites)
    ask_one_with_another_model(centre, sites, "oslo", 2)
    assert found(sites["oslo"], centre.ask(task_of(3))["oslo"], 3) == "split"


@pytest.mark.parametrize("num_skipped", [1, 3])
def test_it_is_found_also_if_the_site_is_not_asked_for_a_while(centre, sites, num_skipped):
    """The round in which it was split is shown to it whenever it comes back."""
    centre.round(1, sites)
    ask_one_with_another_model(centre, sites, "oslo", 2)
    for number in range(3, 3 + num_skipped):
        asks = centre.ask(task_of(number), of=HONEST)
        for site_id in HONEST:
            centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(number)))
        centre.leave_out("oslo")
        centre.close_round()
    number = 3 + num_skipped
    assert found(sites["oslo"], centre.ask(task_of(number))["oslo"], number) == "split"


@pytest.mark.parametrize("num_away", [1, 4])
def test_a_site_that_was_late_and_then_away_goes_on(centre, sites, num_away):
    """It cosigned a round in which it did not count: nobody lied, and nobody is accused."""
    centre.round(1, sites)
    asks = centre.ask(task_of(2))
    for site_id in HONEST:
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(2)))
    sites["oslo"].answer(asks["oslo"], task_of(2))
    centre.leave_out("oslo")
    centre.close_round()
    for number in range(3, 3 + num_away):
        centre.round(number, sites, of=HONEST)
    number = 3 + num_away
    assert found(sites["oslo"], centre.ask(task_of(number))["oslo"], number) is None


@pytest.mark.parametrize("answered", [["oslo", "oslo"], ["oslo", 7], [None, None]])
def test_a_site_that_is_counted_twice_makes_no_quorum(centre, sites, answered):
    """One site alone, twice on the list of those who answered, is still one site alone."""
    asks = centre.ask(task_of(1))
    centre.take("oslo", sites["oslo"].answer(asks["oslo"], task_of(1)))
    base = centre.task.base_digest
    with centre.ledger._database.transaction("forged") as change:
        log_append(change, "round_closed", round_number=1, answered=answered, base_digest=base)
    openings = centre.cosigning.begin(
        task_of(2), sites=SITES, members_digest=MEMBERS, site_ids=["oslo"]
    )
    ask = replace(asks["oslo"], opening=openings["oslo"])
    assert found(sites["oslo"], ask, 2) == "fork"
