"""One period of a schedule: the process that it starts, and how that ended."""

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.process import process_workflow_id
    from activities.trigger import TriggerActivities
    from models.run import RunKind, RunStatus
    from models.search_attributes import run_attributes
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT
    from models.trigger import FiredTrigger, TriggerPeriod
    from workflows.process import ProcessInstance

NOMINAL_TIME = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@workflow.defn(name="TriggeredStart")
class TriggeredStart:
    """Start the process of a trigger for one period and stay until it has ended.

    Trigger: a Temporal schedule, one per time trigger; also by hand and by backfill.
    Messages: none.
    Timers: none.
    Compensation: none. Cancelling it cancels the instance (overlap policy ``cancel_other``).
    Ends: with the instance's id, or None where the period had nothing to start.

    It lasts as long as its instance, so that the schedule's overlap policy speaks of instances.
    """

    @workflow.run
    async def run(self, fired: FiredTrigger) -> str | None:
        """Claim the period, start its instance, wait for its end."""
        info = workflow.info()
        nominal = info.typed_search_attributes.get(NOMINAL_TIME) or info.workflow_start_time
        request = await workflow.execute_activity_method(
            TriggerActivities.claim_period,
            TriggerPeriod(trigger_id=fired.trigger_id, tenant_id=fired.tenant_id, nominal=nominal),
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary=f"period {nominal:%Y-%m-%d %H:%M:%S}",
        )
        if request is None:
            return None
        try:
            await workflow.execute_child_workflow(
                ProcessInstance.run,
                request,
                id=process_workflow_id(request.instance_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=run_attributes(
                    tenant_id=fired.tenant_id,
                    kind=RunKind.FLOW,
                    status=RunStatus.PENDING,
                    subject=fired.trigger_id,
                    correlation_id=request.correlation_id,
                ),
                static_summary=f"by {fired.trigger_id}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("the period's instance was started before")
        except ChildWorkflowError as error:
            # How the instance ended is its own affair, unless this was cancelled with it.
            if not isinstance(error.cause, ApplicationError):
                raise
            workflow.logger.info("the period's instance could not start: %s", error.cause.message)
        return request.instance_id
