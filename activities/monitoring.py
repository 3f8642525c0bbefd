"""Keeps the measurements: adds every published event to them, once (flowgrid-level3 §8, §11.3).

A consumer of the log with its position beside what it writes. Every worker that serves the core queue has
one; whichever comes first adds, the others wait. ``python -m activities.monitoring --rebuild`` makes the
measurements anew from the log.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.events import last_position
from activities.records.monitoring import (
    add_measurements,
    drop_old_hours,
    forget_measurements,
    lock_position,
    move_position,
    read_log,
    read_position,
    read_spans,
    write_spans,
)
from activities.telemetry.fold import Amount, Fold, Key
from activities.telemetry.logs import configure_logging
from models.settings import load_settings
from models.table import utc_now

log: structlog.stdlib.BoundLogger = structlog.get_logger("monitoring")

BATCH = 1000
SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Bounds of the polling interval in seconds: a dashboard may be a second behind."""

KEEP_HOURS = timedelta(days=4)
"""Hours serve periods of up to two days."""

CLEAN_EVERY = 3600.0

Observer = Callable[[Mapping[Key, Amount]], None]
"""Told what was added, after it was committed."""


class Measurer:
    """Adds events to the measurements until it is stopped."""

    def __init__(self, database: Database, observer: Observer | None = None) -> None:
        """Work in ``database`` as the platform; tell ``observer``, such as this process's metrics."""
        self._database = database
        self._observer = observer

    async def run(self) -> None:
        """Add until cancelled; a database that is away is asked again."""
        pause = SHORTEST_PAUSE
        clean_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                count = await self.pass_once()
                if loop.time() >= clean_at:
                    clean_at = loop.time() + CLEAN_EVERY
                    async with self._database.platform() as connection:
                        await drop_old_hours(connection, keep=KEEP_HOURS)
            except DatabaseUnavailableError as error:
                log.warning("nothing is measured for now", reason=error.message)
                count = 0
            pause = SHORTEST_PAUSE if count else min(pause * 2, LONGEST_PAUSE)
            if count < BATCH:
                await asyncio.sleep(pause)

    async def pass_once(self, *, limit: int = BATCH) -> int:
        """Add what was published since, at most ``limit`` events, and return how many it was.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            position = await lock_position(connection)
            if position is None:
                return 0
            events = await read_log(connection, after=position, limit=limit)
            if not events:
                return 0
            fold = Fold(hours_since=utc_now() - KEEP_HOURS)
            fold.open(await read_spans(connection, {event.run_id for event in events}))
            for event in events:
                fold.take(event)
            await add_measurements(connection, fold.added)
            await write_spans(connection, fold.touched)
            await move_position(connection, events[-1].position, events=len(events))
        if self._observer is not None:
            self._observer(fold.added)
        return len(events)

    async def rebuild(self) -> int:
        """Make the measurements anew from the log and return how many events it holds.

        While it runs, figures are those of the part that was read so far.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        forgotten = None
        while forgotten is None:
            async with self._database.platform() as connection:
                forgotten = await forget_measurements(connection)
            await asyncio.sleep(SHORTEST_PAUSE if forgotten is None else 0)
        async with self._database.platform() as connection:
            end = await last_position(connection)
        position = 0
        while position < end:
            # Where another worker has the position, it does the work.
            if not await self.pass_once(limit=10 * BATCH):
                await asyncio.sleep(SHORTEST_PAUSE)
            async with self._database.platform() as connection:
                position = await read_position(connection)
        return position


@asynccontextmanager
async def measuring(database: Database, observer: Observer | None = None) -> AsyncGenerator[Measurer]:
    """Keep the measurements up to date for as long as the block lasts."""
    measurer = Measurer(database, observer)
    task = asyncio.create_task(measurer.run(), name="measurer")
    try:
        yield measurer
    finally:
        task.cancel()
        await asyncio.wait([task])


async def rebuild() -> None:
    """Make the measurements of the settings' database anew."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, service="monitoring")
    async with Database(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        max_connections=2,
        name="switchyard-monitoring",
    ) as database:
        log.info("measurements are made anew", events=await Measurer(database).rebuild())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rebuild", action="store_true", required=True, help="make them anew from the log")
    parser.parse_args()
    asyncio.run(rebuild())


if __name__ == "__main__":
    main()
