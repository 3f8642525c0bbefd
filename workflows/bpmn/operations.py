"""What an operator does to a running instance: modify tokens, resolve incidents, choose in ad-hoc scopes."""

from workflows.bpmn.commands import CancelJob
from workflows.bpmn.definition import NodeKind
from workflows.bpmn.graph import FlowEdge, Node
from workflows.bpmn.inputs import ActivateElements, CompleteAdHoc, Modification, Modify, ResolveIncident
from workflows.bpmn.machine import Machine
from workflows.bpmn.refusals import StepRefusedError
from workflows.bpmn.state import Instance, Role

# --- modification -------------------------------------------------------------------------------------


def modify(machine: Machine, event: Modify) -> None:
    """Place, cancel and move tokens.

    Raises:
        StepRefusedError: One of the changes is impossible; none is made.
    """
    root = next(iter(machine.instances.values()))
    machine.write_all(root, event.variables)
    for change in event.changes:
        if change.action == "start_before":
            _place(machine, _node(machine, change.element), change.scope)
        elif change.action == "cancel" and change.key is None and change.element is not None:
            _drop_waiting(machine, change.element, change.scope)
        elif change.action == "cancel":
            instance = _instance(machine, change.key)
            if instance.parent == 0:
                raise StepRefusedError("The process itself cannot be cancelled so.", "Cancel the instance.")
            _cancel_token(machine, instance)
        elif change.action == "move":
            _move(machine, change)
        else:
            raise StepRefusedError(
                f"{change.action!r} is no modification.", "Use start_before, cancel or move."
            )


def _node(machine: Machine, element: str | None) -> Node:
    node = machine.nodes.get(element or "")
    if node is None or node is machine.graph.root:
        raise StepRefusedError(f"There is no element {element!r}.", "Name a flow node of the definition.")
    if node.kind is NodeKind.BOUNDARY or node.triggered_by_event or node.for_compensation:
        raise StepRefusedError(
            f"No token can be placed before {element}.", "Choose a node with a flow to it."
        )
    return node


def _instance(machine: Machine, key: int | None) -> Instance:
    instance = machine.instances.get(key or 0)
    if instance is None:
        raise StepRefusedError(f"There is no element instance {key}.", "List the instance's elements.")
    return instance


def _cancel_token(machine: Machine, instance: Instance) -> None:
    scope = machine.scope_of(instance)
    target = machine.activity_of(instance)
    machine.cancel(target, "modified")
    machine.dirty[scope.key] = None


def _drop_waiting(machine: Machine, element: str, scope_key: int | None) -> None:
    """Give up the tokens that wait before a join."""
    found = [
        scope
        for scope in machine.instances.values()
        if scope.joins and element in scope.joins and scope_key in (None, scope.key)
    ]
    if not found:
        raise StepRefusedError(f"No token waits before {element!r}.", "List the instance's elements.")
    for scope in found:
        scope.joins = {
            name: counts for name, counts in (scope.joins or {}).items() if name != element
        } or None
        machine.dirty[scope.key] = None


def _move(machine: Machine, change: Modification) -> None:
    instance = machine.activity_of(_instance(machine, change.key))
    if instance.parent == 0:
        raise StepRefusedError("The process itself cannot be moved.", "Name an element instance.")
    node = _node(machine, change.element)
    scope = machine.scope_of(instance)
    target = change.scope
    if target is None and node.parent is not None and scope.node == node.parent.id:
        target = scope.key
    # Placed before it is cancelled, so that an enclosing scope does not end in between.
    _place(machine, node, target)
    machine.cancel(instance, "moved")


def _place(machine: Machine, node: Node, scope_key: int | None) -> None:
    """Queue a token before a node, opening the scopes around it that are not there yet."""
    if scope_key is not None:
        scope = _instance(machine, scope_key)
        if scope.role != Role.SCOPE or node.parent is None or scope.node != node.parent.id:
            raise StepRefusedError(
                f"Element instance {scope_key} is not a scope of {node.id}.", "Name one or leave it out."
            )
    else:
        scope = _scope_for(machine, node)
    machine.queue.append((node, scope.key))
    machine.dirty[scope.key] = None


def _scope_for(machine: Machine, node: Node) -> Instance:
    parent = node.parent
    found = [
        item
        for item in machine.instances.values()
        if parent is not None and item.node == parent.id and item.role == Role.SCOPE
    ]
    if len(found) > 1:
        keys = ", ".join(str(item.key) for item in found)
        raise StepRefusedError(f"{node.id} has several scopes: {keys}.", "Name one of them.")
    if found:
        return found[0]
    if parent is None or parent.loop is not None:
        raise StepRefusedError(
            f"The scope of {node.id} loops and is not active.", "Start before the looping activity instead."
        )
    outer = _scope_for(machine, parent)
    scope = machine.create(parent, outer, Role.SCOPE)
    machine.trace("started", parent.id, scope.key)
    machine.open_boundaries(scope, parent)
    machine.open_scope(scope)
    return scope


# --- incidents ----------------------------------------------------------------------------------------


def resolve_incident(machine: Machine, event: ResolveIncident) -> None:
    """Retry or skip what is stuck.

    Raises:
        StepRefusedError: There is no such incident or no such action.
    """
    if event.key not in machine.state.incidents:
        raise StepRefusedError(f"Element instance {event.key} has no incident.", "List the incidents.")
    if event.action not in ("retry", "skip"):
        raise StepRefusedError(f"{event.action!r} is no resolution.", "Use retry or skip.")
    instance = machine.instances[event.key]
    node = machine.nodes[instance.node]
    flow = None
    if event.flow is not None:
        flow = next((edge for edge in node.outgoing if edge.id == event.flow), None)
        if flow is None:
            raise StepRefusedError(f"{event.flow!r} does not leave {node.id}.", "Name one of its flows.")
    machine.write_all(instance, event.variables)
    incident = machine.state.incidents[event.key][0]
    machine.close_incident(instance)
    if instance.role == Role.PARKED:
        _resolve_parked(machine, instance, node, event.action, flow)
    elif event.action == "retry":
        _retry(machine, instance, node)
    elif incident == "DEADLOCK":
        # Skipping gives the waiting tokens up.
        instance.joins = None
        machine.dirty[instance.key] = None
    else:
        _skip(machine, instance, node)


def _resolve_parked(
    machine: Machine, parked: Instance, node: Node, action: str, flow: FlowEdge | None
) -> None:
    scope = machine.scope_of(parked)
    stage = (parked.data or {}).get("stage")
    machine.remove(parked)
    if action == "skip":
        if stage in ("activation", "reset"):
            return
        edges = [flow] if flow else [node.default] if node.default else list(node.outgoing[:1])
        for edge in edges:
            machine.queue.append((edge, scope.key))
    elif stage == "enter":
        machine.queue.append((node, scope.key))
    elif stage == "route":
        machine.leave(node, scope)
    elif stage == "activation":
        machine.reconsider(node, scope)


def _retry(machine: Machine, instance: Instance, node: Node) -> None:
    data = dict(instance.data or {})
    stage = data.pop("stage", None)
    data.pop("job", None)
    results = data.pop("results", None)
    instance.data = data or None
    if instance.role in (Role.MULTI, Role.LOOP):
        if stage == "round":
            machine.retry_round(instance)
        else:
            machine.begin_loop(instance)
    elif instance.role in (Role.WAIT, Role.GATEWAY):
        machine.begin_wait(instance)
    elif stage == "handler":
        start = machine.nodes[data["start"]]
        machine.begin_handler(instance, start, {}, None)
    elif stage == "begin":
        machine.begin(instance)
    elif stage == "finish":
        machine.finish(instance, results)
    elif stage == "work":
        machine.work_again(instance)
    else:
        machine.dirty[instance.key] = None


def _skip(machine: Machine, instance: Instance, node: Node) -> None:
    data = instance.data or {}
    if "job" in data:
        machine.commands.append(CancelJob(instance.key, instance.node, data["job"]))
    instance.data = None
    scope = machine.instances.get(instance.parent)
    if scope is None:
        raise StepRefusedError("The process itself cannot be skipped.", "Retry, modify or cancel it.")
    if instance.role in (Role.WAIT, Role.GATEWAY):
        machine.remove(instance)
        machine.leave(node, machine.instances[scope.key])
        return
    machine.cancel_children(instance, "skipped")
    if instance.role in (Role.MULTI, Role.LOOP):
        machine.remove(instance)
        machine.leave(node, scope, node.completion_quantity)
        return
    machine.ended(instance, node)


# --- ad-hoc -------------------------------------------------------------------------------------------


def activate_elements(machine: Machine, event: ActivateElements) -> None:
    """Activate inner elements of an ad-hoc sub-process.

    Raises:
        StepRefusedError: The scope is no ad-hoc sub-process, or an element is not one of its own.
    """
    scope = _instance(machine, event.key)
    if not machine.is_ad_hoc(scope):
        raise StepRefusedError(f"Element instance {event.key} is no ad-hoc sub-process.", "Name one that is.")
    node = machine.nodes[scope.node]
    known = {item.id for item in node.initial}
    unknown = [element for element in event.elements if element not in known]
    if unknown:
        raise StepRefusedError(
            f"{', '.join(unknown)} cannot be activated in {node.id}.",
            f"Choose of {', '.join(sorted(known))}.",
        )
    machine.write_all(scope, event.variables)
    for element in event.elements:
        machine.activate(scope, node, element)


def complete_ad_hoc(machine: Machine, event: CompleteAdHoc) -> None:
    """End an ad-hoc sub-process.

    Raises:
        StepRefusedError: The scope is none.
    """
    scope = _instance(machine, event.key)
    if not machine.is_ad_hoc(scope):
        raise StepRefusedError(f"Element instance {event.key} is no ad-hoc sub-process.", "Name one that is.")
    machine.write_all(scope, event.variables)
    machine.complete_ad_hoc(scope, machine.nodes[scope.node])
