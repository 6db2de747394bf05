"""What ``hospitium doctor`` finds on this machine: package, home folder, databases, processors."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from hospitium.engines.workers import WorkerDiedError, WorkerPool
from hospitium.errors import HospitiumError
from hospitium.operations.doctor_checks import (
    ENGINEER,
    Check,
    failed,
    passed,
    skipped,
    warned,
)
from hospitium.operations.versions import versions
from hospitium.site.isolation import ALL, REMEDY, View
from hospitium.state.examining import examine
from hospitium.state.home import Home
from hospitium.training.machine import gpu_memory_bytes, memory_bytes

GB = 1_000_000_000
LEAST_FREE_BYTES, FEW_FREE_BYTES = 1 * GB, 10 * GB
WORKER_START_S = 60.0
_SHARES = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
           "smb3", "smbfs", "vboxsf"}  # fmt: skip
"""File systems of other machines, on which SQLite's write-ahead log does not work."""


def check_package(extra: str) -> Iterator[Check]:
    """Yield versions, what is missing of an extra, and whether installed files are as delivered."""
    found = versions()
    words = ", ".join(f"{name} {version}" for name, version in found.items())
    yield passed("versions", words)
    missing = _missing(extra)
    if missing:
        yield failed(
            "packages",
            f"not installed: {', '.join(missing)}",
            remedy=f'Install them: pip install "hospitium[{extra}]" (docs/how-to/install.md).',
            who=ENGINEER,
        )
    else:
        yield passed("packages", f"all of hospitium[{extra}] are installed")
    yield _files()


def _missing(extra: str) -> list[str]:
    """Return the packages that an extra wants and that are not here."""
    lines = metadata.requires("hospitium") or []
    wanted = [line for line in lines if f'extra == "{extra}"' in line.replace("'", '"')]
    names = [re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in wanted]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _files() -> Check:
    """Compare the installed files with the digests that came with them."""
    files = [path for path in metadata.files("hospitium") or [] if path.hash is not None]
    changed = []
    for path in files:
        assert path.hash is not None
        place = Path(str(path.locate()))
        data = place.read_bytes() if place.is_file() else b""
        digest = base64.urlsafe_b64encode(hashlib.new(path.hash.mode, data).digest()).rstrip(b"=")
        if digest.decode() != path.hash.value:
            changed.append(str(path))
    if changed:
        return failed(
            "files",
            f"{len(changed)} of {len(files)} installed files are not as delivered, first "
            f"{changed[0]}",
            remedy="The package was changed or half installed: install it again.",
            who=ENGINEER,
        )
    return passed("files", f"{len(files)} installed files are as delivered")


def check_home(home: Home) -> Iterator[Check]:
    """Yield whose the home folder is, who else may use it, on what disk it lies, and its space."""
    folder = _existing(home.folder)
    where = str(home.folder) if folder == home.folder else f"{home.folder} (not made yet)"
    yield _owner(folder, where) if folder == home.folder else passed("home", where)
    yield _disk(folder)
    yield _space(folder)


def _existing(folder: Path) -> Path:
    """Return a folder, or the first one above it that exists."""
    return next((path for path in (folder, *folder.parents) if path.is_dir()), folder)


def _owner(folder: Path, where: str) -> Check:
    found = folder.stat()
    if os.name == "posix" and found.st_uid != os.geteuid():
        return failed(
            "home",
            f"{where} belongs to user {found.st_uid}, this is user {os.geteuid()}",
            remedy="Run as the account of the service, or name your own folder with --home.",
            who=ENGINEER,
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return failed(
            "home", f"{where} cannot be written", remedy="Give this account the right to.",
            who=ENGINEER,
        )  # fmt: skip
    mode = stat.S_IMODE(found.st_mode)
    if os.name == "posix" and mode & 0o022:
        return failed(
            "home",
            f"other accounts can write into {where} (mode {mode:04o}, expected 0700)",
            remedy=f"Run: chmod 700 {where}",
            who=ENGINEER,
        )
    if os.name == "posix" and mode & 0o055:
        return warned(
            "home",
            f"other accounts can look into {where} (mode {mode:04o}, expected 0700); keys are "
            "closed to them all the same",
            remedy=f"Run: chmod 700 {where}",
            who=ENGINEER,
        )
    return passed("home", f"{where} is this account's alone")


def _disk(folder: Path) -> Check:
    kind = _file_system(folder)
    if kind in _SHARES or kind == "remote":
        return failed(
            "disk",
            f"the home folder lies on a network share ({kind}); its databases could be damaged",
            remedy="Move it to a disk of this machine; name it with --home or HOSPITIUM_HOME.",
            who=ENGINEER,
        )
    return passed("disk", f"the home folder lies on this machine ({kind or 'kind unknown'})")


def _file_system(folder: Path) -> str:
    """Return the kind of file system of a folder; empty where the system does not say."""
    if sys.platform == "win32":
        root = folder.resolve().anchor
        return "remote" if ctypes.windll.kernel32.GetDriveTypeW(root) == 4 else "local"
    return mounted_kind(folder.resolve(), Path("/proc/self/mountinfo"))


def mounted_kind(folder: Path, table: Path) -> str:
    """Return the kind of the innermost mount that holds a folder, by Linux's table of mounts."""
    kinds: dict[Path, str] = {}
    with suppress(OSError):
        for line in table.read_text(encoding="utf-8").splitlines():
            left, _, right = line.partition(" - ")
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), left.split()[4])
            kinds[Path(place)] = right.split()[0]
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "")


def _space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    words = f"{free / GB:.1f} GB free at the home folder"
    if free < LEAST_FREE_BYTES:
        return failed("space", words, remedy="Free some space: 1 GB or more.", who=ENGINEER)
    if free < FEW_FREE_BYTES:
        return warned("space", words, remedy="Free some space: 10 GB are well.", who=ENGINEER)
    return passed("space", words)


def check_databases(home: Home) -> Check:
    """Look at every database of this home; none is opened for work."""
    paths = [path for path in sorted(home.folder.rglob("*.sqlite")) if path.name != "lock.sqlite"]
    found = {path.relative_to(home.folder).as_posix(): examine(path) for path in paths}
    damaged = [f"{name} ({words})" for name, words in found.items() if words != "ok"]
    if damaged:
        return failed(
            "databases",
            f"{len(damaged)} of {len(found)} are damaged, first {damaged[0]}",
            remedy="Leave it as it is; restore its folder from a backup, then resume.",
            who=ENGINEER,
        )
    if not found:
        return passed("databases", "none here, so none that could be damaged")
    return passed("databases", f"{len(found)} looked at, all are sound")


def check_processors(*, gpu: bool) -> Iterator[Check]:
    """Yield threads and memory; the GPU only where it is asked for, as that loads torch."""
    memory = memory_bytes()
    amount = f", {memory / GB:.0f} GB of memory" if memory else ""
    affinity = getattr(os, "sched_getaffinity", None)
    threads = len(affinity(0)) if affinity else os.cpu_count() or 1
    yield passed("processors", f"{threads} threads{amount}")
    if not gpu:
        yield skipped("gpu", "ask with --gpu; it loads torch")
        return
    if not _is_installed("torch"):
        yield failed("gpu", "torch is not installed", remedy='pip install "hospitium[site]"',
                     who=ENGINEER)  # fmt: skip
        return
    yield _gpu()


def _gpu() -> Check:
    size = gpu_memory_bytes()
    if size:
        return passed("gpu", f"torch sees a GPU with {size / GB:.0f} GB")
    if list(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi"):
        return warned(
            "gpu",
            "this machine has an NVIDIA GPU or its driver, and torch does not see it from here",
            remedy="Does the account of the service have the right to it, and is torch a CUDA "
            "build? Until then training takes the processors.",
            who=ENGINEER,
        )
    return passed("gpu", "none; training takes the processors")


def nothing(request: bytes) -> bytes:
    """Answer a worker's request with nothing: the worker that doctor starts has no work."""
    return b""


def check_worker(*, addresses: Sequence[str], required: bool, view: View = ALL) -> Iterator[Check]:
    """Start a worker as training would be started, and say whether it is cut off."""
    pool = WorkerPool(nothing, num_workers=1, isolated=True, addresses=addresses, view=view)
    try:
        outcome = pool.prepare(deadline_s=WORKER_START_S)
    except (TimeoutError, WorkerDiedError, OSError, HospitiumError) as error:
        yield failed(
            "worker",
            f"a training process could not be started: {error or type(error).__name__}",
            remedy="In a container: does it have shared memory and a writable temporary folder?",
            who=ENGINEER,
        )
        return
    finally:
        pool.close()
    yield passed("worker", "a training process starts and answers")
    if outcome == "cut_off":
        yield passed("isolation", "a training process tried to get out and could not")
    elif required:
        found = (
            "a training process can reach the network or the agent's files; the policy forbids that"
        )
        yield failed("isolation", found, remedy=REMEDY, who=ENGINEER)
    else:
        found = (
            "a training process can reach the network or the agent's files; the policy allows that"
        )
        yield warned("isolation", found, remedy=REMEDY, who=ENGINEER)
