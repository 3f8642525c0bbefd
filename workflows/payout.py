"""From a Monday to money on developers' accounts: the weekly run, and each payout by itself."""

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.payout import PayoutActivities
    from models.payout import (
        ENDED_PAYOUTS,
        PayoutRunRequest,
        PayoutRunSummary,
        PayoutStart,
        PayoutState,
        PayoutStatus,
        Shard,
        ShardRequest,
        cut_off,
        period_of,
    )
    from models.run import RunKind, RunStatus
    from models.search_attributes import RUN_STATUS, run_attributes
    from models.task_queues import TaskQueue
    from models.timeouts import (
        MAIL_RETRY,
        MAIL_TIMEOUT,
        RAIL_RETRY,
        RAIL_TIMEOUT,
        RECORD_RETRY,
        RECORD_TIMEOUT,
    )

SCHEDULED_FOR = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""When a schedule meant its run to start, whenever that really was."""

CLAIM_TIMEOUT = timedelta(minutes=2)
"""One slice of 500 developers is claimed in well under a second; locks may make it wait."""

FIRST_CHECK = timedelta(seconds=30)
LONGEST_CHECK = timedelta(hours=1)
"""A rail may work on a payout for days; between look-ups a webhook's signal wakes us."""


@workflow.defn(name="PayoutRun")
class PayoutRun:
    """Claim everybody's earnings of a period, slice by slice, and start a workflow per payout.

    Trigger: the schedule ``payouts-weekly`` (Monday 00:00 UTC), or ``POST /payout-runs``.
    Messages: none.
    Timers: none.
    Ends: when the last slice is claimed; the payouts go on by themselves. Any number of runs of a period,
        one after the other or at once, make one payout per developer and currency.
    """

    @workflow.run
    async def run(self, request: PayoutRunRequest) -> PayoutRunSummary:
        """Walk the slices; continue as new when the history has grown."""
        period = request.period or period_of(_nominal_start())
        cut_off(period)  # refuses a week that its year does not have
        after, payouts, rolled_over = request.after, request.payouts, request.rolled_over
        amounts = dict(request.amounts)
        while True:
            shard = await self._claim(period, after)
            await self._start(shard)
            payouts += len(shard.payouts)
            rolled_over += shard.rolled_over
            for currency, amount in shard.amounts.items():
                amounts[currency] = amounts.get(currency, 0) + amount
            workflow.set_current_details(f"**{period}** — {payouts} payouts, {rolled_over} roll over.")
            if shard.last is None:
                return PayoutRunSummary(
                    period=period, payouts=payouts, rolled_over=rolled_over, amounts=amounts
                )
            after = shard.last
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    PayoutRunRequest(
                        period=period,
                        after=after,
                        payouts=payouts,
                        rolled_over=rolled_over,
                        amounts=amounts,
                    )
                )

    async def _claim(self, period: str, after: str) -> Shard:
        return await workflow.execute_activity_method(
            PayoutActivities.claim_payouts,
            ShardRequest(period=period, after=after),
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=CLAIM_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary=f"claim from {after or 'the first'}",
        )

    async def _start(self, shard: Shard) -> None:
        """Start the slice's payouts together; one that was started before goes on as it is."""
        await asyncio.gather(*(self._start_one(each) for each in shard.payouts))

    async def _start_one(self, start: PayoutStart) -> None:
        try:
            await workflow.start_child_workflow(
                Payout.run,
                start,
                id=f"payout/{start.payout_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=run_attributes(
                    tenant_id=start.tenant_id,
                    kind=RunKind.PAYOUT,
                    status=RunStatus.PENDING,
                    subject=start.period,
                    correlation_id=f"payouts-{start.period}",
                ),
                static_summary=f"payout {start.period}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("payout was started before")


@workflow.defn(name="Payout")
class Payout:
    """Send one claimed payout and stay with it until the rail has said what became of it.

    Trigger: a payout run, or ``POST /payouts/{id}/retry``.
    Messages: the signal ``rail_reported`` (a webhook came) makes it look at once.
    Timers: between look-ups, 30 seconds doubling to one hour.
    Compensation: a payout that failed has its amount payable again when the failure is recorded.
    Ends: ``paid`` or ``failed``; a later reversal is a record of its own.
    """

    @workflow.init
    def __init__(self, start: PayoutStart) -> None:
        """Start before anything is known; the signal may come first."""
        self._reported = False

    @workflow.run
    async def run(self, start: PayoutStart) -> PayoutState:
        """Open, send, wait, tell."""
        await workflow.execute_local_activity_method(
            PayoutActivities.open_payout,
            start,
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="report the claim",
        )
        state, checks = await self._send(start), start.checks
        while state.status not in ENDED_PAYOUTS:
            self._show(RunStatus.RUNNING, f"{state.status}; looked {checks + 1} time(s).")
            await self._wait(checks)
            checks += 1
            state = await self._send(start)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(start.model_copy(update={"checks": checks}))
        paid = state.status is PayoutStatus.PAID
        self._show(RunStatus.SUCCEEDED if paid else RunStatus.FAILED, state.status)
        await self._tell(start)
        return state

    @workflow.signal
    def rail_reported(self) -> None:
        """The rail says that something happened: a hint to look, never evidence."""
        self._reported = True

    async def _send(self, start: PayoutStart) -> PayoutState:
        self._reported = False
        return await workflow.execute_activity_method(
            PayoutActivities.send_payout,
            start,
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=RAIL_TIMEOUT,
            retry_policy=RAIL_RETRY,
            summary="send, or look up",
        )

    async def _wait(self, checks: int) -> None:
        """Wait for a webhook or for the next look-up, whichever comes first."""
        pause = min(FIRST_CHECK * 2 ** min(checks, 20), LONGEST_CHECK)
        try:
            await workflow.wait_condition(
                lambda: self._reported, timeout=pause, timeout_summary="until the next look-up"
            )
        except TimeoutError:
            workflow.logger.debug("no webhook came")

    async def _tell(self, start: PayoutStart) -> None:
        """Write to the developer; a mail server that is away for long does not undo a payout."""
        try:
            await workflow.execute_activity_method(
                PayoutActivities.tell_developer,
                start,
                start_to_close_timeout=MAIL_TIMEOUT,
                retry_policy=MAIL_RETRY,
                summary="write to the developer",
            )
        except ActivityError as error:
            workflow.logger.warning("the developer could not be written to", exc_info=error)

    def _show(self, status: RunStatus, details: str) -> None:
        """Show the stage to operators."""
        workflow.set_current_details(f"**{status}** — {details}")
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])


def _nominal_start() -> datetime:
    nominal = workflow.info().typed_search_attributes.get(SCHEDULED_FOR)
    return nominal or workflow.now()
