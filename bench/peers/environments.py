"""Each peer in an environment of its own, made when it is first asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from bench.rows import say

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another system.

    Attributes:
        name: What its rows are called.
        package: What it is called in the package registry.
        wanted: What is asked of the registry.
    """

    name: str
    package: str
    wanted: tuple[str, ...]

    def python(self) -> Path:
        """Return the interpreter of its environment; make it if it is not there."""
        folder = FOLDER / self.name
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not (folder / "installed").exists():
            say(f"installing {self.wanted[0]} in {folder.relative_to(ROOT)}")
            venv.create(folder, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "install", "--quiet", *self.wanted]
            subprocess.run(command, check=True, stdout=sys.stderr)
            (folder / "installed").touch()
        return python

    def version(self) -> str:
        """Return the version that is installed."""
        asked = f"from importlib.metadata import version; print(version({self.package!r}))"
        command = [str(self.python()), "-c", asked]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


FLARE = Peer(name="flare", package="nvflare", wanted=("nvflare==2.9.*",))
FLOWER = Peer(name="flower", package="flwr", wanted=("flwr", "numpy"))
