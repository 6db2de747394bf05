"""Installations on machines of a network: a home folder each, and the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import HUB_NAME, Machine, Network
from proxies import PASSWORD, USER, Proxy
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
    def hub_ca(self) -> bytes:
        """The certificate of the coordinator's own authority, in PEM."""
        settings = json.loads((self.office / "settings.json").read_bytes())
        return str(settings["tls_ca"]).encode()

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


def begin(network: Network, home: Path, *options: object) -> Installation:
    """Begin a federation on the hub's machine; return its coordinating centre."""
    centre = Installation(network=network, machine=network.hub, home=home)
    address = f"https://{HUB_NAME}"
    centre.tell("coordinator", "init", FEDERATION, "--address", address, *options)
    return centre


def way_through(proxy: Proxy | None, folder: Path) -> list[object]:
    """Return the options that tell a site's installation about its proxy."""
    if proxy is None:
        return []
    way: list[object] = ["--proxy", proxy.url_without_login]
    if proxy.kind == "login":
        (folder / "login").write_text(f"{USER}:{PASSWORD}\n", encoding="ascii")
        way += ["--proxy-login", folder / "login"]
    if proxy.kind == "inspecting":
        (folder / "hospital.pem").write_bytes(proxy.ca)
        way += ["--ca-bundle", folder / "hospital.pem"]
    return way


def join_all(
    centre: Installation,
    sites: Mapping[str, Installation],
    proxies: Mapping[str, Proxy],
    *,
    policy: str,
) -> None:
    """Invite sites, have them ask to join by the ways that they have, and admit them."""

    def join(site: Installation) -> str:
        name = site.home.name
        invite = site.home.with_suffix(".invite")
        centre.tell("coordinator", "invite", name, "--out", invite)
        way = way_through(proxies.get(name), site.home.parent)
        asked = site.tell("site", "join", invite, "--legal-entity", f"{name} hospital", *way)
        assert asked["is_sent"]
        (site.site / "policy.toml").write_text(policy, encoding="utf-8")
        return " ".join(asked["words"])

    with ThreadPoolExecutor(2) as threads:
        heard = dict(zip(sites, threads.map(join, sites.values()), strict=True))
    for name, words in heard.items():
        centre.tell("coordinator", "admit", name, "--words", words)


def approve_all(centre: Installation, sites: Mapping[str, Installation], plan_digest: str) -> None:
    """Have a plan approved at sites whose agents run, with the data beside their home folders.

    It returns when the centre has heard of it.
    """

    def approve(site: Installation) -> None:
        wait_for(lambda: list(site.site.glob("inbox/*")), timeout_s=60, notes=site.notes)
        words = ("site", "approve", plan_digest, "--as", APPROVER, "--yes", "--data")
        assert site.tell(*words, site.home.with_suffix(".npz"))["state"] == "approved"

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(approve, sites.values()))
    said = centre.office / "said" / plan_digest
    wait_for(lambda: len(list(said.glob("*"))) == len(sites), timeout_s=60, notes=centre.notes)


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
