"""Questions to a hub that are asked once, to find out what the way there lets through.

Nothing is tried again and nothing is changed at the hub: each probe returns what came back, be it
from the hub, from a proxy in between, or from nobody.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from hospitium.engines.hub.hearing import bounded, parsed
from hospitium.engines.hub.messages import NO_TASK
from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.errors import HubError
from hospitium.wire.signing import SigningKey

TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        status: Of HTTP; 0 where nothing came.
        words: What was said with it, or what the system said where nothing came.
        seconds: How long it took.
        date: When, by the clock of whoever answered; None where it did not say.
        fields: The JSON object that was the body; empty where it was none.
        body: The body as it came.
    """

    status: int
    words: str
    seconds: float
    date: datetime | None = None
    fields: Mapping[str, Any]
    body: bytes = b""

    @property
    def is_fine(self) -> bool:
        """Whether the question was answered and not refused."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """The hub's word for its refusal; empty where something else answered."""
        return str(self.fields.get("reason", ""))


def pinned_to(ca_file: Path | None) -> ssl.SSLContext:
    """Return who is trusted for TLS where nothing stands in between.

    Args:
        ca_file: The certificate that the invite names; None: the authorities that browsers trust,
            as httpx has them, and not what somebody added to this machine's.
    """
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(ca_file))
    return context


class HubProbe:
    """Asks one hub, once each time, over one kept connection where it may be kept.

    Args:
        url: Where the hub is, with the federation's path.
        trust: The certificates that are trusted.
        proxy: Address of the proxy; empty for none.
        key: The site's request key.
        timeout_s: Silence after which a question counts as not answered.
    """

    def __init__(
        self,
        url: str,
        *,
        trust: ssl.SSLContext,
        proxy: str,
        key: SigningKey,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._key = key
        self._signer: Signer | None = None
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=url,
            verify=trust,
            proxy=proxy or None,
            trust_env=False,
            timeout=timeout_s,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._http.close()

    def challenge(self) -> Answer:
        """Ask for a challenge: anybody may, so the answer says who is there and what time it is."""
        answer = self._send("GET", "/v1/challenge", content=b"", headers={}, timeout_s=0.0)
        challenge = answer.fields.get("challenge")
        self._signer = Signer(self._key, challenge) if isinstance(challenge, str) else None
        return answer

    def standing(self) -> Answer:
        """Ask what the coordinator thinks of this site."""
        return self._ask(Question(method="GET", path="/v1/standing"))

    def echo(self, size: int) -> Answer:
        """Send so many bytes; the hub says how many came, and which."""
        content = os.urandom(size)
        answer = self._ask(Question(method="POST", path="/v1/echo"), content=content)
        wanted = {"bytes": size, "sha256": hashlib.sha256(content).hexdigest()}
        return answer if not answer.is_fine else _as_wanted(answer, wanted)

    def download(self, size: int) -> Answer:
        """Ask for so many bytes."""
        return self._ask(Question(method="POST", path="/v1/echo", query=f"size={size}"))

    def poll(self, wait_s: int) -> Answer:
        """Wait so long for a task that never comes; nothing is taken."""
        question = Question(method="GET", path="/v1/tasks", query=f"after={NO_TASK}&wait={wait_s}")
        return self._ask(question, timeout_s=wait_s + self._timeout_s)

    def _ask(self, question: Question, *, content: bytes = b"", timeout_s: float = 0.0) -> Answer:
        """Ask a signed question; takes a challenge first where there is none yet."""
        if self._signer is None:
            answer = self.challenge()
            if self._signer is None:
                return answer
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {HEADER: self._signer.header(question, content_sha256=sha256)}
        path = f"{question.path}?{question.query}" if question.query else question.path
        return self._send(
            question.method, path, content=content, headers=headers, timeout_s=timeout_s
        )

    def _send(
        self, method: str, path: str, *, content: bytes, headers: dict[str, str], timeout_s: float
    ) -> Answer:
        begun = time.monotonic()
        try:
            with self._http.stream(
                method, path, content=content, headers=headers, timeout=timeout_s or self._timeout_s
            ) as coming:
                response = bounded(coming, path.partition("?")[0])
        except HubError as error:
            took_s = time.monotonic() - begun
            return Answer(status=0, words=str(error), seconds=took_s, fields={})
        except httpx.TransportError as error:
            took_s = time.monotonic() - begun
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Answer(status=0, words=words, seconds=took_s, fields={})
        return _answer(response, seconds=time.monotonic() - begun)


def _answer(response: httpx.Response, *, seconds: float) -> Answer:
    fields: Any = {}
    with suppress(HubError):
        fields = parsed(response.content)
    fields = fields if isinstance(fields, dict) else {}
    date = None
    with suppress(ValueError, TypeError):
        date = (
            parsedate_to_datetime(response.headers["date"]) if "date" in response.headers else None
        )
    return Answer(
        status=response.status_code,
        words=str(fields.get("error", response.reason_phrase))[:300],
        seconds=seconds,
        date=date,
        fields=fields,
        body=response.content,
    )


def _as_wanted(answer: Answer, wanted: Mapping[str, Any]) -> Answer:
    """Return the answer, or one without a status if something was lost or changed on the way."""
    if {name: answer.fields.get(name) for name in wanted} == wanted:
        return answer
    words = "what arrived at the hub is not what was sent"
    return Answer(status=0, words=words, seconds=answer.seconds, fields={})
