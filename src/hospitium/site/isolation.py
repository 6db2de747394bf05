"""Training without network and without keys: what a worker gives up before it loads anything.

A site is two processes. The agent holds the keys and talks to the coordinator; what trains has
neither. On Linux a worker takes both away from itself, as any user, before the code that trains
is imported (`cut_off`), and then tries to get out (`probe`): only what it cannot reach counts. On
other systems a process cannot do that; `REMEDY` says what an administrator can do, and `probe`
tells whether it was done.

The worker runs as the same user as the agent. On Linux the folders with the keys are therefore
hidden from it, and it can change no file but what it is there to write (`View`); elsewhere only
an account of its own keeps the agent's files from it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from hospitium.site import confinement

Isolation: TypeAlias = Literal["cut_off", "not_cut_off", "not_tested"]
"""``not_tested``: of workers that run on this machine's behalf, as in a simulation."""

ENVIRONMENT = (
    *("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"),
)
"""All that a worker sees of its parent's environment: no proxy, no key, no token, no home."""

CONNECT_S = 2.0
_NAME_SERVICES = (
    *("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/var/run/nscd/socket"),
    "/run/dbus/system_bus_socket",
)
_LINUX_REMEDY = (
    "The kernel or the container refuses this service a user namespace. Allow it: in a container, "
    "with the capability SYS_ADMIN or a seccomp profile that lets `unshare` and `mount` pass; "
    "under systemd, without RestrictNamespaces=; on Ubuntu 24.04 and later, with an AppArmor "
    "profile that says `userns` (or kernel.apparmor_restrict_unprivileged_userns=0)."
)
_OTHER_REMEDY = (
    "This system has no way for a process to cut itself off. Run the site in WSL 2, in a Linux "
    "container or on Linux; or run it under an account of its own on a machine whose firewall lets "
    "that account reach nothing but the proxy, and write `isolation.required = false` into the "
    "site's policy, knowing that what trains could then reach the proxy too."
)
REMEDY = _LINUX_REMEDY if sys.platform == "linux" else _OTHER_REMEDY
"""What an administrator does where the outcome is ``not_cut_off``."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of the machine one worker may use; 0 is no limit.

    Attributes:
        memory_gb: Of private memory (10^9 bytes); beyond it an allocation fails inside the worker.
            Linux only. Files that are mapped, and a GPU's own memory, do not count.
        task_s: Of one request, whatever deadline it came with.
        nice: Added to the priority's number, 0 to 19; other systems than Windows.
    """

    memory_gb: float = 0.0
    task_s: float = 0.0
    nice: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """What of this machine's files a worker finds otherwise than they are.

    Attributes:
        hidden: Existing folders that it finds empty.
        protected: Existing folders in which it must be able to change nothing. With one, all of
            the machine is read-only to it.
        writable: Folders and files that are not, all the same.
        temporary: Its folder for temporary files, one of these; None: the system's.
    """

    hidden: tuple[Path, ...] = ()
    protected: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    temporary: Path | None = None


ALL = View()
"""Files as they are."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a worker may see; a name counts in any case, as on Windows."""
    return {name: value for name, value in given.items() if name.upper() in ENVIRONMENT}


def cut_off(view: View = ALL) -> None:
    """Take the network, the keys and every right from this process, as far as its system can.

    On Linux: an empty network namespace without loopback, the hidden folders empty, all files
    read-only but the writable ones, no capability, no new privilege, and no system call that opens
    a socket. What the kernel refuses is left out without a word: ask `probe`. Elsewhere only new
    files are made private.

    Args:
        view: How this process shall find files.
    """
    os.umask(0o077)
    if sys.platform != "linux":
        return
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "other threads would keep the network"
    with suppress(OSError):
        confinement.enter_empty_namespaces()
        with suppress(OSError):
            if view.protected:
                confinement.protect(but=view.writable)
        confinement.hide(view.hidden)
    with suppress(OSError):
        os.chdir(Path.cwd())  # the same place, found anew through what is mounted now
    with suppress(OSError):
        confinement.drop_rights()
    with suppress(OSError):
        confinement.refuse_sockets()


def shield() -> None:
    """Keep an agent's keys out of crash dumps, new files, and the eyes of its own user's processes.

    For the process that holds the keys; how it works does not change.
    """
    os.umask(0o077)
    _no_dumps()
    if sys.platform == "linux":
        with suppress(OSError):
            confinement.keep_memory_private()


def limit(limits: Limits) -> None:
    """Bound this process's memory and priority, and let no crash write its memory to disk."""
    _no_dumps()
    if sys.platform == "win32":
        return
    os.nice(max(0, limits.nice))
    if limits.memory_gb > 0 and sys.platform == "linux":
        import resource

        most = int(limits.memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _no_dumps() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def probe(addresses: Iterable[str], *, view: View = ALL) -> Literal["cut_off", "not_cut_off"]:
    """Try to get out: to each address, to the name servers, and into the agent's folders.

    The caller listens at one of the addresses, on this machine's loopback, so that there is
    something to be reached; without that a process beside an unplugged cable would pass.

    Args:
        addresses: ``host:port`` or URLs: the listener, the coordinator, the proxy.
        view: Which folders must be found empty, and in which nothing must be written.

    Returns:
        ``cut_off`` only if everything failed.
    """
    reached = any(_connects(address) for address in addresses)
    reached = reached or _finds_names()
    reached = reached or any(_sees_into(folder) for folder in view.hidden)
    reached = reached or any(os.access(folder, os.W_OK) for folder in view.protected)
    return "not_cut_off" if reached else "cut_off"


def _connects(address: str) -> bool:
    """Whether a connection comes about, or the machine at least found somebody to ask."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except ConnectionError:  # refused or reset: by somebody who was reached
        return True
    except OSError:
        return False
    return True


def _finds_names() -> bool:
    """Whether there is a way to a name server: a route, or a service of this machine."""
    if sys.platform != "linux":
        return False
    return any(_has_route(server) for server in _name_servers()) or any(
        _opens(path) for path in _NAME_SERVICES
    )


def _name_servers() -> list[str]:
    """Return the configured name servers, and one that stands for all others."""
    servers = ["192.0.2.53"]  # reserved for documentation: routed like any other, asked by nobody
    with suppress(OSError), Path("/etc/resolv.conf").open(encoding="utf-8") as file:
        lines = (line.split() for line in file)
        servers += [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return servers


def _has_route(server: str) -> bool:
    """Whether datagrams to a server would leave; none is sent."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((server, 53))
    except OSError:
        return False
    return True


def _opens(path: str) -> bool:
    """Whether a service of this machine that answers for names can be spoken to."""
    if sys.platform == "win32":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.connect(path)
    except OSError:
        return False
    return True


def _sees_into(folder: Path) -> bool:
    """Whether anything in a folder can be seen."""
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False
