"""What the Linux kernel can take away from a process: networks, folders, rights, system calls.

Two fences stand one behind the other, because hospitals' machines allow one or the other: an empty
network namespace (often forbidden inside containers), and a filter that refuses the system calls
which open a socket (allowed nearly everywhere). Each function raises `OSError` where the kernel
refuses; `isolation.probe` then finds out what holds.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_OPTIONS = {b"nosuid": _MS_NOSUID, b"nodev": _MS_NODEV, b"noexec": _MS_NOEXEC}
_SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 4, 22, 38
_CAPABILITY_VERSION = 0x20080522

_REFUSED_CALLS = {  # socket, socketpair, ptrace, setns, process_vm_readv, process_vm_writev
    "x86_64": (41, 53, 101, 308, 310, 311),
    "aarch64": (198, 199, 117, 268, 270, 271),
}
_REFUSED_EVERYWHERE = (425, 438)  # io_uring_setup, pidfd_getfd
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_CALLS = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of classic BPF
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # 1: EPERM


def enter_empty_namespaces() -> None:
    """Leave every network, for good: what is entered has no interface that is up, loopback too.

    A user namespace comes with it, so that no root is needed, and so that the process keeps no
    right over its parent: not to trace it, nor to enter its namespaces, also when both are root.
    Abstract UNIX sockets stay behind with the network. What is mounted here afterwards, nobody
    else sees. Must be called with one thread.
    """
    empty = _NEW_NET | _NEW_MOUNTS | _NEW_IPC
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEW_USER | empty)
    except OSError:
        _call("unshare", empty)  # a machine without user namespaces, and we are root
    else:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1")):
            Path("/proc/self", name).write_text(line, encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)


def protect(*, but: Sequence[Path]) -> None:
    """Let this process change no file of this machine but these; needs our namespaces.

    What the kernel does not let be changed so, stays: whether what matters is read-only now, the
    caller finds out.

    Args:
        but: Folders and files that stay as they are; those that are not there are left out.
    """
    open_still = [path.resolve() for path in but if path.exists()]
    for path in open_still:
        _bind(path, path, _MS_BIND | _MS_REC)
    for place, options in _mounts().items():
        if not any(place.is_relative_to(path) for path in open_still):
            kept = sum(flag for name, flag in _OPTIONS.items() if name in options)
            with suppress(OSError):
                _bind(place, place, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def hide(folders: Sequence[Path]) -> None:
    """Put an empty folder in the place of each; needs the namespaces of this module."""
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    for folder in folders:
        _call("mount", b"none", os.fsencode(folder), b"tmpfs", flags, b"size=4k,mode=0500")


def drop_rights() -> None:
    """Give up every capability, and what a set-uid file could give back."""
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _call("capset", header, bytes(24))


def refuse_sockets() -> None:
    """Make the kernel answer EPERM to every way of getting a socket or into another process.

    Raises:
        OSError: This kind of processor has no filter here.
    """
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no filter for {machine}")
    program = _filter(machine)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _SET_SECCOMP, 2, header, 0, 0)


def keep_memory_private() -> None:
    """Let no other process of this user read this one's memory, nor a crash write it to disk."""
    _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)


def _filter(machine: str) -> bytes:
    """Return a program: wrong architecture or a call of the list is refused, all else allowed."""
    refused = (*_REFUSED_CALLS[machine], *_REFUSED_EVERYWHERE)
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 0, len(refused) + 3, _AUDIT_ARCH[machine]),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_AT_LEAST, len(refused) + 1, 0, _X32_CALLS),
        *((_EQUAL, len(refused) - index, 0, call) for index, call in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _bind(source: Path, target: Path, flags: int) -> None:
    _call("mount", os.fsencode(source), os.fsencode(target), None, flags, None)


def _mounts() -> dict[Path, list[bytes]]:
    """Return each place where something is mounted, with the options of what is seen there."""
    found = {}
    for row in Path("/proc/self/mountinfo").read_bytes().splitlines():
        escaped, options = row.split()[4:6]
        name = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), escaped)
        found[Path(os.fsdecode(name))] = options.split(b",")
    return found


def _call(name: str, *args: bytes | int | None) -> None:
    """Call a function of the C library that answers 0, or sets errno."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    converted = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    if function(*converted) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
