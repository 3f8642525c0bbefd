"""An agent that works for a task of a process: a paid execution of its own, reported back by a signal."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.agent_call import AgentCallActivities
    from activities.temporal.failures import refusal_of
    from models.execution import ExecutionRequest, ExecutionResult
    from models.process_run import AgentCallRequest, TaskAnswer
    from models.run import RunKind, RunStatus
    from models.search_attributes import run_attributes
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT
    from workflows.execution import AgentExecution


@workflow.defn(name="AgentCall")
class AgentCall:
    """Run an agent for a task and signal the process how it ended.

    Trigger: a task of type ``agent:<slug>`` of a process instance, which does not wait for this workflow.
    Messages: the signal ``caller_gave_up`` cancels the execution, so nobody is charged.
    Ends: with one ``job_answered`` signal to the process: the agent's outputs, a BPMN error named by the
        execution's failure code, or a technical failure (no deployment, refused payment).
    """

    @workflow.init
    def __init__(self, request: AgentCallRequest) -> None:
        """Start without an execution."""
        self._request = request
        self._execution: asyncio.Task[ExecutionResult] | None = None
        self._given_up = False

    @workflow.run
    async def run(self, request: AgentCallRequest) -> None:
        """Prepare, execute, report."""
        try:
            answer = await self._call()
        except (ApplicationError, ChildWorkflowError) as error:
            refusal = refusal_of(error)
            reason = refusal.message if refusal is not None else str(error)
            answer = self._answer(failure=reason)
        if self._given_up:
            return
        caller = workflow.get_external_workflow_handle(request.caller.workflow_id)
        try:
            await caller.signal("job_answered", answer)
        except FailureError:
            workflow.logger.info("the process has ended")

    @workflow.signal
    def caller_gave_up(self, reason: str) -> None:
        """Cancel the execution: its result is not wanted any more."""
        self._given_up = True
        if self._execution is not None:
            self._execution.cancel()

    async def _call(self) -> TaskAnswer:
        execution = await workflow.execute_local_activity_method(
            AgentCallActivities.prepare_execution,
            self._request,
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="find the agent",
        )
        if self._given_up:
            return self._answer()
        self._execution = asyncio.create_task(self._execute(execution))
        try:
            result = await self._execution
        except BaseException as error:
            if self._given_up and is_cancelled_exception(error):
                return self._answer()
            raise
        return await workflow.execute_local_activity_method(
            AgentCallActivities.answer_of_execution,
            args=[self._request, result],
            start_to_close_timeout=RECORD_TIMEOUT,
            retry_policy=RECORD_RETRY,
            summary="read the outputs",
        )

    async def _execute(self, execution: ExecutionRequest) -> ExecutionResult:
        return await workflow.execute_child_workflow(
            AgentExecution.run,
            execution,
            id=f"agent-execution/{execution.execution_id}",
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            search_attributes=run_attributes(
                tenant_id=execution.tenant_id,
                kind=RunKind.AGENT_EXECUTION,
                status=RunStatus.PENDING,
                subject=execution.agent_slug,
                correlation_id=execution.correlation_id,
            ),
            static_summary=f"{execution.agent_slug} for {execution.tenant_id}",
        )

    def _answer(self, **how: Any) -> TaskAnswer:
        caller = self._request.caller
        return TaskAnswer(key=caller.key, attempt=caller.attempt, by=self._request.agent_slug, **how)
