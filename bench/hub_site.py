"""One site of a measured federation, as a process of its own: the real agent, and idle work.

``python -m bench.hub_site FOLDER SITE_ID``. The folder holds what a site got when it joined, as
``setup.json``. The process ends when its standard input does: with its parent, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from bench import idle_site
from hospitium.engines.hub.client import Connection
from hospitium.engines.hub.site_loop import Approved, SiteKeys, SiteLoop
from hospitium.engines.workers import WorkerPool
from hospitium.plan.reading import plan_from_dict
from hospitium.wire.signing import SigningKey

NUM_CASES = 100


class SiteProcess:
    """A site's process, as the coordinator's process starts and ends it.

    Args:
        folder: Of the federation: the setup is there, and the site's own folder is made in it.
        site_id: What the site is called.
    """

    def __init__(self, folder: Path, site_id: str) -> None:
        command = [sys.executable, "-m", "bench.hub_site", str(folder), site_id]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def key_of(name: str) -> SigningKey:
    """Return the key of this name: the same in every process of a measurement."""
    return SigningKey.from_bytes(name.encode().ljust(32, b".")[:32])


def main() -> None:
    """Answer tasks until the parent is gone."""
    folder, site_id = Path(sys.argv[1]), sys.argv[2]
    setup = json.loads((folder / "setup.json").read_text())
    plan = plan_from_dict(setup["plan"])
    own = folder / site_id
    pool = WorkerPool(idle_site.answer_request, num_workers=1)
    approved = Approved(plan=plan, cases=own, num_cases=NUM_CASES)
    loop = SiteLoop(
        site_id=site_id,
        keys=SiteKeys(
            request=key_of(f"{site_id} request"),
            signing=key_of(f"{site_id} signing"),
            coordinator=key_of("coordinator").public,
        ),
        connection=Connection(url=setup["url"], ca_file=Path(setup["ca_file"])),
        folder=own,
        pool=pool,
        approved=lambda digest: approved,
    )
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    sys.stdin.read()
    loop.stop()
    pool.close()


if __name__ == "__main__":
    main()
