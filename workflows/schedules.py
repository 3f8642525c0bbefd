"""What runs by the calendar: Temporal schedules, made or brought up to date whenever a worker starts."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from activities.scanning import RULE_SET_VERSION
from models.housekeeping import HOUSEKEEPING_SCHEDULE_ID
from models.ledger import PLATFORM_TENANT
from models.payout import PAYOUT_SCHEDULE_ID, PayoutRunRequest
from models.publishing import RescanRequest
from models.reconciliation import RECONCILIATION_SCHEDULE_ID, SWEEP_SCHEDULE_ID
from models.run import RunKind, RunStatus
from models.search_attributes import run_attributes
from models.task_queues import TaskQueue
from workflows.housekeeping import Housekeeping
from workflows.payout import PayoutRun
from workflows.publishing import RescanPublished
from workflows.reconciliation import Reconciliation, SettlementSweep

RESCAN_SCHEDULE_ID = "rescan-daily"

CATCH_UP = timedelta(days=6)
"""A run that was missed is made up for until the next one is near; its period is that of its nominal time."""


@dataclass(frozen=True)
class Calendar:
    """One schedule: its identifier and what it is."""

    id: str
    schedule: Schedule


def payouts_weekly() -> Calendar:
    """Every Monday 00:00 UTC (frameos-agent-runtime-flows, "Payout Scheduling")."""
    action = ScheduleActionStartWorkflow(
        PayoutRun.run,
        PayoutRunRequest(),
        id="payout-run",  # the server appends the nominal time
        task_queue=TaskQueue.CORE,
        typed_search_attributes=run_attributes(
            tenant_id=PLATFORM_TENANT,
            kind=RunKind.PAYOUT,
            status=RunStatus.PENDING,
            subject="payouts",
            correlation_id=PAYOUT_SCHEDULE_ID,
        ),
        static_summary="weekly payouts",
    )
    monday = ScheduleCalendarSpec(day_of_week=[ScheduleRange(1)], comment="Monday 00:00 UTC")
    return Calendar(PAYOUT_SCHEDULE_ID, _schedule(action, monday, CATCH_UP))


def settlements_sweep() -> Calendar:
    """Every five minutes; one that was missed is not made up for, the next one does its work."""
    action = ScheduleActionStartWorkflow(
        SettlementSweep.run,
        id="settlement-sweep",
        task_queue=TaskQueue.CORE,
        static_summary="finish owed settlements",
    )
    often = ScheduleCalendarSpec(minute=[ScheduleRange(0, 59, 5)], hour=[ScheduleRange(0, 23)])
    return Calendar(SWEEP_SCHEDULE_ID, _schedule(action, often, timedelta(minutes=1)))


def reconciliation_daily() -> Calendar:
    """Every day at 02:00 UTC."""
    action = ScheduleActionStartWorkflow(
        Reconciliation.run,
        id="reconciliation",
        task_queue=TaskQueue.CORE,
        static_summary="compare the books",
    )
    nightly = ScheduleCalendarSpec(hour=[ScheduleRange(2)])
    return Calendar(RECONCILIATION_SCHEDULE_ID, _schedule(action, nightly, timedelta(hours=20)))


def rescan_daily() -> Calendar:
    """Every day at 03:00 UTC: published versions whose last scan was by older rules than the worker's."""
    action = ScheduleActionStartWorkflow(
        RescanPublished.run,
        RescanRequest(rule_set_version=RULE_SET_VERSION),
        id="rescan-published",
        task_queue=TaskQueue.CORE,
        static_summary=f"re-scan by rules {RULE_SET_VERSION}",
    )
    return Calendar(
        RESCAN_SCHEDULE_ID, _schedule(action, ScheduleCalendarSpec(hour=[ScheduleRange(3)]), CATCH_UP)
    )


def housekeeping_nightly() -> Calendar:
    """Every day at 04:00 UTC."""
    action = ScheduleActionStartWorkflow(
        Housekeeping.run,
        id="housekeeping",
        task_queue=TaskQueue.CORE,
        static_summary="tidy up",
    )
    nightly = ScheduleCalendarSpec(hour=[ScheduleRange(4)])
    return Calendar(HOUSEKEEPING_SCHEDULE_ID, _schedule(action, nightly, timedelta(hours=20)))


def _schedule(
    action: ScheduleActionStartWorkflow, calendar: ScheduleCalendarSpec, catch_up: timedelta
) -> Schedule:
    return Schedule(
        action=action,
        spec=ScheduleSpec(calendars=[calendar], time_zone_name="UTC"),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=catch_up),
    )


async def ensure_schedules(client: Client) -> None:
    """Create the schedules, or bring those that exist up to date; whether one is paused is left alone."""
    for wanted in (
        payouts_weekly(),
        settlements_sweep(),
        reconciliation_daily(),
        rescan_daily(),
        housekeeping_nightly(),
    ):
        try:
            await client.create_schedule(wanted.id, wanted.schedule)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(wanted.id).update(_updater(wanted.schedule))


def _updater(wanted: Schedule) -> Any:
    def update(present: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = present.description.schedule.state
        return ScheduleUpdate(schedule=wanted)

    return update
