"""Many sites' agents in one process, each a thread with keys and a folder of its own.

    python many_agents.py FOLDER SITE...

All of them hand their tasks to one training process. Everything else is each one's own: its keys,
its policy and approval, its connections, its answers on disk, its record of what left.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from carried import NAME

from hospitium import __version__
from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.client import HubClient
from hospitium.engines.hub.site_loop import SiteKeys, SiteLoop
from hospitium.engines.hub.transport import WORK, connection_of
from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.site_rules import SiteRules
from hospitium.operations.site_watching import watch_of
from hospitium.site.condition import Condition
from hospitium.site.membership import Membership, membership
from hospitium.site.record import egress_of
from hospitium.wire.signing import VerifyKey

BEAT_S = 30.0
"""As often as `hospitium site up` says how it is."""


def agent_of(place: Membership, pool: WorkerPool, condition: Condition) -> SiteLoop:
    """Return the agent of one site, as `hospitium site up` has it."""
    rules = SiteRules(place)
    keys = SiteKeys(
        request=place.request_key(),
        signing=place.signing_key(),
        coordinator=VerifyKey.from_hex(place.members().coordinator_keys[0]),
    )
    return SiteLoop(
        site_id=place.settings.site_id,
        keys=keys,
        connection=replace(connection_of(place), longest_pause_s=5.0),
        folder=place.folder / WORK,
        pool=pool,
        approved=rules.approved,
        rules=rules.for_loop(),
        condition=condition,
        egress=egress_of(place),
        watch=watch_of(place, place.folder / WORK, coordinator=keys.coordinator),
    )


def beat_for_ever(told: list[tuple[HubClient, Condition]]) -> None:
    """Say how each site is, and write it down at the site, as its agent does."""
    beat = Beat(state="waiting", version=__version__, decoding=True).encoded()
    while True:
        for client, condition in told:
            condition.write(now=datetime.now(UTC))
            client.beat(beat)
            time.sleep(BEAT_S / len(told))


def main(folder: Path, site_ids: list[str]) -> None:
    pool = WorkerPool(answer_request, num_workers=1)
    told, threads = [], []
    for place in (membership(folder / site_id, NAME) for site_id in site_ids):
        condition = Condition(place.folder)
        told.append((HubClient(connection_of(place), key=place.request_key()), condition))
        threads.append(threading.Thread(target=agent_of(place, pool, condition).run))
    threads.append(threading.Thread(target=beat_for_ever, args=(told,)))
    for thread in threads:
        thread.daemon = True
        thread.start()
    threads[0].join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
