"""Triggers: processes that start by the calendar, by start events and by published events."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field, JsonValue
from starlette.responses import Response

from activities.records.process_definitions import find_definition, find_process
from activities.records.triggers import (
    change_trigger,
    delete_triggers,
    find_trigger,
    insert_trigger,
    list_runs,
    list_triggers,
)
from activities.trigger import apply_schedule, backfill, run_now
from api.camel import CamelAnswer, CamelBody
from api.envelope import errors
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.orchestrator import Deployer, Reader, Runner, Variables
from api.state import Services, ServicesDep
from models.event import EventType
from models.identifiers import Identifier
from models.process_errors import ProcessDefinitionNotFoundError
from models.trigger import (
    TIMED,
    OverlapPolicy,
    ScheduledTrigger,
    TriggerBoundError,
    TriggerInvalidError,
    TriggerKind,
    TriggerNotFoundError,
    TriggerOrigin,
    TriggerRunStatus,
    checked_cron,
)

router = APIRouter(prefix="/api/orchestrator/triggers", tags=["triggers"])

LONGEST_BACKFILL = timedelta(days=366)


class CreateTrigger(CamelBody):
    """When which process starts: by cron, or whenever an event of a type is published."""

    definition_id: Identifier | None = None
    process_key: str | None = Field(default=None, min_length=1, max_length=200)
    kind: Literal[TriggerKind.CRON, TriggerKind.EVENT] = TriggerKind.CRON
    cron_expression: str | None = Field(default=None, max_length=100)
    time_zone: str = Field(default="UTC", max_length=60)
    overlap_policy: OverlapPolicy = OverlapPolicy.SKIP
    event_type: EventType | None = None
    match: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue], max_length=50)
    variables: Variables = Field(default_factory=dict[str, JsonValue])
    start_event: str | None = Field(default=None, max_length=200)
    enabled: bool = True


class ChangeTrigger(CamelBody):
    """What of a trigger changes; what is left out stays."""

    cron_expression: str | None = Field(default=None, max_length=100)
    time_zone: str | None = Field(default=None, max_length=60)
    overlap_policy: OverlapPolicy | None = None
    match: dict[str, JsonValue] | None = None
    variables: Variables | None = None
    enabled: bool | None = None


class RunNow(CamelBody):
    """How a trigger is run by hand; without a policy, by its own."""

    overlap_policy: OverlapPolicy | None = None


class Backfill(CamelBody):
    """A span of time whose periods are made up for, both ends included."""

    start: AwareDatetime
    end: AwareDatetime
    overlap_policy: OverlapPolicy = OverlapPolicy.ALLOW_ALL


class Trigger(CamelAnswer):
    """A trigger."""

    trigger_id: str
    definition_id: str
    process_key: str
    pinned: bool
    kind: TriggerKind
    origin: TriggerOrigin
    cron_expression: str | None
    time_zone: str
    overlap_policy: OverlapPolicy
    name: str | None
    match: dict[str, Any]
    variables: dict[str, Any]
    start_event: str | None
    enabled: bool
    last_triggered_at: datetime | None
    next_trigger_at: datetime | None
    created_by: str
    created_at: datetime


class TriggerList(CamelAnswer):
    """Triggers, newest first."""

    triggers: list[Trigger]
    has_more: bool


class Start(CamelAnswer):
    """One start by a trigger."""

    period: str
    instance_id: str
    definition_id: str
    status: TriggerRunStatus
    created_at: datetime


class StartList(CamelAnswer):
    """Starts of a trigger, newest first."""

    starts: list[Start]
    has_more: bool


class Accepted(CamelAnswer):
    """What was asked for is under way."""

    status: Literal["accepted"] = "accepted"


def show(trigger: ScheduledTrigger) -> Trigger:
    """Present a trigger."""
    fields = trigger.model_dump(exclude={"id", "start_node"})
    return Trigger.model_validate({**fields, "trigger_id": trigger.id, "start_event": trigger.start_node})


@router.post(
    "",
    status_code=201,
    response_model=Trigger,
    responses=errors(
        ProcessDefinitionNotFoundError,
        TriggerInvalidError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def create_trigger(
    body: CreateTrigger, caller: Deployer, services: ServicesDep, once: OnceDep
) -> Response:
    """Make a trigger: a schedule in a time zone, or a start for every event of a type."""
    if (body.definition_id is None) == (body.process_key is None):
        raise TriggerInvalidError(
            "definitionId", "exactly one of definitionId and processKey is needed", "Send one."
        )
    expression, zone = _checked(body)

    async def create(trigger_id: str) -> Trigger:
        async with services.database.tenant(caller.tenant_id) as connection:
            if body.definition_id is not None:
                definition = await find_definition(connection, body.definition_id)
            else:
                definition = await find_process(connection, body.process_key or "", None)
            trigger = ScheduledTrigger(
                id=trigger_id,
                tenant_id=caller.tenant_id,
                definition_id=definition.id,
                process_key=definition.process_key,
                pinned=body.definition_id is not None,
                kind=body.kind,
                origin=TriggerOrigin.USER,
                cron_expression=expression,
                time_zone=zone,
                overlap_policy=body.overlap_policy,
                name=body.event_type,
                match=dict(body.match),
                variables=dict(body.variables),
                start_node=body.start_event,
                enabled=body.enabled,
                created_by=caller.user_id,
            )
            await insert_trigger(connection, trigger)
        return show(trigger)

    return await once.answer("trigger", create)


def _checked(body: CreateTrigger) -> tuple[str | None, str]:
    """Return cron expression and time zone of a new trigger."""
    if body.kind == TriggerKind.EVENT:
        if body.event_type is None or body.cron_expression is not None:
            raise TriggerInvalidError("eventType", "an event trigger has one, and no cron", "Send eventType.")
        return None, "UTC"
    if body.cron_expression is None or body.event_type is not None:
        raise TriggerInvalidError(
            "cronExpression", "a cron trigger has one, and no event type", "Send cronExpression."
        )
    cron = checked_cron(body.cron_expression, body.time_zone)
    return cron.text, cron.zone


@router.get("", response_model=TriggerList)
async def get_triggers(
    caller: Reader,
    services: ServicesDep,
    process_key: Annotated[str | None, Query(alias="processKey", max_length=200)] = None,
    kind: TriggerKind | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> TriggerList:
    """List triggers: schedules, start events of deployed processes, event triggers."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_triggers(
            connection, process_key=process_key, kind=kind, limit=limit + 1, offset=offset
        )
    return TriggerList(triggers=[show(row) for row in rows[:limit]], has_more=len(rows) > limit)


@router.get("/{trigger_id}", response_model=Trigger, responses=errors(TriggerNotFoundError))
async def get_trigger(trigger_id: Identifier, caller: Reader, services: ServicesDep) -> Trigger:
    """Show a trigger."""
    return show(await _find(services, caller.tenant_id, trigger_id))


async def _find(services: Services, tenant_id: str, trigger_id: str) -> ScheduledTrigger:
    async with services.database.tenant(tenant_id) as connection:
        return await find_trigger(connection, trigger_id)


@router.patch(
    "/{trigger_id}",
    response_model=Trigger,
    responses=errors(TriggerNotFoundError, TriggerInvalidError, TriggerBoundError),
)
async def patch_trigger(
    trigger_id: Identifier, body: ChangeTrigger, caller: Deployer, services: ServicesDep
) -> Trigger:
    """Pause, resume or change a trigger; of a start event's only whether it is paused may change."""
    changed = body.model_fields_set - {"enabled"}
    async with services.database.tenant(caller.tenant_id) as connection:
        trigger = await find_trigger(connection, trigger_id, lock=True)
        if changed and trigger.origin is TriggerOrigin.DEPLOYMENT:
            raise TriggerBoundError(trigger_id)
        if body.cron_expression is not None or body.time_zone is not None:
            if trigger.kind is not TriggerKind.CRON:
                raise TriggerInvalidError("cronExpression", "the trigger has no calendar", "Leave it out.")
            cron = checked_cron(
                body.cron_expression or trigger.cron_expression or "", body.time_zone or trigger.time_zone
            )
            trigger.cron_expression, trigger.time_zone = cron.text, cron.zone
        if body.overlap_policy is not None:
            trigger.overlap_policy = body.overlap_policy
        if body.match is not None:
            trigger.match = dict(body.match)
        if body.variables is not None:
            trigger.variables = dict(body.variables)
        if body.enabled is not None:
            trigger.enabled = body.enabled
        await change_trigger(connection, trigger)
    return show(trigger)


@router.delete("/{trigger_id}", status_code=204, responses=errors(TriggerNotFoundError, TriggerBoundError))
async def delete_trigger(trigger_id: Identifier, caller: Deployer, services: ServicesDep) -> None:
    """Remove a trigger; instances that it started go on."""
    async with services.database.tenant(caller.tenant_id) as connection:
        trigger = await find_trigger(connection, trigger_id, lock=True)
        if trigger.origin is TriggerOrigin.DEPLOYMENT:
            raise TriggerBoundError(trigger_id)
        await delete_triggers(connection, [trigger_id])


@router.get("/{trigger_id}/starts", response_model=StartList, responses=errors(TriggerNotFoundError))
async def get_starts(
    trigger_id: Identifier,
    caller: Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> StartList:
    """List what a trigger has started."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_trigger(connection, trigger_id)
        rows = await list_runs(connection, trigger_id, limit + 1, offset)
    starts = [
        Start(
            period=row.period_key,
            instance_id=row.instance_id,
            definition_id=row.definition_id,
            status=row.status,
            created_at=row.created_at,
        )
        for row in rows[:limit]
    ]
    return StartList(starts=starts, has_more=len(rows) > limit)


@router.post(
    "/{trigger_id}/run",
    status_code=202,
    response_model=Accepted,
    responses=errors(TriggerNotFoundError, TriggerInvalidError),
)
async def run_trigger(
    trigger_id: Identifier, body: RunNow, caller: Runner, services: ServicesDep
) -> Accepted:
    """Let a time trigger start its process now, paused or not."""
    trigger = await _timed(services, caller.tenant_id, trigger_id)
    await run_now(services.temporal, trigger, body.overlap_policy)
    return Accepted()


@router.post(
    "/{trigger_id}/backfill",
    status_code=202,
    response_model=Accepted,
    responses=errors(TriggerNotFoundError, TriggerInvalidError),
)
async def backfill_trigger(
    trigger_id: Identifier, body: Backfill, caller: Runner, services: ServicesDep
) -> Accepted:
    """Make up for the periods of a span of time; one that has its instance gets no second one."""
    if not timedelta(0) <= body.end - body.start <= LONGEST_BACKFILL or body.end > datetime.now(UTC):
        raise TriggerInvalidError("end", "the span is no past year or less", "Send start before end.")
    trigger = await _timed(services, caller.tenant_id, trigger_id)
    await backfill(services.temporal, trigger, body.start, body.end, body.overlap_policy)
    return Accepted()


async def _timed(services: Services, tenant_id: str, trigger_id: str) -> ScheduledTrigger:
    """Read a time trigger and see that Temporal knows it as it is.

    Raises:
        TriggerNotFoundError: There is none.
        TriggerInvalidError: It has no calendar.
    """
    trigger = await _find(services, tenant_id, trigger_id)
    if trigger.kind not in TIMED:
        raise TriggerInvalidError(
            "triggerId", f"a {trigger.kind} trigger has no calendar", "Start the process."
        )
    if trigger.synced_at is None:
        await apply_schedule(services.temporal, trigger)
    return trigger
