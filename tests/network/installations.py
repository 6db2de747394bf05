"""Installations on machines of a network: a home folder each, and the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import Machine, Network
from tiny import HOSPITIUM, environment

FEDERATION = "north"
APPROVER = "Kari Nordmann"
POLICY = f"""
[approval]
approvers = ["{APPROVER}"]
[agreement]
reference = "A-17"
ethics = "REK 2026/1"
expires = "2999-12-31"
"""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """One installation: its network, its machine, and its home folder."""

    network: Network
    machine: Machine
    home: Path

    @property
    def site(self) -> Path:
        """Where a site keeps what belongs to the federation."""
        return self.home / "site" / "federations" / FEDERATION

    @property
    def office(self) -> Path:
        """Where the coordinator keeps what belongs to the federation."""
        return self.home / "coordinator" / FEDERATION

    def tell(self, *words: object, ends: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Run one command to its end on the machine; return the JSON that it prints."""
        done = subprocess.run(
            self.machine.command([HOSPITIUM, *words, "--json"]),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in ends, f"{words}: {done.stdout}{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """Start a command on the machine; what it says goes beside the home folder."""
        with self.said_in.open("ab") as file:
            return self.network.start(
                self.machine,
                [HOSPITIUM, *words],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def said_in(self) -> Path:
        """The file with the words of the commands that were started."""
        return self.home.with_suffix(".said")

    def notes(self) -> str:
        """Return what was said, and what the agent wrote down for the site's own staff."""
        paths = [self.said_in, self.site / "work" / "site.log"]
        texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
        return "\n".join([f"--- {self.home.name}", *texts])

    def _environment(self) -> dict[str, str]:
        """Return the environment of a machine on which nobody set a proxy for all programs."""
        found = environment(self.home)
        return {name: found[name] for name in found if not name.lower().endswith("_proxy")}


def invite_and_join(
    centre: Installation, site: Installation, *way: object
) -> Callable[[], dict[str, Any]]:
    """Bring an invite to a site and have it ask to join; return what admits it.

    Args:
        centre: The coordinating centre.
        site: Who joins, under the name of its home folder.
        way: Options that say how the site reaches the coordinator.
    """
    name = site.home.name
    invite = site.home.with_suffix(".invite")
    centre.tell("coordinator", "invite", name, "--out", invite)
    asked = site.tell("site", "join", invite, "--legal-entity", f"{name} hospital", *way)
    assert asked["is_sent"]
    (site.site / "policy.toml").write_text(POLICY, encoding="utf-8")
    words = " ".join(asked["words"])
    return lambda: centre.tell("coordinator", "admit", name, "--words", words)


def end(*processes: subprocess.Popen[bytes]) -> None:
    """End processes politely, together."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(timeout=40)


def wait_for(
    is_so: Callable[[], object], *, timeout_s: float, notes: Callable[[], str] = lambda: ""
) -> None:
    """Wait until something is so; what the installations noted says why it never was."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, f"it did not come about\n{notes()}"
        time.sleep(0.02)


def linked(source: Path, target: Path) -> None:
    """Give a file a second name, unless it has gone or has that name already."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        return
