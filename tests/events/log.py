"""Runs and events for the tests, written as workers write them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from activities.records.database import Database
from activities.records.runs import append_events, create_run
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.run import Run, RunKind, RunStatus
from models.settings import Settings


@asynccontextmanager
async def store_of(settings: Settings, name: str = "tests") -> AsyncGenerator[Database]:
    async with Database(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        name=name,
    ) as opened:
        yield opened


async def a_run(
    store: Database, tenant_id: str | None = None, *, kind: RunKind = RunKind.AGENT_EXECUTION
) -> Run:
    """Create a run in a tenant of its own unless one is named."""
    run_id = new_identifier("execution")
    run = Run(
        id=run_id,
        tenant_id=tenant_id or new_identifier("tenant"),
        kind=kind,
        subject="demo",
        correlation_id=run_id,
        workflow_id=f"agent-execution/{run_id}",
    )
    async with store.tenant(run.tenant_id) as connection:
        await create_run(connection, run)
    return run


async def write(store: Database, run: Run, *keys: str, event_type: EventType = EventType.LOG) -> None:
    """Append one event per key in one transaction."""
    events = [NewEvent(type=event_type, key=key, data={"text": key}) for key in keys]
    async with store.tenant(run.tenant_id) as connection:
        await append_events(connection, run.id, events)


async def end(store: Database, run: Run) -> None:
    """Let the run fail, which is always allowed."""
    async with store.tenant(run.tenant_id) as connection:
        await append_events(connection, run.id, [], status=RunStatus.FAILED)
