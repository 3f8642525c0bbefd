"""Heartbeats for activities that outlive a moment."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio import activity

HEARTBEAT_SECONDS = 0.5
"""Often, because a cancellation arrives only with a heartbeat; the SDK thins them out."""


@asynccontextmanager
async def heartbeating() -> AsyncGenerator[None]:
    """Send heartbeats for as long as the block lasts, so that cancellation reaches it."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
