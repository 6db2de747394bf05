"""One shape for every error that the hub answers with."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hospitium.errors import (
    HubError,
    StateConflictError,
    StorageError,
    TrustError,
    UpdateError,
)

_STATEMENT_STATUS = {"used": 409, "identity": 403, "members": 403, "expired": 403, "plan": 404}


def not_found() -> HubError:
    """Return the answer for what does not exist and for what is another's: the same one."""
    return HubError("not_found", "There is no such thing for this site.", status=404)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an error in the one shape; nothing of an unforeseen one is shown."""
    return error_response(error)


def error_response(error: Exception, *, close: bool = False) -> JSONResponse:
    """Return the one shape of an error; ``close`` ends the connection, its body unread."""
    if isinstance(error, HTTPException):
        error = HubError("not_found", "There is no such route.", status=error.status_code)
    if isinstance(error, RequestValidationError):
        error = not_found()
    known = error if isinstance(error, HubError) else _as_hub_error(error)
    headers = {"retry-after": f"{known.retry_after_s:.0f}"} if known.retry_after_s else {}
    if close:
        headers["connection"] = "close"
    content: dict[str, Any] = {
        "ok": False,
        "code": known.code,
        "reason": known.reason,
        "error": str(known),
    }
    return JSONResponse(content, status_code=known.status, headers=headers)


def _as_hub_error(error: Exception) -> HubError:
    """Say what a site may know of an error that was met inside."""
    if isinstance(error, StateConflictError):
        return HubError("conflict", str(error), status=409)
    if isinstance(error, UpdateError):
        return HubError(error.reason, str(error), status=400)
    if isinstance(error, TrustError):
        return HubError(error.reason, str(error), status=_STATEMENT_STATUS.get(error.reason, 400))
    if isinstance(error, StorageError):
        return HubError(
            "busy", "The hub's disk is full or refuses.", status=503, retry_after_s=30.0
        )
    return HubError("internal", "The hub failed. It is the coordinator's to look at.", status=500)
