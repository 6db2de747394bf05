"""What isolated workers do in tests; what could be seen while this was imported is kept."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hospitium.engines.site_worker import public_words

AT_IMPORT = {
    "network": str(Path("/proc/self/ns/net").readlink()) if sys.platform == "linux" else "",
    "torch": "torch" in sys.modules,
}


def obey(request: bytes) -> bytes:
    """Do what the request says, and tell about it."""
    order = json.loads(request)
    return json.dumps(getattr(sys.modules[__name__], order.pop("do"))(**order)).encode()


def tell():
    """Tell everything that a process can see of itself."""
    own = Path("/proc/self")
    return {
        "pid": os.getpid(),
        "at_import": AT_IMPORT,
        "network": str((own / "ns/net").readlink()),
        "environment": dict(os.environ),
        "first_environment": (own / "environ").read_bytes().decode(errors="replace"),
        "arguments": (own / "cmdline").read_bytes().decode(errors="replace"),
        "descriptors": _descriptors(),
        "has_own_session": os.getsid(0) == os.getpid(),
        "writes_bytecode": not sys.dont_write_bytecode,
        "temporary": tempfile.gettempdir(),
    }


def _descriptors():
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[int(path.name)] = str(path.readlink())
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def allocate(num_bytes):
    return int(np.ones(num_bytes, np.uint8).sum())


def answer_too_big(num_bytes, folder):
    reply = public_words(lambda: str(np.ones(num_bytes, np.uint8)), Path(folder))
    return json.loads(reply)


def touch(path):
    Path(path).write_text("x")


def listed(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def leave_a_child_and_hang(path):
    Path(path).write_text(str(subprocess.Popen(["sleep", "60"]).pid))
    time.sleep(60)


def claim_a_huge_reply():
    ours = [fd for fd, path in _descriptors().items() if fd > 2 and path.startswith("pipe:")]
    for fd in ours:
        try:
            os.write(fd, b"\xff" * 8)
        except OSError:  # the pipe that only reads
            continue
    time.sleep(60)
