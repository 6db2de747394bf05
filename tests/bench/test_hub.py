"""The rows of the hub have their fixed names, and their floor is a real copy over TLS."""

import pytest
from bench.hub_coordinator import measure, write_certificates
from bench.tls_floor import TlsFloor

from bench import hub

ROUNDS = [
    {"round_s": 9.0, "floor_s": 0.1},
    {"round_s": 2.0, "floor_s": 0.6},
    {"round_s": 3.0, "floor_s": 0.5},
]


def _found(*, num_sites, num_values, num_rounds, with_floor=False):
    return {"peak_mb": 100.0 + 10 * num_sites * bool(num_rounds), "rounds": ROUNDS}


def test_the_rows_have_the_fixed_names_in_order(monkeypatch):
    monkeypatch.setattr(hub, "measure", _found)
    assert [row.name for row in hub.rows(small=True)] == [
        "hub_round_23m_n2",
        "hub_round_23m_n8",
        "hub_round_1m_n2",
        "hub_rss_n2",
        "hub_rss_n16",
    ]


def test_a_round_is_the_best_after_the_first_beside_the_best_floor(monkeypatch):
    monkeypatch.setattr(hub, "measure", _found)
    row = hub.round_row("23m_n2", 1000, 2)
    assert (row.value, row.floor, row.target) == (2.0, 0.5, 6.0)


def test_the_bars_of_the_small_model_and_of_memory_are_absolute(monkeypatch):
    monkeypatch.setattr(hub, "measure", _found)
    rows = {row.name: row for row in hub.rows(small=True)}
    assert rows["hub_round_1m_n2"].target * rows["hub_round_1m_n2"].floor == pytest.approx(0.2)
    assert rows["hub_rss_n2"].target * rows["hub_rss_n2"].floor == pytest.approx(600)
    assert rows["hub_rss_n16"].target == 1.15


@pytest.mark.ci
def test_the_floor_copies_over_tls_as_often_as_it_is_asked(tmp_path):
    floor = TlsFloor(num_sites=2, size_bytes=1 << 20, certificates=write_certificates(tmp_path))
    try:
        assert floor.once_s() > 0 and floor.once_s() > 0
    finally:
        floor.close()


@pytest.mark.ci
def test_every_round_of_a_measured_federation_has_its_time_and_its_floor():
    found = measure(num_sites=2, num_values=10_000, num_rounds=3, with_floor=True)
    assert len(found["rounds"]) == 3 and found["peak_mb"] > 10
    assert all(row["round_s"] > 0 and row["floor_s"] > 0 for row in found["rounds"])
