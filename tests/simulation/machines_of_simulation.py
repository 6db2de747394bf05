"""Simulated machines: folders whose writes can be lost, torn or refused, and processes that die.

Files are real files in a folder in memory. What was synced is remembered at each fsync, so that a
power cut can take away what was not: a machine that comes back finds a new folder with what its
disk really held. SQLite's files are left whole: it syncs each commit itself.
"""

# ruff: noqa: PTH103, PTH115, PTH116, PTH123
# Paths are texts here: a thousand seeds open a million files.

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from virtual_time import World, world

real_fsync = os.fsync

Image = dict[str, bytes]
"""Every file of a machine, by its path below the machine's folder."""

LOGS = ("egress.jsonl", "leaves.jsonl")
_SQLITE = (".sqlite", ".sqlite-wal")


@dataclass(kw_only=True)
class Process:
    """What strands belong to: it lives once, from a start to its end."""

    machine: Machine
    name: str
    pid: int
    is_dead: bool = False

    @property
    def clock_offset_s(self) -> float:
        return self.machine.clock_offset_s


@dataclass(kw_only=True)
class Machine:
    """One computer: a folder, a wall clock that may jump, and the processes on it."""

    name: str
    here: World
    place: Path
    begin: Callable[[Process], None]
    clock_offset_s: float = 0.0
    is_full: bool = False
    tracks_all: bool = False
    points: int = 0
    crashes: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens at the point of this number."""
    seen: list[str] | None = None
    """The names of all points, where somebody wants them."""
    processes: list[Process] = field(default_factory=list)
    generation: int = 0
    synced: dict[int, bytes] = field(default_factory=dict)
    entries: dict[str, dict[str, int]] = field(default_factory=dict)
    is_up: bool = False
    logs: dict[str, bytes] = field(default_factory=dict)
    """What the disk holds of each log."""

    @property
    def folder(self) -> Path:
        return self.place / f"{self.name}.{self.generation}"

    def boot(self, image: Image) -> None:
        """Begin with these files, all of them synced."""
        self.generation += 1
        self.synced, self.entries, self.logs = {}, {}, {}
        root, made = str(self.folder), set()
        for name, data in image.items():
            path = f"{root}/{name}"
            parent = path.rpartition("/")[0]
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made.add(parent)
                self.entries.setdefault(parent, {})
            if not name.rpartition("/")[2]:
                continue
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, data)
            number = os.fstat(descriptor).st_ino
            os.close(descriptor)
            self.synced[number] = data
            if path.endswith(LOGS):
                self.logs[path] = data
            self.entries[parent][path.rpartition("/")[2]] = number
        self.is_up = True
        self.start()

    def start(self) -> Process:
        """Start the machine's process, or a further one."""
        process = Process(machine=self, name=self.name, pid=1000 + self.here.number() % 60000)
        self.processes.append(process)
        self.here.spawn(process, lambda: self.begin(process), "main")
        return process

    def image(self) -> Image:
        """Return every file as a process sees it now."""
        root = str(self.folder)
        found: Image = {}
        for parent, folders, names in os.walk(root):
            below = parent[len(root) + 1 :]
            if not names and not folders:
                found[f"{below}/"] = b""
            for name in names:
                if not name.endswith("-shm"):
                    with open(f"{parent}/{name}", "rb") as file:
                        found[f"{below}/{name}" if below else name] = file.read()
        return found

    def image_after_power_cut(self) -> Image:
        """Return what the disk may hold after the power went: what was synced, and chance."""
        root, now = str(self.folder), self.image()
        draw = self.here
        found: Image = {}
        names = {f"{root}/{name}" for name in now if not name.endswith("/")}
        names |= {f"{parent}/{name}" for parent, row in self.entries.items() for name in row}
        for path in sorted(names):
            name = path[len(root) + 1 :]
            if name.endswith(_SQLITE):
                if name in now:
                    found[name] = now[name]
                continue
            parent, _, last = path.rpartition("/")
            before = self.entries.get(parent, {}).get(last)
            after = os.stat(path).st_ino if name in now else None
            number = after
            if before != after and draw.chance(0.5, "entry", self.name):
                number = before
            if number is None:
                continue
            found[name] = self._content(number, now.get(name) if number == after else None)
        for name in now:
            if name.endswith("/"):
                found[name] = b""
        return found

    def _content(self, number: int, current: bytes | None) -> bytes:
        """Return the content of a file after a power cut."""
        synced = self.synced.get(number)
        if current is None:
            return synced or b""
        if synced == current:
            return current
        kind = self.here.draw("torn", self.name) % 3
        if kind == 0:
            return current
        if synced is not None and current.startswith(synced):  # an append: some of it is there
            return current[: len(synced) + self.here.draw("cut") % (len(current) - len(synced) + 1)]
        if kind == 1 or synced is None:
            cut = self.here.draw("cut", self.name) % (len(current) + 1)
            return current[:cut] + (bytes(len(current) - cut) if cut % 2 else b"")
        return synced

    def die(
        self,
        *,
        power_cut: bool = False,
        changed: Callable[[Image], Image] = lambda i: i,
        down_s: float = 5.0,
    ) -> None:
        """End every process at once; come back after a while with what the disk holds."""
        if not self.is_up:
            return
        image = self.image_after_power_cut() if power_cut else self.image()
        for process in self.processes:
            process.is_dead = True
        self.processes = []
        self.is_up = False
        self.here.at(self.here.now + down_s, lambda: self.boot(changed(image)))
        current = self.here.current
        if current is not None and current.node.is_dead:
            self.here.stop_here()

    # --- what the product's code passes -----------------------------------------------------

    def point(self, name: str) -> None:
        """Pass a place where a process may die."""
        number = self.points
        self.points += 1
        if self.seen is not None:
            self.seen.append(name)
        crash = self.crashes.pop(number, None)
        if crash is not None:
            crash()

    def refuse_if_full(self) -> None:
        """Raise what a full disk raises."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


def machine_now() -> Machine | None:
    """Return the machine whose strand runs now."""
    strand = world().current
    return None if strand is None else strand.node.machine


def on_write_point(name: str) -> None:
    """Stand for `durable.on_write_point`."""
    strand = world().current
    if strand is None:
        return
    if strand.node.is_dead:  # it is being unwound; what it writes is nobody's any more
        return
    machine: Machine = strand.node.machine
    machine.point(name)
    if name.startswith("before"):
        machine.refuse_if_full()


def fsync(descriptor: int) -> None:
    """Stand for `os.fsync`: remember what the disk holds from now on."""
    strand = world().current if _in_world() else None
    if strand is None or strand.node.is_dead:
        return
    machine: Machine = strand.node.machine
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    is_log = path.endswith(LOGS)
    machine.point("before fsync of the log" if is_log else "before fsync")
    machine.refuse_if_full()
    if is_log:
        with open(f"/proc/self/fd/{descriptor}", "rb") as file:
            machine.logs[path] = file.read()
    if machine.tracks_all:
        _remember(machine, descriptor, path)
    machine.point("after fsync of the log" if is_log else "after fsync")


def _in_world() -> bool:
    try:
        world()
    except IndexError:
        return False
    return True


def _remember(machine: Machine, descriptor: int, path: str) -> None:
    """Note the content of a file, or the names in a folder, as they are now."""
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        with os.scandir(path) as rows:
            machine.entries[path] = {row.name: row.inode() for row in rows if not row.is_dir()}
        return
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        machine.synced[found.st_ino] = file.read()
    parent, _, name = path.rpartition("/")
    machine.entries.setdefault(parent, {}).setdefault(name, found.st_ino)
