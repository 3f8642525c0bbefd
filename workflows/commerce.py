"""A purchase of its own, from the intent to the receipt."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.commerce import CommerceActivities
    from activities.payment import PaymentActivities
    from activities.temporal.failures import refusal_of
    from models.commerce import (
        PURCHASE_LIFETIME,
        CancelPurchase,
        ExecuteMandate,
        PurchaseEnd,
        PurchaseEndedError,
        PurchaseOpened,
        PurchaseStart,
    )
    from models.payment import (
        AuthoriseHold,
        ReleaseRequest,
        SettlementOutcome,
        SettlementStatus,
        SettleRequest,
    )
    from models.run import RunStatus
    from models.search_attributes import RUN_STATUS
    from models.task_queues import TaskQueue
    from models.timeouts import RAIL_RETRY, RAIL_TIMEOUT, RECORD_RETRY, RECORD_TIMEOUT


@workflow.defn(name="Purchase")
class Purchase:
    """Hold a price, wait until the payer says that it is due, and collect it once; or give it back.

    Trigger: ``POST /purchase-intents``, as update-with-start.
    Messages: the update ``opened`` answers once the price is held (or refuses with the reason); ``execute``
        collects under a mandate and answers how that ended, and a refusal leaves the purchase open;
        ``cancel`` gives the price back.
    Timers: one hour, from the price being held.
    Compensation: whatever ends the purchase without a settlement releases the hold.
    Ends: settled, declined, cancelled, expired, or refused (nothing was held).
    """

    @workflow.init
    def __init__(self, start: PurchaseStart) -> None:
        """Start before anything is held; handlers see a whole object from the first moment."""
        self._start = start
        self._opened: PurchaseOpened | None = None
        self._refusal: ApplicationError | None = None
        self._outcome: SettlementOutcome | None = None
        self._cancelled_by: str | None = None
        self._ended = False
        # Collecting and giving back exclude each other, whatever the order in which they are asked for.
        self._resolving = asyncio.Lock()

    @workflow.run
    async def run(self, start: PurchaseStart) -> PurchaseEnd | None:
        """Open, wait, resolve."""
        if not await self._open():
            await workflow.wait_condition(workflow.all_handlers_finished)
            return None
        self._show(RunStatus.RUNNING, "The price is held; waits to be executed.")
        reason = await self._wait()
        async with self._resolving:
            if self._outcome is None or self._outcome.status is SettlementStatus.DECLINED:
                await self._release(reason)
            self._ended = True
        end = PurchaseEnd(purchase_id=start.purchase_id, outcome=self._outcome, reason=reason)
        await self._record(CommerceActivities.end_purchase, end, "record the end")
        settled = self._outcome is not None and self._outcome.status is SettlementStatus.SETTLED
        self._show(RunStatus.SUCCEEDED if settled else RunStatus.FAILED, reason)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return end

    @workflow.update
    async def opened(self) -> PurchaseOpened:
        """Answer once the price is held.

        Raises:
            ApplicationError: The purchase was refused; its type is the refusal's code.
        """
        await workflow.wait_condition(lambda: self._opened is not None or self._refusal is not None)
        if self._refusal is not None:
            raise self._refusal
        assert self._opened is not None
        return self._opened

    @workflow.update
    async def execute(self, order: ExecuteMandate) -> SettlementOutcome:
        """Collect, once; asking again answers the same.

        Raises:
            ApplicationError: No mandate permits it now, the policy forbids it, or the purchase has ended; its
                type says which. Nothing was charged.
        """
        async with self._resolving:
            if self._outcome is not None:
                return self._outcome
            if self._ended or self._cancelled_by is not None:
                raise _refused(PurchaseEndedError(self._start.purchase_id))
            await self._record(CommerceActivities.declare_executed, self._start, "note that it is due")
            try:
                self._outcome = await workflow.execute_activity_method(
                    PaymentActivities.settle,
                    SettleRequest(execution_id=self._start.purchase_id),
                    task_queue=TaskQueue.MONEY,
                    start_to_close_timeout=RAIL_TIMEOUT,
                    retry_policy=RAIL_RETRY,
                    summary="settle",
                )
            except ActivityError as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                raise _refused(refusal) from error
            return self._outcome

    @workflow.update
    async def cancel(self, order: CancelPurchase) -> None:
        """Give the price back.

        Raises:
            ApplicationError: The purchase has ended, or was collected.
        """
        async with self._resolving:
            if self._ended or self._outcome is not None:
                raise _refused(PurchaseEndedError(self._start.purchase_id))
            self._cancelled_by = order.requested_by

    async def _open(self) -> bool:
        """Reserve the price and let an outside rail hold it where it has to; False when it is refused."""
        try:
            opened = await self._record(CommerceActivities.open_purchase, self._start, "reserve")
            if opened.authorising:
                await self._authorise()
            self._opened = opened
        except (ActivityError, ApplicationError) as error:
            # A local activity's failure arrives as it is, not wrapped.
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self._refusal = _refused(refusal)
            self._show(RunStatus.FAILED, refusal.message)
            return False
        return True

    async def _authorise(self) -> None:
        try:
            await workflow.execute_activity_method(
                PaymentActivities.authorise,
                AuthoriseHold(execution_id=self._start.purchase_id),
                task_queue=TaskQueue.MONEY,
                start_to_close_timeout=RAIL_TIMEOUT,
                retry_policy=RAIL_RETRY,
                summary="authorise",
            )
        except ActivityError as error:
            refusal = refusal_of(error)
            if refusal is not None:
                end = PurchaseEnd(purchase_id=self._start.purchase_id, reason=refusal.message)
                await self._record(CommerceActivities.end_purchase, end, "record the refusal")
            raise
        await self._record(CommerceActivities.begin_purchase, self._start, "note that it is held")

    async def _wait(self) -> str:
        """Wait for the end of the purchase and say what it was."""
        try:
            await workflow.wait_condition(
                lambda: self._outcome is not None or self._cancelled_by is not None,
                timeout=PURCHASE_LIFETIME,
                timeout_summary="the purchase's lifetime",
            )
        except TimeoutError:
            return "expired"
        if self._outcome is not None:
            return self._outcome.status.value
        return "cancelled"

    async def _release(self, reason: str) -> None:
        await workflow.execute_activity_method(
            PaymentActivities.release,
            ReleaseRequest(execution_id=self._start.purchase_id, reason=reason),
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=RAIL_TIMEOUT,
            retry_policy=RAIL_RETRY,
            summary="release the hold",
        )

    async def _record(self, method: Any, argument: Any, summary: str) -> Any:
        """Write a decision into the store, however long the store is away."""
        return await workflow.execute_local_activity_method(
            method,
            argument,
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary=summary,
        )

    def _show(self, status: RunStatus, details: str) -> None:
        """Show the stage to operators."""
        workflow.set_current_details(f"**{status}** — {details}")
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])


def _refused(refusal: Any) -> ApplicationError:
    return ApplicationError(refusal.message, refusal.details, type=refusal.code, non_retryable=True)
