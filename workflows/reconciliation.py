"""By the calendar: owed settlements are finished, and the books are compared."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.reconciliation import ReconciliationActivities
    from models.reconciliation import ReconciliationSummary, SweepSummary
    from models.task_queues import TaskQueue
    from models.timeouts import RECORD_RETRY

SWEEP_TIMEOUT = timedelta(minutes=30)
"""A hundred settlements, each at most one call to a rail that does not answer."""

COMPARISON_TIMEOUT = timedelta(minutes=30)
"""The whole ledger is added up."""


@workflow.defn(name="SettlementSweep")
class SettlementSweep:
    """Finish settlements whose workflow is gone.

    Trigger: the schedule ``settlements-sweep``, every five minutes.
    Ends: when all that is owed was asked for once; what is still unknown waits for the next sweep.
    """

    @workflow.run
    async def run(self) -> SweepSummary:
        """Ask for all of them once."""
        return await workflow.execute_activity_method(
            ReconciliationActivities.sweep_settlements,
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=SWEEP_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="finish owed settlements",
        )


@workflow.defn(name="Reconciliation")
class Reconciliation:
    """Compare our records, the ledger and the rail's books; what disagrees becomes a case for finance.

    Trigger: the schedule ``reconciliation-daily``, 02:00 UTC.
    Ends: when everything was compared once.
    """

    @workflow.run
    async def run(self) -> ReconciliationSummary:
        """Compare once, then keep checkpoints of all receipts."""
        summary = await workflow.execute_activity_method(
            ReconciliationActivities.reconcile_books,
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=COMPARISON_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="compare the books",
        )
        await workflow.execute_activity_method(
            ReconciliationActivities.keep_checkpoints,
            task_queue=TaskQueue.MONEY,
            start_to_close_timeout=COMPARISON_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="keep checkpoints of the receipts",
        )
        return summary
