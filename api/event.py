"""Runs and what happened in them (run-events-flowchart)."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from activities.records.run_lists import list_runs
from activities.records.runs import RunNotFoundError, find_run, read_events
from activities.streams.archive import ArchiveReader, read_archived
from api.authentication import requires
from api.envelope import Success, errors, success
from api.pagination import InvalidCursorError, Page, PageDep
from api.state import Services, ServicesDep
from models.event import EventType
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.run import Run, RunKind, RunStatus

router = APIRouter(tags=["runs"])

Reader = Annotated[Principal, Depends(requires(Permission.RUNS_READ))]


class RunView(BaseModel):
    """One run."""

    id: str
    kind: RunKind
    status: RunStatus
    subject: str
    parent_run_id: str | None
    correlation_id: str
    workflow_id: str
    temporal_url: str
    last_seq: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class EventView(BaseModel):
    """One event of a run."""

    id: str
    seq: int
    type: EventType
    source: str
    timestamp: datetime
    data: dict[str, Any]
    correlation_id: str
    causation_id: str | None


class EventPage(BaseModel):
    """Events in order; ask again from ``next_seq`` for those that come later."""

    items: list[EventView]
    next_seq: int
    ended: bool
    """Whether the run has ended and these are its last events."""


def show_run(run: Run, services: Services) -> RunView:
    """Present a run, with the page of its workflow in Temporal's own interface."""
    settings = services.settings
    address = f"{settings.temporal_ui_url}/namespaces/{settings.temporal_namespace}/workflows"
    return RunView(
        **run.model_dump(include=set(RunView.model_fields) - {"temporal_url"}),
        temporal_url=f"{address}/{run.workflow_id.replace('/', '%2F')}",
    )


@router.get("/runs", response_model=Success[Page[RunView]], responses=errors(InvalidCursorError))
async def get_runs(
    caller: Reader,
    services: ServicesDep,
    page: PageDep,
    kind: Annotated[RunKind | None, Query(description="Only runs of this kind.")] = None,
    status: Annotated[RunStatus | None, Query(description="Only those with this status.")] = None,
    subject: Annotated[str | None, Query(max_length=200, description="Only those about this.")] = None,
    correlation_id: Annotated[
        str | None, Query(max_length=128, description="Only those of this request.")
    ] = None,
    parent_run_id: Annotated[Identifier | None, Query(description="Only those that this run began.")] = None,
) -> Success[Page[RunView]]:
    """List the tenant's runs of every kind, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_runs(
            connection,
            kind=kind,
            status=status,
            subject=subject,
            correlation_id=correlation_id,
            parent_run_id=parent_run_id,
            before=page.before,
            limit=page.fetch,
        )
    return success(page.page(rows, lambda run: show_run(run, services)))


@router.get("/runs/{run_id}", response_model=Success[RunView], responses=errors(RunNotFoundError))
async def get_run(run_id: Identifier, caller: Reader, services: ServicesDep) -> Success[RunView]:
    """Show one run and where to see its workflow."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(show_run(await find_run(connection, run_id), services))


@router.get("/runs/{run_id}/events", response_model=Success[EventPage], responses=errors(RunNotFoundError))
async def get_events(
    run_id: Identifier,
    request: Request,
    caller: Reader,
    services: ServicesDep,
    from_seq: Annotated[int, Query(alias="fromSeq", ge=1, le=2**53, description="First number wanted.")] = 1,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 500,
) -> Success[EventPage]:
    """Read a run's events from a number on, without gap or duplicate."""
    async with services.database.tenant(caller.tenant_id) as connection:
        run = await find_run(connection, run_id)
        archive: ArchiveReader = request.app.state.hub.archive
        events = await read_archived(connection, archive, run, from_seq=from_seq, limit=limit)
        events += await read_events(
            connection, run_id, from_seq=from_seq + len(events), limit=limit - len(events)
        )
    next_seq = events[-1].seq + 1 if events else from_seq
    return success(
        EventPage(
            items=[EventView.model_validate(event, from_attributes=True) for event in events],
            next_seq=next_seq,
            ended=run.ended_at is not None and next_seq > run.last_seq,
        )
    )
