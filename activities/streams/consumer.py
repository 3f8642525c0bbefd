"""Consumer groups: every published event, in order, at least once, to whoever does the group's work.

A group keeps its position in the store. Of its members one holds a lease and works; when it dies, the
lease runs out and another goes on after the last position that was recorded. An event whose handling was
not recorded is handled again, so handlers are made so that twice is harmless (the event's ``id`` helps).
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.events import read_events_at
from activities.records.groups import (
    advance_group,
    bury_event,
    ensure_group,
    fail_group,
    lease_group,
    read_redriven,
    release_group,
    resolve_letter,
)
from models.event import RunEvent
from models.stream import ALL_TENANTS, EventGroup

log: structlog.stdlib.BoundLogger = structlog.get_logger("events.consumer")

Handler = Callable[[RunEvent], Awaitable[None]]
"""Does a group's work for one event; an exception is a failure."""

BATCH = 100
LEASE = timedelta(seconds=30)
HANDLING_SECONDS = 20.0
"""For one event; shorter than the lease, so that two members never handle at the same time."""

IDLE_SECONDS = 0.2
LONGEST_BACKOFF = timedelta(minutes=1)


class Consumer:
    """One member of a consumer group."""

    def __init__(
        self,
        database: Database,
        name: str,
        handler: Handler,
        *,
        tenant_id: str = ALL_TENANTS,
        event_types: Sequence[str] = (),
        attempts: int = 5,
        first_backoff: timedelta = timedelta(milliseconds=200),
    ) -> None:
        """Join the group.

        Args:
            database: Where the log and the groups are.
            name: The group's name.
            handler: Its work.
            tenant_id: Whose events; the platform's own groups get everybody's.
            event_types: Types wanted; empty: all.
            attempts: Failures of one event after which it becomes a dead letter and the group goes on.
            first_backoff: Pause after the first failure; it doubles with each further one.
        """
        self._database = database
        self._name = name
        self._handler = handler
        self._tenant_id = tenant_id
        self._event_types = tuple(event_types)
        self._attempts = attempts
        self._first_backoff = first_backoff
        self._owner = uuid.uuid4().hex

    async def run(self) -> None:
        """Work until cancelled; a database that is away is asked again."""
        ensured = False
        try:
            while True:
                try:
                    if not ensured:
                        await self.join()
                        ensured = True
                    handled = await self.pass_once()
                except DatabaseUnavailableError as error:
                    log.warning("a consumer group rests", group=self._name, reason=error.message)
                    handled = 0
                if not handled:
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await self._leave()

    async def join(self) -> None:
        """Create the group where it does not exist, at the log's beginning."""
        async with self._database.platform() as connection:
            await ensure_group(connection, self._tenant_id, self._name, event_types=self._event_types)

    async def _leave(self) -> None:
        try:
            async with self._database.platform() as connection:
                await release_group(connection, self._tenant_id, self._name, owner=self._owner)
        except DatabaseUnavailableError:
            return  # The lease runs out by itself.

    async def pass_once(self) -> int:
        """Handle what waits, at most a batch, and return how many events were handled.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            group = await lease_group(connection, self._tenant_id, self._name, owner=self._owner, lease=LEASE)
            if group is None:
                return 0
            redriven = await read_redriven(connection, group, limit=BATCH)
            events = await read_events_at(
                connection,
                tenant_id=None if group.tenant_id == ALL_TENANTS else group.tenant_id,
                after=group.position,
                types=group.event_types,
                limit=BATCH,
            )
        for letter, event in redriven:
            error = await self._handle(event)
            async with self._database.platform() as connection:
                await resolve_letter(connection, letter, error=error)
        handled = 0
        for event in events:
            assert event.position is not None, "only published events are read"
            if not await self._step(group, event, event.position):
                break
            group.position, group.failures = event.position, 0
            handled += 1
        return handled + len(redriven)

    async def _step(self, group: EventGroup, event: RunEvent, position: int) -> bool:
        """Handle one event and record it; False where the group must stop here for now."""
        error = await self._handle(event)
        async with self._database.platform() as connection:
            if error is not None:
                pause = min(self._first_backoff * 2**group.failures, LONGEST_BACKOFF)
                failures = await fail_group(connection, group, owner=self._owner, error=error, pause=pause)
                if failures is None or failures < self._attempts:
                    return False
                await bury_event(connection, group, event, error=error, failures=failures)
                log.warning("an event became a dead letter", group=self._name, event_id=event.id)
            return await advance_group(connection, group, owner=self._owner, position=position, lease=LEASE)

    async def _handle(self, event: RunEvent) -> str | None:
        try:
            async with asyncio.timeout(HANDLING_SECONDS):
                await self._handler(event)
        except Exception as error:
            # Whatever a handler raises is that event's failure, not the group's end.
            return f"{type(error).__name__}: {error}"
        return None
