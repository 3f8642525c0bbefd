"""One client's way along the channels it follows: where it stands, never what it has not read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from activities.streams.channel import Channel, Ephemeral, Message

BATCH_MESSAGES = 64
"""Messages per write, so that a client that catches up does not hold much memory."""

MOST_PIECES = 256
"""Pieces of messages that wait for a client; a slow one loses the oldest."""

Pages = Callable[[Channel, int], Awaitable[Sequence[Message]]]
"""Reads what follows a number in a channel from the store."""


class Subscription:
    """Follows channels, each from a number of its own, in order, without gap or duplicate.

    It has no queue: it reads the channels' shared tails, or the store where it is behind them, at its own
    pace, so a slow client costs no memory and delays nobody.
    """

    def __init__(
        self, after: dict[Channel, int], pages: Pages, *, now: float, expires_at: datetime | None
    ) -> None:
        """Follow each channel after the number given for it."""
        self.position = after
        self.expires_at = expires_at
        """When the credentials that opened it expire."""
        self.quiet_since = now
        self.sending_since: float | None = None
        self.closed = False
        """Whether it stops before its runs have ended: expired, left, or the process stops."""
        self._pages = pages
        self._beat = False
        self._dirty = True
        self._waiting: asyncio.Future[None] | None = None
        self._pieces: deque[Ephemeral] | None = None

    @property
    def ended(self) -> bool:
        """Whether every run followed has ended and its last event was handed out."""
        return all(
            channel.ended_at is not None and number >= channel.ended_at
            for channel, number in self.position.items()
        )

    async def batch(self) -> list[Message | Ephemeral]:
        """Wait for what comes next and return it; nothing where it is time for a sign of life, or over.

        Pieces of messages come after the events of a batch.

        Raises:
            DatabaseUnavailableError: The store is away; what was handed out stays handed out.
        """
        while True:
            self._dirty = False
            found: list[Message | Ephemeral] = [*await self._collect()]
            if self._pieces is not None:
                found += self._pieces
                self._pieces = None
            if found or self.closed or self.ended:
                return found
            if self._beat:
                self._beat = False
                return []
            if not self._dirty:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting

    async def _collect(self) -> list[Message]:
        found: list[Message] = []
        for channel, number in self.position.items():
            room = BATCH_MESSAGES - len(found)
            if room <= 0:
                break
            messages = channel.after(number, room)
            if messages is None:
                messages = (await self._pages(channel, number))[:room]
                if not messages:
                    # What lay there is no longer kept.
                    self.position[channel] = max(number, channel.floor)
                    self._dirty = True
                    continue
            if messages:
                self.position[channel] = messages[-1].number
                found.extend(messages)
        return found

    def tell(self, piece: Ephemeral) -> None:
        """Hand out a piece of a message, if the client keeps up."""
        if self._pieces is None:
            # Made when needed: most clients never get one.
            self._pieces = deque(maxlen=MOST_PIECES)
        self._pieces.append(piece)
        self.wake()

    def wake(self) -> None:
        """Let it look again."""
        self._dirty = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def beat(self) -> None:
        """Let it show a sign of life if it has nothing else to say."""
        self._beat = True
        self.wake()

    def close(self) -> None:
        """Let it stop."""
        self.closed = True
        self.wake()
