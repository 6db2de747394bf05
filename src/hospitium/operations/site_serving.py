"""``site up``: one process with the agents of all federations that this site takes part in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hospitium.engines.hub.transport import connection_of
from hospitium.errors import HospitiumError, RunBusyError, UsageError
from hospitium.operations.enrolment import joined
from hospitium.operations.leaving import Saved
from hospitium.operations.site_answering import isolated_pool
from hospitium.operations.site_attending import Attendant
from hospitium.site.isolation import Isolation, shield
from hospitium.site.line import keep_line
from hospitium.site.membership import Membership, memberships
from hospitium.state.home import Home, locked

LOOK_S = 1.0
"""How often a new federation is looked for."""


def serve_site(
    home: Home,
    *,
    stop: threading.Event,
    say: Callable[[str], None] = lambda text: None,
    is_shielded: bool = False,
) -> None:
    """Attend to every federation that this site asked to join, until it is stopped.

    Args:
        home: This installation.
        stop: Ends it; so does an exception in this thread. What is under way is kept on disk.
        say: Told in words what changes.
        is_shielded: Whether this process keeps its memory from the user's other processes; see
            `shield`. It is for a process that does nothing else.

    Raises:
        RunBusyError: Another process does this for the same home folder.
    """
    if is_shielded:
        shield()
    agents: dict[Path, tuple[Attendant, threading.Thread]] = {}
    with _only_one(home):
        if not memberships(home.folder):
            say(
                f"This site has joined nothing yet: in {home.folder} there is no federation. The "
                "agent waits for `hospitium site join INVITE`. If it has joined, HOSPITIUM_HOME or "
                "--home must name the folder of that."
            )
        try:
            while not stop.is_set():
                for place in memberships(home.folder):
                    if place.folder not in agents or not agents[place.folder][1].is_alive():
                        agents[place.folder] = _started(home, place, say=say)
                stop.wait(LOOK_S)
        finally:
            for agent, _ in agents.values():
                agent.stop()
            for _, thread in agents.values():
                thread.join(timeout=30)


def serve_once(home: Home, *, say: Callable[[str], None] = lambda text: None) -> int:
    """Exchange what is new with every coordinator and answer what is open; return how many tasks.

    Raises:
        UsageError: This site takes part in nothing.
        RunBusyError: An agent runs for this home folder.
        HospitiumError: The first thing that went wrong; every federation was tried.
    """
    places = memberships(home.folder)
    if not places:
        raise UsageError(
            "This site takes part in nothing yet. Begin with `hospitium site join INVITE`."
        )
    count, errors = 0, []
    with _only_one(home):
        for place in places:
            try:
                count += Attendant(home, place, say=say).once()
            except HospitiumError as error:
                errors.append(error)
    if errors:
        raise errors[0]
    return count


def serve_dry(
    home: Home, folder: Path, *, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Answer what is open, and write exactly the bytes that would leave to a folder.

    Nothing but the questions for what is open is sent. What was written is recorded, and leaves as
    these same bytes at the next `hospitium site up`, unless a person pauses or withdraws first.

    Raises:
        UsageError: This site takes part in nothing.
        RunBusyError: An agent runs for this home folder.
        HubError: A coordinator cannot be reached.
    """
    places, saved, count = memberships(home.folder), Saved(folder), 0
    if not places:
        raise UsageError(
            "This site takes part in nothing yet. Begin with `hospitium site join INVITE`."
        )
    with _only_one(home):
        for place in places:
            count += Attendant(home, place, say=say, instead=saved).dry_run()
    return {"tasks": count, "saved": [str(path) for path in saved.paths]}


def set_line(
    home: Home,
    federation: str | None,
    *,
    proxy: str | None,
    proxy_login: Path | None,
    ca_bundle: Path | None,
) -> str:
    """Keep how a coordinator is reached from now on; return the proxy, without its login."""
    folder = joined(home, federation).folder
    return keep_line(folder, proxy=proxy, proxy_login=proxy_login, ca_bundle=ca_bundle).proxy_shown


def probe_isolation(home: Home, federation: str | None) -> Isolation:
    """Start a training process as the agent does and return whether it is cut off."""
    pool = isolated_pool(home, connection_of(joined(home, federation)))
    try:
        return pool.prepare()
    finally:
        pool.close()


def _started(
    home: Home, place: Membership, *, say: Callable[[str], None]
) -> tuple[Attendant, threading.Thread]:
    agent = Attendant(home, place, say=say)
    thread = threading.Thread(target=agent.run, name=place.folder.name, daemon=True)
    thread.start()
    say(f"{place.settings.federation}: attending as {place.settings.site_id}")
    return agent, thread


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the lock that lets one agent work in a home folder; `kill -9` gives it back."""
    lock = locked(home.folder / "site" / "agent")
    try:
        lock.__enter__()
    except RunBusyError as error:
        raise RunBusyError(
            f"{home.folder}: another process is this site's agent. Nothing was changed. See "
            "`hospitium site status`; stop the other one first, if this one is to take over."
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
