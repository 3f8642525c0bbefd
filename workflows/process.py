"""A BPMN process instance: the pure interpreter of `workflows.bpmn`, driven by Temporal."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, TypedSearchAttributes
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from activities.process import ProcessActivities, process_workflow_id
    from activities.temporal.failures import refusal_of
    from models.errors import PlatformError
    from models.event import EventType
    from models.identifiers import derived_identifier
    from models.process import RUN_STATUS_OF, InstanceStatus, JobStatus
    from models.process_errors import ProcessEndedError, TaskNotWaitingError
    from models.process_operation import MigrateInstance, OperationOutcome
    from models.process_run import (
        AgentCallRequest,
        Caller,
        Carry,
        InstanceOpened,
        ProcessResult,
        ServiceTask,
        StartProcess,
        TaskAnswer,
    )
    from models.run import RunKind, RunStatus
    from models.search_attributes import RUN_STATUS, run_attributes
    from models.timeouts import RECORD_RETRY, RECORD_TIMEOUT, SERVICE_HEARTBEAT, SERVICE_TIMEOUT
    from workflows.agent_call import AgentCall
    from workflows.bpmn import commands as out
    from workflows.bpmn import inputs
    from workflows.bpmn.graph import Graph
    from workflows.bpmn.inputs import Input
    from workflows.bpmn.migration import migrate
    from workflows.bpmn.state import State
    from workflows.bpmn.step import apply, new_state, step
    from workflows.bpmn.timing import TimerValueError, parse_duration
    from workflows.process_graphs import graph_of
    from workflows.process_inbox import Entry, ProcessInbox, entry_of, plan_of
    from workflows.process_operations import outcome
    from workflows.process_recorder import Recorder
    from workflows.process_work import Route, agent_of, route, type_of

EVENTS_AT_ONCE = 50
"""Events taken in one go: Temporal takes a workflow that computes for 2 s for dead."""

HISTORY_EVENTS = 8_000
"""Length of a history at which it continues as new, whatever the server suggests."""

MESSAGES_REMEMBERED = 200
DEFAULT_ATTEMPTS = 3
RETRY_INTERVAL = timedelta(seconds=1)
RETRY_MAXIMUM = timedelta(minutes=1)


@workflow.defn(name="ProcessInstance")
class ProcessInstance(ProcessInbox):
    """Run a deployed process to its end: one inbox, one loop, one timer.

    Trigger: ``POST /api/orchestrator/instances`` as update-with-start; a call activity of another instance.
    Messages: updates complete tasks, answer jobs, set variables, modify, resolve incidents, migrate, pause,
        resume and cancel; signals bring answers of called workflows and published messages; queries show the
        living state and try operations without doing them.
    Timers: one, for the earliest due time of all timers of the model.
    Compensation: the model's own.
    Ends: ``completed``, ``failed`` (an error nobody caught) or ``cancelled``. A task that fails for technical
        reasons is an incident: its branch waits for an operator, the others go on.

    Handlers only add to the inbox; `_serve` alone changes the state. What has happened is stored by the next
    activity that starts, or by a local activity of its own where none does or somebody waits for it.
    """

    @workflow.init
    def __init__(self, request: StartProcess) -> None:
        """Start with an empty inbox; handlers see a whole object from the first moment."""
        super().__init__(request)
        self._starts: dict[int, out.StartJob] = {}
        self._activities: dict[int, workflow.ActivityHandle[TaskAnswer]] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._children: dict[int, str] = {}
        self._messages: dict[str, None] = {}
        self._answered: list[tuple[asyncio.Future[OperationOutcome], OperationOutcome]] = []
        self._armed: datetime | None = None
        self._timer: asyncio.Task[None] | None = None
        self._end: out.Completed | out.Failed | out.Terminated | None = None
        self._handing_over = False
        self._details = ""

    @workflow.run
    async def run(self, request: StartProcess) -> ProcessResult:
        """Walk the instance from its start, or from where the last run handed over, to its end."""
        serving = asyncio.create_task(self._serve())
        while True:
            try:
                return await asyncio.shield(serving)
            except asyncio.CancelledError:
                if serving.cancelled():
                    raise
                # Temporal's own cancellation is a wish like any other.
                self._inbox.append(
                    Entry(inputs.Cancel(workflow.now(), "cancelled in Temporal"), by="temporal")
                )

    # --- the loop ---------------------------------------------------------------------------------

    async def _serve(self) -> ProcessResult:
        if not await self._open():
            return ProcessResult(
                instance_id=self._request.instance_id, status=InstanceStatus.FAILED, error="refused"
            )
        while True:
            await workflow.wait_condition(lambda: bool(self._inbox))
            pausing = self._take()
            # While this waits, handlers and answers only add to the inbox.
            await self._flush(forced=pausing)
            self._begun = True
            self._arm()
            self._show()
            if self._state is not None and self._state.ended:
                return await self._finish()
            if self._should_hand_over() and await self._is_quiet():
                self._hand_over()

    async def _open(self) -> bool:
        """Create or take up the instance; False when it cannot start."""
        request = self._request
        carry = request.carry
        if carry is not None:
            self._graph = graph_of(request.content_hash)
            self._state = State.from_json(carry.state)
            self._recorder = Recorder(
                request.instance_id,
                request.tenant_id,
                last=carry.last_change,
                version=carry.state_version,
                variables=self._state.variables,
            )
            self._children = dict(carry.children)
            self._messages = dict.fromkeys(carry.messages)
            self._begun = True
            self._opened = InstanceOpened(
                instance_id=request.instance_id,
                definition_id=request.definition_id or "",
                content_hash=request.content_hash,
                process_key=request.process_key,
            )
            for fields in carry.pending:
                job = out.StartJob(**fields)
                self._starts[job.key] = job
            await self._flush(forced=False)
            self._arm()
            return True
        try:
            opened = await workflow.execute_local_activity_method(
                ProcessActivities.open_instance,
                request,
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary="open the instance",
            )
        except (ActivityError, ApplicationError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self._refusal = _refusal(refusal)
            await self._report_refusal(refusal.message)
            await workflow.wait_condition(workflow.all_handlers_finished)
            return False
        self._request = request.model_copy(update=opened.model_dump(exclude={"instance_id"}))
        self._graph = graph_of(opened.content_hash)
        self._state = new_state(self._graph)
        self._recorder = Recorder(
            request.instance_id, request.tenant_id, last=0, version=1, variables=request.variables
        )
        self._recorder.event(
            EventType.FLOW_STARTED,
            workflow.now(),
            {"definition_id": opened.definition_id, "process": opened.process_key, "by": request.started_by},
        )
        start = inputs.Start(
            workflow.now(),
            request.variables,
            request.start_node,
            request.business_key,
            request.start_part,
        )
        # First, whatever came before the instance was open.
        self._inbox.appendleft(Entry(start, by=request.started_by, reason="start"))
        self._opened = opened
        workflow.upsert_search_attributes([RUN_STATUS.value_set(RunStatus.RUNNING.value)])
        return True

    def _take(self) -> bool:
        """Let what came happen; True when the interpreter wants to go on after a pause."""
        for _ in range(EVENTS_AT_ONCE):
            if not self._inbox:
                return False
            if self._happen(self._inbox.popleft()):
                return True
        return True

    def _happen(self, entry: Entry) -> bool:
        """Let one thing happen; True when the interpreter's budget for one step is spent."""
        graph, state = self._graph, self._state
        assert graph is not None, "the loop begins when the instance is open"
        assert state is not None, "the loop begins when the instance is open"
        now = workflow.now()
        event = entry.event
        if self._is_stale(entry, state):
            return False
        try:
            if isinstance(entry.operation, MigrateInstance):
                commands = self._migrate(entry.operation, graph, state, now)
            elif entry.operation is not None:
                event = self._event_of(entry.operation, now)
                # A copy, because a refused operation changes nothing.
                self._state, commands = step(graph, state, event)
                self._note_status(event, now, entry)
            else:
                assert event is not None, "an entry is an event or an operation"
                event = event._replace(now=now)
                if isinstance(event, inputs.Cancel | inputs.Suspend | inputs.Resume | inputs.Start):
                    self._state, commands = step(graph, state, event)
                else:
                    commands = apply(graph, state, event)
                self._note_status(event, now, entry)
        except PlatformError as refused:
            if entry.answer is not None:
                entry.answer.set_exception(refused)
            elif isinstance(entry.event, inputs.Start):
                self._fail_start(refused, now)
            return False
        graph, state = self._graph, self._state
        assert graph is not None, "what was there is there, or another in its place"
        assert state is not None, "likewise"
        self._recorder.note(
            graph,
            state,
            commands,
            now,
            by=entry.by,
            reason=entry.reason,
            outputs=None if entry.outputs is None else (_key_of(event), entry.outputs),
        )
        self._receipts(entry, commands)
        if entry.answer is not None:
            told = outcome(state, commands, self._recorder.version)
            self._answered.append((entry.answer, told))
        return self._obey(commands)

    def _is_stale(self, entry: Entry, state: State) -> bool:
        """Drop answers to attempts that are over."""
        if entry.attempt is None:
            return False
        key = _key_of(entry.event)
        instance = state.instances.get(key)
        current = (instance.data or {}).get("attempt") if instance is not None else None
        if current != entry.attempt and state.status != "suspended":
            if entry.answer is not None:
                entry.answer.set_exception(TaskNotWaitingError(self._request.instance_id, f"job {key}"))
            return True
        if isinstance(entry.event, inputs.JobFailed) and self._graph is not None:
            self._recorder.failed_attempt(self._graph, state, key, entry.event.message, workflow.now())
        if entry.queued:
            failed = isinstance(entry.event, inputs.JobFailed)
            status = JobStatus.FAILED if failed else JobStatus.COMPLETED
            self._recorder.answered(key, entry.attempt, status, entry.reason if failed else None)
        if not isinstance(entry.event, inputs.JobEscalated):
            self._children.pop(key, None)
        return False

    def _obey(self, commands: list[out.Command]) -> bool:
        """Set going what the interpreter asks; timers follow from the state, records from the recorder."""
        pause = False
        for command in commands:
            if isinstance(command, out.StartJob):
                self._starts[command.key] = command
            elif isinstance(command, out.CancelJob):
                self._cancel_job(command.key)
            elif isinstance(command, out.Continue):
                self._inbox.appendleft(Entry(inputs.Continued(workflow.now())))
                pause = True
            elif isinstance(command, out.ThrowEscalation):
                self._tell_caller(
                    TaskAnswer(key=0, attempt=0, escalation=command.code or "", variables=command.variables)
                )
            elif isinstance(command, out.Completed | out.Failed | out.Terminated):
                self._note_end(command, workflow.now())
        return pause

    async def _flush(self, *, forced: bool) -> None:
        """Store what has happened and start what is to start, in as few history events as may be."""
        state, recorder = self._state, self._recorder
        assert state is not None, "flushed once the instance is open"
        starts = [] if self._handing_over else list(self._starts.values())
        self._starts = self._starts if self._handing_over else {}
        alone = len(starts) == 1 and route(starts[0]) is Route.ACTIVITY
        if not recorder.empty and (forced or recorder.urgent or self._answered or not alone):
            last = recorder.last
            recorder.urgent = False
            await workflow.execute_local_activity_method(
                ProcessActivities.record_changes,
                recorder.batch(state),
                start_to_close_timeout=RECORD_TIMEOUT,
                retry_policy=RECORD_RETRY,
                summary="record",
            )
            recorder.confirm(last)
        for future, told in self._answered:
            if not future.done():
                future.set_result(told)
        self._answered = []
        for job in starts:
            self._start(job)

    # --- work -------------------------------------------------------------------------------------

    def _start(self, job: out.StartJob) -> None:
        match route(job):
            case Route.ACTIVITY:
                self._start_activity(job)
            case Route.AGENT:
                self._starting_child(self._start_agent(job))
            case Route.PROCESS:
                self._starting_child(self._start_process(job))
            case Route.WORKER | Route.PERSON:
                pass  # The record is the offer: workers and people come by themselves.

    def _start_activity(self, job: out.StartJob) -> None:
        state, recorder = self._state, self._recorder
        assert state is not None, "jobs start once the instance is open"
        last = recorder.last
        task = ServiceTask(
            instance_id=self._request.instance_id,
            tenant_id=self._request.tenant_id,
            key=job.key,
            attempt=job.attempt,
            task_id=job.element,
            type=type_of(job),
            kind=job.kind,
            variables=job.variables,
            details=job.details,
            batch=None if recorder.empty else recorder.batch(state),
        )
        handle = workflow.start_activity_method(
            ProcessActivities.work_on_task,
            task,
            activity_id=f"{job.element}:{job.key}:{job.attempt}",
            start_to_close_timeout=SERVICE_TIMEOUT,
            heartbeat_timeout=SERVICE_HEARTBEAT,
            retry_policy=_retry_policy(job),
            summary=job.element,
        )
        self._activities[job.key] = handle

        def done(finished: asyncio.Task[TaskAnswer]) -> None:
            if self._activities.get(job.key) is handle:
                del self._activities[job.key]
            error = asyncio.CancelledError() if finished.cancelled() else finished.exception()
            if error is None:
                recorder.confirm(last)
                self._inbox.append(entry_of(finished.result(), by=type_of(job) or job.kind))
            elif not is_cancelled_exception(error):
                failed = TaskAnswer(key=job.key, attempt=job.attempt, failure=_reason(error))
                self._inbox.append(entry_of(failed, by="worker"))

        handle.add_done_callback(done)

    def _starting_child(self, start: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(start)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_agent(self, job: out.StartJob) -> None:
        """Let an agent work as an execution of its own, which reports back by a signal."""
        slug = agent_of(job) or ""
        workflow_id = f"agent-call/{self._request.instance_id}/{job.key}/{job.attempt}"
        request = AgentCallRequest(
            caller=self._as_caller(job),
            tenant_id=self._request.tenant_id,
            user_id=self._request.started_by,
            agent_slug=slug,
            inputs=job.variables,
            correlation_id=self._request.correlation_id,
        )
        self._children[job.key] = workflow_id
        try:
            # Abandoned, not awaited: the answer finds this instance also after it has continued as new.
            await workflow.start_child_workflow(
                AgentCall.run,
                request,
                id=workflow_id,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=self._attributes(RunKind.AGENT_EXECUTION, slug),
                static_summary=f"{slug} for {job.element}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("the agent was called before")

    async def _start_process(self, job: out.StartJob) -> None:
        """Start a called process as an instance of its own, which reports back by a signal."""
        called = str(job.details.get("called", ""))
        instance_id = derived_identifier("process_instance", self._request.instance_id, job.key, job.attempt)
        binding = job.details.get("binding")
        request = StartProcess(
            instance_id=instance_id,
            tenant_id=self._request.tenant_id,
            called=called,
            binding=None if binding is None else str(binding),
            started_by=self._request.started_by,
            correlation_id=self._request.correlation_id,
            business_key=job.details.get("business_key"),
            variables=job.variables,
            caller=self._as_caller(job),
        )
        self._children[job.key] = process_workflow_id(instance_id)
        try:
            await workflow.start_child_workflow(
                ProcessInstance.run,
                request,
                id=process_workflow_id(instance_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=self._attributes(RunKind.FLOW, called),
                static_summary=f"{called} for {job.element}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("the process was called before")

    def _attributes(self, kind: RunKind, subject: str) -> TypedSearchAttributes:
        return run_attributes(
            tenant_id=self._request.tenant_id,
            kind=kind,
            status=RunStatus.PENDING,
            subject=subject,
            correlation_id=self._request.correlation_id,
        )

    def _as_caller(self, job: out.StartJob) -> Caller:
        return Caller(
            workflow_id=workflow.info().workflow_id,
            instance_id=self._request.instance_id,
            key=job.key,
            attempt=job.attempt,
        )

    def _cancel_job(self, key: int) -> None:
        """Stop work whose element is gone."""
        self._starts.pop(key, None)
        handle = self._activities.pop(key, None)
        if handle is not None:
            handle.cancel()
        child = self._children.pop(key, None)
        if child is not None:
            self._starting_child(_signal(child, "caller_gave_up", "the caller's task was cancelled"))

    # --- time -------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Keep one timer, for the earliest due time; a held instance needs none."""
        state = self._state
        due = state.next_due if state is not None and state.status == "active" else None
        if due == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = due
        if due is not None:
            self._timer = asyncio.create_task(self._wait_until(due))

    async def _wait_until(self, due: datetime) -> None:
        delay = due - workflow.now()
        if delay > timedelta(0):
            await workflow.sleep(delay, summary=f"due {due.isoformat(timespec='seconds')}")
        self._armed = None
        self._timer = None
        state = self._state
        if state is None or state.status != "active":
            return
        now = max(workflow.now(), due)
        ready = [sub for sub in state.subs.values() if sub.due is not None and sub.due <= now]
        for sub in sorted(ready, key=lambda sub: (sub.due, sub.key)):
            self._inbox.append(Entry(inputs.TimerFired(now, sub.key), by="timer", reason=sub.node))
        if not ready:
            self._arm()

    # --- endings ----------------------------------------------------------------------------------

    def _note_status(self, event: Input, now: datetime, entry: Entry) -> None:
        """Note what an operator did, before what followed from it."""
        data: dict[str, Any] = {"by": entry.by, "reason": entry.reason or ""}
        if isinstance(event, inputs.Suspend):
            self._recorder.status(InstanceStatus.SUSPENDED, now, None, {})
            workflow.upsert_search_attributes([RUN_STATUS.value_set(RunStatus.PAUSED.value)])
        elif isinstance(event, inputs.Resume):
            self._recorder.status(InstanceStatus.RUNNING, now, EventType.RUN_RESUMED, data)
            workflow.upsert_search_attributes([RUN_STATUS.value_set(RunStatus.RUNNING.value)])
        elif isinstance(event, inputs.Modify):
            data["changes"] = [change._asdict() for change in event.changes]
            self._recorder.event(EventType.FLOW_MODIFIED, now, data)

    def _note_end(self, end: out.Completed | out.Failed | out.Terminated, now: datetime) -> None:
        self._end = end
        match end:
            case out.Completed():
                self._recorder.status(InstanceStatus.COMPLETED, now, EventType.FLOW_COMPLETED, {})
            case out.Failed():
                data = {"code": end.code, "message": end.message[:500], "element": end.element}
                self._recorder.status(
                    InstanceStatus.FAILED, now, EventType.FLOW_FAILED, data, error=end.message
                )
            case out.Terminated():
                data = {"reason": end.reason}
                self._recorder.status(
                    InstanceStatus.CANCELLED, now, EventType.FLOW_CANCELLED, data, error=end.reason or None
                )

    def _fail_start(self, refused: PlatformError, now: datetime) -> None:
        """End an instance whose start event does not exist."""
        assert self._state is not None, "only an open instance starts"
        self._refusal = ApplicationError(
            refused.message, refused.details, type=refused.code, non_retryable=True
        )
        self._state.status = "failed"
        self._note_end(out.Failed(None, refused.message, ""), now)

    def _receipts(self, entry: Entry, commands: list[out.Command]) -> None:
        """Tell the store whether a message was taken."""
        if entry.message is None:
            return
        ignored = any(isinstance(each, out.Trace) and each.event == "ignored" for each in commands)
        returned = ignored and isinstance(entry.event, inputs.MessageReceived)
        if returned:
            self._messages.pop(entry.message, None)
        self._recorder.receipt("returned" if returned else "delivered", entry.message)

    async def _finish(self) -> ProcessResult:
        """Answer everybody who still waits, tell the caller, and end."""
        end = self._end
        request = self._request
        assert end is not None, "an ended instance has an end"
        assert self._state is not None, "an ended instance was open"
        for entry in self._inbox:
            if entry.answer is not None:
                entry.answer.set_exception(ProcessEndedError(request.instance_id, self._state.status))
        self._inbox.clear()
        result = ProcessResult(instance_id=request.instance_id, status=InstanceStatus.CANCELLED)
        match end:
            case out.Completed():
                result.status, result.variables = InstanceStatus.COMPLETED, end.variables
                answer = TaskAnswer(key=0, attempt=0, variables=end.variables)
            case out.Failed():
                result.status, result.error, result.error_code = InstanceStatus.FAILED, end.message, end.code
                answer = TaskAnswer(key=0, attempt=0, error_code=end.code or "", message=end.message)
            case out.Terminated():
                result.error = end.reason
                failure = f"The called process was cancelled: {end.reason}"
                answer = TaskAnswer(key=0, attempt=0, failure=failure)
        self._tell_caller(answer)
        workflow.upsert_search_attributes([RUN_STATUS.value_set(RUN_STATUS_OF[result.status].value)])
        workflow.set_current_details(f"**{result.status.value}** {result.error or ''}".strip())
        await workflow.wait_condition(lambda: not self._starting)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    def _tell_caller(self, answer: TaskAnswer) -> None:
        caller = self._request.caller
        if caller is not None:
            told = answer.model_copy(
                update={"key": caller.key, "attempt": caller.attempt, "by": self._request.instance_id}
            )
            self._starting_child(_signal(caller.workflow_id, "job_answered", told))

    async def _report_refusal(self, message: str) -> None:
        self._tell_caller(TaskAnswer(key=0, attempt=0, failure=message))
        await workflow.wait_condition(lambda: not self._starting)

    # --- handing over -----------------------------------------------------------------------------

    def _should_hand_over(self) -> bool:
        info = workflow.info()
        self._handing_over = (
            self._handing_over
            or info.is_continue_as_new_suggested()
            or info.get_current_history_length() > HISTORY_EVENTS
        )
        return self._handing_over

    async def _is_quiet(self) -> bool:
        """Tell whether nothing that is awaited would be lost; new work is put off until it is."""
        if self._activities or self._starting or self._inbox or not self._recorder.empty:
            return False
        await workflow.wait_condition(workflow.all_handlers_finished)
        return not self._inbox

    def _hand_over(self) -> None:
        assert self._state is not None, "only an open instance hands over"
        before = self._request.carry
        carry = Carry(
            state=self._state.to_json(),
            last_change=self._recorder.last,
            state_version=self._recorder.version,
            pending=[job._asdict() for job in self._starts.values()],
            children=self._children,
            messages=list(self._messages)[-MESSAGES_REMEMBERED:],
            runs=1 if before is None else before.runs + 1,
        )
        workflow.continue_as_new(self._request.model_copy(update={"carry": carry, "variables": {}}))

    def _migrate(
        self, operation: MigrateInstance, graph: Graph, state: State, now: datetime
    ) -> list[out.Command]:
        """Go on under another definition, in a history of its own: a replay knows only one."""
        new = graph_of(operation.content_hash)
        self._state, commands = migrate(state, graph, new, plan_of(operation), now)
        self._graph = new
        self._request = self._request.model_copy(
            update={"definition_id": operation.definition_id, "content_hash": operation.content_hash}
        )
        status = InstanceStatus.SUSPENDED if self._state.status == "suspended" else InstanceStatus.RUNNING
        self._recorder.status(
            status,
            now,
            EventType.FLOW_MIGRATED,
            {
                "definition_id": operation.definition_id,
                "by": operation.requested_by,
                "reason": operation.reason,
            },
            definition_id=operation.definition_id,
        )
        self._handing_over = True
        return commands

    def _show(self) -> None:
        """Let the Temporal Web UI tell where the instance stands."""
        state = self._state
        if state is None:
            return
        active = [item.node for item in state.instances.values() if item.role != "scope"][:20]
        details = f"**{state.status}** — {', '.join(active) or 'between elements'}"
        if state.incidents:
            details += f" — {len(state.incidents)} incidents"
        if details != self._details:
            self._details = details
            workflow.set_current_details(details)


def _refusal(error: PlatformError) -> ApplicationError:
    return ApplicationError(error.message, error.details, type=error.code, non_retryable=True)


def _key_of(event: Input | None) -> int:
    """Return the element instance that an answer is for, 0 where it is none."""
    if isinstance(event, inputs.JobCompleted | inputs.JobFailed | inputs.JobError | inputs.JobEscalated):
        return event.key
    return 0


def _reason(error: BaseException) -> str:
    """Word why an activity failed for good."""
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal.message
    cause = error.__cause__
    return f"The work did not end in time, or its worker was lost: {cause or error}"


def _retry_policy(job: out.StartJob) -> RetryPolicy:
    interval = RETRY_INTERVAL
    backoff = job.details.get("retry_backoff")
    if isinstance(backoff, str):
        try:
            interval = parse_duration(backoff.split(",")[0].strip()).exact
        except TimerValueError:
            interval = RETRY_INTERVAL
    return RetryPolicy(
        initial_interval=max(interval, timedelta(milliseconds=10)),
        backoff_coefficient=2.0,
        maximum_interval=max(RETRY_MAXIMUM, interval),
        maximum_attempts=DEFAULT_ATTEMPTS if job.retries is None else max(job.retries, 1),
    )


async def _signal(workflow_id: str, name: str, argument: Any) -> None:
    """Signal another workflow; one that has ended needs to know nothing."""
    try:
        await workflow.get_external_workflow_handle(workflow_id).signal(name, argument)
    except FailureError as error:
        workflow.logger.info("signal %s found no workflow %s: %s", name, workflow_id, error.message)
