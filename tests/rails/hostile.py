"""A local HTTP server that plays a rail: its books are kept well, its line is as bad as a test asks.

Faults are spent one per *changing* call, in order; when none is left the line is good. What reached the
books is counted there, never in our own tables.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

Fault = Literal[
    "lose request",
    "lose answer",
    "fail before",
    "fail after",
    "twice",
    "garbage",
    "cut answer",
    "late",
    "slow",
]
FAULTS: tuple[Fault, ...] = (
    "lose request",
    "lose answer",
    "fail before",
    "fail after",
    "twice",
    "garbage",
    "cut answer",
    "late",
)


@dataclass
class Call:
    """One request as the rail reads it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Books(Protocol):
    """What a rail does with a request that arrived."""

    hidden_reads: int
    """For so many reads the rail says "not found" although it knows."""

    def handle(self, call: Call) -> tuple[int, Any]: ...


@dataclass
class HostileServer:
    """Speaks HTTP/1.1 on a free loopback port for one rail's books."""

    books: Books
    faults: list[Fault] = field(default_factory=list[Fault])
    calls: list[Call] = field(default_factory=list[Call])
    """Every changing request that was sent, whether it arrived or not."""
    between: Callable[[], Awaitable[None]] | None = None
    """Runs after the books changed and before the answer leaves."""
    url: str = ""
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(await _read(reader))
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, call: Call) -> bytes | None:
        if call.method == "GET":
            return _written(*self.books.handle(call))
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lose request":
            return None
        if fault == "fail before":
            return _written(503, {"message": "not now"})
        status, body = self.books.handle(call)
        if self.between is not None:
            await self.between()
        if fault == "twice":
            status, body = self.books.handle(call)
        if fault == "late":
            self.books.hidden_reads = 3
        if fault == "fail after":
            return _written(500, {"error": {"type": "api_error", "message": "it went wrong"}})
        if fault == "garbage":
            return _raw(200, b"<html>maintenance</html>")
        if fault == "cut answer":
            return _written(status, body)[:-5]
        return None if fault == "lose answer" or fault == "late" else _written(status, body)


async def _read(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Call(method, parts.path, dict(parse_qsl(parts.query)), headers, body)


def _written(status: int, body: Any) -> bytes:
    return _raw(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def _raw(status: int, content: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
