"""What is said at a site of a task."""

from types import SimpleNamespace

import pytest

from hospitium.engines.hub.telling import Telling
from hospitium.plan import Plan
from hospitium.plan.schema import RoundsSection


@pytest.mark.parametrize(("past", "expected"), [(0, "round 200"), (1, "after the last round")])
def test_a_task_after_the_last_round_is_not_said_to_be_of_one(past, expected):
    plan = Plan(rounds=RoundsSection(count=200))
    task = SimpleNamespace(run_id="study", round_number=200 + past, purpose="score")
    lines = []
    Telling(lines.append).begun(task, SimpleNamespace(plan=plan, num_cases=7), None)
    words = "a task came; scoring the model on this site's validation cases"
    assert lines == [f"study, {expected}: {words}"]
