"""A server of a test that stops looks ten times as often whether it may end.

uvicorn looks every 0.1 s whether it is to stop, and then whether all connections are closed. Some
hundred servers are started and stopped by the tests.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.server

FACTOR = 10


class _Quick:
    """All of asyncio, with shorter pauses."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay: float) -> None:
        await asyncio.sleep(delay / FACTOR)


def stop_quickly() -> None:
    """Let every server of this process do so from now on."""
    uvicorn.server.asyncio = _Quick()  # type: ignore[assignment]
