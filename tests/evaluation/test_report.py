"""The report says what was found, whole or not at all, and nothing from outside can run in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hospitium.errors import StorageError
from hospitium.evaluation.comparison import TestSet
from hospitium.evaluation.plots import curve_plot, forest_plot
from hospitium.evaluation.report import render_html, write_report
from hospitium.evaluation.report_shape import Report
from hospitium.evaluation.report_words import duration, figure, size, summary_sentence

ReportMadeUp = Callable[..., dict[str, Any]]


def text_of(page: str) -> str:
    """Return the words of a page, each run of white space as one blank."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(page)
    return " ".join(" ".join(words).split())


def difference(estimate: float | None, lower: float = 0.0, upper: float = 0.0) -> dict[str, Any]:
    found = {"estimate": estimate, "lower": lower, "upper": upper, "n": 400, "num_positive": 200}
    return found if estimate is not None else {**found, "reason": "not done"}


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_report_holds_every_key_of_its_shape(
    report_made_up: ReportMadeUp, tmp_path: Path, num_classes: int
) -> None:
    report = report_made_up(num_classes=num_classes)
    json_path, html_path = write_report(tmp_path / "new", report)
    read = json.loads(json_path.read_text(encoding="utf-8"))
    assert Report.__required_keys__ <= set(read)
    assert read["gap_closed"] == report["gap_closed"]
    assert summary_sentence(report)[:40] in text_of(html_path.read_text(encoding="utf-8"))


def test_the_page_is_whole_by_itself(report_made_up: ReportMadeUp) -> None:
    page = render_html(report_made_up())
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.search(r"(src|href|url)\s*[=(]", page)
    assert page.count('<svg class="plot"') == 4


def test_names_from_outside_cannot_become_markup(report_made_up: ReportMadeUp) -> None:
    report = report_made_up()
    report["command"] = report["run_id"] = "<script>alert(1)</script>"
    report["participation"][6]["left_out"][0]["reason"] = "<img src=x>"
    page = render_html(report)
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page


def test_a_report_is_replaced_whole(report_made_up: ReportMadeUp, tmp_path: Path) -> None:
    report = report_made_up()
    write_report(tmp_path, {**report, "wall_s": 1.0})
    write_report(tmp_path, report)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert json.loads((tmp_path / "report.json").read_text())["wall_s"] == 412.7


def test_a_disk_that_refuses_is_a_clear_error(report_made_up: ReportMadeUp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="safe in its ledger"):
        write_report(tmp_path / "file", report_made_up())


def test_every_page_says_who_what_and_how(report_made_up: ReportMadeUp) -> None:
    report = report_made_up()
    words = text_of(render_html(report))
    for said in (
        report["plan_digest"],
        report["command"],
        "bergen: no answer within 60 s",
        "In 19 of 20 rounds",
        "Worst site:",
        "Youden's J on validation data",
        "391 kB",
        'record_dp = "off"',
        "What this does not say",
        "chosen: 18",
    ):
        assert said in words


def test_what_is_missing_is_said_with_its_reason(report_made_up: ReportMadeUp) -> None:
    lone = TestSet(labels=np.zeros(12, dtype=int), subjects=np.arange(12))
    report = report_made_up(own={"lone": lone}, with_pooled=False)
    for key in ("curve", "chosen_round", "command", "seeds", "versions", "protections", "plugins"):
        del report[key]
    words = text_of(render_html(report))
    assert "missing: one class only" in words
    assert "missing: no pooled model" in words
    assert "missing: no round was scored" in words
    assert "nan" not in words.lower().split()


def test_many_sites_are_all_in_the_table_and_few_in_the_plot(report_made_up: ReportMadeUp) -> None:
    test = TestSet(labels=np.arange(24) % 2, subjects=np.arange(24))
    page = render_html(report_made_up(own={f"site-{i:02}": test for i in range(34)}))
    assert "Drawn are the 30 of 34 sites with the least gain" in page
    assert all(f">site-{i:02}</th>" in page for i in range(34))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (difference(0.02, 0.01, 0.03), "It is better than pooled training"),
        (difference(0.0, -0.005, 0.005), "as good as pooled training within the margin"),
        (difference(-0.004, -0.007, -0.001), "lower than pooled training measurably, but by less"),
        (difference(-0.03, -0.05, -0.02), "It is worse than pooled training"),
        (difference(-0.01, -0.03, 0.01), "is not settled"),
        (difference(None), "not compared with pooled training: not done"),
    ],
)
def test_the_summary_is_honest_about_pooled(
    report_made_up: ReportMadeUp, found: dict[str, Any], said: str
) -> None:
    assert said in summary_sentence({**report_made_up(), "federated_minus_pooled": found})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (difference(0.02, 0.01, 0.03), "better than the mean site alone"),
        (difference(0.01, -0.01, 0.03), "cannot be told apart from the mean site alone"),
        (difference(-0.02, -0.03, -0.01), "worse than the mean site alone"),
        (difference(None), "not compared with sites alone"),
    ],
)
def test_the_summary_is_honest_about_sites_alone(
    report_made_up: ReportMadeUp, found: dict[str, Any], said: str
) -> None:
    assert said in summary_sentence({**report_made_up(), "federated_minus_local_only": found})


def test_the_summary_names_a_site_that_lost(report_made_up: ReportMadeUp) -> None:
    report = report_made_up()
    worse = {"own": difference(-0.05, -0.08, -0.02), "joint": difference(0.1, 0.05, 0.15)}
    report["gain_over_own_model"] = {**report["gain_over_own_model"], "tartu": worse}
    sentence = summary_sentence(report)
    assert "at 1 of 5 sites: tartu, on its own test cases (\N{MINUS SIGN}0.050 [" in sentence
    assert "joint test set (" not in sentence.split("tartu")[1]
    assert "Shared model below the site's own by more than noise: tartu" in text_of(
        render_html(report)
    )


def test_a_summary_without_an_auroc_says_that(report_made_up: ReportMadeUp) -> None:
    report = report_made_up()
    report["results"]["federated"]["test"]["auroc"] = difference(None)
    assert summary_sentence(report).startswith("What was learnt cannot be said")


def test_few_positives_put_the_interval_first() -> None:
    few = {"estimate": 0.9, "lower": 0.7, "upper": 0.98, "n": 30, "num_positive": 9}
    assert figure(few) == "[0.700, 0.980] (estimate 0.900; few positives: 9)"
    assert figure({**few, "num_positive": 90}) == "0.900 [0.700, 0.980]"
    assert figure({**few, "lower": None, "reason": "why"}) == "0.900 [limits missing] (why)"
    assert figure(None) == "missing: not recorded"


def test_amounts_and_times_have_units() -> None:
    assert [size(n) for n in (0, 999, 1500, 96e6, 2e15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "96.0 MB",
        "2000 TB",
    ]
    assert [duration(s) for s in (2.34, 61, 7260)] == ["2.3 s", "1 min 1 s", "2 h 1 min"]
    assert size(None) == duration(None) == "missing: not recorded"


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    series = {"all": [0.5, 0.6, None, 0.8]}
    plot = curve_plot(series, rounds=[0, 1, 2, 3], chosen=3, title="t", y_label="y")
    assert plot is not None and plot.lines[0].path.count("M") == 2
    assert len(plot.lines[0].dots) == 3 and plot.chosen is not None
    empty = {"all": [None]}
    assert curve_plot(empty, rounds=[0], chosen=None, title="t", y_label="y") is None


def test_a_long_curve_is_marked_at_round_numbers_and_at_its_end() -> None:
    def marks(rounds: list[int]) -> list[str]:
        series = {"all": [0.5] * len(rounds)}
        plot = curve_plot(series, rounds=rounds, chosen=None, title="t", y_label="y")
        assert plot is not None
        return [tick.text for tick in plot.x_ticks]

    assert marks(list(range(4))) == ["0", "1", "2", "3"]
    assert marks(list(range(201))) == [str(number) for number in range(0, 201, 20)]
    assert marks(list(range(106)))[-3:] == ["60", "80", "105"]
    assert marks(list(range(0, 106, 7))) == ["0", "21", "42", "63", "77", "105"]


def test_marks_of_a_forest_stand_in_order_within_the_frame() -> None:
    row = ("a", difference(0.9, 0.8, 0.95), {**difference(None), "reason": "one class only"})
    plot = forest_plot([row], title="t")
    assert plot is not None
    own, shared = plot.rows[0].whiskers
    assert plot.left <= own.low < own.at < own.high <= plot.right
    assert shared.missing == "missing: one class only"
    assert forest_plot([("a", difference(None), difference(None))], title="t") is None


def test_what_was_held_is_shown_with_who_decided_and_escaped(report_made_up):
    page = render_html(report_made_up())
    assert "Held updates" in page and "1 of 20 updates were held, and 1 flagged" in page
    assert "excluded by Ada &lt;Berg&gt;: labels were the wrong way round" in page
    report = report_made_up()
    for mode, updates, words in (
        ("off", (), "no update was looked at before it counted"),
        ("hold", (), "No update was held. 1 of 20 were flagged"),
    ):
        report["review"] = {**report["review"], "mode": mode, "updates": updates}
        assert words in text_of(render_html(report))
    del report["review"]
    assert "missing: not recorded" in text_of(render_html(report))
