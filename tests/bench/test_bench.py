"""The benches run and say what they promise; what they find is for `make bench` to show."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from bench.__main__ import GROUPS
from bench.model import draw, manifest
from bench.rows import Row, union_s

FIELDS = ["name", "value", "unit", "floor", "ratio", "target", "better"]


def test_a_row_is_one_json_line_with_the_fixed_fields_in_order():
    line = Row(name="a", value=3.0, unit="s", floor=2.0, target=2.0).as_json()
    assert "\n" not in line
    assert list(json.loads(line)) == FIELDS
    assert json.loads(line)["ratio"] == 1.5


@pytest.mark.parametrize(
    ("better", "value", "is_met"),
    [("lower", 3.9, True), ("lower", 4.1, False), ("higher", 3.9, False), ("higher", 4.1, True)],
)
def test_a_target_is_a_bar_for_the_ratio_from_the_better_side(better, value, is_met):
    assert (
        Row(name="a", value=value, unit="s", floor=2.0, target=2.0, better=better).is_met is is_met
    )


def test_time_that_two_processes_serialise_at_once_counts_once_and_only_within_the_round():
    intervals = [(0.0, 2.0), (1.0, 3.0), (1.5, 1.7), (5.0, 9.0), (-4.0, -3.0)]
    assert union_s(intervals, begin=0.5, end=6.0) == pytest.approx(2.5 + 1.0)


def test_the_model_that_is_measured_with_is_a_resnet_50_without_its_head():
    shapes = manifest()
    assert len(shapes) == 159
    assert sum(array.size for array in draw(shapes, seed=1).values()) == 23_508_032


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_of_the_registry_has_rows(group):
    assert callable(import_module(GROUPS[group]).rows)


def test_the_gate_is_measured_beside_a_plain_pass_and_beside_the_stock_library():
    found = {row.name: row for row in import_module(GROUPS["gate"]).rows(small=True)}
    assert set(found) == {
        "safetensors_gate_gbps",
        "safetensors_gate_vs_stock_load",
        "header_gate_us",
    }
    assert all(row.value > 0 and row.floor > 0 for row in found.values())


@pytest.mark.ci
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_prints_rows_only_to_standard_output_and_no_name_twice(group):
    command = [sys.executable, "-m", "bench", "--only", group, "--small"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines and all(list(line) == FIELDS for line in lines)
    assert len({line["name"] for line in lines}) == len(lines)
    assert "took" in done.stderr
