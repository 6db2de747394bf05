from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.engines.hub.pace import BURST_S, Pace


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30), st.floats(1e3, 1e6))
def test_whoever_waits_as_told_stays_below_the_rate(sizes, bytes_per_s):
    now = [100.0]
    pace = Pace(bytes_per_s, clock=lambda: now[0])
    for size in sizes:
        now[0] += pace.up(size)
    took_s = now[0] - 100.0
    assert took_s * bytes_per_s >= sum(sizes) - BURST_S * bytes_per_s - 1
    assert took_s * bytes_per_s <= sum(sizes) + 1


def test_each_way_has_its_own_allowance_and_no_limit_never_waits():
    pace = Pace(1000.0, clock=lambda: 100.0)
    assert pace.up(1000) == 1.0 - BURST_S and pace.down(100) == 0.0
    assert pace.up(1000) == 2.0 - BURST_S
    pace.bytes_per_s = 0.0
    assert pace.up(10**9) == 0.0


def test_what_went_over_the_line_is_counted_once():
    pace = Pace()
    pace.up(5)
    pace.up(6)
    pace.down(7)
    assert pace.counted() == (11, 7) and pace.counted() == (0, 0)
