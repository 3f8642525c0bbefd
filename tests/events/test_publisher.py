"""Publishing: every event once, in order, with positions that have no gap."""

import asyncio

from activities.records.database import Database
from activities.records.events import (
    MAX_PAYLOAD,
    last_position,
    pack_notifications,
    read_positions,
    read_published,
    unpack_notification,
)
from activities.streams.publisher import Publisher, publishing
from models.identifiers import new_identifier
from tests.events.log import a_run, write
from tests.eventually import eventually


async def test_an_event_is_invisible_until_it_is_published(store: Database) -> None:
    run = await a_run(store)
    await write(store, run, "a", "b")
    async with store.platform() as connection:
        assert await read_published(connection, {run.id: 0}, limit=10) == []
    await Publisher(store).pass_once()
    async with store.platform() as connection:
        rows = await read_published(connection, {run.id: 0}, limit=10)
    assert [row["seq"] for row in rows] == [1, 2]


async def test_two_publishers_give_positions_without_gap_in_each_runs_order(store: Database) -> None:
    tenant = new_identifier("tenant")
    runs = [await a_run(store, tenant) for _ in range(6)]
    async with store.platform() as connection:
        begun = await last_position(connection)

    async def writer(number: int) -> None:
        for step in range(10):
            await write(store, runs[(number + step) % 6], f"{number}-{step}")

    async with publishing(store), publishing(store):
        await asyncio.gather(*(writer(number) for number in range(8)))

        async def all_out() -> bool:
            async with store.platform() as connection:
                return len(await read_positions(connection, tenant, after=0, types=None, limit=200)) == 80

        await eventually(all_out)
    async with store.platform() as connection:
        rows = await read_positions(connection, tenant, after=0, types=None, limit=200)
        count = await (
            await connection.execute(
                "SELECT count(position) AS n, max(position) AS top, min(position) AS first FROM run_events "
                "WHERE position > %s",
                [begun],
            )
        ).fetchone()
        end = await last_position(connection)
    assert count is not None
    assert (count["first"], count["top"], count["n"]) == (begun + 1, end, end - begun)
    for run in runs:
        seqs = [row["seq"] for row in rows if row["run_id"] == run.id]
        assert seqs == list(range(1, len(seqs) + 1))


async def test_a_run_whose_row_is_held_is_published_once_it_is_free(store: Database) -> None:
    run = await a_run(store)
    await write(store, run, "a")
    async with store.tenant(run.tenant_id) as connection:
        await connection.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", [run.id])
        waiting = asyncio.create_task(Publisher(store).pass_once())

        async def queued() -> bool:
            async with store.platform() as other:
                row = await (
                    await other.execute(
                        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    )
                ).fetchone()
            return row is not None and row["n"] > 0

        await eventually(queued)
    assert await waiting >= 1


def test_notifications_are_packed_below_the_limit_of_postgresql() -> None:
    pairs = [(new_identifier("execution"), number) for number in range(1000)]
    payloads = pack_notifications(pairs)
    assert max(map(len, payloads)) <= MAX_PAYLOAD
    assert [pair for payload in payloads for pair in unpack_notification(payload)] == pairs
    assert pack_notifications([]) == []
