"""Who was waited for, and for how long: a closed form on rounds made by hand."""

from hospitium.operations.costs import waits


def seat(number, site_id, second, *, status="accepted", reason=None, closed=30):
    return {
        "round": number,
        "site_id": site_id,
        "status": status,
        "reason": reason,
        "answered_utc": None if second is None else f"2026-11-21T06:00:{second:02d}.000+00:00",
        "closed_utc": None if closed is None else f"2026-11-21T06:00:{closed:02d}.000+00:00",
    }


def test_the_last_answer_is_waited_for_from_the_one_before_it():
    rows = [seat(1, "bergen", 3), seat(1, "oslo", 11), seat(1, "turku", 4)]
    assert waits(rows) == [{"round": 1, "for": ["oslo"], "seconds": 7.0}]


def test_those_who_did_not_come_are_waited_for_until_the_end_of_the_round():
    late = {"status": "left_out", "reason": "deadline"}
    rows = [seat(1, "bergen", 3), seat(1, "oslo", 30, **late), seat(1, "turku", 30, **late)]
    assert waits(rows) == [{"round": 1, "for": ["oslo", "turku"], "seconds": 27.0}]


def test_nobody_waits_for_one_that_was_never_asked_or_in_a_round_that_is_open():
    gone = seat(1, "oslo", 1, status="left_out", reason="withdrew from the plan")
    assert waits([seat(1, "bergen", 3), gone]) == []
    assert waits([seat(1, "bergen", 3, closed=None), seat(1, "oslo", 9, closed=None)]) == []
