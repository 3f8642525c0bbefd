"""Moving a running instance to another definition by a mapping plan.

A pure function with a dry run: it either returns the new state and the commands that make outside fit
it, or lists every reason why not. Elements map by equal identifier unless the plan says otherwise.
Running jobs go on and report to the mapped element; kept timers keep their due time.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from models.errors import ConflictError
from workflows.bpmn.commands import CancelTimer, Command, Unsubscribe
from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import EventKind, NodeKind
from workflows.bpmn.graph import Graph, Node
from workflows.bpmn.machine import Machine
from workflows.bpmn.state import Instance, Role, State, Subscription


class Plan(NamedTuple):
    """What becomes of the elements of the old definition.

    Attributes:
        elements: New identifier by old one, for active elements, joins, events and compensated work.
        flows: New identifier by old one, for tokens that wait before joins.
        drop: Old elements whose tokens before joins or compensation records are given up.
    """

    elements: Mapping[str, str] = {}
    flows: Mapping[str, str] = {}
    drop: frozenset[str] = frozenset()


class MigrationRefusedError(ConflictError):
    """The plan does not cover the instance; ``details["problems"]`` lists every reason."""

    code = "BPMN_MIGRATION_REFUSED"

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            f"The instance cannot be migrated: {'; '.join(problems[:5])}. Extend the mapping plan.",
            details={"problems": problems},
        )


def migrate(state: State, old: Graph, new: Graph, plan: Plan, now: datetime) -> tuple[State, list[Command]]:
    """Return the state under the new definition.

    Args:
        state: Not changed.
        old: Definition of the state.
        new: Definition to move to.
        plan: What maps to what beside equal identifiers.
        now: Clock value, for timers that the new definition adds.

    Raises:
        MigrationRefusedError: Something active has no counterpart; all reasons are listed.
    """
    problems = list(check_plan(state, old, new, plan))
    if problems:
        raise MigrationRefusedError(problems)
    twin = state.copy()
    twin.definition = new.sha256
    names = {**{name: name for name in old.nodes}, old.id: new.id, **plan.elements}
    flows = {**{name: name for name in old.flows}, **plan.flows}
    machine = Machine(new, twin, now)
    for instance in list(twin.instances.values()):
        instance.node = names[instance.node]
        instance.joins = _map_joins(instance, names, flows, plan)
        instance.ledger = _map_ledger(instance.ledger, names, plan)
    twin.queue = [[flows[item[0]] if item[2] else names[item[0]], item[1], item[2]] for item in twin.queue]
    for sub in list(twin.subs.values()):
        _map_subscription(machine, sub, names, new)
    for instance in list(twin.instances.values()):
        _open_added(machine, instance, new)
    machine.dirty = {key: None for key, item in twin.instances.items() if item.role == Role.SCOPE}
    machine.trace("migrated", new.id, 0, new.sha256)
    if twin.status == "active":
        machine.run()
    return twin, machine.commands


def check_plan(state: State, old: Graph, new: Graph, plan: Plan) -> Iterator[str]:
    """Yield every reason why the plan does not fit the instance: the dry run."""
    if state.definition != old.sha256:
        yield "the state belongs to another definition than the old one"
        return
    if state.ended:
        yield f"the instance is {state.status}"
        return
    for source, target in plan.elements.items():
        if source not in old.nodes:
            yield f"the old definition has no element {source}"
        if target not in new.nodes:
            yield f"the new definition has no element {target}"
    names = {**plan.elements, old.id: new.id}
    for instance in state.instances.values():
        yield from _check_instance(state, instance, old, new, names, plan)
    for item in state.queue:
        if (plan.flows.get(item[0], item[0]) if item[2] else names.get(item[0], item[0])) not in (
            new.flows if item[2] else new.nodes
        ):
            yield f"the token on its way to {item[0]} has no counterpart"


def _check_instance(
    state: State, instance: Instance, old: Graph, new: Graph, names: Mapping[str, str], plan: Plan
) -> Iterator[str]:
    source = old.nodes[instance.node]
    target = new.nodes.get(names.get(instance.node, instance.node))
    if target is None:
        yield f"the active element {instance.node} has no counterpart"
        return
    if source is not old.root and source.kind is not target.kind:
        yield f"{source.id} is a {source.kind.value}, {target.id} a {target.kind.value}"
    if (source.loop is None) != (target.loop is None) or (
        source.loop is not None
        and target.loop is not None
        and source.loop.definition.multi != target.loop.definition.multi
    ):
        yield f"{source.id} and {target.id} do not loop alike"
    parent = state.instances.get(instance.parent)
    if parent is not None and parent.node != instance.node and target.parent is not None:
        scope = parent
        while scope.role != Role.SCOPE:
            scope = state.instances[scope.parent]
        expected = names.get(scope.node, scope.node)
        if target.parent.id != expected and scope.role == Role.SCOPE:
            yield f"{target.id} lies in another scope than {source.id} did"
    for node, counts in (instance.joins or {}).items():
        yield from _check_join(node, counts, new, names, plan)
    for entry in instance.ledger or ():
        name = entry["n"]
        if names.get(name, name) not in new.nodes and name not in plan.drop:
            yield f"the completed activity {name} that can be compensated has no counterpart"


def _check_join(
    node: str, counts: Mapping[str, int], new: Graph, names: Mapping[str, str], plan: Plan
) -> Iterator[str]:
    if node in plan.drop:
        return
    target = new.nodes.get(names.get(node, node))
    if target is None:
        yield f"the join {node} with waiting tokens has no counterpart"
        return
    incoming = {edge.id for edge in target.incoming}
    for flow in counts:
        if not flow.startswith("#") and plan.flows.get(flow, flow) not in incoming:
            yield f"the token on {flow} waiting before {node} has no counterpart"


def _map_joins(
    instance: Instance, names: Mapping[str, str], flows: Mapping[str, str], plan: Plan
) -> dict[str, dict[str, int]] | None:
    mapped = {
        names[node]: {flows.get(flow, flow): count for flow, count in counts.items()}
        for node, counts in (instance.joins or {}).items()
        if node not in plan.drop
    }
    return mapped or None


def _map_ledger(
    ledger: list[dict[str, object]] | None, names: Mapping[str, str], plan: Plan
) -> list[dict[str, object]] | None:
    mapped: list[dict[str, object]] = []
    for entry in ledger or ():
        name = str(entry["n"])
        if name in plan.drop:
            continue
        twin = {**entry, "n": names.get(name, name)}
        nested = entry.get("l")
        if isinstance(nested, list):
            twin["l"] = _map_ledger(nested, names, plan) or []
        mapped.append(twin)
    return mapped or None


def _map_subscription(machine: Machine, sub: Subscription, names: Mapping[str, str], new: Graph) -> None:
    """Keep a subscription whose event has a counterpart that waits for the same; close it otherwise."""
    target = new.nodes.get(names.get(sub.node, sub.node))
    owner = machine.instances[sub.owner]
    if target is not None and _waits(owner, target, new):
        events = target.events
        if target.kind is NodeKind.RECEIVE:
            events = (target.work.message,) if target.work is not None and target.work.message else ()
        part = next((i for i, event in enumerate(events) if event.kind.value == sub.kind), None)
        if part is not None and (sub.name is None or events[part].name in (None, sub.name)):
            machine.state.subs[sub.key] = sub._replace(node=target.id, part=part)
            return
    machine.forget(sub)
    if sub.kind == "timer":
        machine.commands.append(CancelTimer(sub.key))
    elif sub.kind != "conditional":
        machine.commands.append(Unsubscribe(sub.key, sub.kind, sub.name or ""))


def _waits(owner: Instance, target: Node, new: Graph) -> bool:
    """Tell whether the event still belongs to what the owner is now."""
    if target.kind is NodeKind.BOUNDARY:
        return target.definition.attached_to == owner.node
    if target.kind is NodeKind.START:
        return target.parent is not None and target.parent.parent is new.nodes[owner.node]
    return owner.node == target.id or any(
        edge.target.id == target.id for edge in new.nodes[owner.node].outgoing
    )


def _open_added(machine: Machine, instance: Instance, new: Graph) -> None:
    """Open the events that the new definition has and the instance does not wait for yet."""
    node = new.nodes[instance.node]
    have = {machine.state.subs[key].node for key in instance.subs}
    wanted: list[Node] = []
    if machine.instances.get(instance.parent) is not None and machine.activity_of(instance) is instance:
        wanted += node.boundaries
    if instance.role == Role.SCOPE and not (instance.data or {}).get("interrupted"):
        wanted += [start for scope in node.event_scopes for start in scope.start_events]
    if instance.role == Role.WAIT:
        wanted.append(node)
    for event_node in wanted:
        if event_node.id in have or all(event.kind is EventKind.LINK for event in event_node.events):
            continue
        try:
            machine.subscribe_all(instance, event_node)
        except StuckError as stuck:
            machine.raise_incident(instance, stuck)
