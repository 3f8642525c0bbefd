"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")


async def eventually(look: Callable[[], Awaitable[Seen | None]], *, timeout: float = 20.0) -> Seen:
    """Look again and again until ``look`` returns something truthy, and return that.

    Raises:
        AssertionError: It did not within ``timeout`` seconds; the message shows the last look.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        seen = await look()
        if seen:
            return seen
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout} s; last seen: {seen!r}")
        await asyncio.sleep(0.05)
