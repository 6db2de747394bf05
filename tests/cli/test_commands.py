import json
import os
import subprocess
import sys

import pytest
from tiny import HOSPITIUM, hospitium, write_npz

from hospitium.cli.main import main
from hospitium.errors import ALL_ERRORS

HEAVY = {"torch", "monai", "numpy", "pydicom", "PIL", "scipy", "sklearn", "sqlite3", "jinja2"}


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["run", "--help"], ["version"]])
def test_help_imports_little_and_nothing_heavy(words):
    code = (
        "import sys; from hospitium.cli.main import main\n"
        f"sys.argv = ['hospitium', *{words!r}]\n"
        "try: main()\n"
        "finally: print('modules', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stderr.split()
    loaded = {name.split(".")[0] for name in modules}
    assert "hospitium" in loaded and not loaded & HEAVY
    assert len(modules) < 600


def test_every_command_and_option_of_the_issue_is_there(call):
    for noun, verbs in {"plan": "new check show", "run": "start resume watch show list"}.items():
        found = call(noun, "--help").out
        assert all(f"\n  {verb} " in found for verb in verbs.split())
    found = call("demo", "--help").out
    for option in (
        *("data", "sites", "rounds", "partition", "label", "image-column", "subject-column"),
        *("split-column", "model", "image-size", "plugin", "seed", "out", "json"),
    ):
        assert f"--{option} " in found


def test_a_plan_is_written_checked_and_shown(call, tmp_path):
    written = call("plan", "new", "plan.toml", "--json").json
    checked = call("plan", "check", "plan.toml", "--sites", 4, "--json").json
    shown = call("plan", "show", "plan.toml", "--json").json
    assert written["digest"] == checked["digest"] == shown["digest"]
    assert checked["ok"] and shown["plan"]["schema_version"] == 2
    (tmp_path / "again.toml").write_text(call("plan", "show", "plan.toml").out)
    assert call("plan", "check", "again.toml", "--json").json["digest"] == written["digest"]
    assert "no problem found" in call("plan", "check", "plan.toml").out


BAD_PLAN = '[rounds]\ncout = 3\nquorum = 0\n[privacy]\nrecord_dp = "maybe"\n'


def test_a_plan_with_problems_ends_with_3_and_all_of_them(call, tmp_path):
    (tmp_path / "bad.toml").write_text(BAD_PLAN)
    said = call("plan", "check", "bad.toml")
    assert said.status == 3 and said.out == ""
    assert said.err.startswith("Error E101: bad.toml: 3 problems found. Nothing was started.")
    assert "did you mean `count`?" in said.err
    as_json = call("plan", "check", "bad.toml", "--json")
    assert as_json.status == 3 and as_json.err == ""
    assert as_json.json["ok"] is False and as_json.json["code"] == "E101"


BAD_LINES = [
    (2, "E002", "frob"),
    (2, "E002", "demo --bogus"),
    (2, "E002", "demo --sites many"),
    (2, "E002", "demo --sites 0"),
    (2, "E002", "demo --rounds -1"),
    (2, "E002", "demo --seed -1"),
    (2, "E002", "demo --image-size 4"),
    (2, "E002", "demo --data tiny.npz --partition nonsense"),
    (2, "E002", "demo --data tiny.npz --partition column:site --sites 3"),
    (1, "E401", "demo --data nowhere"),
    (1, "E401", "demo --data ."),
    (1, "E401", "demo --data text.txt"),
    (1, "E401", "demo --data broken.npz"),
    (1, "E401", "demo --data tiny.npz --label finding"),
    (1, "E402", "demo --data tiny.npz --sites 500 --partition iid"),
    (1, "E402", "demo --data tiny.npz --partition column:site"),
    (1, "E402", "demo --data tiny.npz --sites 5 --partition dirichlet:0.1"),
    (3, "E101", "demo --data tiny.npz --sites 2 --partition iid --model x"),
    (3, "E101", "demo --data tiny.npz --sites 2 --partition iid --seed 99999999999999999999"),
    (3, "E101", "demo --data tiny.npz --sites 2 --partition iid --rounds 1000000"),
    (1, "E102", "demo --data tiny.npz --plugin nowhere.py"),
    (1, "E102", "demo --data tiny.npz --plugin text.txt"),
    (1, "E102", "demo --data tiny.npz --plugin fails.py"),
    (1, "E102", "demo --data tiny.npz --plugin takes.py"),
    (1, "E302", "demo --data tiny.npz --out text.txt/out"),
    (1, "E302", "--home text.txt demo --data tiny.npz"),
    (3, "E101", "plan check nowhere.toml"),
    (3, "E101", "plan check ."),
    (3, "E101", "plan check tiny.npz"),
    (3, "E101", "plan show text.txt"),
    (1, "E304", "plan check future.toml"),
    (2, "E002", "plan check"),
    (2, "E002", "plan new text.txt"),
    (2, "E002", "plan new new.toml --template x"),
    (1, "E302", "plan new nowhere/new.toml"),
    (2, "E002", "run start"),
    (2, "E002", "run start good.toml"),
    (3, "E101", "run start nowhere.toml --sites sites.toml"),
    (2, "E002", "run start good.toml --sites nowhere.toml"),
    (2, "E002", "run start good.toml --sites good.toml"),
    (2, "E002", "run start good.toml --sites sites.toml --name ../up"),
    (1, "E401", "run start good.toml --sites sites.toml --name x"),
    (2, "E305", "run resume nowhere"),
    (2, "E305", "run show ../../etc"),
    (2, "E305", "run watch nowhere"),
    (2, "E002", "run resume"),
]


@pytest.fixture
def files(tmp_path):
    """Files that bad command lines name."""
    write_npz(tmp_path / "tiny.npz")
    for name, text in {
        "text.txt": "not what you think",
        "broken.npz": "PK\x03\x04 cut off",
        "fails.py": "raise RuntimeError('no')",
        "takes.py": "def register(plugin): plugin.model('small_cnn', None)",
        "future.toml": "schema_version = 99\n",
        "good.toml": "",
        "sites.toml": "[sites.a]\ndata = 'nowhere'\n[sites.b]\ndata = 'nowhere'\n",
    }.items():
        (tmp_path / name).write_text(text)


@pytest.mark.parametrize(("status", "code", "line"), BAD_LINES, ids=lambda x: str(x))
def test_a_bad_command_line_ends_in_a_sentence_a_code_and_a_status(
    call, files, tmp_path, status, code, line
):
    said = call(*line.split())
    assert (said.status, said.err.rpartition("Error ")[2][:5]) == (status, f"{code}:")
    assert "Traceback" not in said.err and said.out == ""
    as_json = call(*line.split(), "--json")
    assert as_json.status == status
    assert set(as_json.json) == {"ok", "code", "error"} and as_json.json["code"] == code
    assert not list((tmp_path / "home").rglob("*.bin"))


def test_the_status_of_every_error_is_one_that_scripts_can_rely_on():
    statuses = {error.code: error.exit_status for error in ALL_ERRORS}
    assert {code for code, status in statuses.items() if status == 2} == {"E002", "E305"}
    assert {code for code, status in statuses.items() if status == 3} == {"E101", "E403", "E503"}
    assert {code for code, status in statuses.items() if status == 4} == {"E201", "E206"}
    assert {code for code, status in statuses.items() if status == 130} == {"E003"}
    assert set(statuses.values()) == {1, 2, 3, 4, 130}


@pytest.mark.parametrize("words", [[], ["plan"], ["run"]])
def test_a_command_that_lacks_its_verb_shows_the_help_and_ends_with_2(call, words):
    said = call(*words)
    assert said.status == 2
    assert "Commands:" in said.err and "Error" not in said.err


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(KeyboardInterrupt(), 130, "E003"), (RuntimeError("x"), 1, "E001")],
)
def test_what_nobody_foresaw_is_a_sentence_too(call, monkeypatch, error, status, code):
    def fail(home):
        raise error

    monkeypatch.setattr("hospitium.operations.runs.list_runs", fail)
    assert call("run", "list").status == status
    assert call("run", "list", "--json").json["code"] == code
    assert "Traceback" not in call("run", "list").err
    assert ("Traceback" in call("--debug", "run", "list").err) == (code == "E001")


def test_a_home_without_runs_says_how_to_begin(call):
    assert "hospitium demo" in call("run", "list").out
    assert call("run", "list", "--json").json == []


def test_versions_are_those_of_what_results_depend_on(call):
    assert call("version").out.startswith("hospitium ")
    assert call("--version").out == call("version").out
    assert {"hospitium", "numpy", "python"} <= set(call("version", "--json").json)


def test_the_installed_command_is_the_same(tmp_path):
    done = hospitium("run", "show", "x", "--json", home=tmp_path)
    assert done.returncode == 2 and json.loads(done.stdout)["code"] == "E305"
    assert done.stderr == ""
    assert callable(main) and os.access(HOSPITIUM, os.X_OK)


@pytest.mark.parametrize(
    "words", [[], ["audit"], ["coordinator"], ["egress"], ["phantoms"], ["plan"], ["run"],
              ["site"], ["site", "data"]]
)  # fmt: skip
def test_help_tells_the_whole_sentence_of_each_command(call, words):
    listed = call(*words, "--help").out.partition("Commands:\n")[2]
    assert listed and "..." not in listed
