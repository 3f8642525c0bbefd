"""Every night: what is old leaves the store."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.housekeeping import HousekeepingActivities
    from models.housekeeping import HousekeepingSummary, MonthToArchive
    from models.timeouts import RECORD_RETRY

STEP_TIMEOUT = timedelta(hours=2)
"""A month of events is read once and written to S3."""

STEP_HEARTBEAT = timedelta(minutes=2)
"""Between two objects; a dead worker is noticed, and the step begins again where it was."""


@workflow.defn(name="Housekeeping")
class Housekeeping:
    """Archive months of events that are old enough, forget remembered answers, remove left uploads.

    Trigger: the schedule ``housekeeping-nightly``, 04:00 UTC.
    Ends: when each was done once; a month that a consumer group has not handled waits for another night.
    """

    @workflow.run
    async def run(self) -> HousekeepingSummary:
        """Do each once."""
        summary = HousekeepingSummary()
        due = await workflow.execute_activity_method(
            HousekeepingActivities.prepare_event_months,
            start_to_close_timeout=STEP_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="partitions of the next months",
        )
        for month in due.months:
            summary.months.append(
                await workflow.execute_activity_method(
                    HousekeepingActivities.archive_event_month,
                    MonthToArchive(month=month),
                    start_to_close_timeout=STEP_TIMEOUT,
                    heartbeat_timeout=STEP_HEARTBEAT,
                    retry_policy=RECORD_RETRY,
                    summary=f"archive events of {month:%Y-%m}",
                )
            )
        summary.requests_forgotten = await workflow.execute_activity_method(
            HousekeepingActivities.forget_requests,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=STEP_HEARTBEAT,
            retry_policy=RECORD_RETRY,
            summary="forget remembered answers",
        )
        summary.uploads_removed = await workflow.execute_activity_method(
            HousekeepingActivities.sweep_uploads,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=STEP_HEARTBEAT,
            retry_policy=RECORD_RETRY,
            summary="remove left uploads",
        )
        return summary
