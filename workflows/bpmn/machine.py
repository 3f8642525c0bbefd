"""The machine: moves tokens until the instance rests, and knows what each kind of node does with one."""

from collections.abc import Callable
from typing import Any

from workflows.bpmn.commands import Continue, StartJob
from workflows.bpmn.core import STEP_BUDGET, StuckError
from workflows.bpmn.definition import ACTIVITIES, EventKind, NodeKind
from workflows.bpmn.gateways import Gateways
from workflows.bpmn.graph import Event, FlowEdge, Node
from workflows.bpmn.state import Instance, Role

MAX_TOKENS = 50_000
"""Tokens on their way at once before an instance counts as multiplying them endlessly."""

MAX_CONTINUES = 100
"""Steps in a row without an event from outside before an instance counts as looping endlessly."""


class Machine(Gateways):
    """One step of an instance."""

    def run(self) -> None:
        """Move tokens until nothing moves any more or the step's budget is spent."""
        queue, late, instances, dirty = self.queue, self.late, self.instances, self.dirty
        budget = STEP_BUDGET
        while True:
            while queue or late:
                if budget == 0 or len(queue) > MAX_TOKENS:
                    self._pause()
                    return
                budget -= 1
                deferred = not queue
                item, key = late.popleft() if deferred else queue.popleft()
                scope = instances.get(key)
                if scope is None:
                    continue
                if isinstance(item, FlowEdge):
                    node, edge = item.target, item
                else:
                    node, edge = item, None
                if node.defers and not deferred and queue:
                    late.append((item, key))
                    continue
                dirty[key] = None
                self._move(node, scope, edge)
                if self.changed:
                    self._after_change()
            if self.changed:
                self._after_change()
                if queue:
                    continue
            if not self.settle() and not queue and not late and not self.changed:
                return

    def _move(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        role = scope.role
        if role == Role.SCOPE:
            if edge is not None:
                self.trace("taken", edge.id)
            try:
                _ENTER[node.kind](self, node, scope, edge)
            except StuckError as stuck:
                self.park(node, scope, "enter", stuck)
        elif role == Role.COMPENSATION:
            self.compensate_next(scope)
        else:
            self.next_round(scope)

    def _after_change(self) -> None:
        if self.graph.has_conditions:
            self.check_conditions()
        else:
            self.changed = False

    def _pause(self) -> None:
        """Keep the tokens on their way and ask to go on, unless it never ends."""
        for item, key in (*self.queue, *self.late):
            self.state.queue.append([item.id, key, 1 if isinstance(item, FlowEdge) else 0])
        self.state.continues += 1
        if self.state.continues < MAX_CONTINUES and len(self.queue) <= MAX_TOKENS:
            self.commands.append(Continue())
            return
        root = next(iter(self.instances.values()))
        flood = f"{len(self.queue)} tokens are on their way at once"
        endless = f"{STEP_BUDGET * MAX_CONTINUES} tokens moved without waiting for anything"
        reason = flood if len(self.queue) > MAX_TOKENS else endless
        stuck = StuckError("ENDLESS", f"{reason}: an endless loop.")
        self.raise_incident(root, stuck)

    def restore_queue(self) -> None:
        """Take up the tokens that the last step left on their way."""
        for name, key, is_flow in self.state.queue:
            target = self.graph.flows.get(name) if is_flow else self.nodes.get(name)
            if target is not None and key in self.instances:
                self.queue.append((target, key))
        self.state.queue = []

    # --- activities -------------------------------------------------------------------------------

    def enter_activity(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Start an activity when enough tokens have come (13.3.2)."""
        if node.plain:
            self.trace("completed", node.id)
            self.leave(node, scope, node.completion_quantity)
            if self.nodes[scope.node].kind is NodeKind.AD_HOC:
                self.inner_ended(scope)
            return
        if node.start_quantity > 1 and edge is not None:
            counts = self.arrive(node, scope, edge)
            if sum(counts.values()) < node.start_quantity:
                return
            needed = node.start_quantity
            for flow in list(counts):
                taken = min(counts[flow], needed)
                needed -= taken
                self.consume(scope, node, [flow] * taken)
        if node.loop is not None:
            self.start_loop(node, node.loop, scope)
        else:
            self.start_activity(node, scope)

    def ask_agent(self, scope: Instance, node: Node) -> None:
        """Ask the choosing agent what to activate next."""
        work = node.work
        if work is None:
            return
        data = scope.data = {**(scope.data or {}), "job": "ad_hoc"}
        data["attempt"] = data.get("attempt", 0) + 1
        type_ = work.definition.type or self.text(work.type_expression, scope, node.id)
        tools = [
            {"id": item.id, "name": item.name, "documentation": item.definition.documentation}
            for item in node.initial
        ]
        details: dict[str, Any] = {"tools": tools}
        if work.definition.headers:
            details["headers"] = dict(work.definition.headers)
        variables = dict(self.visible(scope))
        self.commands.append(
            StartJob(scope.key, node.id, "ad_hoc", type_, variables, data["attempt"], None, details)
        )

    def ad_hoc_quiet(self, scope: Instance, node: Node) -> bool:
        """Decide what an ad-hoc scope without tokens does; an agent is asked again."""
        data = scope.data or {}
        if node.work is not None and not data.get("completing") and "job" not in data:
            if scope.key not in self.state.incidents:
                self.ask_agent(scope, node)
            return False
        return super().ad_hoc_quiet(scope, node)

    # --- events -----------------------------------------------------------------------------------

    def enter_start(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Pass a none start event."""
        self.trace("completed", node.id)
        self.leave(node, scope)

    def enter_catch(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Wait for an intermediate event; link targets and none events are passed."""
        if not node.events or node.events[0].kind is EventKind.LINK:
            self.trace("completed", node.id)
            self.leave(node, scope)
            return
        waiting = self.create(node, scope, Role.WAIT)
        self.trace("started", node.id, waiting.key)
        self.begin_wait(waiting)

    def begin_wait(self, waiting: Instance) -> None:
        """Open the subscriptions of a catch event or event-based gateway, or hold it as an incident."""
        node = self.nodes[waiting.node]
        try:
            if node.kind is NodeKind.EVENT_BASED:
                for edge in node.outgoing:
                    self._subscribe_target(waiting, edge.target)
            else:
                self.subscribe_all(waiting, node)
        except StuckError as stuck:
            self.close_subscriptions(waiting)
            waiting.data = {"stage": "begin"}
            self.raise_incident(waiting, stuck)

    def _subscribe_target(self, gateway: Instance, target: Node) -> None:
        if target.kind is NodeKind.RECEIVE and target.work is not None and target.work.message is not None:
            self.subscribe(gateway, target, 0, target.work.message)
        else:
            self.subscribe_all(gateway, target)

    def enter_event_gateway(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Wait for the first of several events (13.4.4)."""
        waiting = self.create(node, scope, Role.GATEWAY)
        self.trace("started", node.id, waiting.key)
        self.begin_wait(waiting)

    def enter_throw(self, node: Node, scope: Instance, edge: FlowEdge | None) -> None:
        """Throw everything the event names, then go on."""
        if node.work is not None and node.work.definition.type is not None:
            instance = self.create(node, scope, Role.TASK)
            self.trace("started", node.id, instance.key)
            self.begin_send(instance)
            return
        mark = self.mark(scope)
        for event in sorted(node.events, key=_last_things):
            if event.kind is EventKind.LINK and node.link is not None:
                self.trace("completed", node.id)
                self.queue.append((node.link, scope.key))
                return
            if event.kind is EventKind.COMPENSATION:
                definition = event.definition
                self.throw_compensation(node, scope, definition.activity, wait=definition.wait)
                return
            self._throw(node, event, scope)
            if not self.lives(scope, mark):
                return
        self.trace("completed", node.id)
        self.leave(node, scope)

    def begin_send(self, instance: Instance) -> None:
        """Start the job of a throw event that a worker carries out."""
        node = self.nodes[instance.node]
        try:
            self.prepare(instance, node)
            self.start_job(instance, node, node.work, "send")
        except StuckError as stuck:
            instance.data = {**(instance.data or {}), "stage": "work"}
            self.raise_incident(instance, stuck)

    def _throw(self, node: Node, event: Event, scope: Instance) -> None:
        if event.kind is EventKind.MESSAGE:
            self.throw_message(node, event, scope, scope.key)
        elif event.kind is EventKind.SIGNAL:
            self.throw_signal(node, event, scope, scope.key)
        elif event.kind is EventKind.ESCALATION:
            code = event.name or self.text(event.name_expression, scope, node.id)
            self.throw_escalation(scope, node.id, code, self.payload(node, scope))
        elif event.kind is EventKind.ERROR:
            code = event.name or self.text(event.name_expression, scope, node.id)
            if not self.throw_error(scope, node.id, code, "", self.payload(node, scope)):
                self.fail(node.id, code, f"The error {code} of {node.id} was not caught.")
        elif event.kind is EventKind.CANCEL:
            self.cancel_transaction(node, scope)
        elif event.kind is EventKind.TERMINATE:
            self.cancel_children(scope, f"terminated by {node.id}")
            self.close_subscriptions(scope)
            self.dirty[scope.key] = None
            self.trace("terminated", node.id, scope.key)


def _last_things(event: Event) -> int:
    """Order the results of a multiple event: what ends the scope comes last."""
    if event.kind in (EventKind.ERROR, EventKind.CANCEL, EventKind.TERMINATE):
        return 2
    return 1 if event.kind is EventKind.COMPENSATION else 0


_ENTER: dict[NodeKind, Callable[[Machine, Node, Instance, FlowEdge | None], None]] = {
    **{kind: Machine.enter_activity for kind in ACTIVITIES},
    NodeKind.START: Machine.enter_start,
    NodeKind.CATCH: Machine.enter_catch,
    NodeKind.THROW: Machine.enter_throw,
    NodeKind.END: Machine.enter_throw,
    NodeKind.EXCLUSIVE: lambda machine, node, scope, edge: machine.exclusive(node, scope),
    NodeKind.PARALLEL: Machine.parallel,
    NodeKind.INCLUSIVE: Machine.inclusive,
    NodeKind.COMPLEX: Machine.complex,
    NodeKind.EVENT_BASED: Machine.enter_event_gateway,
}
