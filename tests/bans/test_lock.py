"""Nothing is locked in a version of which we know that it is not safe."""

import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LOCK = (HERE.parents[1] / "constraints.txt").read_text(encoding="utf-8")
KNOWN = tomllib.loads((HERE / "advisories.toml").read_text(encoding="utf-8"))["advisory"]


def locked(text):
    """Return the version of each package of a lock."""
    rows = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in rows}


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def open_advisories(text):
    """Return the advisories that a lock is open to."""
    found = locked(text)
    return [row["id"] for row in KNOWN if numbers(found[row["package"]]) < numbers(row["fixed"])]


def test_nothing_is_locked_below_the_version_that_mended_it():
    assert open_advisories(LOCK) == []


def test_every_dependency_is_locked_to_one_version():
    lines = [line for line in LOCK.splitlines() if line.strip() and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.+!]+( *;.*)?", line) for line in lines)


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row["id"])
def test_an_older_version_is_found(row):
    name = next(n for n in re.findall(r"^(\S+)==", LOCK, re.MULTILINE)
                if n.lower().replace("_", "-") == row["package"])  # fmt: skip
    older = re.sub(rf"^{re.escape(name)}==\S+", f"{name}==0.0.1", LOCK, flags=re.MULTILINE)
    assert row["id"] in open_advisories(older)
