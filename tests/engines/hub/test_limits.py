"""One caller's hunger is its own."""

import pytest

from hospitium.engines.hub.limits import MAX_CALLERS, Crowd, Meter
from hospitium.errors import HubError


def test_an_allowance_is_used_up_and_grows_back_and_is_each_callers_own():
    now = [0.0]
    meter = Meter(per_s=2.0, burst=3.0, clock=lambda: now[0])
    for _ in range(3):
        meter.take("oslo")
    with pytest.raises(HubError) as caught:
        meter.take("oslo")
    assert caught.value.status == 429 and caught.value.retry_after_s >= 1
    meter.take("turin")
    now[0] += 0.5
    meter.take("oslo")
    with pytest.raises(HubError):
        meter.take("oslo")


def test_memory_does_not_grow_with_the_number_of_callers():
    meter = Meter(per_s=1.0, burst=1.0)
    for index in range(MAX_CALLERS + 100):
        meter.take(str(index))
    assert len(meter._buckets) == MAX_CALLERS


def test_only_so_many_of_one_caller_are_under_way():
    crowd = Crowd(at_once=2)
    with (
        crowd.inside("oslo"),
        crowd.inside("oslo"),
        crowd.inside("turin"),
        pytest.raises(HubError),
        crowd.inside("oslo"),
    ):
        pass
    with crowd.inside("oslo"):
        pass
