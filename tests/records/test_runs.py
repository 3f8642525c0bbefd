"""The spine: one state machine, and an event log without gaps or duplicates."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.records.database import Database
from activities.records.runs import RunNotFoundError, append_events, create_run, find_run, read_events
from models.event import EventType, NewEvent
from models.identifiers import PATTERN, PREFIXES, new_identifier
from models.run import TERMINAL_STATUSES, TRANSITIONS, Run, RunKind, RunStatus, RunTransitionError
from models.settings import Settings


@pytest.fixture
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


async def a_run(store: Database) -> Run:
    tenant_id = new_identifier("tenant")
    run_id = new_identifier("execution")
    run = Run(
        id=run_id,
        tenant_id=tenant_id,
        kind=RunKind.AGENT_EXECUTION,
        subject="demo",
        correlation_id="c1",
        workflow_id=f"agent-execution/{run_id}",
    )
    async with store.tenant(tenant_id) as connection:
        await create_run(connection, run)
    return run


def logged(key: str) -> NewEvent:
    return NewEvent(type=EventType.LOG, key=key, data={"text": key})


async def test_events_count_from_one_in_the_order_given(store: Database) -> None:
    run = await a_run(store)
    async with store.tenant(run.tenant_id) as connection:
        after = await append_events(connection, run.id, [logged("a"), logged("b"), logged("c")])
        events = await read_events(connection, run.id)
    assert after.last_seq == 3
    assert [(event.seq, event.key) for event in events] == [(1, "a"), (2, "b"), (3, "c")]


async def test_a_repeated_event_is_stored_once_and_leaves_no_gap(store: Database) -> None:
    run = await a_run(store)
    for keys in (["a", "b"], ["a", "b"], ["b", "c"]):
        async with store.tenant(run.tenant_id) as connection:
            await append_events(connection, run.id, [logged(key) for key in keys])
    async with store.tenant(run.tenant_id) as connection:
        events = await read_events(connection, run.id)
    assert [(event.seq, event.key) for event in events] == [(1, "a"), (2, "b"), (3, "c")]


async def test_twelve_writers_at_once_leave_no_gap_and_no_duplicate(store: Database) -> None:
    run = await a_run(store)

    async def write(writer: int) -> None:
        for number in range(8):
            # Every event is written by two writers.
            async with store.tenant(run.tenant_id) as connection:
                await append_events(connection, run.id, [logged(f"{writer // 2}-{number}")])

    await asyncio.gather(*(write(writer) for writer in range(12)))
    async with store.tenant(run.tenant_id) as connection:
        events = await read_events(connection, run.id)
    assert [event.seq for event in events] == list(range(1, 49))
    assert len({event.key for event in events}) == 48


async def test_a_rolled_back_event_takes_no_number(store: Database) -> None:
    run = await a_run(store)
    with pytest.raises(RuntimeError, match="crash"):
        async with store.tenant(run.tenant_id) as connection:
            await append_events(connection, run.id, [logged("lost")])
            raise RuntimeError("crash before the commit")
    async with store.tenant(run.tenant_id) as connection:
        await append_events(connection, run.id, [logged("kept")])
        events = await read_events(connection, run.id)
    assert [(event.seq, event.key) for event in events] == [(1, "kept")]


async def test_a_change_of_status_reports_itself(store: Database) -> None:
    run = await a_run(store)
    async with store.tenant(run.tenant_id) as connection:
        await append_events(connection, run.id, [], status=RunStatus.QUEUED)
        again = await append_events(connection, run.id, [], status=RunStatus.QUEUED)
        events = await read_events(connection, run.id)
    assert again.status is RunStatus.QUEUED
    assert [event.type for event in events] == [EventType.RUN_QUEUED]


async def test_an_ended_run_stays_ended(store: Database) -> None:
    run = await a_run(store)
    async with store.tenant(run.tenant_id) as connection:
        await append_events(connection, run.id, [], status=RunStatus.FAILED)
    with pytest.raises(RunTransitionError) as refused:
        async with store.tenant(run.tenant_id) as connection:
            await append_events(connection, run.id, [logged("late")], status=RunStatus.QUEUED)
    assert refused.value.code == "RUN_TRANSITION_REFUSED"
    async with store.tenant(run.tenant_id) as connection:
        stored = await find_run(connection, run.id)
        assert await read_events(connection, run.id, from_seq=2) == []
    assert stored.status is RunStatus.FAILED
    assert stored.ended_at is not None


async def test_another_tenant_does_not_see_the_run(store: Database) -> None:
    run = await a_run(store)
    with pytest.raises(RunNotFoundError):
        async with store.tenant(new_identifier("tenant")) as connection:
            await append_events(connection, run.id, [logged("intruder")])


def test_every_status_but_the_terminal_ones_leads_on() -> None:
    assert {status for status, targets in TRANSITIONS.items() if not targets} == TERMINAL_STATUSES
    assert set(TRANSITIONS) == set(RunStatus)


@given(st.lists(st.sampled_from(sorted(PREFIXES)), min_size=2, max_size=200))
def test_identifiers_are_unique_prefixed_and_in_order(kinds: list[str]) -> None:
    made = [new_identifier(kind) for kind in kinds]
    assert all(PATTERN.match(identifier) for identifier in made)
    tails = [identifier.rpartition("_")[2] for identifier in made]
    assert tails == sorted(set(tails))
    assert [identifier.rpartition("_")[0] for identifier in made] == [PREFIXES[kind] for kind in kinds]
