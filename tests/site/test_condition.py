from datetime import UTC, datetime, timedelta

from hospitium.errors import HubError
from hospitium.site.condition import ENDED, FILE, FRESH_S, Condition, Found, read_condition

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_what_an_agent_wrote_is_read_while_it_is_fresh(tmp_path):
    condition = Condition(tmp_path)
    condition.note(reachable=True, decoding=True, round_number=3, standing={"members_epoch": 2})
    condition.write(now=NOON)
    found, agent = read_condition(tmp_path, now=NOON + timedelta(seconds=FRESH_S))
    assert agent == "running" and found == condition.found and found.round_number == 3
    found, agent = read_condition(tmp_path, now=NOON + timedelta(seconds=FRESH_S + 1))
    assert agent == "silent" and found == Found()


def test_an_agent_that_ended_or_a_file_that_was_damaged_says_nothing(tmp_path):
    assert read_condition(tmp_path, now=NOON) == (Found(), "stopped")
    for damaged in (b"{", b"{}", b'{"time":"2026-11-21T12:00:00Z","colour":1}', b"[]"):
        (tmp_path / FILE).write_bytes(damaged)
        assert read_condition(tmp_path, now=NOON) == (Found(), "silent")
    Condition(tmp_path).clear()
    assert read_condition(tmp_path, now=NOON) == (Found(), "stopped")


def test_an_agent_that_looked_once_is_not_running_and_what_it_found_is_read_while_fresh(tmp_path):
    condition = Condition(tmp_path)
    condition.note(reachable=True, state=ENDED)
    condition.write(now=NOON)
    found, agent = read_condition(tmp_path, now=NOON + timedelta(seconds=FRESH_S))
    assert agent == "stopped" and found.reachable
    late = NOON + timedelta(seconds=FRESH_S + 1)
    assert read_condition(tmp_path, now=late) == (Found(), "stopped")


def test_an_error_stays_until_it_has_passed(tmp_path):
    condition = Condition(tmp_path)
    condition.failed(HubError("busy", "Too many."), reachable=False)
    condition.note(state="training")
    assert condition.found.last_error == "E205: Too many." and condition.found.last_code == "E205"
    condition.failed(OSError("no space"))
    assert condition.found.last_code == "E001"
    condition.passed(reachable=True)
    assert (condition.found.last_error, condition.found.last_code) == ("", "")


def test_the_file_is_written_when_something_changed_or_time_has_passed(tmp_path):
    condition = Condition(tmp_path)
    condition.write(now=NOON)
    (tmp_path / FILE).unlink()
    condition.write(now=NOON + timedelta(seconds=5))
    assert not (tmp_path / FILE).exists()
    condition.write(now=NOON + timedelta(seconds=15))
    assert (tmp_path / FILE).exists()
    (tmp_path / FILE).unlink()
    condition.note(round_number=1)
    condition.write(now=NOON + timedelta(seconds=16))
    assert (tmp_path / FILE).exists()
