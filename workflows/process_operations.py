"""Operations of operators as events of the interpreter: pure, so they can be tried without being done."""

from collections.abc import Sequence
from datetime import datetime

from models.process_errors import StateVersionConflictError, TaskNotWaitingError
from models.process_operation import (
    ActivateTools,
    CompleteTask,
    ElementView,
    InstanceView,
    ModifyTokens,
    Operation,
    OperationOutcome,
    ResolveProblem,
    RestartFrom,
    SetVariables,
)
from workflows.bpmn import commands as out
from workflows.bpmn import inputs
from workflows.bpmn.graph import Graph
from workflows.bpmn.inputs import Input, Modification
from workflows.bpmn.refusals import StepRefusedError
from workflows.bpmn.state import State
from workflows.process_work import waits_for_person


def event_of(operation: Operation, graph: Graph, state: State, instance_id: str, now: datetime) -> Input:
    """Return the event that an operation is; a migration is none.

    Raises:
        PlatformError: It cannot happen to the instance as it is.
    """
    match operation:
        case CompleteTask():
            return _completion(operation, graph, state, instance_id, now)
        case SetVariables():
            return inputs.VariablesChanged(now, operation.variables, operation.scope)
        case ModifyTokens():
            changes = tuple(Modification(**change.model_dump()) for change in operation.changes)
            return inputs.Modify(now, changes, operation.variables)
        case RestartFrom():
            return _restart(operation, state, now)
        case ResolveProblem():
            return inputs.ResolveIncident(
                now, operation.key, operation.action, operation.variables, operation.flow
            )
        case ActivateTools():
            if operation.complete:
                return inputs.CompleteAdHoc(now, operation.key, operation.variables)
            return inputs.ActivateElements(now, operation.key, tuple(operation.elements), operation.variables)
        case _:
            raise StepRefusedError("A migration is no event.", "Call migrate.")


def expected_version(operation: SetVariables, instance_id: str, version: int) -> None:
    """Refuse to overwrite variables that somebody else has changed (flowgrid-level3 §3.3).

    Raises:
        StateVersionConflictError: They have another version than the caller read.
    """
    if operation.expected_version is not None and operation.expected_version != version:
        raise StateVersionConflictError(instance_id, operation.expected_version, version)


def _completion(
    operation: CompleteTask, graph: Graph, state: State, instance_id: str, now: datetime
) -> Input:
    """Find what waits at the task: a person's task first, then a message or signal, the oldest each."""
    for instance in state.instances.values():
        if instance.node != operation.task_id or operation.key not in (None, instance.key):
            continue
        work = graph.nodes[instance.node].work
        type_ = work.definition.type if work is not None else None
        job = str((instance.data or {}).get("job", ""))
        if waits_for_person(instance, job, type_):
            if operation.error_code is not None:
                return inputs.JobError(
                    now, instance.key, operation.error_code, operation.reason, operation.variables
                )
            return inputs.JobCompleted(now, instance.key, operation.variables)
    for sub in state.subs.values():
        if sub.node == operation.task_id and operation.key in (None, sub.owner, sub.key):
            if sub.kind == "message" and sub.name is not None:
                return inputs.MessageReceived(now, sub.name, sub.correlation, operation.variables, sub.key)
            if sub.kind == "signal" and sub.name is not None:
                return inputs.SignalReceived(now, sub.name, operation.variables)
    raise TaskNotWaitingError(instance_id, operation.task_id)


def _restart(operation: RestartFrom, state: State, now: datetime) -> Input:
    """Cancel all that is active at the top, then place one token."""
    root = next(iter(state.instances.values()), None)
    if root is None:
        raise StepRefusedError("The instance has not started.", "Wait for its start.")
    changes = [Modification("cancel", key=key) for key in root.children]
    changes += [Modification("cancel", element=node, scope=root.key) for node in root.joins or {}]
    changes.append(Modification("start_before", element=operation.element))
    return inputs.Modify(now, tuple(changes), operation.variables)


def outcome(state: State, commands: Sequence[out.Command], version: int) -> OperationOutcome:
    """Tell what an operation did."""
    trace: list[str] = []
    for command in commands:
        if isinstance(command, out.Trace):
            words = [command.event, command.element, command.detail or ""]
            trace.append(" ".join(word for word in words if word))
        elif isinstance(command, out.RaiseIncident):
            trace.append(f"incident {command.element} {command.type}: {command.message}"[:500])
    return OperationOutcome(status=state.status, trace=trace[:1000], state_version=version)


def view(state: State, version: int) -> InstanceView:
    """Show the living state of an instance."""
    waiting: dict[int, list[str]] = {}
    for sub in state.subs.values():
        what = sub.due.isoformat() if sub.due is not None else sub.name or sub.kind
        waiting.setdefault(sub.owner, []).append(f"{sub.kind} {what} ({sub.node})")
    elements: list[ElementView] = []
    joins: dict[str, dict[str, int]] = {}
    for instance in state.instances.values():
        incident = state.incidents.get(instance.key)
        if (instance.data or {}).get("job"):
            waiting.setdefault(instance.key, []).append(str((instance.data or {})["job"]))
        elements.append(
            ElementView(
                key=instance.key,
                element=instance.node,
                parent=instance.parent,
                role=instance.role,
                variables=instance.vars,
                waiting=waiting.get(instance.key, []),
                incident=": ".join(incident) if incident else None,
            )
        )
        for node, counts in (instance.joins or {}).items():
            joins[node] = dict(counts)
    return InstanceView(
        status=state.status, variables=state.variables, state_version=version, elements=elements, joins=joins
    )
