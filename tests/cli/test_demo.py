import json
import re

from report_schema import problems_of
from tiny import tiny_plan, write_npz

from hospitium.plan.writing import to_toml


def test_a_demo_prints_its_report_bare_and_nothing_else(demo):
    _, done = demo
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1 and "ok" not in report
    assert problems_of(report) == []


def test_the_report_of_a_demo_has_the_names_that_others_rely_on(demo):
    report = json.loads(demo[1].stdout)
    assert report["partition"]["name"] == "iid"
    assert [row["site_id"] for row in report["sites"]] == ["site-1", "site-2", "site-3"]
    assert sum(row["num_cases"] for row in report["sites"]) == 96
    assert report["rounds"] == 3 and len(report["participation"]) == 3
    assert report["command"].startswith("hospitium demo --data ")
    assert report["traffic"]["bytes_up_per_site_per_round"] > 8 * 8 * 4


def test_the_files_of_a_demo_are_the_report_the_page_and_the_model(demo):
    home, done = demo
    (folder,) = (home / "runs").iterdir()
    report = json.loads(done.stdout)
    assert json.loads((folder / "report" / "report.json").read_text()) == report
    assert report["run_id"] == folder.name
    page = (folder / "report" / "report.html").read_text()
    assert "site-2" in page and "<script src" not in page and "http://" not in page
    assert (folder / "report" / "model.safetensors").stat().st_size > 256


def test_nothing_half_done_is_left_by_a_demo(demo):
    assert not list(demo[0].rglob("*.part"))


def test_a_finished_demo_is_listed_shown_and_watched(demo, call):
    home = demo[0]
    run = json.loads(demo[1].stdout)["run_id"]
    row = call("--home", home, "run", "list", "--json").json[0]
    assert (row["run_id"], row["status"], row["report"]) == (run, "finished", True)
    assert call("--home", home, "run", "show", run, "--json").json["round"] == 3
    watched = call("--home", home, "run", "watch", run, "--json").out.splitlines()
    assert [json.loads(line)["round"] for line in watched] == [1, 2, 3]


def test_people_are_told_in_words(demo, call):
    home = demo[0]
    run = json.loads(demo[1].stdout)["run_id"]
    assert f"{run} " in call("--home", home, "run", "list").out
    shown = call("--home", home, "run", "show", run).out
    assert re.search(
        r"Validation, together: AUROC 0\.\d{4} on \d+ cases\.\nModel: \S+\.safetensors", shown
    )
    assert "finished, round 3 of 3" in shown and "report.html" in shown
    watched = call("--home", home, "run", "watch", run).out
    assert "round 3 of 3: 3 of 3 sites, validation score before it" in watched
    assert f"hospitium run show {run}" in watched.splitlines()[-1]


def test_a_demo_for_people_ends_with_what_was_learnt_and_where_it_is(call, tmp_path):
    data = write_npz(tmp_path / "tiny.npz")
    words = ("--sites", 2, "--partition", "iid", "--model", "logistic", "--rounds", 2)
    done = call("demo", "--data", data, *words, "--out", tmp_path / "out")
    assert done.status == 0
    assert "2 sites trained one model together; it reaches an AUROC of" in done.out
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in done.out
    assert "federated: round 2 of 2, 2 sites, validation AUROC" in done.err
    assert "site-1: train 24/24" in done.err


def test_a_run_is_started_from_a_plan_and_a_file_of_sites_and_resumed(call, tmp_path):
    write_npz(tmp_path / "a.npz")
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan()))
    (tmp_path / "sites.toml").write_text(
        '[sites.oslo]\ndata = "a.npz"\n[sites.bergen]\ndata = "a.npz"\n'
    )
    words = ("run", "start", "plan.toml", "--sites", "sites.toml", "--name", "first", "--json")
    report = call(*words).json
    assert problems_of(report) == [] and report["run_id"] == "first"
    again = call("run", "resume", "first", "--json").json
    assert again["results"] == report["results"]
    assert call(*words).json["code"] == "E301"
