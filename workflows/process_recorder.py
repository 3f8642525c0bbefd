"""What a process instance has to report, gathered in workflow code and sent in batches.

Commands of the interpreter become numbered changes. They stay here until the store is known to have them, so
that every batch holds all that came before and may have been lost (see `models.process_run`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.event import EventType
from models.process import InstanceStatus, JobStatus, TaskStatus
from models.process_run import (
    Batch,
    FlowEvent,
    IncidentChange,
    JobChange,
    MessageReceipt,
    MessageThrown,
    StateChange,
    StatusChange,
    SubscriptionChange,
    TaskChange,
)
from workflows.bpmn import commands as out
from workflows.bpmn.definition import ACTIVITIES, SCOPES
from workflows.bpmn.graph import Graph
from workflows.bpmn.state import Role, State
from workflows.bpmn.timing import TimerValueError, parse_date
from workflows.process_work import Route, agent_of, job_type, names, route

MAX_CURRENT_TASKS = 200
"""Active elements that the store shows; a large multi-instance activity has more."""

_TASKS = ACTIVITIES - SCOPES

_ELEMENT_EVENTS = {
    "started": EventType.ELEMENT_STARTED,
    "completed": EventType.ELEMENT_COMPLETED,
    "cancelled": EventType.ELEMENT_CANCELLED,
    "terminated": EventType.ELEMENT_COMPLETED,
    "compensating": EventType.ELEMENT_STARTED,
    "caught": EventType.ELEMENT_CAUGHT,
    "thrown": EventType.ELEMENT_THROWN,
    "migrated": EventType.FLOW_MIGRATED,
}
_TASK_EVENTS = {
    "started": EventType.TASK_STARTED,
    "completed": EventType.TASK_COMPLETED,
    "cancelled": EventType.TASK_CANCELLED,
}
_TASK_STATUS = {
    "started": TaskStatus.RUNNING,
    "completed": TaskStatus.COMPLETED,
    "cancelled": TaskStatus.CANCELLED,
}

Change = (
    FlowEvent
    | TaskChange
    | JobChange
    | SubscriptionChange
    | IncidentChange
    | MessageThrown
    | MessageReceipt
    | StateChange
    | StatusChange
)


class Recorder:
    """The changes of one instance that are not known to be stored.

    Attributes:
        last: Number of the last change.
        version: Version of the variables.
        urgent: Whether somebody outside must learn of the changes before anything else goes on.
    """

    def __init__(
        self, instance_id: str, tenant_id: str, *, last: int, version: int, variables: dict[str, Any]
    ) -> None:
        """Go on after change ``last``, with the variables as they were stored last."""
        self._instance_id = instance_id
        self._tenant_id = tenant_id
        self.last = last
        self.version = version
        self.urgent = False
        self._changes: list[Change] = []
        self._variables = dict(variables)
        self._tasks: dict[int, TaskChange] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return not self._changes

    # --- gathering --------------------------------------------------------------------------------

    def note(
        self,
        graph: Graph,
        state: State,
        commands: Sequence[out.Command],
        now: datetime,
        *,
        by: str,
        reason: str | None,
        outputs: tuple[int, dict[str, Any]] | None = None,
    ) -> None:
        """Gather what one event did.

        Args:
            graph: The definition.
            state: After the event.
            commands: What the interpreter answered.
            now: The event's clock value.
            by: Who or what made it happen.
            reason: Element or operation behind a change of variables.
            outputs: Key of an element instance that has completed, and its results.
        """
        leaving: dict[str, FlowEvent] = {}
        self._tasks = {}
        final: dict[str, Any] | None = None
        for command in commands:
            if isinstance(command, out.Trace):
                self._trace(graph, command, now, leaving, outputs, by)
            elif isinstance(command, out.StartJob):
                self._job(graph, command, now)
            elif isinstance(command, out.CancelJob):
                self._end_job(command)
            elif isinstance(command, out.Subscribe):
                self._add(
                    SubscriptionChange(
                        n=self._next(),
                        key=command.key,
                        open=True,
                        task_id=command.element,
                        kind=command.kind,
                        name=command.name,
                        correlation=command.correlation,
                        once=command.once,
                    )
                )
                self.urgent = True
            elif isinstance(command, out.Unsubscribe):
                self._add(SubscriptionChange(n=self._next(), key=command.key, open=False))
            elif isinstance(command, out.ThrowMessage | out.ThrowSignal):
                self._throw(graph, command, now)
            elif isinstance(command, out.RaiseIncident):
                self._incident(graph, command, now)
            elif isinstance(command, out.CloseIncident):
                self._add(IncidentChange(n=self._next(), key=command.key, open=False))
                self._event(
                    EventType.INCIDENT_RESOLVED, now, {"element": command.element, "key": command.key}
                )
                self.urgent = True
            elif isinstance(command, out.Completed):
                final = command.variables
        self._variables_of(state, final, by, reason)

    def receipt(self, kind: str, message: str) -> None:
        """Note that a message was taken or goes back."""
        self._add(MessageReceipt(n=self._next(), kind=kind, message=message))
        self.urgent = self.urgent or kind == "returned"

    def status(
        self,
        status: InstanceStatus,
        now: datetime,
        event: EventType | None,
        data: dict[str, Any],
        *,
        error: str | None = None,
        definition_id: str | None = None,
    ) -> None:
        """Note another status, with the event that says so."""
        if event is not None:
            self._event(event, now, data)
        self._add(StatusChange(n=self._next(), status=status, error=error, definition_id=definition_id))
        self.urgent = True

    def event(self, kind: EventType, now: datetime, data: dict[str, Any]) -> None:
        """Note an event."""
        self._event(kind, now, data)

    def failed_attempt(self, graph: Graph, state: State, key: int, message: str, now: datetime) -> None:
        """Note that the work of a task failed."""
        instance = state.instances.get(key)
        if instance is None:
            return
        data = {"element": instance.node, "key": key, "error": message[:500]}
        self._event(EventType.TASK_FAILED, now, data)
        self._task(graph, key, instance.node, TaskStatus.FAILED, now).error = message

    # --- sending ----------------------------------------------------------------------------------

    def batch(self, state: State) -> Batch:
        """Return all that is not known to be stored."""
        batch = Batch(
            instance_id=self._instance_id,
            tenant_id=self._tenant_id,
            last=self.last,
            current_tasks=_current_tasks(state),
        )
        lists: dict[type[Any], list[Any]] = {
            FlowEvent: batch.events,
            TaskChange: batch.tasks,
            JobChange: batch.jobs,
            SubscriptionChange: batch.subscriptions,
            IncidentChange: batch.incidents,
            MessageThrown: batch.thrown,
            MessageReceipt: batch.receipts,
            StateChange: batch.states,
            StatusChange: batch.statuses,
        }
        for change in self._changes:
            lists[type(change)].append(change)
        return batch

    def confirm(self, last: int) -> None:
        """Forget what is stored: everything up to change ``last``."""
        if not self._changes or last < self._changes[0].n:
            return
        self._changes = [change for change in self._changes if change.n > last]

    # --- changes ----------------------------------------------------------------------------------

    def _next(self) -> int:
        self.last += 1
        return self.last

    def _add(self, change: Change) -> None:
        self._changes.append(change)

    def _event(self, kind: EventType, now: datetime, data: dict[str, Any]) -> FlowEvent:
        event = FlowEvent(n=self._next(), type=kind, at=now, data=data)
        self._add(event)
        return event

    def _task(self, graph: Graph, key: int, element: str, status: TaskStatus, now: datetime) -> TaskChange:
        node = graph.nodes[element]
        change = TaskChange(
            n=self._next(),
            key=key,
            task_id=element,
            task_name=node.name,
            task_type=_task_type(node.kind.value),
            status=status,
            at=now,
        )
        self._add(change)
        self._tasks[key] = change
        return change

    def _trace(
        self,
        graph: Graph,
        trace: out.Trace,
        now: datetime,
        leaving: dict[str, FlowEvent],
        outputs: tuple[int, dict[str, Any]] | None,
        by: str,
    ) -> None:
        if trace.event == "taken":
            edge = graph.flows[trace.element]
            event = leaving.get(edge.source.id)
            if event is not None:
                event.data.setdefault("flows", []).append(trace.element)
            return
        node = graph.nodes.get(trace.element)
        if node is None or trace.event not in _ELEMENT_EVENTS or trace.element == graph.id:
            return
        data: dict[str, Any] = {"element": trace.element, "kind": node.kind.value}
        if trace.key:
            data["key"] = trace.key
        if node.name:
            data["name"] = node.name
        if trace.detail:
            data["detail"] = trace.detail
        task = node.kind in _TASKS and trace.event in _TASK_EVENTS
        kinds = _TASK_EVENTS if task else _ELEMENT_EVENTS
        leaving[trace.element] = self._event(kinds[trace.event], now, data)
        if task and trace.key and trace.detail not in ("multi-instance", "loop"):
            change = self._task(graph, trace.key, trace.element, _TASK_STATUS[trace.event], now)
            if outputs is not None and outputs[0] == trace.key and trace.event == "completed":
                change.outputs = outputs[1]
                change.completed_by = by

    def _job(self, graph: Graph, job: out.StartJob, now: datetime) -> None:
        """Say what a task works on; the change that its start made is completed where it is at hand."""
        way = route(job)
        node = graph.nodes[job.element]
        waiting = way in (Route.PERSON, Route.WORKER)
        change = self._tasks.get(job.key)
        if change is None or change.status is not TaskStatus.RUNNING:
            if node.kind in SCOPES:
                # An agent that chooses in an ad-hoc sub-process.
                change = None
            else:
                change = self._task(graph, job.key, job.element, TaskStatus.RUNNING, now)
        if change is not None:
            change.status = TaskStatus.WAITING if waiting else TaskStatus.RUNNING
            change.attempt = job.attempt
            change.inputs = job.variables
            change.job_type = job.type
            change.agent_slug = agent_of(job)
            if way is Route.PERSON:
                _describe_person(change, job)
        if way is Route.WORKER:
            self._add(
                JobChange(
                    n=self._next(),
                    key=job.key,
                    attempt=job.attempt,
                    task_id=job.element,
                    type=job_type(job),
                    status=JobStatus.AVAILABLE,
                    variables=job.variables,
                    details=job.details,
                    retries=3 if job.retries is None else max(job.retries, 1),
                )
            )
        self.urgent = self.urgent or way is not Route.ACTIVITY

    def answered(self, key: int, attempt: int, status: JobStatus, error: str | None = None) -> None:
        """Note that a job of the queue has its answer."""
        self._add(JobChange(n=self._next(), key=key, attempt=attempt, status=status, error=error))

    def _end_job(self, command: out.CancelJob) -> None:
        # The attempt is not told; every open job of the element instance ends.
        self._add(JobChange(n=self._next(), key=command.key, attempt=0, status=JobStatus.CANCELLED))

    def _throw(self, graph: Graph, command: out.ThrowMessage | out.ThrowSignal, now: datetime) -> None:
        correlation = None
        if isinstance(command, out.ThrowMessage):
            # A message without a key may carry it inside (correlation properties, clause 8.3.2).
            inside = graph.message_key(command.name, command.variables, now)
            correlation = command.correlation or inside
        self._add(
            MessageThrown(
                n=self._next(),
                kind="message" if isinstance(command, out.ThrowMessage) else "signal",
                name=command.name,
                correlation=correlation,
                variables=command.variables,
            )
        )
        self.urgent = True

    def _incident(self, graph: Graph, command: out.RaiseIncident, now: datetime) -> None:
        self._add(
            IncidentChange(
                n=self._next(),
                key=command.key,
                open=True,
                task_id=command.element,
                type=command.type,
                message=command.message,
            )
        )
        self._event(
            EventType.INCIDENT_RAISED,
            now,
            {
                "element": command.element,
                "key": command.key,
                "type": command.type,
                "message": command.message[:500],
            },
        )
        self.urgent = True

    def _variables_of(self, state: State, final: dict[str, Any] | None, by: str, reason: str | None) -> None:
        """Note new values of variables; unchanged ones are the same objects, so this is quick."""
        present = final if final is not None else state.variables
        if state.ended and final is None:
            return
        if present == self._variables:
            return
        self._variables = dict(present)
        self.version += 1
        self._add(
            StateChange(
                n=self._next(),
                version=self.version,
                variables=self._variables,
                changed_by=by,
                reason=reason,
            )
        )


def _task_type(kind: str) -> str:
    """Return ``service_task`` for ``serviceTask`` (flowgrid-level3 §10.1)."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind)


def _current_tasks(state: State) -> list[str]:
    found: dict[str, None] = {}
    for instance in state.instances.values():
        if instance.role in (Role.TASK, Role.WAIT, Role.GATEWAY, Role.PARKED):
            found[instance.node] = None
            if len(found) == MAX_CURRENT_TASKS:
                break
    return list(found)


def _describe_person(change: TaskChange, job: out.StartJob) -> None:
    details = job.details
    assignee = details.get("assignee")
    change.assignee = str(assignee) if assignee else None
    change.candidate_groups = names(details.get("candidate_groups"))
    change.candidate_users = names(details.get("candidate_users"))
    form = details.get("form")
    change.form = str(form) if form else None
    due = details.get("due_date")
    if isinstance(due, str):
        try:
            change.due_at = parse_date(due)
        except TimerValueError:
            change.due_at = None
