"""Phase 3 of the event log: from the store to every client that follows (run-events-flowchart; DESIGN §3).

One hub per process has one connection that listens for notifications. A notification only says that there
is something to read: events are always read from the store, once per channel, whoever follows. What a
notification missed, the reconnection and a slow look find.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
import structlog

from activities.records.archives import find_archived
from activities.records.database import Database, DatabaseUnavailableError
from activities.records.events import (
    CHANNEL,
    Row,
    last_position,
    published_numbers,
    read_positions,
    read_published,
    read_tail,
    unpack_notification,
)
from activities.records.runs import find_run
from activities.streams import deltas
from activities.streams.archive import ArchiveReader
from activities.streams.channel import (
    TAIL_EVENTS,
    Channel,
    Ephemeral,
    Message,
    RunChannel,
    TenantChannel,
)
from activities.streams.subscription import Subscription
from models.run import Run

log: structlog.stdlib.BoundLogger = structlog.get_logger("events.hub")

PAGE = 200
"""Events per channel and reading."""

CHANNELS_PER_READING = 500
READERS = 6
"""Readings of the store at once, so that a storm of clients leaves connections to the rest of the process."""

HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 60.0
"""A client that takes nothing for so long is let go; it resumes where it was when it comes back."""

LOOK_SECONDS = 3.0
"""Pause between two looks at the store for what no notification told of."""

LISTEN_SECONDS = 5.0
RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 2.0


class Hub:
    """Follows logs for the clients of one process."""

    def __init__(self, database: Database, listen_url: str, archive: ArchiveReader) -> None:
        """Prepare; the first subscription connects.

        Args:
            database: Read as the platform; whether a client may see a log is decided by who subscribes it.
            listen_url: PostgreSQL's own address (no transaction pooler), for the listening connection.
            archive: Reads what has left the store.
        """
        self._database = database
        self._listen_url = listen_url
        self.archive = archive
        self._runs: dict[str, RunChannel] = {}
        self._tenants: dict[tuple[str, tuple[str, ...] | None], TenantChannel] = {}
        self._loading: dict[Channel, asyncio.Task[None]] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[Run]] = {}
        self._subscriptions: dict[Subscription, asyncio.Task[Any] | None] = {}
        self._dirty: set[Channel] = set()
        self._work = asyncio.Event()
        self._readers = asyncio.Semaphore(READERS)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def clients(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    @asynccontextmanager
    async def follow_runs(
        self, after: Mapping[str, int], *, expires_at: datetime | None = None
    ) -> AsyncGenerator[Subscription]:
        """Follow runs, each after the given number, for as long as the block lasts.

        The channels are registered before the store is read, so nothing falls between.

        Raises:
            DatabaseUnavailableError: The store cannot be read now.
        """
        channels: dict[Channel, int] = {self._run_channel(run_id): number for run_id, number in after.items()}
        async with self._following(channels, expires_at) as subscription:
            yield subscription

    @asynccontextmanager
    async def follow_tenant(
        self,
        tenant_id: str,
        *,
        types: tuple[str, ...] | None = None,
        after: int | None = None,
        expires_at: datetime | None = None,
    ) -> AsyncGenerator[Subscription]:
        """Follow all runs of a tenant by position, for as long as the block lasts.

        Args:
            tenant_id: Whose events.
            types: Only these types; None: all.
            after: Position after which to begin; None: now.
            expires_at: When the subscriber's credentials expire.

        Raises:
            DatabaseUnavailableError: The store cannot be read now.
        """
        key = (tenant_id, types)
        channel = self._tenants.get(key)
        if channel is None:
            channel = self._tenants[key] = TenantChannel(tenant_id, types)
        async with self._following({channel: -1 if after is None else after}, expires_at) as subscription:
            if after is None:
                subscription.position[channel] = channel.last
            yield subscription

    async def run_of(self, tenant_id: str, run_id: str) -> Run:
        """Read a run for whoever wants to follow it; all that ask at once share one reading.

        They queue here, not for the process's connections: when thousands of clients come back at once,
        each waits its turn instead of being refused.

        Raises:
            RunNotFoundError: It does not exist in the tenant.
            DatabaseUnavailableError: The store cannot be read now.
        """
        key = (tenant_id, run_id)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._read_run(tenant_id, run_id))
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    async def _read_run(self, tenant_id: str, run_id: str) -> Run:
        async with self._readers, self._database.tenant(tenant_id) as connection:
            return await find_run(connection, run_id)

    def _asked(self, key: tuple[str, str], task: asyncio.Task[Run]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            # Whoever asked has left: a failure is nobody's.
            task.exception()

    async def close(self) -> None:
        """End every subscription and every task of the hub."""
        self.end_all()
        tasks = [*self._tasks, *self._loading.values(), *self._asking.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def end_all(self) -> None:
        """Let every stream end now; their clients come back to another process."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()

    # -- Subscriptions --------------------------------------------------------------------------------
    def _run_channel(self, run_id: str) -> RunChannel:
        channel = self._runs.get(run_id)
        if channel is None:
            channel = self._runs[run_id] = RunChannel(run_id)
        return channel

    @asynccontextmanager
    async def _following(
        self, channels: dict[Channel, int], expires_at: datetime | None
    ) -> AsyncGenerator[Subscription]:
        self._start()
        subscription = Subscription(channels, self._page, now=time.monotonic(), expires_at=expires_at)
        if self._closed:
            subscription.close()
        self._subscriptions[subscription] = asyncio.current_task()
        for channel in channels:
            channel.followers.add(subscription)
        try:
            for channel in list(channels):
                await self._load(channel)
            yield subscription
        finally:
            self._subscriptions.pop(subscription, None)
            for channel in channels:
                channel.followers.discard(subscription)
                if not channel.followers:
                    self._forget(channel)

    def _forget(self, channel: Channel) -> None:
        self._dirty.discard(channel)
        if isinstance(channel, TenantChannel):
            self._tenants.pop((channel.key, channel.types), None)
        else:
            self._runs.pop(channel.key, None)

    async def _load(self, channel: Channel) -> None:
        """Read the end of a channel's log; clients that come meanwhile wait for the same reading."""
        if channel.ready:
            return
        task = self._loading.get(channel)
        if task is None:
            task = self._loading[channel] = asyncio.create_task(self._read_end(channel))
            task.add_done_callback(lambda done: self._loaded(channel, done))
        await asyncio.shield(task)

    def _loaded(self, channel: Channel, task: asyncio.Task[None]) -> None:
        self._loading.pop(channel, None)
        if not task.cancelled() and task.exception() is None:
            # Something may have been published between the reading and now.
            self._mark(channel)

    async def _read_end(self, channel: Channel) -> None:
        async with self._readers, self._database.platform() as connection:
            if isinstance(channel, TenantChannel):
                channel.read_to = await last_position(connection)
                channel.load((), channel.read_to)
                return
            rows = await read_tail(connection, channel.key, limit=TAIL_EVENTS)
            archived = None if rows else await find_archived(connection, channel.key)
        if archived is not None:
            start = max(0, archived.upto - TAIL_EVENTS)
            rows = await self.archive.read(archived, after=start, limit=TAIL_EVENTS)
        channel.load(_numbered(rows, "seq"), rows[0]["seq"] - 1 if rows else 0)

    async def _page(self, channel: Channel, after: int) -> Sequence[Message]:
        async with self._readers, self._database.platform() as connection:
            if isinstance(channel, TenantChannel):
                rows = await read_positions(
                    connection, channel.key, after=after, types=channel.types, limit=PAGE
                )
                return _numbered(rows, "position")
            rows = await read_published(connection, {channel.key: after}, limit=PAGE)
            # Numbers have no gap: what does not follow at once has left the store.
            lacking = not rows or rows[0]["seq"] > after + 1
            archived = await find_archived(connection, channel.key) if lacking else None
        if archived is not None and archived.upto > after:
            rows = await self.archive.read(archived, after=after, limit=PAGE)
        return _numbered(rows, "seq")

    # -- Reading --------------------------------------------------------------------------------------
    def _start(self) -> None:
        if self._tasks or self._closed:
            return
        for work in (self._listen(), self._read(), self._look(), self._watch()):
            # Not in the context of the request that happens to be first: its ids are not the hub's.
            task = asyncio.create_task(work, context=Context())
            task.add_done_callback(self._stopped)
            self._tasks.append(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """End all streams when a task failed for a reason that nobody foresaw; the next one starts anew."""
        if task.cancelled() or self._closed:
            return
        log.error("a task of the hub failed", exc_info=task.exception())
        tasks, self._tasks = self._tasks, []
        for each in tasks:
            each.cancel()
        for subscription in list(self._subscriptions):
            subscription.close()

    def _mark(self, channel: Channel) -> None:
        if channel.followers:
            self._dirty.add(channel)
            self._work.set()

    def _mark_all(self) -> None:
        for channel in (*self._runs.values(), *self._tenants.values()):
            self._mark(channel)

    async def _read(self) -> None:
        """Read whatever is dirty, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            dirty = {channel for channel in self._dirty if channel.ready}
            self._dirty.clear()
            try:
                await self._refresh(dirty)
            except DatabaseUnavailableError:
                self._dirty |= dirty
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def _refresh(self, dirty: set[Channel]) -> None:
        runs = {channel.key: channel for channel in dirty if isinstance(channel, RunChannel)}
        names = iter(runs)
        while some := list(islice(names, CHANNELS_PER_READING)):
            after = {name: runs[name].last for name in some}
            async with self._database.platform() as connection:
                rows = await read_published(connection, after, limit=PAGE)
            by_run: dict[str, list[Row]] = {}
            for row in rows:
                by_run.setdefault(row["run_id"], []).append(row)
            for name, found in by_run.items():
                self._extend(runs[name], _numbered(found, "seq"))
        for channel in dirty:
            if isinstance(channel, TenantChannel):
                async with self._database.platform() as connection:
                    # Read first: whatever is up to here is visible to the statement after it.
                    head = await last_position(connection)
                    rows = await read_positions(
                        connection, channel.key, after=channel.read_to, types=channel.types, limit=PAGE
                    )
                channel.read_to = rows[-1]["position"] if len(rows) == PAGE else max(head, channel.read_to)
                self._extend(channel, _numbered(rows, "position"))

    def _extend(self, channel: Channel, messages: Sequence[Message]) -> None:
        if channel.extend(messages):
            for subscription in channel.followers:
                subscription.wake()
        if len(messages) == PAGE:
            self._mark(channel)

    # -- Notifications --------------------------------------------------------------------------------
    async def _listen(self) -> None:
        """Keep one connection that listens; after each new one, read what was missed."""
        pause = RETRY_SECONDS
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._listen_url, autocommit=True, application_name="switchyard-hub", connect_timeout=5
                )
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    await connection.execute(f"LISTEN {deltas.CHANNEL}")
                    pause = RETRY_SECONDS
                    self._mark_all()
                    while True:
                        async for notification in connection.notifies(timeout=LISTEN_SECONDS):
                            if notification.channel == deltas.CHANNEL:
                                self._told(notification.payload)
                            else:
                                self._notified(notification.payload)
                        # A connection that died without a word shows here.
                        await connection.execute("SELECT 1")
            except psycopg.Error as error:
                log.warning("the listening connection broke", reason=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY_SECONDS)

    def _notified(self, payload: str) -> None:
        for run_id, seq in unpack_notification(payload):
            channel = self._runs.get(run_id)
            if channel is not None and seq > channel.last:
                self._mark(channel)
        for channel in self._tenants.values():
            self._mark(channel)

    def _told(self, payload: str) -> None:
        for piece in deltas.unpacked(payload):
            channel = self._runs.get(piece["run"])
            if channel is not None:
                told = Ephemeral(piece["run"], piece["type"], piece["data"])
                for subscription in channel.followers:
                    subscription.tell(told)

    async def _look(self) -> None:
        """Find what no notification told of."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(DatabaseUnavailableError):
                names = iter(list(self._runs))
                while some := list(islice(names, CHANNELS_PER_READING)):
                    async with self._readers, self._database.platform() as connection:
                        published = await published_numbers(connection, some)
                    for name, seq in published.items():
                        channel = self._runs.get(name)
                        if channel is not None and seq > channel.last:
                            self._mark(channel)
                for channel in self._tenants.values():
                    self._mark(channel)

    async def _watch(self) -> None:
        """Give signs of life, end what has expired, let go who takes nothing."""
        while True:
            await asyncio.sleep(1.0)
            now, today = time.monotonic(), datetime.now(UTC)
            for subscription, task in list(self._subscriptions.items()):
                if subscription.expires_at is not None and subscription.expires_at <= today:
                    subscription.close()
                stalled = subscription.sending_since
                if stalled is not None and now - stalled > STALLED_SECONDS and task is not None:
                    subscription.close()
                    task.cancel()
                elif now - subscription.quiet_since >= HEARTBEAT_SECONDS:
                    subscription.quiet_since = now
                    subscription.beat()


def _numbered(rows: Sequence[Row], number: str) -> list[Message]:
    return [Message(row[number], row) for row in rows]
