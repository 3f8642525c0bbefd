"""``step``: one event into one instance. The door of the interpreter.

    state = new_state(graph)
    state, commands = step(graph, state, Start(now, {"amount": 10}))

Pure: the same graph, state and event give the same state and commands, anywhere and at any time.
"""

from collections.abc import Callable
from typing import Any

from models.errors import ConflictError
from workflows.bpmn import inputs
from workflows.bpmn.commands import Command, Terminated
from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import NodeKind
from workflows.bpmn.graph import Graph
from workflows.bpmn.inputs import Input
from workflows.bpmn.machine import Machine
from workflows.bpmn.operations import activate_elements, complete_ad_hoc, modify, resolve_incident
from workflows.bpmn.refusals import StepRefusedError
from workflows.bpmn.state import Instance, Role, State


class DefinitionMismatchError(ConflictError):
    """The state belongs to another definition than the graph."""

    code = "BPMN_DEFINITION_MISMATCH"

    def __init__(self, state: str, graph: str) -> None:
        super().__init__(f"The state was made by definition {state[:12]}, not {graph[:12]}; migrate it.")


def new_state(graph: Graph) -> State:
    """Return the state of an instance that has not been started."""
    return State(graph.sha256)


def step(graph: Graph, state: State, event: Input) -> tuple[State, list[Command]]:
    """Let one event happen to an instance.

    Args:
        graph: The definition of the instance.
        state: Not changed.
        event: With the clock value.

    Returns:
        The new state, and what it asks of the outside world, in order.

    Raises:
        StepRefusedError: The event cannot happen in this state; nothing has changed.
        DefinitionMismatchError: The state belongs to another definition.
    """
    twin = state.copy()
    return twin, apply(graph, twin, event)


def apply(graph: Graph, state: State, event: Input) -> list[Command]:
    """Like `step`, changing ``state`` in place, for callers who own it.

    After a refusal the state must be thrown away; `step` does so.
    """
    if state.definition != graph.sha256:
        raise DefinitionMismatchError(state.definition, graph.sha256)
    machine = Machine(graph, state, event.now)
    kind = type(event)
    status = state.status
    if status == "suspended" and kind in _HELD:
        state.inbox.append(inputs.to_json(event))
        machine.trace("held", graph.id, 0, kind.__name__)
        return machine.commands
    if status != "active" and status != "suspended" and kind not in _FIRST_AND_LAST:
        if kind in _REFUSABLE:
            raise StepRefusedError(f"The instance is {state.status}.", "It takes no more operations.")
        machine.trace("ignored", graph.id, 0, kind.__name__)
        return machine.commands
    if kind is not inputs.Continued:
        state.continues = 0
    if state.queue:
        machine.restore_queue()
    try:
        _HANDLERS[kind](machine, event)
    except StuckError as stuck:
        _hold(machine, stuck)
    if state.status == "active":
        machine.run()
    elif state.status == "suspended" and (machine.queue or machine.late):
        for item, key in (*machine.queue, *machine.late):
            state.queue.append([item.id, key, 1 if item.id in graph.flows else 0])
    return machine.commands


def _hold(machine: Machine, stuck: StuckError) -> None:
    root = next(iter(machine.instances.values()), None)
    if root is not None:
        machine.raise_incident(root, stuck)


_FIRST_AND_LAST = frozenset({inputs.Start, inputs.Cancel})
_HELD = frozenset(
    {
        inputs.JobCompleted,
        inputs.JobFailed,
        inputs.JobError,
        inputs.JobEscalated,
        inputs.TimerFired,
        inputs.MessageReceived,
        inputs.SignalReceived,
        inputs.ActivateElements,
        inputs.CompleteAdHoc,
    }
)
_REFUSABLE = frozenset(
    {
        inputs.Modify,
        inputs.ResolveIncident,
        inputs.Suspend,
        inputs.Resume,
        inputs.VariablesChanged,
        inputs.ActivateElements,
        inputs.CompleteAdHoc,
    }
)


# --- starting ---------------------------------------------------------------------------------------


def _start(machine: Machine, event: inputs.Start) -> None:
    state = machine.state
    if state.status != "new":
        raise StepRefusedError(f"The instance is {state.status}.", "Start a new instance.")
    root_node = machine.graph.root
    trigger = None
    if event.node is not None:
        trigger = next(
            (
                item
                for item in machine.graph.start_triggers
                if item.node == event.node and item.part == event.part
            ),
            None,
        )
        if trigger is None:
            raise StepRefusedError(
                f"{event.node!r} is no start event of {machine.graph.id}.", "Name one of its start events."
            )
    starts = root_node.start_events
    if trigger is None and starts and not any(not node.events for node in starts):
        raise StepRefusedError(
            f"{machine.graph.id} has no none start event.",
            f"Name the start event: {', '.join(node.id for node in starts)}.",
        )
    state.status = "active"
    state.business_key = event.business_key
    root = machine.create(root_node, None, Role.SCOPE)
    machine.trace("started", root_node.id, root.key)
    if trigger is None or trigger.kind == "none":
        root.vars = dict(event.variables)
        machine.changed = True
        machine.open_scope(root)
        _enter_initial(machine, root, event.node)
        return
    root.vars = {}
    machine.open_scope(root)
    _enter_by_trigger(machine, root, event, trigger.node)


def _enter_initial(machine: Machine, root: Instance, chosen: str | None) -> None:
    """Put the first tokens in: one start event, or all nodes without incoming flows."""
    nodes = machine.graph.root.initial
    starts = [node for node in nodes if node.kind is NodeKind.START]
    if chosen is not None:
        starts = [node for node in starts if node.id == chosen]
    machine.dirty[root.key] = None
    for node in starts[:1] if starts else nodes:
        machine.queue.append((node, root.key))


def _enter_by_trigger(machine: Machine, root: Instance, event: inputs.Start, name: str) -> None:
    node = machine.nodes[name]
    machine.changed = True
    machine.dirty[root.key] = None
    gateway = next(
        (
            edge.source
            for edge in node.incoming
            if edge.source.kind is NodeKind.EVENT_BASED and edge.source.definition.instantiate
        ),
        None,
    )
    machine.trace("caught", name, root.key)
    first = node.events[event.part] if event.part < len(node.events) else None
    if gateway is not None and gateway.definition.parallel_events:
        waiting = machine.create(gateway, root, Role.GATEWAY)
        machine.begin_wait(waiting)
        machine.close_for(waiting, node)
        if not waiting.subs:
            machine.remove(waiting)
    if node.kind is NodeKind.RECEIVE:
        machine.write_all(root, event.variables)
        machine.trace("completed", name)
        machine.leave(node, root)
        return
    if node.parallel_multiple and len(node.events) > 1:
        waiting = machine.create(node, root, Role.WAIT)
        machine.begin_wait(waiting)
        machine.write_all(root, event.variables)
        for key in list(waiting.subs):
            if key in machine.state.subs and machine.state.subs[key].part == event.part:
                machine.trigger(machine.state.subs[key], event.variables)
        return
    machine.trace("completed", name)
    machine.receive_and_leave(node, root, dict(event.variables), first)


# --- what comes back ----------------------------------------------------------------------------------


def _working(machine: Machine, key: int, what: str) -> Instance | None:
    """Return the instance that a job belongs to; late answers for ended work are ignored."""
    instance = machine.instances.get(key)
    if instance is None or instance.data is None or "job" not in instance.data:
        machine.trace("ignored", "", key, what)
        return None
    return instance


def _job_completed(machine: Machine, event: inputs.JobCompleted) -> None:
    instance = _working(machine, event.key, "JobCompleted")
    if instance is None:
        return
    if instance.data is not None:
        del instance.data["job"]
        if not instance.data:
            instance.data = None
    if machine.state.incidents:
        machine.close_incident(instance)
    if instance.role == Role.SCOPE and machine.is_ad_hoc(instance):
        machine.dirty[instance.key] = None
        try:
            machine.agent_answer(instance, event.variables)
        except StuckError as stuck:
            machine.raise_incident(instance, stuck)
        return
    machine.finish(instance, event.variables)


def _job_failed(machine: Machine, event: inputs.JobFailed) -> None:
    instance = _working(machine, event.key, "JobFailed")
    if instance is None:
        return
    instance.data = {**(instance.data or {}), "stage": "work"}
    machine.raise_incident(instance, StuckError("JOB", event.message))


def _job_error(machine: Machine, event: inputs.JobError) -> None:
    instance = _working(machine, event.key, "JobError")
    if instance is None:
        return
    kind = (instance.data or {}).get("job")
    instance.data = {name: value for name, value in (instance.data or {}).items() if name != "job"}
    machine.close_incident(instance)
    caught = machine.throw_error(instance, instance.node, event.code, event.message, event.variables)
    if not caught:
        instance.data = {**instance.data, "stage": "work", "job": kind}
        message = f"The error {event.code} of {instance.node} was not caught. {event.message}".strip()
        machine.raise_incident(instance, StuckError("UNCAUGHT_ERROR", message))


def _job_escalated(machine: Machine, event: inputs.JobEscalated) -> None:
    instance = _working(machine, event.key, "JobEscalated")
    if instance is not None:
        machine.throw_escalation(instance, instance.node, event.code, event.variables)


def _timer_fired(machine: Machine, event: inputs.TimerFired) -> None:
    sub = machine.state.subs.get(event.key)
    if sub is None or sub.kind != "timer":
        machine.trace("ignored", "", event.key, "TimerFired")
        return
    machine.trigger(sub, {})


def _message_received(machine: Machine, event: inputs.MessageReceived) -> None:
    subs = machine.state.subs
    if event.key is not None:
        sub = subs.get(event.key)
    else:
        correlation = event.correlation
        if correlation is None:
            correlation = machine.graph.message_key(event.name, event.variables, event.now)
        sub = next(
            (
                item
                for item in subs.values()
                if item.kind == "message"
                and item.name == event.name
                and (item.correlation is None or item.correlation == correlation)
            ),
            None,
        )
    if sub is None or sub.kind != "message":
        machine.trace("ignored", event.name, event.key or 0, "MessageReceived")
        return
    machine.trigger(sub, event.variables)


def _signal_received(machine: Machine, event: inputs.SignalReceived) -> None:
    if machine.signal(event.name, event.variables) == 0:
        machine.trace("ignored", event.name, 0, "SignalReceived")


# --- operations ---------------------------------------------------------------------------------------


def _variables_changed(machine: Machine, event: inputs.VariablesChanged) -> None:
    instance = machine.instances.get(event.key) if event.key else next(iter(machine.instances.values()))
    if instance is None:
        raise StepRefusedError(f"There is no element instance {event.key}.", "List the instance's elements.")
    if event.key:
        instance.vars = {**(instance.vars or {}), **event.variables}
        machine.changed = True
    else:
        machine.write_all(instance, event.variables)


def _continued(machine: Machine, event: inputs.Continued) -> None:
    """Nothing to do: the tokens on their way have been taken up already."""


def _cancel(machine: Machine, event: inputs.Cancel) -> None:
    if machine.state.ended:
        raise StepRefusedError(f"The instance is {machine.state.status}.", "There is nothing to cancel.")
    machine.end_all("terminated")
    machine.state.inbox = []
    machine.commands.append(Terminated(event.reason))


def _suspend(machine: Machine, event: inputs.Suspend) -> None:
    if machine.state.status == "suspended":
        raise StepRefusedError("The instance is suspended already.", "Resume it.")
    machine.state.status = "suspended"
    machine.trace("suspended", machine.graph.id)


def _resume(machine: Machine, event: inputs.Resume) -> None:
    state = machine.state
    if state.status != "suspended":
        raise StepRefusedError("The instance is not suspended.", "Suspend it first.")
    state.status = "active"
    machine.trace("resumed", machine.graph.id)
    held, state.inbox = state.inbox, []
    machine.run()
    for fields in held:
        if state.status != "active":
            break
        kept = inputs.from_json(fields)
        try:
            _HANDLERS[type(kept)](machine, kept)
        except StuckError as stuck:
            _hold(machine, stuck)
        machine.run()


_HANDLERS: dict[type[Any], Callable[[Machine, Any], None]] = {
    inputs.Start: _start,
    inputs.JobCompleted: _job_completed,
    inputs.JobFailed: _job_failed,
    inputs.JobError: _job_error,
    inputs.JobEscalated: _job_escalated,
    inputs.TimerFired: _timer_fired,
    inputs.MessageReceived: _message_received,
    inputs.SignalReceived: _signal_received,
    inputs.VariablesChanged: _variables_changed,
    inputs.Continued: _continued,
    inputs.Cancel: _cancel,
    inputs.Suspend: _suspend,
    inputs.Resume: _resume,
    inputs.Modify: modify,
    inputs.ResolveIncident: resolve_incident,
    inputs.ActivateElements: activate_elements,
    inputs.CompleteAdHoc: complete_ad_hoc,
}
