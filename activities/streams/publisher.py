"""Phase 2 of the event log: makes committed events visible, in order (run-events-flowchart).

Several publishers may run, in any processes: ``python -m activities.streams.publisher`` is one, every
worker has another.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.events import find_passed_over, publish_batch, publish_run
from activities.telemetry.logs import configure_logging
from models.settings import Settings, load_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("events.publisher")

SHORTEST_PAUSE = 0.01
LONGEST_PAUSE = 0.2
"""Bounds of the polling interval, in seconds: short while there is work, doubling while there is none."""

BATCH = 200
"""Runs per transaction."""


class Publisher:
    """Publishes waiting events until it is stopped."""

    def __init__(self, database: Database) -> None:
        """Work in ``database`` as the platform."""
        self._database = database
        self.published = 0
        """Events made visible so far."""

    async def run(self) -> None:
        """Publish until cancelled; a database that is away is asked again."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                count = await self.pass_once()
            except DatabaseUnavailableError as error:
                log.warning("events are not published for now", reason=error.message)
                count, pause = 0, LONGEST_PAUSE
            pause = SHORTEST_PAUSE if count else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def pass_once(self) -> int:
        """Publish what waits now and return how many events it was.

        A run whose row is locked at every look (its writers are that busy) is queued for in a transaction
        of its own, which holds nothing else and so can deadlock with nobody.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            done = await publish_batch(connection, limit=BATCH)
        events = done.events
        if done.runs < BATCH:
            async with self._database.platform() as connection:
                run_id = await find_passed_over(connection)
                if run_id is not None:
                    events += (await publish_run(connection, run_id)).events
        self.published += events
        return events


@asynccontextmanager
async def publishing(database: Database) -> AsyncGenerator[Publisher]:
    """Keep a publisher running for as long as the block lasts."""
    publisher = Publisher(database)
    task = asyncio.create_task(publisher.run(), name="event-publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.wait([task])


async def serve(settings: Settings) -> None:
    """Publish until the process is asked to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with (
        Database(
            settings.database_url.get_secret_value(),
            settings.database_platform_url.get_secret_value(),
            max_connections=2,
            name="switchyard-publisher",
        ) as database,
        publishing(database),
    ):
        await stop.wait()


def main() -> None:
    """Run a publisher process."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, service="publisher")
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
