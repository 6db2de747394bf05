"""Sites that come late: one whose agent starts after round 3, one that approves only then."""

import pytest
from figures import figure
from machines import Machines, answered, closed, plan_of, rows_of, wait_for
from undisturbed import require_same_bits

pytestmark = pytest.mark.ci

ROUNDS = 60


def first_of(run, site_id):
    """Return the first closed round with an update of this site; None before there is one."""
    return next((n for n, present in sorted(answered(run).items()) if site_id in present), None)


def test_a_late_agent_and_a_late_approval_take_part_from_the_next_round_on(tmp_path):
    with Machines(tmp_path / "net", ["bergen", "kiel", "oslo", "turku"]) as field:
        plan = field.offer(
            plan_of(rounds=ROUNDS, deadline_s=3, name="late"), "bergen", "kiel", "oslo"
        )
        run = field.start(plan, "late")
        field.up()
        field.attend("bergen", "kiel", "turku")  # oslo has a seat and is away; turku has none
        wait_for(lambda: closed(run) >= 3)
        field.attend("oslo")
        field.healthy("oslo", "turku")
        attended = closed(run)
        field.approve(plan, "turku", is_carried=False)  # its own agent brings it
        wait_for(lambda: first_of(run, "oslo") and first_of(run, "turku"))
        seated = [row for row in late_seats(run) if row["site_id"] == "turku"]
        wait_for(lambda: closed(run) == ROUNDS)
        assert first_of(run, "oslo") <= attended + 2
        assert 3 < seated[0]["from_round"] <= first_of(run, "turku") <= seated[0]["from_round"] + 2
        field.finished(run)
        require_same_bits(field, run, tmp_path / "again")
        figure(
            "late_site",
            f"agent heard of in round {attended + 1}: in from round {first_of(run, 'oslo')}; "
            f"approval: a seat from round {seated[0]['from_round']}, in from round "
            f"{first_of(run, 'turku')}",
        )


def late_seats(run):
    return rows_of(run, "SELECT * FROM late_seats ORDER BY from_round")
