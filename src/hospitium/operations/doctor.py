"""``hospitium doctor``: looks at all that work depends on, names what fails and who must act.

It works without a connection and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from hospitium.engines.hub.transport import connection_of
from hospitium.errors import HospitiumError
from hospitium.operations import doctor_machine, doctor_site
from hospitium.operations.desks import existing, federations
from hospitium.operations.doctor_checks import ENGINEER, Check, failed, skipped
from hospitium.operations.doctor_coordinator import check_coordinator, check_runs
from hospitium.operations.doctor_way import Wishes, check_invite, check_way
from hospitium.operations.enrolment import joined
from hospitium.operations.site_answering import view_of
from hospitium.site.membership import Membership, memberships
from hospitium.state.home import Home

__all__ = ["Wishes", "examine_coordinator", "examine_site", "failures", "is_centre"]


def is_centre(home: Home) -> bool:
    """Whether this installation coordinates, and is no site."""
    return bool(federations(home)) and not memberships(home.folder)


def examine_site(home: Home, wishes: Wishes, *, now: Callable[[], datetime]) -> dict[str, Any]:
    """Look at a site: this machine, its data, and each federation with the way to its hub."""
    checks = [*doctor_machine.check_package("site"), *doctor_machine.check_home(home)]
    is_whole = all(check.status != "FAIL" for check in checks if check.name == "packages")
    checks.append(doctor_machine.check_databases(home))
    checks += doctor_machine.check_processors(gpu=wishes.gpu)
    if is_whole:
        checks += _images(home, wishes)
    else:
        checks += [skipped(name, "packages failed") for name in ("reader", "data")]
    checks += _federations(home, wishes, now=now)
    return _report(checks)


def examine_coordinator(
    home: Home, wishes: Wishes, *, now: Callable[[], datetime]
) -> dict[str, Any]:
    """Look at the coordinating centre: this machine, and each federation that it coordinates."""
    checks = [*doctor_machine.check_package("coordinator"), *doctor_machine.check_home(home)]
    checks += [doctor_machine.check_databases(home), check_runs(home)]
    names = [wishes.federation] if wishes.federation else federations(home)
    if not names:
        checks.append(skipped("federation", "`hospitium coordinator init` was not run yet"))
    for name in names:
        found = check_coordinator(home, existing(home, name), now=now())
        checks += _named(found, name if len(names) > 1 else "")
    return _report(checks)


def _images(home: Home, wishes: Wishes) -> Iterator[Check]:
    """Yield what needs the packages for images: a coordinating centre has none of them."""
    try:
        from hospitium.operations.doctor_data import check_reader, check_sources
    except ImportError as error:
        remedy = "Install the packages again, in the versions of constraints.txt."
        yield failed("reader", f"a package cannot be loaded: {error}", remedy=remedy, who=ENGINEER)
        return
    yield check_reader()
    yield from check_sources(home, wishes.pacs)


def _federations(home: Home, wishes: Wishes, *, now: Callable[[], datetime]) -> Iterator[Check]:
    if wishes.invite is not None:
        yield from check_invite(wishes.invite, wishes, now=now)
        return
    places = [joined(home, wishes.federation)] if wishes.federation else memberships(home.folder)
    if not places:
        yield skipped("federation", "this site has not asked to join one; --invite FILE tries the "
                                    "way to its coordinator before")  # fmt: skip
        yield from doctor_machine.check_worker(addresses=(), required=True)
    for place in places:
        found = list(_membership(home, place, wishes, now=now))
        yield from _named(found, place.settings.federation if len(places) > 1 else "")


def _membership(
    home: Home, place: Membership, wishes: Wishes, *, now: Callable[[], datetime]
) -> Iterator[Check]:
    """Yield what is found of one federation: what is here, the worker, then the way to its hub."""
    yield from doctor_site.check_membership(place, now=now())
    yield from _worker(home, place)
    yield from check_way(place, wishes, now=now)


def _worker(home: Home, place: Membership) -> Iterator[Check]:
    """Yield how training would be started; a policy that cannot be read requires all."""
    required = True
    with suppress(HospitiumError):
        required = place.policy().isolation.required
    addresses = []
    with suppress(HospitiumError):
        connection = connection_of(place)
        addresses = [connection.url, *([connection.proxy] if connection.proxy else [])]
    yield from doctor_machine.check_worker(
        addresses=addresses, view=view_of(home), required=required
    )


def _named(checks: Sequence[Check], federation: str) -> list[Check]:
    """Return the checks with the federation in their names, where there are several."""
    if not federation:
        return list(checks)
    return [replace(check, name=f"{check.name} ({federation})") for check in checks]


def _report(checks: Sequence[Check]) -> dict[str, Any]:
    return {"checks": [asdict(check) for check in checks]}


def failures(report: dict[str, Any]) -> int:
    """Return how many checks of a report failed."""
    return sum(check["status"] == "FAIL" for check in report["checks"])
