"""Giving a payment back over an outside rail."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.refund import RefundActivities
    from activities.temporal.failures import refusal_of
    from models.refund import ENDED_REFUNDS, RefundStart, RefundState, RefundStatus
    from models.run import RunStatus
    from models.search_attributes import RUN_STATUS
    from models.task_queues import TaskQueue
    from models.timeouts import RAIL_RETRY, RAIL_TIMEOUT, RECORD_RETRY, RECORD_TIMEOUT

FIRST_CHECK = timedelta(seconds=5)
LONGEST_CHECK = timedelta(hours=1)
"""Refunds may stay pending at a rail for days; a webhook makes us look at once."""


@workflow.defn(name="RefundPayment")
class RefundPayment:
    """Record a refund, send it, and stay with it until the rail has said what became of it.

    Trigger: ``POST /payments/{id}/refunds`` of a payment over an outside rail, as update-with-start.
    Messages: the update ``requested`` answers once it is recorded (or refuses with the reason); the signal
        ``rail_reported`` (a webhook came) makes it look at once.
    Timers: between look-ups, 5 seconds doubling to one hour.
    Compensation: none; money is booked only when it has moved.
    Ends: ``settled`` or ``declined``, or ``refused`` (nothing was recorded).
    """

    @workflow.init
    def __init__(self, start: RefundStart) -> None:
        """Start before anything is recorded; the signal may come first."""
        self._state: RefundState | None = None
        self._refusal: ApplicationError | None = None
        self._reported = False

    @workflow.run
    async def run(self, start: RefundStart) -> RefundState | None:
        """Record, send, wait for the rail."""
        if not await self._request(start):
            await workflow.wait_condition(workflow.all_handlers_finished)
            return None
        state, checks = await self._send(start), start.checks
        while state.status not in ENDED_REFUNDS:
            self._show(RunStatus.RUNNING, f"{state.status}; looked {checks + 1} time(s).")
            await self._wait(checks)
            checks += 1
            state = await self._send(start)
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(start.model_copy(update={"checks": checks}))
        settled = state.status is RefundStatus.SETTLED
        self._show(RunStatus.SUCCEEDED if settled else RunStatus.FAILED, state.status)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return state

    @workflow.update
    async def requested(self) -> RefundState:
        """Answer once the refund is recorded.

        Raises:
            ApplicationError: It is refused; its type is the refusal's code.
        """
        await workflow.wait_condition(lambda: self._state is not None or self._refusal is not None)
        if self._refusal is not None:
            raise self._refusal
        assert self._state is not None
        return self._state

    @workflow.signal
    def rail_reported(self) -> None:
        """The rail says that something happened: a hint to look, never evidence."""
        self._reported = True

    async def _request(self, start: RefundStart) -> bool:
        """Record the refund; False when it is refused."""
        try:
            self._state = await workflow.execute_local_activity_method(
                RefundActivities.request_refund,
                start,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary="record the request",
            )
        except (ActivityError, ApplicationError) as error:
            # A local activity's failure arrives as it is, not wrapped.
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self._refusal = ApplicationError(
                refusal.message, refusal.details, type=refusal.code, non_retryable=True
            )
            self._show(RunStatus.FAILED, refusal.message)
            return False
        return True

    async def _send(self, start: RefundStart) -> RefundState:
        self._reported = False
        return await workflow.execute_activity_method(
            RefundActivities.send_refund,
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

    def _show(self, status: RunStatus, details: str) -> None:
        """Show the stage to operators."""
        workflow.set_current_details(f"**{status}** — {details}")
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])
