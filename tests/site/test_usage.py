from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.site.policy import LimitsSection
from hospitium.site.usage import Day, Usage, is_used_up, seconds_left

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_what_is_used_adds_up_over_restarts_until_the_next_day(tmp_path):
    for _ in range(3):
        Usage(tmp_path).add(NOON, sent_bytes=5, received_bytes=7, compute_s=60.2)
    day = Usage(tmp_path).today(NOON)
    assert (day.sent_bytes, day.received_bytes, day.compute_s) == (15, 21, 180)
    assert Usage(tmp_path).today(NOON + timedelta(days=1)).sent_bytes == 0


def test_nothing_used_writes_nothing_and_a_damaged_file_begins_anew(tmp_path):
    usage = Usage(tmp_path)
    usage.add(NOON)
    assert not list(tmp_path.iterdir())
    (tmp_path / "usage.json").write_text("{")
    assert usage.today(NOON).sent_bytes == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200_000), st.floats(0, 24), st.floats(0, 30))
def test_a_task_may_take_what_the_day_and_the_task_allow(used_s, day_hours, task_hours):
    limits = LimitsSection(compute_hours_per_day=day_hours, task_hours=task_hours)
    day = Day(day="2026-11-21", compute_s=used_s)
    left = seconds_left(limits, day)
    assert not task_hours or left <= 3600 * task_hours
    assert not day_hours or left <= 3600 * day_hours - used_s
    assert is_used_up(limits, day) == bool(day_hours and used_s >= 3600 * day_hours) or (
        left <= 0 and bool(day_hours)
    )


def test_the_bytes_of_a_day_are_used_up_when_they_were_sent():
    day = Day(day="2026-11-21", sent_bytes=1000)
    assert is_used_up(LimitsSection(bytes_per_day=1000), day)
    assert not is_used_up(LimitsSection(bytes_per_day=1001), day)
    assert not is_used_up(LimitsSection(), day)
