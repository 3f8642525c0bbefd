"""What a hub keeps of one log: its last events, encoded once, for whoever follows it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from activities.records.events import Row

if TYPE_CHECKING:
    from activities.streams.subscription import Subscription

TAIL_EVENTS = 256
TAIL_BYTES = 1024 * 1024
"""How much of a log is kept in memory; a client further behind reads the store."""


class Message:
    """One published event, encoded when first sent and then shared by all who get it."""

    def __init__(self, number: int, row: Row) -> None:
        """Take an event's row (`activities.records.events`); ``number`` is its place in the channel."""
        self.number = number
        self.run_id: str = row["run_id"]
        self.type: str = row["type"]
        self.final: bool = row["final"]
        """Whether the run has ended with it."""
        self._row = row

    @cached_property
    def body(self) -> bytes:
        """The event as JSON in the words of ``GET /runs/{id}/events``."""
        row = self._row
        return orjson.dumps(
            {
                "id": row["id"],
                "run_id": row["run_id"],
                "seq": row["seq"],
                "type": row["type"],
                "source": row["source"],
                "timestamp": row["timestamp"],
                "data": row["data"],
                "correlation_id": row["correlation_id"],
                "causation_id": row["causation_id"],
            }
        )

    @cached_property
    def sse(self) -> bytes:
        """The event as a frame of a stream of one run (WHATWG HTML §9.2.6)."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.number, self.type.encode(), self.body)

    @cached_property
    def flowgrid(self) -> str:
        """The event as flowgrid-level3 §4.2 and §11.4 write it."""
        row = self._row
        return orjson.dumps(
            {
                "id": row["id"],
                "type": row["type"],
                "source": row["source"],
                "instanceId": row["run_id"],
                "tenantId": row["tenant_id"],
                "seq": row["seq"],
                "position": row["position"],
                "timestamp": row["timestamp"],
                "data": row["data"],
                "correlationId": row["correlation_id"],
                "causationId": row["causation_id"],
            }
        ).decode()

    @cached_property
    def size(self) -> int:
        """About how many bytes it occupies."""
        return len(self.body)


class Ephemeral:
    """A piece of a message while it comes: told once to whoever follows, without a number."""

    def __init__(self, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Tell ``data`` of a run's agent."""
        self.run_id = run_id
        self.type = kind
        self._data = data

    @cached_property
    def sse(self) -> bytes:
        """The piece as a frame without ``id``: the client's last number stays what it was."""
        body = orjson.dumps({"type": self.type, "run_id": self.run_id, "data": self._data})
        return b"event: %b\ndata: %b\n\n" % (self.type.encode(), body)

    @cached_property
    def flowgrid(self) -> str:
        """The piece as flowgrid-level3 §11.4 writes messages."""
        return orjson.dumps({"type": self.type, "instanceId": self.run_id, "data": self._data}).decode()


class Channel:
    """The end of one log. Every event with a number above ``floor`` is in its tail."""

    def __init__(self, key: str) -> None:
        """Make the empty channel of the run or tenant ``key``."""
        self.key = key
        self.floor = 0
        self.last = 0
        self.ended_at: int | None = None
        """Number of the event that the run ended with, once that is published."""
        self.followers: set[Subscription] = set()
        self.ready = False
        self._tail: list[Message] = []
        self._bytes = 0

    def load(self, messages: Sequence[Message], floor: int) -> None:
        """Begin with the last messages of the log; everything above ``floor`` is among them."""
        self.floor = self.last = floor
        self.ready = True
        self.extend(messages)

    def extend(self, messages: Iterable[Message]) -> bool:
        """Add what follows; what is there already is left out. Says whether anything was new."""
        before = self.last
        for message in messages:
            if message.number <= self.last:
                continue
            self._tail.append(message)
            self._bytes += message.size
            self.last = message.number
            if message.final:
                self.ended_at = message.number
        if len(self._tail) > 2 * TAIL_EVENTS or self._bytes > TAIL_BYTES:
            self._trim()
        return self.last > before

    def _trim(self) -> None:
        dropped = 0
        while len(self._tail) - dropped > TAIL_EVENTS or (
            self._bytes > TAIL_BYTES and dropped < len(self._tail)
        ):
            self._bytes -= self._tail[dropped].size
            dropped += 1
        if dropped:
            self.floor = self._tail[dropped - 1].number
            del self._tail[:dropped]

    def after(self, number: int, limit: int) -> Sequence[Message] | None:
        """Return what follows ``number``, at most ``limit``; None where the tail does not reach back."""
        if number >= self.last:
            return ()
        if number < self.floor:
            return None
        start = bisect_right(self._tail, number, key=_number)
        return self._tail[start : start + limit]


class RunChannel(Channel):
    """The end of one run's log, numbered by ``seq``."""


class TenantChannel(Channel):
    """The end of all logs of one tenant, numbered by ``position``."""

    def __init__(self, key: str, types: tuple[str, ...] | None) -> None:
        """Make the empty channel of a tenant; ``types`` limits it to some event types."""
        super().__init__(key)
        self.types = types
        self.read_to = 0
        """Position up to which the store holds nothing that is not here."""


def _number(message: Message) -> int:
    return message.number
