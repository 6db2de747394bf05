"""The keys of ``report.json`` that others rely on, as a check that lists what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FIGURES = ("auroc", "accuracy", "sensitivity", "specificity")
MODELS = ("federated", "pooled", "ensemble", "local_only")


def problems_of(report: Mapping[str, Any]) -> list[str]:
    """Return what is not as agreed in a report; empty is what one wants."""
    found = _Problems()
    for key, kind in {
        "schema_version": int,
        "run_id": str,
        "plan_digest": str,
        "rounds": int,
        "wall_s": float,
        "partition": dict,
        "sites": list,
        "participation": list,
        "traffic": dict,
        "results": dict,
    }.items():
        found.kind(report, key, kind)
    if found.listed:
        return found.listed
    site_ids = [row["site_id"] for row in report["sites"]]
    for row in report["sites"]:
        found.kind(row, "num_cases", int)
    _participation(found, report, site_ids)
    for key in ("bytes_down_per_site_per_round", "bytes_up_per_site_per_round"):
        found.kind(report["traffic"], key, int)
    for name in MODELS:
        _result(found, report["results"], name, site_ids)
    found.number_or_reason(report, "gap_closed", report["missing"].get("gap_closed"))
    found.figure(report["federated_minus_pooled"], "federated_minus_pooled")
    return found.listed


def _participation(found: _Problems, report: Mapping[str, Any], site_ids: list[str]) -> None:
    rounds = [row["round"] for row in report["participation"]]
    found.expect(rounds == list(range(1, report["rounds"] + 1)), f"rounds {rounds}")
    for row in report["participation"]:
        out = [item["site_id"] for item in row["left_out"]]
        everyone = sorted([*row["answered"], *out])
        found.expect(everyone == sorted(row["asked"]), f"round {row['round']}: {everyone}")
        found.expect(set(row["asked"]) <= set(site_ids), f"round {row['round']}: asked {row}")
        found.expect(all(item["reason"] for item in row["left_out"]), "a reason is empty")


def _result(found: _Problems, results: Mapping[str, Any], name: str, site_ids: list[str]) -> None:
    result = results.get(name)
    if result is None:
        found.expect(name == "pooled", f"results lack {name}")
        return
    for figure in FIGURES:
        found.figure(result["test"].get(figure), f"{name}.test.{figure}")
    found.expect(sorted(result["per_site"]) == sorted(site_ids), f"{name}.per_site")
    for site_id, parts in result["per_site"].items():
        for part in ("own", "joint"):
            for figure in FIGURES:
                found.figure(parts[part].get(figure), f"{name}.per_site.{site_id}.{part}.{figure}")


class _Problems:
    def __init__(self) -> None:
        self.listed: list[str] = []

    def expect(self, is_so: bool, problem: str) -> None:
        if not is_so:
            self.listed.append(problem)

    def kind(self, table: Mapping[str, Any], key: str, kind: type) -> None:
        self.expect(type(table.get(key)) is kind, f"{key}: {table.get(key)!r} is no {kind}")

    def number_or_reason(self, table: Mapping[str, Any], key: str, reason: object) -> None:
        """A value that cannot be computed is null, and the reason is there."""
        value = table.get(key)
        if value is None:
            self.expect(key in table and bool(reason), f"{key} is null without a reason")
        else:
            self.expect(math.isfinite(value), f"{key}: {value!r}")

    def figure(self, figure: Any, where: str) -> None:
        if not isinstance(figure, dict) or not {"estimate", "lower", "upper"} <= set(figure):
            self.listed.append(f"{where}: {figure!r} is no figure")
            return
        for key in ("estimate", "lower", "upper"):
            self.number_or_reason(figure, key, figure.get("reason"))
        ends = (figure["lower"], figure["estimate"], figure["upper"])
        if None not in ends:
            self.expect(ends[0] - 1e-9 <= ends[1] <= ends[2] + 1e-9, f"{where}: {ends}")
