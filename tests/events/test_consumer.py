"""Consumer groups: at least once, in order, over the death of members; dead letters and redrive."""

import asyncio
from datetime import timedelta

import pytest

from activities.records.database import Database
from activities.records.groups import ask_redrive, find_group, list_dead_letters, replay_group
from activities.streams.consumer import Consumer
from models.event import RunEvent
from models.stream import DeadLetterNotFoundError
from tests.events.log import a_run, write
from tests.eventually import eventually

pytestmark = pytest.mark.usefixtures("publisher")

AT_ONCE = timedelta(0)


async def test_a_group_goes_on_where_its_dead_member_stopped(store: Database) -> None:
    run = await a_run(store)
    await write(store, run, *(f"k{number}" for number in range(40)))
    seen: list[int] = []

    async def handler(event: RunEvent) -> None:
        seen.append(event.seq)
        await asyncio.sleep(0.002)

    def member() -> "asyncio.Task[None]":
        return asyncio.create_task(Consumer(store, "g", handler, tenant_id=run.tenant_id).run())

    async def reached(count: int) -> bool:
        return len(set(seen)) >= count

    first = member()
    await eventually(lambda: reached(10))
    first.cancel()
    await asyncio.wait([first])
    second, third = member(), member()
    await eventually(lambda: reached(40))
    for task in (second, third):
        task.cancel()
    await asyncio.wait([second, third])
    assert sorted(set(seen)) == list(range(1, 41))
    firsts = list(dict.fromkeys(seen))
    assert firsts == sorted(firsts), "in order"
    assert len(seen) <= 42, "only what was in hand at a death comes twice"


async def test_an_event_that_always_fails_becomes_a_dead_letter_and_can_be_redriven(store: Database) -> None:
    run = await a_run(store)
    await write(store, run, "a", "poison", "c")
    seen: list[str] = []
    broken = True

    async def handler(event: RunEvent) -> None:
        if event.key == "poison" and broken:
            raise ValueError("cannot read this")
        seen.append(event.key)

    consumer = Consumer(store, "g", handler, tenant_id=run.tenant_id, attempts=3, first_backoff=AT_ONCE)
    await consumer.join()

    async def passed(*keys: str) -> bool:
        await consumer.pass_once()
        return seen == list(keys)

    await eventually(lambda: passed("a", "c"))
    async with store.platform() as connection:
        (letter,) = await list_dead_letters(connection, run.tenant_id, "g")
        assert (letter.failures, letter.error) == (3, "ValueError: cannot read this")
        with pytest.raises(DeadLetterNotFoundError):
            await ask_redrive(connection, "tenant-other", letter.id)
        await ask_redrive(connection, run.tenant_id, letter.id)
    broken = False
    await eventually(lambda: passed("a", "c", "poison"))
    async with store.platform() as connection:
        assert await list_dead_letters(connection, run.tenant_id, "g") == []


async def test_a_group_replays_from_any_position_and_sees_its_own_tenant_and_types(store: Database) -> None:
    run, other = await a_run(store), await a_run(store)
    await write(store, run, "a", "b")
    await write(store, other, "x")
    seen: list[str] = []

    async def handler(event: RunEvent) -> None:
        seen.append(event.key)

    consumer = Consumer(store, "g", handler, tenant_id=run.tenant_id, event_types=["log"])
    await consumer.join()

    async def passed(*keys: str) -> bool:
        await consumer.pass_once()
        return seen == list(keys)

    await eventually(lambda: passed("a", "b"))
    async with store.platform() as connection:
        group = await find_group(connection, run.tenant_id, "g")
        await replay_group(connection, run.tenant_id, "g", position=group.position - 1)
    await eventually(lambda: passed("a", "b", "b"))
