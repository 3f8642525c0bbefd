"""The promise of the log under random deaths: every client's view is complete, ordered, once."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import httpx
import psycopg
import pytest

from activities.records.database import Database
from activities.streams.publisher import Publisher
from models.identifiers import new_identifier
from models.run import Run
from models.settings import Settings
from tests.api.calling import serving
from tests.events.conftest import Token
from tests.events.log import a_run, end, write
from tests.events.sse import follow

RUNS, WRITERS, STEPS, CLIENTS = 8, 6, 12, 16


@pytest.fixture
def two_servers(event_settings: Settings) -> Iterator[list[str]]:
    with serving(event_settings) as first, serving(event_settings) as second:
        yield [first, second]


@pytest.fixture
async def dying_publishers(store: Database) -> AsyncIterator[None]:
    """Two publishers, each killed in mid-work at random and replaced."""
    chance = random.Random(7)

    async def lives() -> None:
        while True:
            task = asyncio.create_task(Publisher(store).run())
            try:
                await asyncio.sleep(chance.uniform(0.05, 0.4))
            finally:
                task.cancel()
                await asyncio.wait([task])

    tasks = [asyncio.create_task(lives()) for _ in range(2)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def kill_listeners(settings: Settings) -> None:
    """End the connections that listen, again and again."""
    url = settings.database_platform_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'switchyard-hub' AND usename = current_user"
            )
            await asyncio.sleep(0.5)


async def watch(servers: list[str], run: Run, token: str, seed: int) -> list[str]:
    """Follow a run to its end, leaving anywhere and resuming at any server; returns the ids seen."""
    chance = random.Random(seed)
    seen: list[str] = []
    while True:
        async with httpx.AsyncClient(base_url=chance.choice(servers), timeout=60, trust_env=False) as client:
            patience = chance.randrange(1, 25)
            stream = follow(client, f"/runs/{run.id}/stream", token=token, last=seen[-1] if seen else None)
            async with aclosing(stream) as opened:  # pyright: ignore[reportArgumentType]
                async for frame in opened:
                    if frame.event == "end":
                        return seen
                    seen.append(frame.id)
                    patience -= 1
                    if patience == 0:
                        break


async def test_every_view_is_complete_ordered_and_once_whatever_dies(
    store: Database, event_settings: Settings, two_servers: list[str], dying_publishers: None, token: Token
) -> None:
    tenant = new_identifier("tenant")
    runs = [await a_run(store, tenant) for _ in range(RUNS)]
    bearer = token(tenant)
    clients = [
        asyncio.create_task(watch(two_servers, runs[number % RUNS], bearer, number))
        for number in range(CLIENTS)
    ]
    killer = asyncio.create_task(kill_listeners(event_settings))

    async def writer(number: int) -> None:
        chance = random.Random(number)
        for step in range(STEPS):
            run = chance.choice(runs)
            keys = [f"{number}-{step}-{part}" for part in range(chance.randrange(1, 4))]
            for _ in range(1 + (chance.random() < 0.2)):
                # A repeated write is an activity's retry.
                await write(store, run, *keys)
            await asyncio.sleep(chance.uniform(0, 0.05))

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    for run in runs:
        await end(store, run)
    async with asyncio.timeout(90):
        views = await asyncio.gather(*clients)
    killer.cancel()
    await asyncio.wait([killer])
    async with store.tenant(tenant) as connection:
        for number, view in enumerate(views):
            row = await (
                await connection.execute("SELECT last_seq FROM runs WHERE id = %s", [runs[number % RUNS].id])
            ).fetchone()
            assert row is not None
            assert view == [str(seq) for seq in range(1, row["last_seq"] + 1)]
