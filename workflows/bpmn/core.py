"""What every part of the interpreter stands on: tokens, element instances, variables, incidents.

The interpreter is one object per step, built in layers, each a file that knows only the ones below:
`core` → `catching` → `throwing` → `compensation` → `activities` → `loops` → `adhoc` → `gateways` →
`machine`. What a lower layer needs of a higher one is declared abstract here.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workflows.bpmn.commands import CancelJob, CloseIncident, Command, RaiseIncident, Trace
from workflows.bpmn.expression import CompiledExpression, ExpressionEvaluationError
from workflows.bpmn.graph import FlowEdge, Graph, Node
from workflows.bpmn.state import Instance, Role, State

_NEW_TUPLE = tuple.__new__
STEP_BUDGET = 2_000
"""Tokens moved in one step before it hands back with `commands.Continue`."""


class StuckError(Exception):
    """A token cannot go on; it becomes an incident.

    Attributes:
        type: Stable name of the reason.
        message: For the operator.
    """

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message[:2000]


class Core(ABC):
    """Tokens, element instances, variables and incidents of one step.

    Args:
        graph: What is executed.
        state: Changed in place.
        now: The clock value of the event.
    """

    def __init__(self, graph: Graph, state: State, now: datetime) -> None:
        self.graph = graph
        self.state = state
        self.now = now
        self.instances = state.instances
        self.nodes = graph.nodes
        self.commands: list[Command] = []
        self.queue: deque[tuple[FlowEdge | Node, int]] = deque()
        self.late: deque[tuple[FlowEdge | Node, int]] = deque()
        self.dirty: dict[int, None] = {}
        self.changed = False
        self.cleared: dict[int, int] = {}

    # --- what higher layers provide -------------------------------------------------------------

    @abstractmethod
    def start_activity(self, node: Node, parent: Instance, variables: dict[str, Any] | None = None) -> None:
        """Start one instance of an activity below ``parent``."""

    @abstractmethod
    def begin(self, instance: Instance) -> None:
        """Begin, or begin again after an incident, what the instance does."""

    @abstractmethod
    def finish(self, instance: Instance, results: dict[str, Any] | None) -> None:
        """Complete an activity instance with its results."""

    @abstractmethod
    def open_scope(self, scope: Instance) -> None:
        """Declare data and open the event sub-processes of a scope."""

    @abstractmethod
    def close_subscriptions(self, instance: Instance) -> None:
        """Close everything the instance waits for."""

    @abstractmethod
    def compensate(self, scope: Instance, activity: str | None, thrower: Instance | None) -> None:
        """Start compensation in a scope."""

    # --- tokens ---------------------------------------------------------------------------------

    def trace(self, event: str, element: str, key: int = 0, detail: str | None = None) -> None:
        """Record what happened."""
        # As `Trace(…)`, without the detour over its constructor: nothing is written more often.
        self.commands.append(_NEW_TUPLE(Trace, (event, element, key, detail)))

    def leave(self, node: Node, scope: Instance, quantity: int = 1) -> None:
        """Send tokens over the outgoing flows of a node that is done (clause 13.3.2)."""
        if node.conditional:
            self.route(node, scope, quantity)
            return
        key = scope.key
        self.dirty[key] = None
        for edge in node.outgoing:
            for _ in range(quantity):
                self.queue.append((edge, key))

    def route(self, node: Node, scope: Instance, quantity: int = 1) -> None:
        """Send tokens over the flows whose condition holds, else over the default flow.

        This is the inclusive choice, which is also how conditional flows leave an activity; the
        exclusive gateway takes the first that holds.
        """
        self.dirty[scope.key] = None
        try:
            edges = self.choose(node, scope, first=node.kind == "exclusiveGateway")
        except StuckError as stuck:
            self.park(node, scope, "route", stuck)
            return
        for edge in edges:
            for _ in range(quantity):
                self.queue.append((edge, scope.key))

    def choose(
        self, node: Node, scope: Instance, *, first: bool, extra: Mapping[str, Any] | None = None
    ) -> list[FlowEdge]:
        """Return the outgoing flows that get a token.

        Raises:
            StuckError: No condition holds and there is no default flow, or one has no truth value.
        """
        chosen: list[FlowEdge] = []
        conditioned = False
        for edge in node.outgoing:
            if edge is node.default:
                continue
            if edge.condition is not None:
                conditioned = True
                if not self.truth(edge.condition, scope, edge.id, extra):
                    continue
            chosen.append(edge)
            if first:
                return chosen
        if not chosen:
            if node.default is not None:
                return [node.default]
            if conditioned:
                raise StuckError("NO_FLOW", f"No outgoing flow of {node.id} has a condition that holds.")
        return chosen

    # --- instances ------------------------------------------------------------------------------

    def create(self, node: Node, parent: Instance | None, role: str) -> Instance:
        """Add an element instance."""
        state = self.state
        key = state.next_key
        state.next_key = key + 1
        instance = Instance(key, node.id, parent.key if parent is not None else 0, role)
        self.instances[key] = instance
        if parent is not None:
            parent.children[key] = None
        return instance

    def remove(self, instance: Instance) -> None:
        """Take a finished instance out of the tree."""
        key = instance.key
        if instance.subs:
            self.close_subscriptions(instance)
        del self.instances[key]
        parent = self.instances.get(instance.parent)
        if parent is not None:
            parent.children.pop(key, None)
            self.dirty[parent.key] = None
        if key in self.state.incidents:
            del self.state.incidents[key]
            self.commands.append(CloseIncident(key, instance.node))

    def cancel(self, instance: Instance, reason: str = "") -> None:
        """End an instance and everything inside it, youngest first."""
        self.cancel_children(instance, reason)
        data = instance.data
        if data is not None and "job" in data:
            self.commands.append(CancelJob(instance.key, instance.node, data["job"]))
        self.remove(instance)
        if instance.role not in (Role.PARKED, Role.COMPENSATION):
            self.trace("cancelled", instance.node, instance.key, reason or None)

    def cancel_children(self, instance: Instance, reason: str = "") -> None:
        """End everything inside an instance: children, tokens before joins, tokens on their way."""
        for key in reversed(list(instance.children)):
            child = self.instances.get(key)
            if child is not None:
                self.cancel(child, reason)
        if instance.role == Role.SCOPE:
            instance.joins = None
            self.cleared[instance.key] = self.cleared.get(instance.key, 0) + 1
            self._drop_tokens(instance.key)

    def _drop_tokens(self, scope: int) -> None:
        for queue in (self.queue, self.late):
            if queue:
                kept = [item for item in queue if item[1] != scope]
                queue.clear()
                queue.extend(kept)

    def mark(self, scope: Instance) -> int:
        """Return a mark by which `lives` tells whether the scope's tokens survived what happened since."""
        return self.cleared.get(scope.key, 0)

    def lives(self, scope: Instance, mark: int) -> bool:
        """Tell whether a token of the scope is still alive: the scope is, and nothing cleared it."""
        return scope.key in self.instances and self.cleared.get(scope.key, 0) == mark

    def scope_of(self, instance: Instance) -> Instance:
        """Return the scope that a node's tokens belong to: the first above the instance."""
        current = self.instances[instance.parent]
        while current.role != Role.SCOPE:
            current = self.instances[current.parent]
        return current

    def activity_of(self, instance: Instance) -> Instance:
        """Return the outermost instance of the same activity: its loop or multi-instance body if any."""
        parent = self.instances.get(instance.parent)
        if parent is not None and parent.role in (Role.MULTI, Role.LOOP) and parent.node == instance.node:
            return parent
        return instance

    # --- variables ------------------------------------------------------------------------------

    def visible(self, instance: Instance | None, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return all variables visible from an instance, inner ones hiding outer ones."""
        layers: list[Mapping[str, Any]] = []
        if extra:
            layers.append(extra)
        while instance is not None:
            if instance.vars:
                layers.append(instance.vars)
            instance = self.instances.get(instance.parent)
        if not layers:
            return {}
        if len(layers) == 1 and not extra:
            return layers[0]  # type: ignore[return-value]  # the evaluator only reads
        merged: dict[str, Any] = {}
        for layer in reversed(layers):
            merged.update(layer)
        return merged

    def write(self, instance: Instance, name: str, value: Any) -> None:
        """Set a variable where it is declared, else at the top (design: nearest owner)."""
        current = instance
        while True:
            if current.vars is not None and name in current.vars:
                current.vars[name] = value
                break
            parent = self.instances.get(current.parent)
            if parent is None:
                if current.vars is None:
                    current.vars = {}
                current.vars[name] = value
                break
            current = parent
        self.changed = True

    def write_all(self, instance: Instance, variables: Mapping[str, Any]) -> None:
        """Set several variables."""
        for name, value in variables.items():
            self.write(instance, name, value)

    def assign(self, instance: Instance, target: str, value: Any) -> None:
        """Set a variable, or an entry inside a context where the target is dotted."""
        head, _, rest = target.partition(".")
        if not rest:
            self.write(instance, target, value)
            return
        self.write(instance, head, merge_path(self.visible(instance).get(head), rest, value))

    def value(
        self,
        expression: CompiledExpression,
        instance: Instance | None,
        element: str,
        extra: Mapping[str, Any] | None = None,
    ) -> Any:
        """Evaluate an expression.

        Raises:
            StuckError: It has no value.
        """
        try:
            return expression.evaluate(self.visible(instance, extra), self.now)
        except ExpressionEvaluationError as error:
            raise StuckError("EXPRESSION", f"An expression of {element} failed: {error}") from None

    def truth(
        self,
        expression: CompiledExpression,
        instance: Instance | None,
        element: str,
        extra: Mapping[str, Any] | None = None,
    ) -> bool:
        """Evaluate a condition: true or false, null counting as false.

        Raises:
            StuckError: It is neither.
        """
        value = self.value(expression, instance, element, extra)
        if value is True or value is False:
            return value
        if value is None:
            return False
        raise StuckError(
            "CONDITION", f"The condition of {element} is {str(value)[:100]!r}, neither true nor false."
        )

    def text(
        self, expression: CompiledExpression | None, instance: Instance | None, element: str
    ) -> str | None:
        """Evaluate an expression whose value is used as a name or key; numbers become text.

        Raises:
            StuckError: It is a list, a context or a truth value.
        """
        if expression is None:
            return None
        value = self.value(expression, instance, element)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool | list | dict):
            raise StuckError("EXPRESSION", f"An expression of {element} is not text: {str(value)[:100]!r}.")
        return str(value)

    # --- incidents ------------------------------------------------------------------------------

    def raise_incident(self, instance: Instance, stuck: StuckError) -> None:
        """Hold an instance for an operator."""
        self.state.incidents[instance.key] = [stuck.type, stuck.message]
        self.commands.append(RaiseIncident(instance.key, instance.node, stuck.type, stuck.message))

    def close_incident(self, instance: Instance) -> None:
        """Forget the incident of an instance."""
        if self.state.incidents.pop(instance.key, None) is not None:
            self.commands.append(CloseIncident(instance.key, instance.node))

    def park(self, node: Node, scope: Instance, stage: str, stuck: StuckError) -> None:
        """Hold a token at a node that has no instance; ``stage`` says what to repeat."""
        parked = self.create(node, scope, Role.PARKED)
        parked.data = {"stage": stage}
        self.raise_incident(parked, stuck)


def merge_path(value: Any, path: str, item: Any) -> dict[str, Any]:
    """Return a copy of a context with ``item`` at the dotted path."""
    context: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    head, _, rest = path.partition(".")
    context[head] = merge_path(context.get(head), rest, item) if rest else item
    return context
