"""Catching: subscriptions, boundary events, event sub-processes, errors and escalations.

Clauses 10.5.4, 10.5.5, 10.5.6 and 13.5. A subscription belongs to an element instance and dies with it.
Errors and escalations are not subscribed: whoever throws looks upward through the scopes, in the same step.
"""

from typing import Any

from workflows.bpmn.commands import CancelTimer, SetTimer, Subscribe, Unsubscribe
from workflows.bpmn.core import Core, StuckError
from workflows.bpmn.definition import EventKind, NodeKind
from workflows.bpmn.graph import Event, Node
from workflows.bpmn.state import Instance, Role, Subscription
from workflows.bpmn.timing import Due, TimerValueError, compute, following

_SUBSCRIBED = frozenset({EventKind.MESSAGE, EventKind.SIGNAL, EventKind.TIMER, EventKind.CONDITIONAL})


class Catching(Core):
    """Opens, closes and triggers what instances wait for."""

    # --- opening --------------------------------------------------------------------------------

    def subscribe_all(self, owner: Instance, node: Node) -> None:
        """Subscribe ``owner`` to every subscribable definition of an event node.

        Raises:
            StuckError: A name, key or time cannot be computed.
        """
        for index, event in enumerate(node.events):
            if event.kind in _SUBSCRIBED:
                self.subscribe(owner, node, index, event)

    def subscribe(self, owner: Instance, node: Node, index: int, event: Event) -> None:
        """Open one subscription.

        Raises:
            StuckError: A name, key or time cannot be computed.
        """
        kind = event.kind
        once = not (node.kind in (NodeKind.BOUNDARY, NodeKind.START) and not node.interrupting)
        if kind is EventKind.TIMER:
            due = self.due_of(owner, node, event)
            if due is None:
                return
            sub = self._add(
                Subscription(
                    0, owner.key, node.id, index, "timer", due=due.at, remaining=due.remaining,
                    interval=due.interval,
                )
            )  # fmt: skip
            self.commands.append(SetTimer(sub.key, node.id, due.at))
            return
        if kind is EventKind.CONDITIONAL:
            self._add(Subscription(0, owner.key, node.id, index, "conditional"))
            self.changed = True
            return
        name = self.event_name(owner, node, event)
        correlation = self.text(event.correlation, owner, node.id)
        if event.correlation is not None and correlation is None:
            raise StuckError("CORRELATION", f"The correlation key of {node.id} is null.")
        sub = self._add(Subscription(0, owner.key, node.id, index, kind.value, name, correlation))
        self.commands.append(Subscribe(sub.key, node.id, kind.value, name, correlation, once))

    def _add(self, sub: Subscription) -> Subscription:
        state = self.state
        sub = sub._replace(key=state.next_key)
        state.next_key += 1
        state.subs[sub.key] = sub
        self.instances[sub.owner].subs.append(sub.key)
        return sub

    def event_name(self, owner: Instance, node: Node, event: Event) -> str:
        """Return the message or signal name of an event.

        Raises:
            StuckError: It is computed and not text.
        """
        if event.name is not None:
            return event.name
        name = self.text(event.name_expression, owner, node.id)
        if not name:
            raise StuckError("NAME", f"The {event.kind.value} name of {node.id} is null.")
        return name

    def due_of(self, owner: Instance, node: Node, event: Event) -> Due | None:
        """Return when a timer is due, None for a cycle that never fires.

        Raises:
            StuckError: The time cannot be computed.
        """
        text = event.literal
        if text is None:
            text = self.text(event.value, owner, node.id)
        kind = event.definition.timer or "duration"
        try:
            due = compute(kind, text or "", self.now)
            # A repeating interval that began in the past goes on from now, not through all it missed.
            while due.interval is not None and due.at < self.now and due.remaining != 1:
                later = following(due)
                if later is None:
                    break
                due = later
        except TimerValueError as error:
            raise StuckError("TIMER", f"The timer of {node.id}: {error}.") from None
        return None if due.remaining == 0 else due

    def open_boundaries(self, owner: Instance, node: Node) -> None:
        """Subscribe an activity instance to its boundary events.

        Raises:
            StuckError: A name, key or time cannot be computed.
        """
        for boundary in node.boundaries:
            self.subscribe_all(owner, boundary)

    # --- closing --------------------------------------------------------------------------------

    def close_subscriptions(self, instance: Instance) -> None:
        """Close everything the instance waits for."""
        for key in list(instance.subs):
            self.close(self.state.subs[key])

    def close(self, sub: Subscription) -> None:
        """Close one subscription."""
        self.forget(sub)
        if sub.kind == "timer":
            self.commands.append(CancelTimer(sub.key))
        elif sub.kind != "conditional":
            self.commands.append(Unsubscribe(sub.key, sub.kind, sub.name or ""))

    def forget(self, sub: Subscription) -> None:
        """Drop a subscription that outside needs no word about: it has fired for the last time."""
        if self.state.subs.pop(sub.key, None) is not None:
            self.instances[sub.owner].subs.remove(sub.key)

    def close_for(self, owner: Instance, node: Node) -> None:
        """Close the owner's subscriptions to one event node."""
        for key in list(owner.subs):
            sub = self.state.subs[key]
            if sub.node == node.id:
                self.close(sub)

    # --- triggering -----------------------------------------------------------------------------

    def trigger(self, sub: Subscription, variables: dict[str, Any]) -> None:
        """Deliver what a subscription waited for."""
        owner = self.instances[sub.owner]
        node = self.nodes[sub.node]
        repeats = node.kind in (NodeKind.BOUNDARY, NodeKind.START) and not node.interrupting
        if sub.kind == "timer":
            self._advance_timer(sub, repeats)
        elif not repeats:
            # Outside has to know which subscription the delivery ended.
            self.close(sub)
        if node.parallel_multiple and len(node.events) > 1 and not self._gathered(owner, node, sub, repeats):
            return
        self.caught(owner, node, sub.part, variables)

    def _advance_timer(self, sub: Subscription, repeats: bool) -> None:
        later = None
        if repeats and sub.due is not None:
            later = following(Due(sub.due, sub.remaining, sub.interval))
        if later is None:
            self.forget(sub)
            return
        self.state.subs[sub.key] = sub._replace(due=later.at, remaining=later.remaining)
        self.commands.append(SetTimer(sub.key, sub.node, later.at))

    def _gathered(self, owner: Instance, node: Node, sub: Subscription, repeats: bool) -> bool:
        """Note one trigger of a parallel multiple event; tell whether all are there."""
        data = owner.data = owner.data or {}
        gathered: dict[str, list[int]] = dict(data.get("gathered") or {})
        have = [*gathered.get(node.id, ()), sub.part]
        complete = all(index in have for index in range(len(node.events)))
        if complete:
            gathered.pop(node.id, None)
            if repeats:
                # The next round may need timers and messages that have been used up.
                kept = {
                    self.state.subs[key].part for key in owner.subs if self.state.subs[key].node == node.id
                }
                for index, event in enumerate(node.events):
                    if index not in kept and event.kind in _SUBSCRIBED:
                        self.subscribe(owner, node, index, event)
        else:
            gathered[node.id] = have
        data["gathered"] = gathered
        if not gathered:
            del data["gathered"]
        return complete

    def caught(self, owner: Instance, node: Node, index: int, variables: dict[str, Any]) -> None:
        """Go on from an event that has happened."""
        event = node.events[index] if node.events else None
        self.trace("caught", node.id, owner.key, event.kind.value if event else None)
        if node.kind is NodeKind.BOUNDARY:
            self.fire_boundary(owner, node, variables, event)
        elif node.kind is NodeKind.START and owner.role != Role.WAIT:
            self.fire_event_scope(owner, node, variables, event)
        elif owner.role == Role.GATEWAY:
            self._fire_gateway(owner, node, variables, event)
        elif node.kind is NodeKind.RECEIVE:
            self.finish(owner, variables)
        else:
            scope = self.scope_of(owner)
            self.remove(owner)
            self.receive_and_leave(node, scope, variables, event)

    def receive(self, owner: Instance, node: Node, variables: dict[str, Any], event: Event | None) -> None:
        """Write what an event brought into the variables, by its output mapping where it has one."""
        if event is not None and event.definition.message_variable and event.kind is EventKind.MESSAGE:
            variables = {event.definition.message_variable: variables}
        for association in node.data_outputs:
            for source in association.sources:
                if association.target and source in variables:
                    self.assign(owner, association.target, variables[source])
        if node.outputs:
            for mapping in node.outputs:
                self.assign(owner, mapping.target, self.value(mapping.source, owner, node.id, variables))
        else:
            self.write_all(owner, variables)

    def receive_and_leave(
        self, node: Node, scope: Instance, variables: dict[str, Any], event: Event | None
    ) -> None:
        """Write what an event brought and go on; what cannot be written holds the token there."""
        try:
            self.receive(scope, node, variables, event)
        except StuckError as stuck:
            self.park(node, scope, "route", stuck)
        else:
            self.leave(node, scope)

    def _fire_gateway(
        self, gateway: Instance, node: Node, variables: dict[str, Any], event: Event | None
    ) -> None:
        """Let an event-based gateway go on by the event that happened (clause 13.4.4)."""
        scope = self.scope_of(gateway)
        definition = self.nodes[gateway.node].definition
        if definition.parallel_events:
            self.close_for(gateway, node)
            if not gateway.subs:
                self.remove(gateway)
        else:
            self.remove(gateway)
        self.receive_and_leave(node, scope, variables, event)

    def fire_boundary(
        self,
        activity: Instance,
        node: Node,
        variables: dict[str, Any],
        event: Event | None,
        *,
        interrupt: bool | None = None,
    ) -> None:
        """Leave by a boundary event, cancelling the activity if it interrupts (clause 13.5.3)."""
        scope = self.scope_of(activity)
        if node.interrupting if interrupt is None else interrupt:
            self.cancel(activity, f"interrupted by {node.id}")
        self.receive_and_leave(node, scope, variables, event)

    def fire_event_scope(
        self, scope: Instance, start: Node, variables: dict[str, Any], event: Event | None
    ) -> None:
        """Start an event sub-process inside ``scope``, cancelling the rest if it interrupts (13.5.4)."""
        node = start.parent
        if node is None:
            return
        if start.interrupting:
            self.cancel_children(scope, f"interrupted by {node.id}")
            for other in node.parent.event_scopes if node.parent else ():
                for item in other.start_events:
                    self.close_for(scope, item)
            data = scope.data = scope.data or {}
            data["interrupted"] = True
        handler = self.create(node, scope, Role.SCOPE)
        handler.data = {"start": start.id}
        self.trace("started", node.id, handler.key)
        self.begin_handler(handler, start, variables, event)

    def begin_handler(
        self, handler: Instance, start: Node, variables: dict[str, Any], event: Event | None
    ) -> None:
        """Begin an event sub-process, or begin it again after an incident."""
        try:
            self.open_scope(handler)
            self.receive_local(handler, start, variables, event)
        except StuckError as stuck:
            self.close_subscriptions(handler)
            handler.data = {"start": start.id, "stage": "handler"}
            self.raise_incident(handler, stuck)
            return
        self.trace("completed", start.id, handler.key)
        self.leave(start, handler)

    def receive_local(
        self, handler: Instance, start: Node, variables: dict[str, Any], event: Event | None
    ) -> None:
        """Write what a start event brought: mapped outputs as they say, all else into its own scope."""
        if event is not None and event.definition.message_variable and event.kind is EventKind.MESSAGE:
            variables = {event.definition.message_variable: variables}
        if start.outputs or start.data_outputs:
            self.receive(handler, start, variables, None)
            return
        if variables:
            handler.vars = {**(handler.vars or {}), **variables}
            self.changed = True

    # --- conditions -----------------------------------------------------------------------------

    def check_conditions(self) -> None:
        """Trigger conditional events whose condition became true by the last change."""
        self.changed = False
        for key in list(self.state.subs):
            sub = self.state.subs.get(key)
            if sub is None or sub.kind != "conditional":
                continue
            expression = self.nodes[sub.node].events[sub.part].value
            owner = self.instances[sub.owner]
            if expression is None:
                continue
            try:
                holds = self.truth(expression, owner, sub.node)
            except StuckError:
                # Half-written variables are normal here: the condition is asked again at the next change.
                holds = False
            if holds and not sub.last:
                self.state.subs[key] = sub._replace(last=True)
                self.trigger(self.state.subs[key], {})
            elif sub.last and not holds:
                self.state.subs[key] = sub._replace(last=False)

    # --- errors and escalations -----------------------------------------------------------------

    def find_catcher(
        self, origin: Instance, kind: EventKind, code: str | None
    ) -> tuple[Instance, Node, Event] | None:
        """Return who catches an error or escalation thrown in or by ``origin``, looking upward.

        At each level event sub-processes come before the boundary; a matching code comes before a
        catch-all. An event sub-process does not catch what its siblings or it itself throw.
        """
        current: Instance | None = origin
        inside_handler = False
        while current is not None:
            node = self.nodes[current.node]
            if current.role == Role.SCOPE and not inside_handler:
                starts = [start for scope in node.event_scopes for start in scope.start_events]
                blocked = bool(current.data and current.data.get("interrupted"))
                found = None if blocked else _match(starts, kind, code)
                if found is not None:
                    return current, *found
            if current.role in (Role.MULTI, Role.LOOP) or self.activity_of(current) is current:
                found = _match(node.boundaries, kind, code)
                if found is not None and not node.triggered_by_event:
                    return current, *found
            inside_handler = node.triggered_by_event and current.role == Role.SCOPE
            current = self.instances.get(current.parent)
        return None

    def deliver(
        self,
        catcher: tuple[Instance, Node, Event],
        code: str | None,
        message: str,
        variables: dict[str, Any],
    ) -> None:
        """Hand an error or escalation to its catcher."""
        instance, node, event = catcher
        values = dict(variables)
        if event.definition.code_variable:
            values[event.definition.code_variable] = code
        if event.definition.message_variable:
            values[event.definition.message_variable] = message
        self.trace("caught", node.id, instance.key, code)
        if node.kind is NodeKind.BOUNDARY:
            self.fire_boundary(instance, node, values, event)
        else:
            self.fire_event_scope(instance, node, values, event)


def _match(nodes: Any, kind: EventKind, code: str | None) -> tuple[Node, Event] | None:
    catch_all: tuple[Node, Event] | None = None
    for node in nodes:
        for event in node.events:
            if event.kind is not kind:
                continue
            if event.name is not None and event.name == code:
                return node, event
            if event.name is None or event.definition.any_code:
                catch_all = catch_all or (node, event)
    return catch_all
