"""The door of a process instance: updates, signals and queries. Handlers only add to the inbox.

A validator judges an operation on the state as it is, so that a refusal costs nothing; its turn comes later,
and then it is judged again.
"""

import asyncio
from collections import deque
from datetime import datetime
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from models.errors import PlatformError
    from models.execution import CancelExecution
    from models.process_errors import ProcessEndedError, TaskNotWaitingError
    from models.process_operation import (
        OPERATIONS,
        ActivateTools,
        CompleteTask,
        DryRun,
        InstanceView,
        MigrateInstance,
        ModifyTokens,
        Operation,
        OperationOutcome,
        Refusal,
        ResolveProblem,
        RestartFrom,
        SetVariables,
    )
    from models.process_run import InstanceOpened, MessageArrival, StartProcess, TaskAnswer
    from workflows.bpmn import inputs
    from workflows.bpmn.graph import Graph
    from workflows.bpmn.inputs import Input
    from workflows.bpmn.migration import Plan, migrate
    from workflows.bpmn.state import State
    from workflows.bpmn.step import step
    from workflows.process_graphs import graph_of
    from workflows.process_operations import event_of, expected_version, outcome, view
    from workflows.process_recorder import Recorder


class Entry(NamedTuple):
    """Something that happens to the instance, in the order in which it came.

    Attributes:
        event: For the interpreter; its clock value is set when its turn has come.
        operation: Instead of an event: what an operator asks, judged when its turn has come.
        by: Who or what made it happen.
        reason: For the history of variables.
        outputs: Results of a task, for its record.
        answer: Receives what it did; somebody waits.
        message: Published message behind it.
        attempt: Attempt that an answer belongs to, None where there is no telling.
        queued: The answer comes from the queue of outside workers.
    """

    event: Input | None
    operation: Operation | None = None
    by: str = "process"
    reason: str | None = None
    outputs: dict[str, Any] | None = None
    answer: "asyncio.Future[OperationOutcome] | None" = None
    message: str | None = None
    attempt: int | None = None
    queued: bool = False


class ProcessInbox:
    """What the outside may ask of an instance."""

    def __init__(self, request: StartProcess) -> None:
        """Start with an empty inbox."""
        self._request = request
        self._inbox: deque[Entry] = deque()
        self._opened: InstanceOpened | None = None
        self._refusal: ApplicationError | None = None
        self._begun = False
        self._graph: Graph | None = None
        self._state: State | None = None
        self._recorder = Recorder(request.instance_id, request.tenant_id, last=0, version=0, variables={})
        self._messages: dict[str, None] = {}

    # --- updates ----------------------------------------------------------------------------------

    @workflow.update
    async def started(self) -> InstanceOpened:
        """Answer once the instance has begun and can be read.

        Raises:
            ApplicationError: It cannot start; the type is the refusal's code.
        """
        await workflow.wait_condition(lambda: self._begun or self._refusal is not None)
        if self._refusal is not None:
            raise self._refusal
        assert self._opened is not None, "an instance that has begun is open"
        return self._opened

    @workflow.update
    async def complete_task(self, wish: CompleteTask) -> OperationOutcome:
        """Complete what waits at a task: a person's task, a message or a signal."""
        return await self._ask(wish, wish.task_id)

    @complete_task.validator
    def _may_complete_task(self, wish: CompleteTask) -> None:
        self._try(wish)

    @workflow.update
    async def answer_job(self, answer: TaskAnswer) -> OperationOutcome:
        """Take the result of an outside worker."""
        done: asyncio.Future[OperationOutcome] = asyncio.Future()
        self._inbox.append(entry_of(answer, by=answer.by or "worker", queued=True)._replace(answer=done))
        return await done

    @answer_job.validator
    def _may_answer_job(self, answer: TaskAnswer) -> None:
        self._refuse_ended()
        if self._state is not None:
            instance = self._state.instances.get(answer.key)
            data = (instance.data or {}) if instance is not None else {}
            if "job" not in data or data.get("attempt") != answer.attempt:
                raise TaskNotWaitingError(self._request.instance_id, f"job {answer.key}")

    @workflow.update
    async def set_variables(self, wish: SetVariables) -> OperationOutcome:
        """Set variables; with ``expected_version`` only if nobody else has changed them."""
        return await self._ask(wish, wish.reason or "set variables")

    @set_variables.validator
    def _may_set_variables(self, wish: SetVariables) -> None:
        self._try(wish)

    @workflow.update
    async def modify(self, wish: ModifyTokens) -> OperationOutcome:
        """Place, cancel and move tokens."""
        return await self._ask(wish, wish.reason or "modify")

    @modify.validator
    def _may_modify(self, wish: ModifyTokens) -> None:
        self._try(wish)

    @workflow.update
    async def restart_from(self, wish: RestartFrom) -> OperationOutcome:
        """Cancel what is active and begin again at an element."""
        return await self._ask(wish, wish.reason or f"restart from {wish.element}")

    @restart_from.validator
    def _may_restart_from(self, wish: RestartFrom) -> None:
        self._try(wish)

    @workflow.update
    async def resolve_incident(self, wish: ResolveProblem) -> OperationOutcome:
        """Retry or skip what is stuck."""
        return await self._ask(wish, wish.reason or f"{wish.action} incident")

    @resolve_incident.validator
    def _may_resolve_incident(self, wish: ResolveProblem) -> None:
        self._try(wish)

    @workflow.update
    async def activate_elements(self, wish: ActivateTools) -> OperationOutcome:
        """Activate elements of an ad-hoc sub-process, or end it."""
        return await self._ask(wish, wish.reason or "ad hoc")

    @activate_elements.validator
    def _may_activate_elements(self, wish: ActivateTools) -> None:
        self._try(wish)

    @workflow.update
    async def migrate(self, wish: MigrateInstance) -> OperationOutcome:
        """Move the instance to another version of its definition."""
        return await self._ask(wish, f"migrate to {wish.definition_id}")

    @migrate.validator
    def _may_migrate(self, wish: MigrateInstance) -> None:
        self._try(wish)

    @workflow.update
    async def pause(self, wish: CancelExecution) -> None:
        """Hold the instance: what happens meanwhile is kept and handled on resume."""
        await self._enter(inputs.Suspend(workflow.now()), wish)

    @pause.validator
    def _may_pause(self, wish: CancelExecution) -> None:
        self._try_event(inputs.Suspend(workflow.now()))

    @workflow.update
    async def resume(self, wish: CancelExecution) -> None:
        """Go on after a pause."""
        await self._enter(inputs.Resume(workflow.now()), wish)

    @resume.validator
    def _may_resume(self, wish: CancelExecution) -> None:
        self._try_event(inputs.Resume(workflow.now()))

    @workflow.update
    async def cancel(self, wish: CancelExecution) -> None:
        """End the instance now; everything that is under way for it is stopped."""
        await self._enter(inputs.Cancel(workflow.now(), wish.reason), wish)

    @cancel.validator
    def _may_cancel(self, wish: CancelExecution) -> None:
        self._refuse_ended()

    # --- signals ----------------------------------------------------------------------------------

    @workflow.signal
    def job_answered(self, answer: TaskAnswer) -> None:
        """Take the answer of a called agent or process."""
        self._inbox.append(entry_of(answer, by=answer.by or "called"))

    @workflow.signal
    def message_arrived(self, arrival: MessageArrival) -> None:
        """Take a published message or a broadcast signal; one that comes twice is taken once."""
        if arrival.message in self._messages:
            return
        self._messages[arrival.message] = None
        now = workflow.now()
        event: Input
        if arrival.kind == "signal":
            event = inputs.SignalReceived(now, arrival.name, arrival.variables)
        else:
            event = inputs.MessageReceived(
                now, arrival.name, arrival.correlation, arrival.variables, arrival.key
            )
        self._inbox.append(
            Entry(event, by=f"{arrival.kind} {arrival.name}", reason=arrival.message, message=arrival.message)
        )

    @workflow.signal
    def caller_gave_up(self, reason: str) -> None:
        """End the instance because nobody waits for it any more."""
        self._inbox.append(Entry(inputs.Cancel(workflow.now(), reason), by="caller", reason=reason))

    # --- queries ----------------------------------------------------------------------------------

    @workflow.query
    def look(self) -> InstanceView:
        """Show the living state."""
        state = self._state or State("")
        return view(state, self._recorder.version)

    @workflow.query
    def try_operation(self, dry: DryRun) -> OperationOutcome:
        """Tell what an operation would do; nothing happens."""
        operation = OPERATIONS[dry.name].model_validate(dry.arguments)
        try:
            return self._try(operation)
        except PlatformError as refused:
            # A failed query carries no code, so the refusal is an answer.
            return OperationOutcome(
                status="refused",
                refused=Refusal(code=refused.code, message=refused.message, details=refused.details),
            )

    # --- judging ----------------------------------------------------------------------------------

    def _event_of(self, operation: Operation, now: datetime) -> Input:
        """Return the event that an operation is.

        Raises:
            PlatformError: It cannot happen to the instance as it is.
        """
        assert self._graph is not None, "asked once the instance is open"
        assert self._state is not None, "asked once the instance is open"
        if isinstance(operation, SetVariables):
            expected_version(operation, self._request.instance_id, self._recorder.version)
        return event_of(operation, self._graph, self._state, self._request.instance_id, now)

    def _try(self, operation: Operation) -> OperationOutcome:
        """Tell what an operation would do to the state as it is."""
        self._refuse_ended()
        graph, state = self._graph, self._state
        if graph is None or state is None:
            # It came before the start is through; it is judged when its turn has come.
            return OperationOutcome(status="new")
        now = workflow.now()
        if isinstance(operation, MigrateInstance):
            twin, commands = migrate(state, graph, graph_of(operation.content_hash), plan_of(operation), now)
        else:
            twin, commands = step(graph, state, self._event_of(operation, now))
        return outcome(twin, commands, self._recorder.version)

    def _try_event(self, event: Input) -> None:
        self._refuse_ended()
        if self._graph is not None and self._state is not None:
            step(self._graph, self._state, event)

    def _refuse_ended(self) -> None:
        if self._state is not None and self._state.ended:
            raise ProcessEndedError(self._request.instance_id, self._state.status)

    async def _ask(self, operation: Operation, reason: str) -> OperationOutcome:
        done: asyncio.Future[OperationOutcome] = asyncio.Future()
        results = operation.variables if isinstance(operation, CompleteTask) else None
        self._inbox.append(
            Entry(None, operation, operation.requested_by, reason, outputs=results, answer=done)
        )
        return await done

    async def _enter(self, event: Input, wish: CancelExecution) -> None:
        done: asyncio.Future[OperationOutcome] = asyncio.Future()
        self._inbox.append(Entry(event, by=wish.requested_by, reason=wish.reason or None, answer=done))
        await done


def plan_of(operation: MigrateInstance) -> Plan:
    """Return the mapping plan of a migration."""
    return Plan(operation.elements, operation.flows, frozenset(operation.drop))


def entry_of(answer: TaskAnswer, *, by: str, queued: bool = False) -> Entry:
    """Return the answer of a task's work as something that happens."""
    now = workflow.now()
    event: Input
    if answer.escalation is not None:
        event = inputs.JobEscalated(now, answer.key, answer.escalation, answer.variables)
    elif answer.failure is not None:
        event = inputs.JobFailed(now, answer.key, answer.failure)
    elif answer.error_code is not None:
        event = inputs.JobError(now, answer.key, answer.error_code, answer.message, answer.variables)
    else:
        event = inputs.JobCompleted(now, answer.key, answer.variables)
    return Entry(
        event,
        by=answer.by or by,
        reason=answer.failure or f"task {answer.key}",
        outputs=answer.variables,
        attempt=answer.attempt,
        queued=queued,
    )
