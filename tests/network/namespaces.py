"""Machines on a network, as Linux network namespaces: a hub, sites, and proxies between them.

Everything hangs on one street, ``10.77.0.0/24``. The hub and the proxies live on it, and so does a
site without a proxy. A site behind a proxy has one cable, to its proxy (``10.78.N.0/24``), which
forwards nothing: it has no route to the hub and cannot resolve its name.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HUB_NAME = "hub.test"
HUB_ADDRESS = "10.77.0.1"
_COUNT = itertools.count()
_ETC = Path("/etc/netns")


def why_not() -> str:
    """Return why no network can be made here; nothing, if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux only"
    if os.geteuid() != 0:
        return "network namespaces joined by cables need root"
    if shutil.which("ip") is None:
        return "the command `ip` is missing (Debian: iproute2; .ci/install-servers installs it)"
    tried = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"],
        capture_output=True,
        text=True,
    )
    return f"this kernel or container makes no veth: {tried.stderr}" if tried.returncode else ""


@dataclass(frozen=True)
class Machine:
    """One namespace and its address; ``outside`` is that of a proxy on the street."""

    name: str
    address: str
    outside: str = ""

    def command(self, words: Sequence[object]) -> list[str]:
        """Return the command that runs these words on this machine."""
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words: object, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine to its end."""
        return subprocess.run(
            self.command(words), capture_output=True, text=True, timeout=timeout_s
        )


class Network:
    """Makes machines and takes them away again; a context manager."""

    def __init__(self) -> None:
        self._prefix = f"hosp{os.getpid()}x{next(_COUNT)}"
        self._numbers = itertools.count(10)
        self._made: list[str] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Network:
        try:
            self._street = self._namespace("street", hosts="")
            _ip("-n", self._street, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._street, "link", "set", "br0", "up")
            self.hub = self._on_the_street("hub", HUB_ADDRESS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def site(self, name: str) -> Machine:
        """Add a site without a proxy: it reaches the hub directly."""
        return self._on_the_street(name, f"10.77.0.{next(self._numbers)}")

    def site_behind_proxy(self, name: str) -> tuple[Machine, Machine]:
        """Add a site and the machine of its proxy; return both."""
        number = next(self._numbers)
        proxy = self._on_the_street(f"{name}-proxy", f"10.77.0.{number}")
        site = self._namespace(name, hosts="127.0.0.1 localhost\n")
        self._cable((site, "eth0"), (proxy.name, "eth1"))
        _address(site, "eth0", f"10.78.{number}.2/24")
        _address(proxy.name, "eth1", f"10.78.{number}.1/24")
        inside = Machine(proxy.name, f"10.78.{number}.1", outside=proxy.address)
        return Machine(site, f"10.78.{number}.2"), inside

    def start(
        self, machine: Machine, words: Sequence[object], **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a command on a machine; it is killed when the network is taken down."""
        process = subprocess.Popen(machine.command(words), **options)  # type: ignore[call-overload]
        self._started.append(process)
        return process

    def unplug(self, machine: Machine) -> None:
        """Cut a machine's cable; what is under way hangs, as with a real cable."""
        _ip("-n", machine.name, "link", "set", "eth0", "down")

    def plug_in(self, machine: Machine) -> None:
        """Put the cable back."""
        _ip("-n", machine.name, "link", "set", "eth0", "up")

    def close(self) -> None:
        """Kill what was started and remove all namespaces; safe to call twice."""
        for process in self._started:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._started.clear()
        while self._made:
            name = self._made.pop()
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(_ETC / name, ignore_errors=True)
        with suppress(OSError):  # others may use it
            _ETC.rmdir()

    def _on_the_street(self, name: str, address: str) -> Machine:
        found = self._namespace(name, hosts=f"127.0.0.1 localhost\n{HUB_ADDRESS} {HUB_NAME}\n")
        port = f"p{address.rpartition('.')[2]}"
        self._cable((found, "eth0"), (self._street, port))
        _ip("-n", self._street, "link", "set", port, "master", "br0")
        _ip("-n", self._street, "link", "set", port, "up")
        _address(found, "eth0", f"{address}/24")
        return Machine(found, address)

    def _namespace(self, name: str, *, hosts: str) -> str:
        """Make a namespace with loopback, its own hosts file, and no name server."""
        found = f"{self._prefix}-{name}"
        _ip("netns", "add", found)
        self._made.append(found)
        (_ETC / found).mkdir(parents=True, exist_ok=True)
        (_ETC / found / "hosts").write_text(hosts, encoding="ascii")
        (_ETC / found / "resolv.conf").write_text("", encoding="ascii")
        _ip("-n", found, "link", "set", "lo", "up")
        return found

    def _cable(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        _ip(
            *("link", "add", one[1], "netns", one[0], "type", "veth"),
            *("peer", "name", other[1], "netns", other[0]),
        )


def _address(namespace: str, interface: str, address: str) -> None:
    _ip("-n", namespace, "addr", "add", address, "dev", interface)
    _ip("-n", namespace, "link", "set", interface, "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
