"""A paid run of an agent, from the hold to the receipt."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.execution import ExecutionActivities
    from activities.payment import PaymentActivities
    from activities.run_control import RunControlActivities
    from activities.temporal.failures import refusal_of
    from models.execution import (
        AgentRun,
        AgentRunOutcome,
        CancelExecution,
        ExecutionAccepted,
        ExecutionEnd,
        ExecutionEndedError,
        ExecutionPaid,
        ExecutionRequest,
        ExecutionResult,
        FailureCode,
    )
    from models.mandate import MandateExpiredError
    from models.payment import AuthoriseHold, ReleaseRequest, SettlementStatus, SettleRequest
    from models.run import RunStatus
    from models.run_control import RunNotPausableError, RunNotPausedError, RunOrder, RunOrderRecord
    from models.search_attributes import RUN_STATUS
    from models.task_queues import TaskQueue
    from models.timeouts import (
        PAUSE_LIMIT,
        RAIL_RETRY,
        RAIL_TIMEOUT,
        RECORD_RETRY,
        RECORD_TIMEOUT,
        SANDBOX_HEARTBEAT,
        SANDBOX_MARGIN,
        SANDBOX_RETRY,
    )

Answer = TypeVar("Answer")


@workflow.defn(name="AgentExecution")
class AgentExecution:
    """Reserve the price, authorise it where a rail outside has to, run the agent, settle; or release.

    Trigger: ``POST /agents/{id}/execute``, as update-with-start.
    Messages: the update ``accepted`` answers once the price is held (or refuses with the reason); the
        update ``cancel`` ends an execution whose agent has not finished. Temporal's own cancellation does
        the same. The update ``pause`` holds an execution whose container has not started, ``resume`` lets
        it go on.
    Timers: how long it may stay paused; the agent's time limit is enforced by the sandbox.
    Compensation: whatever ends the run before it is executed releases the hold.
    Ends: ``success`` (charged once, receipt issued, outputs released), ``failed`` or ``cancelled``
        (nobody charged, outputs withheld), or ``refused`` (nothing was started).
    """

    @workflow.init
    def __init__(self, request: ExecutionRequest) -> None:
        """Start in the state ``reserving``; handlers see a whole object from the first moment."""
        self._request = request
        self._stage = "reserving"
        self._accepted: ExecutionAccepted | None = None
        self._refusal: ApplicationError | None = None
        self._cancel_wanted: CancelExecution | None = None
        self._agent: asyncio.Task[AgentRunOutcome] | None = None
        self._paused = False
        self._ordering = asyncio.Lock()

    @workflow.run
    async def run(self, request: ExecutionRequest) -> ExecutionResult:
        """Walk one execution from its hold to its end."""
        if not await self._reserve():
            result = ExecutionResult(execution_id=request.execution_id, status="refused")
        else:
            outcome = await self._run_agent()
            ended = await self._settle(outcome) if outcome.succeeded else outcome
            if isinstance(ended, ExecutionPaid):
                result = await self._complete(ended)
            else:
                result = await self._fail(ended)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    @workflow.update
    async def accepted(self) -> ExecutionAccepted:
        """Answer once the price is held.

        Raises:
            ApplicationError: The purchase was refused; its type is the refusal's code.
        """
        await workflow.wait_condition(lambda: self._accepted is not None or self._refusal is not None)
        if self._refusal is not None:
            raise self._refusal
        assert self._accepted is not None
        return self._accepted

    @workflow.update
    async def cancel(self, wish: CancelExecution) -> None:
        """End the execution now: the container is killed and the hold released."""
        self._cancel_wanted = wish
        if self._agent is not None:
            self._agent.cancel()

    @cancel.validator
    def _may_cancel(self, wish: CancelExecution) -> None:
        if self._stage not in {"reserving", "authorising", "running"}:
            raise ExecutionEndedError(self._request.execution_id, self._stage)

    @workflow.update
    async def pause(self, order: RunOrder) -> None:
        """Hold the execution where it waits; its place in the queue stays until its turn comes.

        Raises:
            ApplicationError: ``RUN_NOT_PAUSABLE``, its container has started.
        """
        async with self._ordering:
            await self._order(RunControlActivities.pause_run, order, "pause")
            self._paused = True
            if self._stage == "running":
                self._enter("running", RunStatus.PAUSED, f"Paused by {order.requested_by}. {order.reason}")

    @pause.validator
    def _may_pause(self, order: RunOrder) -> None:
        if self._stage != "running" or self._cancel_wanted is not None:
            raise RunNotPausableError(self._request.execution_id, self._stage)

    @workflow.update
    async def resume(self, order: RunOrder) -> None:
        """Let a paused execution go on."""
        async with self._ordering:
            await self._order(RunControlActivities.resume_run, order, "resume")
            self._paused = False
            if self._stage == "running":
                self._enter("running", RunStatus.QUEUED, f"Resumed by {order.requested_by}.")

    @resume.validator
    def _may_resume(self, order: RunOrder) -> None:
        if not self._paused or self._cancel_wanted is not None:
            raise RunNotPausedError(self._request.execution_id, self._stage)

    @workflow.query
    def stage(self) -> str:
        """Tell where the execution stands."""
        return self._stage

    async def _reserve(self) -> bool:
        """Queue the execution with its price held; False when the purchase is refused."""
        try:
            accepted = await self._to_its_end(
                workflow.execute_local_activity_method(
                    ExecutionActivities.accept_execution,
                    self._request,
                    start_to_close_timeout=RECORD_TIMEOUT,
                    retry_policy=RECORD_RETRY,
                    summary="reserve",
                )
            )
            if accepted.authorising:
                await self._authorise()
            self._accepted = accepted
        except (ActivityError, ApplicationError) as error:
            # A local activity's failure arrives as it is, not wrapped.
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self._refusal = ApplicationError(
                refusal.message, refusal.details, type=refusal.code, non_retryable=True
            )
            self._enter("refused", RunStatus.FAILED, refusal.message)
            return False
        return True

    async def _authorise(self) -> None:
        """Let the outside rail hold the price, then queue; a refusal is the execution's recorded end.

        A wish to cancel waits for the rail's answer: what it holds can only be given back once it is known.
        """
        self._enter("authorising", RunStatus.PENDING, "The payment rail is asked to hold the price.")
        try:
            await self._to_its_end(
                workflow.execute_activity_method(
                    PaymentActivities.authorise,
                    AuthoriseHold(execution_id=self._request.execution_id),
                    task_queue=TaskQueue.MONEY,
                    start_to_close_timeout=RAIL_TIMEOUT,
                    retry_policy=RAIL_RETRY,
                    summary="authorise",
                )
            )
        except ActivityError as error:
            refusal = refusal_of(error)
            if refusal is not None:
                declined = _unpaid(FailureCode.PAYMENT_DECLINED, refusal.message)
                await self._record(
                    ExecutionActivities.fail_execution, self._end(declined), "record the refusal"
                )
            raise
        await self._record(ExecutionActivities.queue_execution, self._request, "queue")

    async def _run_agent(self) -> AgentRunOutcome:
        """Dispatch and run the agent, as often as its manifest allows; every way to fail is an outcome."""
        self._enter("running", RunStatus.QUEUED, "Waits for a place in the sandbox, or runs in it.")
        outcome = _cancelled(self._cancel_wanted)
        attempts = 0
        while attempts < self._request.attempts:
            if self._paused or self._ordering.locked():
                # Not awaited otherwise: one turn of the loop more would change the order of commands.
                await self._to_its_end(self._while_paused())
            if self._cancel_wanted is not None:
                return _cancelled(self._cancel_wanted)
            self._agent = asyncio.create_task(self._attempt())
            try:
                outcome = await self._agent
            except BaseException as error:
                # A cancellation by update or by Temporal arrives here once the container is gone.
                if is_cancelled_exception(error):
                    return _cancelled(self._cancel_wanted)
                if not isinstance(error, ActivityError):
                    raise
                outcome = _lost(error)
            if outcome.paused:
                # Its turn came while it was held; it queues again when it is resumed.
                continue
            attempts += 1
            if outcome.failure is not FailureCode.AGENT_ERROR:
                break
        return outcome

    async def _while_paused(self) -> None:
        """Wait until the execution is resumed or cancelled; a hold on money does not last for ever."""
        # A pause is written down before its handler can say so here; an attempt may see it first.
        await workflow.wait_condition(lambda: not self._ordering.locked())
        if not self._paused or self._cancel_wanted is not None:
            return
        try:
            await workflow.wait_condition(
                lambda: not self._paused or self._cancel_wanted is not None,
                timeout=PAUSE_LIMIT,
                timeout_summary="the longest pause",
            )
        except TimeoutError:
            self._cancel_wanted = CancelExecution(
                requested_by="switchyard", reason=f"it was paused for more than {PAUSE_LIMIT}"
            )

    async def _attempt(self) -> AgentRunOutcome:
        request = self._request
        return await workflow.execute_activity_method(
            ExecutionActivities.run_agent,
            AgentRun(
                execution_id=request.execution_id,
                tenant_id=request.tenant_id,
                deployment_id=request.deployment_id,
                version_id=request.version_id,
                code_hash=request.code_hash,
                timeout_ms=request.timeout_ms,
                repeatable=request.repeatable,
            ),
            task_queue=TaskQueue.SANDBOX,
            start_to_close_timeout=timedelta(milliseconds=request.timeout_ms) + SANDBOX_MARGIN,
            heartbeat_timeout=SANDBOX_HEARTBEAT,
            retry_policy=SANDBOX_RETRY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"run {request.agent_slug}",
        )

    async def _settle(self, outcome: AgentRunOutcome) -> AgentRunOutcome | ExecutionPaid:
        """Keep the outputs, then collect; a refusal to pay is the run's outcome and withholds the outputs."""
        # From here on nothing cancels: what the agent did is done, and it is paid for.
        self._enter("settling", RunStatus.RUNNING, "The agent has finished; its payment is being settled.")
        await self._record(ExecutionActivities.keep_outcome, self._end(outcome), "keep outputs")
        try:
            settlement = await self._to_its_end(
                workflow.execute_activity_method(
                    PaymentActivities.settle,
                    SettleRequest(execution_id=self._request.execution_id, code_hash=self._request.code_hash),
                    task_queue=TaskQueue.MONEY,
                    start_to_close_timeout=RAIL_TIMEOUT,
                    retry_policy=RAIL_RETRY,
                    summary="settle",
                )
            )
        except ActivityError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            expired = refusal.code == MandateExpiredError.code
            return _unpaid(
                FailureCode.MANDATE_EXPIRED if expired else FailureCode.PAYMENT_DECLINED, refusal.message
            )
        if settlement.status is SettlementStatus.DECLINED:
            return _unpaid(
                FailureCode.PAYMENT_DECLINED, f"The payment was declined: {settlement.decline_code}."
            )
        return ExecutionPaid(
            execution_id=self._request.execution_id,
            payment_id=settlement.payment_id,
            receipt_id=settlement.receipt_id,
        )

    async def _complete(self, paid: ExecutionPaid) -> ExecutionResult:
        """Release the outputs together with payment and receipt."""
        result = await self._record(ExecutionActivities.complete_execution, paid, "release outputs")
        self._enter("success", RunStatus.SUCCEEDED, "Succeeded and paid.")
        return result

    async def _fail(self, outcome: AgentRunOutcome) -> ExecutionResult:
        """Release the hold, then record why nobody is charged."""
        cancelled = outcome.failure is FailureCode.CANCELLED
        self._enter("releasing", RunStatus.RUNNING, outcome.message)
        await self._to_its_end(
            workflow.execute_activity_method(
                PaymentActivities.release,
                ReleaseRequest(
                    execution_id=self._request.execution_id,
                    reason=(outcome.failure or FailureCode.INFRASTRUCTURE_LOST).value,
                ),
                task_queue=TaskQueue.MONEY,
                start_to_close_timeout=RAIL_TIMEOUT,
                retry_policy=RAIL_RETRY,
                summary="release the hold",
            )
        )
        result = await self._record(ExecutionActivities.fail_execution, self._end(outcome), "record the end")
        if cancelled:
            self._enter("cancelled", RunStatus.CANCELED, outcome.message)
        else:
            self._enter("failed", RunStatus.FAILED, outcome.message)
        return result

    def _end(self, outcome: AgentRunOutcome) -> ExecutionEnd:
        return ExecutionEnd(
            execution_id=self._request.execution_id, tenant_id=self._request.tenant_id, outcome=outcome
        )

    async def _record(self, method: Any, argument: Any, summary: str) -> Any:
        """Write a decision into the store, however long the store is away."""
        return await self._to_its_end(
            workflow.execute_local_activity_method(
                method,
                argument,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary=summary,
            )
        )

    async def _order(self, method: Any, order: RunOrder, summary: str) -> None:
        await self._record(
            method,
            RunOrderRecord(run_id=self._request.execution_id, order=order, holdable=[RunStatus.QUEUED]),
            summary,
        )

    def _enter(self, stage: str, status: RunStatus, details: str) -> None:
        """Show the stage to operators."""
        self._stage = stage
        workflow.set_current_details(f"**{stage}** — {details}")
        workflow.upsert_search_attributes([RUN_STATUS.value_set(status.value)])

    async def _to_its_end(self, step: Coroutine[Any, Any, Answer]) -> Answer:
        """Await a step that a cancellation of the workflow must not tear; the wish is remembered."""
        task = asyncio.ensure_future(step)
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                self._cancel_wanted = self._cancel_wanted or CancelExecution(requested_by="temporal")


def _cancelled(wish: CancelExecution | None) -> AgentRunOutcome:
    reason = f": {wish.reason}" if wish and wish.reason else ""
    return AgentRunOutcome(
        succeeded=False,
        failure=FailureCode.CANCELLED,
        message=f"Cancelled by {wish.requested_by if wish else 'temporal'}{reason}",
    )


def _lost(error: ActivityError) -> AgentRunOutcome:
    """Turn an activity that failed for good into an outcome; the agent is not to blame."""
    refusal = refusal_of(error)
    if refusal is not None and refusal.code == FailureCode.CODE_TAMPERED:
        return _unpaid(FailureCode.CODE_TAMPERED, refusal.message)
    reason = refusal.message if refusal is not None else "the worker that ran the agent was lost"
    return _unpaid(
        FailureCode.INFRASTRUCTURE_LOST, f"The run was lost through no fault of the agent: {reason}"
    )


def _unpaid(failure: FailureCode, message: str) -> AgentRunOutcome:
    return AgentRunOutcome(succeeded=False, failure=failure, message=message)
