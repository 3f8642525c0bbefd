"""What an agent is just saying: pieces of text for whoever looks on now, never stored.

A producer (an activity) opens a message and writes to it as its model answers. Pieces are gathered for
`FLUSH_SECONDS` and sent by `NOTIFY` in transactions of their own, packed over all messages of the process, so
that no writer of events ever waits for them. Whoever comes late, or is slow, misses pieces: the whole text
follows as a durable event. A later attempt of the activity sends a `reset` first.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import structlog

from activities.records.database import Database, DatabaseUnavailableError
from models.event import EphemeralType

log: structlog.stdlib.BoundLogger = structlog.get_logger("events.deltas")

CHANNEL = "switchyard_deltas"
"""PostgreSQL's notification channel; a payload is a JSON list of pieces, at most `MAX_PAYLOAD` bytes."""

MAX_PAYLOAD = 7900
"""PostgreSQL refuses 8 000."""

FLUSH_SECONDS = 0.2
PIECE_CHARACTERS = 400
MAX_WAITING = 2_000
"""Pieces that may wait while the database is away; older ones are lost."""


class DeltaMessage:
    """One message of an agent while it comes. Not for storing: append the whole as an event at the end."""

    def __init__(self, publisher: "DeltaPublisher", run_id: str, message_id: str, attempt: int) -> None:
        self._publisher = publisher
        self._run_id = run_id
        self._message_id = message_id
        self._attempt = attempt
        self._index = 0
        self._text = ""

    def write(self, text: str) -> None:
        """Take what came; it goes out with the next flush, at most a fifth of a second later."""
        self._text += text
        if len(self._text) >= PIECE_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Hand out what was gathered, in pieces."""
        # Half a character, as a model's stream may be cut, cannot be encoded.
        text, self._text = self._text.encode("utf-8", "replace").decode(), ""
        for start in range(0, len(text), PIECE_CHARACTERS):
            self._send(EphemeralType.AGENT_DELTA, {"text": text[start : start + PIECE_CHARACTERS]})

    def reset(self) -> None:
        """Tell that what was said before is void: the message begins anew."""
        self._text = ""
        self._index = 0
        self._send(EphemeralType.AGENT_RESET, {})

    def _send(self, kind: EphemeralType, more: Mapping[str, Any]) -> None:
        data = {"messageId": self._message_id, "attempt": self._attempt, "index": self._index, **more}
        self._index += 1
        self._publisher.enqueue({"run": self._run_id, "type": kind, "data": data})


class DeltaPublisher:
    """Sends the pieces of all messages of a process; one per process."""

    def __init__(self, database: Database) -> None:
        """Send through ``database`` as the platform."""
        self._database = database
        self._open: set[DeltaMessage] = set()
        self._waiting: list[dict[str, Any]] = []

    @asynccontextmanager
    async def message(self, run_id: str, message_id: str, *, attempt: int) -> AsyncGenerator[DeltaMessage]:
        """Open a message for as long as the block lasts.

        Args:
            run_id: Run whose followers see it.
            message_id: Names the message within the run; the same for every attempt.
            attempt: The activity's attempt, from 1; a later one begins with a reset.
        """
        message = DeltaMessage(self, run_id, message_id, attempt)
        if attempt > 1:
            message.reset()
        self._open.add(message)
        try:
            yield message
        finally:
            self._open.discard(message)
            message.flush()

    def enqueue(self, piece: dict[str, Any]) -> None:
        """Let a piece go out with the next flush."""
        self._waiting.append(piece)
        del self._waiting[:-MAX_WAITING]

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits, at once. What cannot be sent while the database is away is lost."""
        for message in self._open:
            message.flush()
        pieces, self._waiting = self._waiting, []
        if not pieces:
            return
        try:
            async with self._database.platform() as connection:
                for payload in packed(pieces):
                    await connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
        except DatabaseUnavailableError as error:
            log.warning("pieces of messages were lost", count=len(pieces), reason=error.message)


@asynccontextmanager
async def sending_deltas(database: Database) -> AsyncGenerator[DeltaPublisher]:
    """Keep a sender running for as long as the block lasts; what waits at the end still goes out."""
    publisher = DeltaPublisher(database)
    task = asyncio.create_task(publisher.run(), name="delta-publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await publisher.flush()


def packed(pieces: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pack pieces, in order, into as few payloads as PostgreSQL's limit allows."""
    payloads: list[str] = []
    current: list[bytes] = []
    size = 2
    for piece in pieces:
        entry = orjson.dumps(piece)
        if current and size + len(entry) + 1 > MAX_PAYLOAD:
            payloads.append(_listed(current))
            current, size = [], 2
        current.append(entry)
        size += len(entry) + 1
    return [*payloads, _listed(current)] if current else payloads


def _listed(entries: Iterable[bytes]) -> str:
    return (b"[" + b",".join(entries) + b"]").decode()


def unpacked(payload: str) -> list[dict[str, Any]]:
    """Read a payload of `packed`; what is not ours is left out."""
    try:
        found: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return []
    return [piece for piece in found if isinstance(piece, dict) and {"run", "type", "data"} <= piece.keys()]
