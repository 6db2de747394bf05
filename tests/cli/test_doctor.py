"""``hospitium doctor`` at the keyboard: lines, JSON, status, and that it changes nothing."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hospitium.cli.main import app

pytestmark = pytest.mark.ci


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def doctor(home, *words):
    return CliRunner().invoke(app, ["--home", str(home), "doctor", *words])


def test_each_check_is_a_line_and_the_summary_says_what_to_do(home):
    found = doctor(home)
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert lines[0].startswith("PASS  versions ")
    assert any(line.startswith("SKIP  federation ") for line in lines)
    assert lines[-1].endswith("Nothing stops work here.")
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_failure_is_status_3_with_what_to_do_and_who_does_it(home):
    home.chmod(0o777)
    found = doctor(home, "--coordinator")
    assert found.exit_code == 3
    assert f"engineer: Run: chmod 700 {home}"[:40] in " ".join(found.output.split())
    assert found.output.splitlines()[-1].endswith("Begin with `home`; engineer must act.")
    told = doctor(home, "--coordinator", "--json")
    assert told.exit_code == 3
    checks = json.loads(told.output)["checks"]
    assert all(set(check) == {"name", "status", "found", "remedy", "who"} for check in checks)
    assert [check["name"] for check in checks if check["status"] == "FAIL"] == ["home"]


def test_an_unknown_federation_is_an_error_with_its_words(home):
    found = doctor(home, "--federation", "south")
    assert found.exit_code == 1 and "asked to join: none yet" in str(found.exception)


@pytest.mark.parametrize("options", [(), ("--coordinator",)])
def test_neither_torch_nor_a_server_is_loaded(home, options):
    code = (
        "import sys\nfrom hospitium.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    status = end.code\n"
        "print(status, sorted({'torch', 'monai', 'fastapi', 'uvicorn'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, "--home", str(home), "doctor", *options]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert found.stdout.splitlines()[-1] == "0 []", found.stdout + found.stderr
