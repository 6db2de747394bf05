"""How a site stops: withdraw from a plan, pause, resume, leave; all of it works offline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hospitium.errors import StateConflictError, UsageError
from hospitium.operations.enrolment import joined
from hospitium.state.home import Home
from hospitium.wire.approvals import Withdrawal
from hospitium.wire.statement import time_text


def withdraw(
    home: Home, federation: str | None, name: str, *, approver: str, now: datetime
) -> dict[str, Any]:
    """End this site's part in a plan, for good; works offline and holds from this moment."""
    place = joined(home, federation)
    plan_digest = only_digest(place.inbox.digests(), name)
    place.mark_withdrawn(plan_digest)
    place.say(
        Withdrawal(
            federation=place.settings.federation,
            site_id=place.settings.site_id,
            plan_digest=plan_digest,
            approver=approver,
            time=time_text(now),
        )
    )
    return {"plan_digest": plan_digest, "state": "withdrawn"}


def leave(home: Home, federation: str | None, *, approver: str, now: datetime) -> dict[str, Any]:
    """Withdraw from every plan and answer nothing any more; the keys stay until it is revoked."""
    place = joined(home, federation)
    place.leave()
    left = [digest for digest in place.inbox.digests() if place.said(digest)]
    for digest in left:
        withdraw(home, place.settings.federation, digest, approver=approver, now=now)
    return {"federation": place.settings.federation, "withdrawn": left}


def set_paused(home: Home, federation: str | None, *, is_paused: bool) -> dict[str, Any]:
    """Answer no task from now on, or answer again."""
    place = joined(home, federation)
    if place.has_left:
        raise StateConflictError(
            f"{place.settings.federation}: this site has left. Nothing was changed. It comes back "
            "with a new invite: `hospitium site join INVITE`."
        )
    if is_paused:
        place.pause()
    else:
        place.resume()
    return {"federation": place.settings.federation, "is_paused": is_paused}


def only_digest(digests: Sequence[str], name: str) -> str:
    """Return the one digest that begins so; at least 8 characters must be given.

    Raises:
        UsageError: None does, or several do.
    """
    found = [digest for digest in digests if digest.startswith(name)]
    if len(found) != 1 or len(name) < 8:
        known = ", ".join(digest[:12] for digest in digests)
        raise UsageError(
            f"{name!r} does not name one plan of the inbox; give the first 8 characters of its "
            f"digest or more. Nothing was signed. In the inbox: {known or 'nothing yet'}."
        )
    return found[0]
