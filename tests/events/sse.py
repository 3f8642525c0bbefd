"""Reading a stream of server-sent events as a browser does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson


@dataclass
class Frame:
    """One dispatched event."""

    id: str
    event: str
    data: Any


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Yield the frames of a stream; comments and ``retry`` are left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Frame(fields.get("id", ""), fields.get("event", ""), orjson.loads(fields["data"]))
            fields = {}


async def follow(
    client: httpx.AsyncClient, path: str, *, token: str | None = None, last: str | None = None
) -> AsyncIterator[Frame]:
    """Open a stream and yield its frames, to its end or the reader's."""
    headers: dict[str, str] = {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if last is not None:
        headers["Last-Event-ID"] = last
    async with client.stream("GET", path, headers=headers) as response:
        if response.status_code == 204:
            yield Frame("", "end", {})
            return
        if response.status_code != 200:
            await response.aread()
            response.raise_for_status()
            return
        async for frame in frames(response):
            yield frame
