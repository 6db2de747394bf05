"""The hub: what a site may ask over HTTPS of one federation, and nothing else.

No byte of a body is read before the request's signature is checked (`gatekeeper`). Rights come from
the key that signed: a site sees its own tasks and uploads and the blobs that its tasks name; what
is another's and what does not exist are answered alike. The routes themselves are in `routes_tasks`
(what a site takes), `routes_uploads` (what it hands in) and `routes_office` (all that is no task).
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hospitium.engines.hub.backend import Backend
from hospitium.engines.hub.bulk import Bulk
from hospitium.engines.hub.describing import DIGEST, answers, object_of
from hospitium.engines.hub.errors import answer_error
from hospitium.engines.hub.gatekeeper import Gatekeeper
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.refusals import Refusals
from hospitium.engines.hub.requests import Member, Verifier
from hospitium.engines.hub.routes_office import OfficeRoutes
from hospitium.engines.hub.routes_tasks import TaskRoutes
from hospitium.engines.hub.routes_uploads import UploadRoutes
from hospitium.errors import HospitiumError
from hospitium.wire.signing import SigningKey


class Hub:
    """The routes of one federation with what they need; `app` is the ASGI application.

    Args:
        backend: Where tasks and updates are kept.
        members: Who may ask; looked up at each request. With a desk: ``office.members``.
        key: The coordinator's signing key: it signs receipts.
        limits: What a site may do.
        office: The federation's desk; without one there are no routes but those of tasks.
        refusals: Where it is noted who was refused what; None: nowhere.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        members: Mapping[str, Member],
        key: SigningKey,
        limits: Limits | None = None,
        office: Office | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        limits = limits or Limits()
        self._verifier = Verifier(members, applicants=office.applicants if office else dict)
        self._tasks = TaskRoutes(backend, members=members, limits=limits)
        self.api = FastAPI(
            title="Hospitium hub", version="1", docs_url=None, redoc_url=None, openapi_url=None
        )
        self.api.add_api_route(
            "/v1/challenge", self.challenge, methods=["GET"], response_model=None,
            responses=answers("A challenge.", object_of(challenge=DIGEST)),
        )  # fmt: skip
        self._tasks.add_to(self.api)
        uploads = UploadRoutes(backend, members=members, key=key, limits=limits)
        uploads.add_to(self.api)
        if office is not None:
            OfficeRoutes(office, key=key, limits=limits).add_to(self.api)
        for kind in (HospitiumError, RequestValidationError, HTTPException):
            self.api.add_exception_handler(kind, answer_error)
        self.app = Gatekeeper(
            Bulk(self.api, tasks=self._tasks, uploads=uploads),
            verifier=self._verifier,
            limits=limits,
            is_enrolling=office is not None,
            refusals=refusals,
        )

    def release_polls(self) -> None:
        """Answer every site that waits, now and from now on; called in the server's own loop."""
        self._tasks.release_polls()

    async def challenge(self) -> JSONResponse:
        """Give out a challenge, good for five minutes."""
        return JSONResponse({"challenge": self._verifier.challenge()})
