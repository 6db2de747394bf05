import json
import signal
import sys
from dataclasses import dataclass

import pytest
from tiny import folder_in_memory, hospitium, write_npz

from hospitium.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def tmp_path(tmp_path_factory):
    yield from folder_in_memory(tmp_path_factory)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command line in this process: the same `main`, without the time a process takes."""
    monkeypatch.setenv("HOSPITIUM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["hospitium", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return Said(status=status, out=captured.out, err=captured.err)

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A demo that the real command has run: its home, and the finished process."""
    for folder in folder_in_memory(tmp_path_factory):
        data = write_npz(folder / "tiny.npz")
        words = ("--sites", 3, "--partition", "iid", "--model", "logistic", "--rounds", 3)
        done = hospitium("demo", "--data", data, *words, "--json", home=folder / "home")
        yield folder / "home", done
