"""What this machine has for training: main memory, and the memory of its GPU."""

from __future__ import annotations

import ctypes
import os
import sys


def memory_bytes() -> int | None:
    """Return the size of the main memory, None where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory_bytes()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def gpu_memory_bytes() -> int:
    """Return the memory of the largest GPU that training could use, 0 without one."""
    import torch

    if not torch.cuda.is_available():
        return 0
    count = torch.cuda.device_count()
    return max((torch.cuda.get_device_properties(n).total_memory for n in range(count)), default=0)


class _MemoryStatus(ctypes.Structure):
    """``MEMORYSTATUSEX`` of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("others", ctypes.c_ulonglong * 6),
    )


def _windows_memory_bytes() -> int | None:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return status.total if found else None
