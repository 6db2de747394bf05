"""How an answer leaves a site: recorded and cosigned first, and kept until its receipt is here."""

from __future__ import annotations

from collections.abc import Callable

from hospitium.engines.hub.answers import Answers, Kept
from hospitium.engines.hub.messages import Ask, Receipt
from hospitium.engines.hub.site_work import departure_of, reply_of
from hospitium.engines.hub.telling import Telling
from hospitium.engines.hub.watching import Seen
from hospitium.engines.hub.witness import Witness
from hospitium.errors import HubError
from hospitium.site.condition import Condition
from hospitium.site.egress import DRY_RUN, Egress
from hospitium.site.leaving import Channel
from hospitium.wire.signing import VerifyKey


class HandingIn:
    """Hands in one site's answers.

    Args:
        site_id: What the site is called.
        coordinator: The coordinator's key: it signs receipts.
        egress: The way out, with the record of what left.
        witness: Cosigns.
        answers: Those that are kept.
        condition: Told how it goes.
        telling: Told what was sent.
        log: Takes a line for the site's own staff.
    """

    def __init__(
        self,
        *,
        site_id: str,
        coordinator: VerifyKey,
        egress: Egress,
        witness: Witness,
        answers: Answers,
        condition: Condition,
        telling: Telling,
        log: Callable[[str], None],
    ) -> None:
        self._site_id = site_id
        self._coordinator = coordinator
        self._egress = egress
        self._witness = witness
        self._answers = answers
        self._condition = condition
        self._telling = telling
        self._log = log

    def hand_in(self, channel: Channel, ask: Ask, kept: Kept, seen: Seen | None) -> None:
        """Let an answer leave; what the hub does not take is sent when the task comes again."""
        self._condition.note(state="sending")
        try:
            receipt = self._egress.answer(
                departure_of(ask, kept),
                channel,
                sign=lambda checkpoint: self._witness.signed(
                    reply_of(ask, kept), seen, checkpoint=checkpoint
                ),
                require=self._require_receipt,
            )
        except HubError as error:
            if error.reason == DRY_RUN:
                return
            self._condition.failed(error)
            self._log(f"the hub did not take an answer ({error.reason}): {error}")
            return
        finally:
            self._condition.note(state="waiting")
        self._answers.receipted(ask.task, receipt)
        self._telling.sent(kept)
        if kept.kind == "update":
            self._condition.passed()

    def _require_receipt(self, receipt: bytes, statement: bytes) -> None:
        Receipt.opened(receipt, key=self._coordinator, site_id=self._site_id, statement=statement)
