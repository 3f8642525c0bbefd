"""The trace of a run: timeline, durations, agent calls, approvals, errors (flowgrid-level3 §8.4, §11.1)."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from activities.records.run_lists import list_runs
from activities.records.runs import RunNotFoundError, find_run, read_events
from activities.streams.archive import ArchiveReader, read_archived
from activities.telemetry.trace import trace_of
from api.authentication import requires
from api.envelope import Success, errors, success
from api.state import Services, ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.monitoring_views import Trace

router = APIRouter(tags=["monitoring"])

Reader = Annotated[Principal, Depends(requires(Permission.RUNS_READ))]

MAX_EVENTS = 20_000
"""Events that totals are made of: a run that has more is read in pieces by who wants it whole."""

MAX_CHILDREN = 100

FromSeq = Annotated[int, Query(alias="fromSeq", ge=1, le=2**53, description="First event of the timeline.")]
Limit = Annotated[int, Query(ge=1, le=5000, description="Longest timeline.")]


@router.get(
    "/api/orchestrator/instances/{instanceId}/trace",
    operation_id="orchestrator_trace",
    responses=errors(RunNotFoundError),
)
async def get_instance_trace(
    instanceId: Annotated[Identifier, Path(description="An instance's id, or any run's.")],  # noqa: N803 - the document's spelling
    caller: Reader,
    services: ServicesDep,
    request: Request,
    from_seq: FromSeq = 1,
    limit: Limit = 1000,
) -> Trace:
    """Show what happened in an instance, in order, how long each step took and what it comes to."""
    return await _trace(instanceId, caller, services, request, from_seq, limit)


@router.get(
    "/runs/{run_id}/trace",
    operation_id="runs_trace",
    responses=errors(RunNotFoundError),
    response_model=Success[Trace],
)
async def get_run_trace(
    run_id: Identifier,
    caller: Reader,
    services: ServicesDep,
    request: Request,
    from_seq: FromSeq = 1,
    limit: Limit = 1000,
) -> Success[Trace]:
    """Show the same of any run, in the envelope."""
    return success(await _trace(run_id, caller, services, request, from_seq, limit))


async def _trace(
    run_id: str, caller: Principal, services: Services, request: Request, from_seq: int, limit: int
) -> Trace:
    archive: ArchiveReader = request.app.state.hub.archive
    async with services.database.tenant(caller.tenant_id) as connection:
        run = await find_run(connection, run_id)
        events = await read_archived(connection, archive, run, from_seq=1, limit=MAX_EVENTS)
        events += await read_events(
            connection, run_id, from_seq=1 + len(events), limit=MAX_EVENTS - len(events)
        )
        children = await list_runs(connection, parent_run_id=run_id, limit=MAX_CHILDREN)
    return trace_of(run, events, children[::-1], from_seq=from_seq, limit=limit, now=datetime.now(UTC))
