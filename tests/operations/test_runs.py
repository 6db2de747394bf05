import json
import sqlite3
from pathlib import Path

import pytest
from report_schema import problems_of
from tiny import tiny_plan, write_npz

from hospitium.errors import DataError, PlanError, StateConflictError, UsageError, VersionError
from hospitium.imaging.cache import read_cases
from hospitium.operations.finishing import finish_run
from hospitium.operations.preparing import prepare_run
from hospitium.operations.progress import silent
from hospitium.operations.runs import list_runs, show_run, watch_run
from hospitium.operations.site_sources import read_sites
from hospitium.plan.writing import to_toml
from hospitium.state.home import Home, locked
from hospitium.wire import blob

SITES = '[sites.oslo]\ndata = "a.npz"\n[sites.bergen]\ndata = "a.npz"\n'


@pytest.fixture
def place(tmp_path):
    """A plan, data, and a file that says which site has which."""
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan()))
    (tmp_path / "sites.toml").write_text(SITES)
    write_npz(tmp_path / "a.npz")
    return tmp_path


def begin(place, *, name="first", out=None, say=silent):
    return prepare_run(
        Home(place / "home"),
        plan_path=place / "plan.toml",
        sites_path=place / "sites.toml",
        run_id=name,
        plugin_path=None,
        out=out,
        say=say,
        command="test",
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was begun from files and taken all the way, and its home."""
    place = tmp_path_factory.mktemp("place")
    (place / "plan.toml").write_text(to_toml(tiny_plan()))
    (place / "sites.toml").write_text(SITES)
    write_npz(place / "a.npz")
    done = finish_run(begin(place, out=place / "out"), say=silent, num_workers=2)
    return Home(place / "home"), done


def test_a_finished_run_has_a_report_a_page_and_a_model_where_they_were_wanted(finished):
    home, done = finished
    out = home.folder.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "model.safetensors",
        "report.html",
        "report.json",
    ]
    assert json.loads((out / "report.json").read_text()) == done.report
    assert problems_of(done.report) == []
    assert blob.file_digest(done.model) == show_run(home, "first")["chosen"]["digest"]
    assert done.sentence.startswith("2 sites trained one model together")


def test_the_report_says_who_holds_what(finished):
    report = finished[1].report
    assert report["sites"] == [
        {"site_id": "oslo", "num_cases": 96},
        {"site_id": "bergen", "num_cases": 96},
    ]
    assert report["partition"]["sites"]["oslo"]["test"] == {"normal": 24, "pneumonia": 24}


def test_a_run_that_is_finished_again_is_reported_again_with_the_same_figures(finished):
    home, done = finished
    record = home.run("first") / "sites" / "oslo" / "log" / "leaves.jsonl"
    record.write_text(
        record.read_text() + '{"leaf":{"bytes":99,"kind":"upd'
    )  # cut off by a full disk
    again = finish_run(home.run("first"), say=silent, num_workers=1).report
    assert again["results"] == done.report["results"]
    assert again["participation"] == done.report["participation"]
    assert again["traffic"] == done.report["traffic"]


def test_a_run_is_shown_with_its_seats_rounds_and_result(finished):
    found = show_run(finished[0], "first")
    assert (found["status"], found["round"], found["rounds"]) == ("finished", 3, 3)
    assert [seat["site_id"] for seat in found["seats"]] == ["oslo", "bergen"]
    assert [row["answered"] for row in found["participation"]] == [["bergen", "oslo"]] * 3
    assert found["chosen"]["digest"] and found["report"]


def test_runs_are_listed_and_watched_to_their_end(finished):
    assert [row["run_id"] for row in list_runs(finished[0])] == ["first"]
    rows = list(watch_run(finished[0], "first"))
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert all(row["status"] == "finished" for row in rows)


def test_a_run_that_nobody_works_on_is_listed_as_stopped_and_watched_in_vain(place):
    begin(place)
    home = Home(place / "home")
    row = list_runs(home)[0]
    assert (row["status"], row["round"], row["report"]) == ("stopped", 0, False)
    assert next(iter(watch_run(home, "first"))) == {}
    with locked(home.run("first")):
        assert list_runs(home)[0]["status"] == "running"


def test_a_run_that_cannot_be_read_does_not_hide_the_others(place):
    begin(place)
    damaged = begin(place, name="second") / "ledger.sqlite"
    damaged.write_bytes(b"\x00" * 5000)
    first, second = list_runs(Home(place / "home"))
    assert first["status"] == "stopped"
    assert (second["run_id"], second["status"], second["code"]) == ("second", "unreadable", "E303")


def test_a_run_of_an_older_plan_is_told_apart_and_says_how_it_can_be_finished(place):
    begin(place)
    home = Home(place / "home")
    with sqlite3.connect(home.run("first") / "ledger.sqlite") as database:
        (text,) = database.execute("SELECT plan FROM run").fetchone()
        old = {**json.loads(text), "schema_version": 1, "data": {"image_size": 8}}
        database.execute("UPDATE run SET plan = ?", (json.dumps(old).encode(),))
    database.close()
    with pytest.raises(VersionError, match="can only be finished with it"):
        finish_run(home.run("first"), say=silent, num_workers=1)
    (row,) = list_runs(home)
    assert (row["status"], row["code"]) == ("unreadable", VersionError.code)


def test_a_name_that_is_taken_is_refused_before_anything_is_touched(place):
    folder = begin(place)
    before = _files(folder)
    write_npz(place / "a.npz", scale=2)
    with pytest.raises(StateConflictError, match="run resume first"):
        begin(place)
    assert _files(folder) == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda place: (place / "a.npz").write_bytes(b"PK\x03\x04 no zip"), DataError),
        (lambda place: (place / "a.npz").unlink(), DataError),
        (lambda place: (place / "plan.toml").write_text("[rounds]\nquorum = 3\n"), PlanError),
        (lambda place: (place / "plan.toml").write_text("[model]\nname = 'x'\n"), PlanError),
        (lambda place: (place / "sites.toml").write_text("[sites]\n"), UsageError),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(place, change, error):
    change(place)
    with pytest.raises(error):
        begin(place)
    assert _files(place / "home") == {}


def test_a_run_that_is_interrupted_while_it_reads_leaves_nothing_behind(place):
    def interrupt(event):
        if "oslo" in event["text"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(place, say=interrupt)
    assert list((place / "home" / "runs").iterdir()) == []


def test_a_class_of_the_plan_that_no_site_has_is_refused_by_its_name(place):
    plan = (
        (place / "plan.toml")
        .read_text()
        .replace('classes = ["normal", "pneumonia"]', 'classes = ["a", "b", "c"]')
    )
    (place / "plan.toml").write_text(plan)
    with pytest.raises(DataError, match="no training case of c at any site"):
        begin(place)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "cannot be read"),
        ("", "expected only tables"),
        ("[site.a]\ndata = 'x'\n", r"found \['site'\]"),
        ("[sites]\na = 3\n", "cannot name a site"),
        ("[sites.'a b']\ndata = 'x'\n", "cannot name a site"),
        ("[sites.a]\n", "lacks the key data"),
        ("[sites.a]\ndata = 3\n", "not texts"),
        ("[sites.a]\ndata = 'x'\nlabels = 'y'\n", r"unknown keys \['labels'\]"),
    ],
)
def test_a_sites_file_that_is_not_one_is_refused_in_words(tmp_path, text, said):
    (tmp_path / "sites.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_sites(tmp_path / "sites.toml")


def test_paths_in_a_sites_file_are_beside_it_and_columns_are_named(tmp_path):
    (tmp_path / "sites.toml").write_text(
        "\ufeff[sites.a]\ndata = '../x'\nlabel = 'finding'\n", encoding="utf-8"
    )
    source = read_sites(tmp_path / "sites.toml")[0]
    assert source.data == Path(tmp_path / ".." / "x").resolve()
    assert source.columns.label == "finding" and source.columns.image is None


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("ledger.sqlite-")
    }


def test_subjects_of_two_sites_are_told_apart_though_both_count_from_one(place):
    folder = begin(place)
    subjects = set(read_cases(folder / "joint").subjects.tolist())
    sites = {subject.split("/")[0] for subject in subjects}
    own = sum(
        len(set(read_cases(data).split("test").subjects.tolist()))
        for data in (folder / "data").iterdir()
    )
    assert len(sites) == len(list((folder / "data").iterdir()))
    assert len(subjects) == own
