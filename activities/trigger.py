"""What triggers do to the world: keep Temporal's schedules like their rows, and start what they call for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.process import process_workflow_id
from activities.records.database import Database, DatabaseUnavailableError
from activities.records.groups import ensure_group
from activities.records.triggers import (
    claim_event_starts,
    claim_period,
    event_types_wanted,
    find_trigger,
    mark_started,
    mark_synced,
    note_next,
    pending_runs,
    unsynced_triggers,
)
from activities.services import Services
from activities.streams.consumer import Consumer
from activities.temporal.failures import cut
from models.cron import Cron
from models.event import RunEvent
from models.process_run import StartProcess
from models.run import RunKind, RunStatus
from models.search_attributes import run_attributes
from models.stream import ALL_TENANTS
from models.task_queues import TaskQueue
from models.trigger import (
    TRIGGER_GROUP,
    FiredTrigger,
    OverlapPolicy,
    ScheduledTrigger,
    TriggerKind,
    TriggerNotFoundError,
    TriggerPeriod,
    TriggerRun,
    TriggerRunStatus,
)
from models.trigger_times import TimerTimes, timer_times

log: structlog.stdlib.BoundLogger = structlog.get_logger("triggers")

PAUSE_SECONDS = 0.5
AT_ONCE = 50
NO_TYPE = "-"
"""A group that waits for no type at all: an empty list would mean every type."""

CATCH_UP = timedelta(hours=1)
"""What was missed for longer is not made up for; a backfill does that."""

EXPLICIT_TIMES = 100
"""Times written out where a schedule has no rule for them (months, several dates)."""

_OVERLAP = {
    OverlapPolicy.SKIP: ScheduleOverlapPolicy.SKIP,
    OverlapPolicy.BUFFER_ONE: ScheduleOverlapPolicy.BUFFER_ONE,
    OverlapPolicy.BUFFER_ALL: ScheduleOverlapPolicy.BUFFER_ALL,
    OverlapPolicy.CANCEL_OTHER: ScheduleOverlapPolicy.CANCEL_OTHER,
    OverlapPolicy.ALLOW_ALL: ScheduleOverlapPolicy.ALLOW_ALL,
}


def schedule_id(trigger_id: str) -> str:
    """Return the id of a trigger's schedule, and the beginning of the ids of its workflows."""
    return f"trigger/{trigger_id}"


# --- schedules --------------------------------------------------------------------------------------------


def schedule_of(trigger: ScheduledTrigger) -> Schedule:
    """Return what Temporal has to do for a time trigger."""
    spec, remaining = _spec(trigger)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            "TriggeredStart",
            FiredTrigger(trigger_id=trigger.id, tenant_id=trigger.tenant_id),
            id=schedule_id(trigger.id),  # the server appends the nominal time
            task_queue=TaskQueue.CORE,
            static_summary=f"{trigger.process_key} by {trigger.cron_expression}",
        ),
        spec=spec,
        policy=SchedulePolicy(overlap=_OVERLAP[trigger.overlap_policy], catchup_window=CATCH_UP),
        state=ScheduleState(
            paused=not trigger.enabled,
            note="" if trigger.enabled else "paused",
            limited_actions=remaining is not None,
            remaining_actions=remaining or 0,
        ),
    )


def _spec(trigger: ScheduledTrigger) -> tuple[ScheduleSpec, int | None]:
    text = trigger.cron_expression or ""
    if trigger.kind is TriggerKind.CRON:
        return _cron_spec(Cron.parse(text, trigger.time_zone)), None
    times = timer_times(text, trigger.anchor, EXPLICIT_TIMES)
    if times.every is None:
        return ScheduleSpec(calendars=[_moment(at) for at in times.moments]), len(times.moments)
    first = times.moments[0]
    phase = timedelta(seconds=first.timestamp() % times.every.total_seconds())
    interval = ScheduleIntervalSpec(every=times.every, offset=phase)
    # Exact to the second: the server knows no finer times.
    return ScheduleSpec(intervals=[interval], start_at=first - timedelta(seconds=1)), _count(times)


def _count(times: TimerTimes) -> int | None:
    return None if times.count < 0 else times.count


def _cron_spec(cron: Cron) -> ScheduleSpec:
    """Write a cron expression for Temporal, whose days of month and weekdays must both match."""
    if cron.special_days or cron.special_weekdays:
        moment, moments = datetime.now(UTC), list[datetime]()
        while len(moments) < EXPLICIT_TIMES and (later := cron.following(moment)) is not None:
            moments.append(later)
            moment = later
        return ScheduleSpec(calendars=[_moment(at) for at in moments])
    every_day = [ScheduleRange(1, 31)]
    every_weekday = [ScheduleRange(0, 6)]
    days = [ScheduleRange(day) for day in sorted(cron.days)]
    weekdays = [ScheduleRange(day) for day in sorted(cron.weekdays)]
    pairs = [(days, every_weekday), (every_day, weekdays)] if cron.either else [(days, weekdays)]
    return ScheduleSpec(
        calendars=[
            ScheduleCalendarSpec(
                second=[ScheduleRange(value) for value in cron.seconds],
                minute=[ScheduleRange(value) for value in cron.minutes],
                hour=[ScheduleRange(value) for value in cron.hours],
                day_of_month=of_month,
                month=[ScheduleRange(value) for value in sorted(cron.months)],
                day_of_week=of_week,
                comment=cron.text,
            )
            for of_month, of_week in pairs
        ],
        time_zone_name=cron.zone,
    )


def _moment(at: datetime) -> ScheduleCalendarSpec:
    utc = at.astimezone(UTC)
    return ScheduleCalendarSpec(
        second=[ScheduleRange(utc.second)],
        minute=[ScheduleRange(utc.minute)],
        hour=[ScheduleRange(utc.hour)],
        day_of_month=[ScheduleRange(utc.day)],
        month=[ScheduleRange(utc.month)],
        year=[ScheduleRange(utc.year)],
    )


async def apply_schedule(client: Client, trigger: ScheduledTrigger) -> datetime | None:
    """Make Temporal's schedule like the trigger, or delete it; returns when it is due next.

    Raises:
        RPCError: Temporal is away.
    """
    handle = client.get_schedule_handle(schedule_id(trigger.id))
    if trigger.deleted_at is not None:
        try:
            await handle.delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        return None
    wanted = schedule_of(trigger)
    try:
        await client.create_schedule(schedule_id(trigger.id), wanted)
    except ScheduleAlreadyRunningError:

        def update(present: ScheduleUpdateInput) -> ScheduleUpdate:
            left = present.description.schedule.state
            wanted.state.limited_actions = left.limited_actions
            wanted.state.remaining_actions = left.remaining_actions
            return ScheduleUpdate(schedule=wanted)

        await handle.update(update)
    return await next_time(client, trigger)


async def next_time(client: Client, trigger: ScheduledTrigger) -> datetime | None:
    """Return when a trigger's schedule is due next, None where it is paused or over."""
    if not trigger.enabled:
        return None
    described = await client.get_schedule_handle(schedule_id(trigger.id)).describe()
    return described.info.next_action_times[0] if described.info.next_action_times else None


async def run_now(client: Client, trigger: ScheduledTrigger, overlap: OverlapPolicy | None) -> None:
    """Let a time trigger fire once, now; its period is the present time."""
    handle = client.get_schedule_handle(schedule_id(trigger.id))
    await handle.trigger(overlap=_OVERLAP[overlap] if overlap is not None else None)


async def backfill(
    client: Client, trigger: ScheduledTrigger, start: datetime, end: datetime, overlap: OverlapPolicy
) -> None:
    """Let a time trigger fire for every period of a time span; what had its instance gets no second one."""
    # Temporal leaves the beginning of the span out.
    span = ScheduleBackfill(start - timedelta(seconds=1), end, overlap=_OVERLAP[overlap])
    await client.get_schedule_handle(schedule_id(trigger.id)).backfill(span)


# --- starting ---------------------------------------------------------------------------------------------


def start_of(run: TriggerRun, trigger: ScheduledTrigger) -> StartProcess:
    """Return what the instance of a start begins with."""
    return StartProcess(
        instance_id=run.instance_id,
        tenant_id=run.tenant_id,
        definition_id=run.definition_id,
        started_by=trigger.created_by,
        correlation_id=run.instance_id,
        business_key=run.business_key,
        variables=run.variables,
        start_node=trigger.start_node,
        start_part=trigger.start_part,
    )


class TriggerActivities:
    """The activities of ``TriggeredStart``."""

    def __init__(self, services: Services) -> None:
        """Work on ``services``."""
        self._database = services.database

    @activity.defn(name="claim_period")
    async def claim_period(self, period: TriggerPeriod) -> StartProcess | None:
        """Give a period of a schedule its instance, once; None where there is nothing to start.

        Whether the trigger is paused is Temporal's business: somebody may run a paused one by hand.
        """
        key = period.nominal.astimezone(UTC).isoformat(timespec="seconds")
        async with self._database.tenant(period.tenant_id) as connection:
            try:
                trigger = await find_trigger(connection, period.trigger_id)
            except TriggerNotFoundError:
                return None
            run = await claim_period(connection, trigger, key, status=TriggerRunStatus.STARTED)
        if run is None:
            return None
        await self._note_next(trigger)
        return start_of(run, trigger)

    async def _note_next(self, trigger: ScheduledTrigger) -> None:
        try:
            following = await next_time(activity.client(), trigger)
        except RPCError as error:
            log.info("next time unknown", trigger=trigger.id, status=error.status.name)
            return
        async with self._database.tenant(trigger.tenant_id) as connection:
            await note_next(connection, trigger.id, following)


class Starter:
    """Makes schedules like their rows, turns events into starts, and starts what is pending."""

    def __init__(self, database: Database, client: Client) -> None:
        """Prepare."""
        self._database = database
        self._client = client
        self._events = Consumer(database, TRIGGER_GROUP, self._on_event, event_types=[NO_TYPE])

    async def pass_once(self) -> int:
        """Do what is due; returns how many things were done.

        Raises:
            DatabaseUnavailableError, RPCError: A server is away.
        """
        return await self.sync_schedules() + await self.take_events() + await self.start_pending()

    async def sync_schedules(self) -> int:
        """Make schedules like their rows."""
        async with self._database.platform() as connection:
            due = await unsynced_triggers(connection, AT_ONCE)
            for trigger in due:
                try:
                    following = await apply_schedule(self._client, trigger)
                except (ValueError, RPCError) as error:
                    if isinstance(error, RPCError) and error.status is not RPCStatusCode.INVALID_ARGUMENT:
                        raise
                    # Checked when it was made; what the server still refuses must not hold up the others.
                    log.error("schedule refused", trigger=trigger.id, reason=cut(str(error)))
                    following = None
                await mark_synced(connection, trigger, following)
        return len(due)

    async def take_events(self) -> int:
        """Start what events call for; the group reads only types that somebody waits for."""
        async with self._database.platform() as connection:
            types = await event_types_wanted(connection)
            await ensure_group(connection, ALL_TENANTS, TRIGGER_GROUP, event_types=types or [NO_TYPE])
        return await self._events.pass_once() if types else 0

    async def _on_event(self, event: RunEvent) -> None:
        async with self._database.tenant(event.tenant_id) as connection:
            await claim_event_starts(connection, event)

    async def start_pending(self) -> int:
        """Start instances that were claimed by messages, signals and events."""
        async with self._database.platform() as connection:
            due = await pending_runs(connection, AT_ONCE)
            for run, trigger in due:
                await start_instance(self._client, start_of(run, trigger), trigger.process_key)
                await mark_started(connection, run)
        return len(due)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                done = await self.pass_once()
            except (DatabaseUnavailableError, RPCError) as error:
                log.warning("triggers rest", reason=type(error).__name__)
                done = 0
            if not done:
                await asyncio.sleep(PAUSE_SECONDS)


async def start_instance(client: Client, request: StartProcess, process_key: str) -> None:
    """Start the workflow of an instance; doing it twice starts one."""
    try:
        await client.start_workflow(
            "ProcessInstance",
            request,
            id=process_workflow_id(request.instance_id),
            task_queue=TaskQueue.CORE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=f"{process_key} for {request.tenant_id}",
            search_attributes=run_attributes(
                tenant_id=request.tenant_id,
                kind=RunKind.FLOW,
                status=RunStatus.PENDING,
                subject=process_key,
                correlation_id=request.correlation_id,
            ),
            priority=Priority(fairness_key=request.tenant_id[:64]),
        )
    except WorkflowAlreadyStartedError:
        log.info("started before", instance=request.instance_id)


@asynccontextmanager
async def serving_triggers(database: Database, client: Client) -> AsyncGenerator[Starter]:
    """Keep triggers working for as long as the block lasts."""
    starter = Starter(database, client)
    task = asyncio.create_task(starter.run(), name="triggers")
    try:
        yield starter
    finally:
        task.cancel()
        await asyncio.wait([task])
