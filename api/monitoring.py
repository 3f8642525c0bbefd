"""Dashboard, agents, flows, health and costs (flowgrid-level3 §11.3): camelCase, no envelope."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from activities.records.monitoring_figures import (
    read_agent_metrics,
    read_costs,
    read_dashboard,
    read_flow_analytics,
)
from activities.streams.hub import Hub
from activities.telemetry.health import check_health
from api.authentication import requires
from api.envelope import errors
from api.state import ServicesDep
from models.identity import Permission, Principal
from models.monitoring import InvalidPeriodError
from models.monitoring_views import (
    AgentMetrics,
    CostGrouping,
    Costs,
    Dashboard,
    FlowAnalytics,
    SystemHealth,
)

router = APIRouter(prefix="/api/monitoring", tags=["monitoring"])

Reader = Annotated[Principal, Depends(requires(Permission.RUNS_READ))]

Word = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$")]

PeriodText = Annotated[
    str,
    Query(
        pattern=r"^[1-9][0-9]{0,2}[hd]$",
        description="Hours (at most 48h) or days (at most 400d), the present one included; days are UTC.",
        examples=["24h", "7d"],
    ),
]


@router.get("/dashboard", operation_id="monitoring_dashboard")
async def get_dashboard(caller: Reader, services: ServicesDep) -> Dashboard:
    """Show the tenant at a glance; about a second behind the events."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return await read_dashboard(connection, datetime.now(UTC))


@router.get(
    "/agents/{agentSlug}/metrics",
    operation_id="monitoring_agent_metrics",
    responses=errors(InvalidPeriodError),
)
async def get_agent_metrics(
    agentSlug: Word,  # noqa: N803 - the document's own spelling
    caller: Reader,
    services: ServicesDep,
    period: PeriodText = "24h",
) -> AgentMetrics:
    """Show how an agent did for the tenant: how often, how long, how well, at what cost."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return await read_agent_metrics(connection, agentSlug, period, datetime.now(UTC))


@router.get(
    "/flows/{definitionId}/analytics",
    operation_id="monitoring_flow_analytics",
    responses=errors(InvalidPeriodError),
)
async def get_flow_analytics(
    definitionId: Word,  # noqa: N803 - the document's own spelling
    caller: Reader,
    services: ServicesDep,
    period: PeriodText = "7d",
) -> FlowAnalytics:
    """Show how a process did and which of its elements take the time."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return await read_flow_analytics(connection, definitionId, period, datetime.now(UTC))


@router.get("/costs", operation_id="monitoring_costs", responses=errors(InvalidPeriodError))
async def get_costs(
    caller: Reader,
    services: ServicesDep,
    period: PeriodText = "30d",
    groupBy: Annotated[  # noqa: N803 - the document's own spelling
        CostGrouping, Query(description="The list to give in full; of the others the ten largest are listed.")
    ] = CostGrouping.AGENT,
) -> Costs:
    """Show what agents cost the tenant: prices paid to the marketplace and language models' calls."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return await read_costs(connection, caller.tenant_id, period, groupBy, datetime.now(UTC))


@router.get("/health", operation_id="monitoring_health")
async def get_health(caller: Reader, services: ServicesDep, request: Request) -> SystemHealth:
    """Show how every part does, with queue depths and latencies; always 200, the answer says what is down."""
    hub: Hub = request.app.state.hub
    return await check_health(
        services.database, services.temporal, services.object_store, streams=hub.clients
    )
