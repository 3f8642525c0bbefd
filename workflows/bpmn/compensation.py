"""Compensation and transactions (clauses 10.7, 13.5.5): completed work is undone in reverse order.

A scope keeps a ledger of its completed activities that have something to undo: a handler, or for
sub-processes a ledger of their own. A record holds the variables as they were on completion.
"""

from typing import Any

from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import EventKind, NodeKind
from workflows.bpmn.graph import Node
from workflows.bpmn.state import Instance, Role
from workflows.bpmn.throwing import Throwing


class Compensating(Throwing):
    """Keeps ledgers and runs compensation handlers one at a time."""

    def record(self, instance: Instance, node: Node, results: dict[str, Any] | None) -> None:
        """Note a completed activity that can be compensated."""
        if not self.graph.compensates or node.for_compensation or node.triggered_by_event:
            return
        undoable = node.compensation is not None and node.compensation.handler is not None
        if not undoable and not instance.ledger and compensation_start(node) is None:
            return
        scope = self.scope_of(instance)
        entry: dict[str, Any] = {"n": node.id}
        snapshot = {**(instance.vars or {}), **(results or {})}
        if node.outputs or node.data_outputs:
            # What the activity wrote outside may be written again before it is undone, as in a loop.
            written = self.visible(self.instances[instance.parent])
            targets = [item.target.partition(".")[0] for item in node.outputs]
            targets += [item.target for item in node.data_outputs if item.target]
            snapshot.update({name: written[name] for name in targets if name in written})
        if snapshot:
            entry["v"] = snapshot
        if instance.ledger:
            entry["l"] = instance.ledger
        if scope.ledger is None:
            scope.ledger = []
        scope.ledger.append(entry)

    def compensate(self, scope: Instance, activity: str | None, thrower: Instance | None) -> None:
        """Start compensation below ``thrower``, taking the records of ``scope`` or of those it may reach.

        Args:
            scope: Where compensation is thrown.
            activity: The one activity to compensate, None for all of the scope.
            thrower: The compensation instance that runs the handlers.
        """
        if thrower is None:
            return
        data = thrower.data = thrower.data or {}
        data["todo"] = self._take_records(scope, activity)
        self.compensate_next(thrower)

    def _take_records(self, scope: Instance, activity: str | None) -> list[dict[str, Any]]:
        taken: list[dict[str, Any]] = []
        current: Instance | None = scope
        while current is not None:
            if current.role == Role.SCOPE:
                ledger = current.ledger or []
                own = [entry for entry in ledger if activity in (None, entry["n"])]
                current.ledger = [entry for entry in ledger if activity not in (None, entry["n"])] or None
                taken = own + taken
                in_handler = self.nodes[current.node].triggered_by_event
                if not in_handler and (activity is None or taken):
                    break
            current = self.instances.get(current.parent)
        return taken

    def compensate_next(self, thrower: Instance) -> None:
        """Run the handler of the youngest record left, or end the compensation."""
        todo: list[dict[str, Any]] = (thrower.data or {}).get("todo") or []
        while todo:
            entry = todo.pop()
            if self._undo(thrower, entry):
                return
        self._compensated(thrower)

    def _undo(self, thrower: Instance, entry: dict[str, Any]) -> bool:
        """Start undoing one record; tell whether there was anything to do."""
        node = self.nodes.get(entry["n"])
        if node is None:
            return False
        boundary = node.compensation
        if boundary is not None and boundary.handler is not None:
            self.trace("compensating", node.id, thrower.key)
            self.start_activity(boundary.handler, thrower, dict(entry.get("v") or {}))
            return True
        start = compensation_start(node)
        if start is None and not entry.get("l"):
            return False
        self.trace("compensating", node.id, thrower.key)
        restored = self.create(node, thrower, Role.SCOPE)
        restored.vars = dict(entry.get("v") or {})
        restored.ledger = list(entry.get("l") or ()) or None
        restored.data = {"restored": True}
        if start is not None and start.parent is not None:
            handler = self.create(start.parent, restored, Role.SCOPE)
            self.open_scope(handler)
            self.leave(start, handler)
        else:
            self.compensate(restored, None, self.create(node, restored, Role.COMPENSATION))
        return True

    def _compensated(self, thrower: Instance) -> None:
        """Go on after the last handler."""
        data = thrower.data or {}
        scope = self.scope_of(thrower)
        node = self.nodes[thrower.node]
        then = data.get("then")
        self.remove(thrower)
        if then == "leave":
            self.trace("completed", node.id, thrower.key)
            self.leave(node, scope)
        elif then == "cancel":
            self._leave_transaction(scope, node)

    def throw_compensation(self, node: Node, scope: Instance, activity: str | None, *, wait: bool) -> None:
        """Throw compensation from an event; with ``wait`` the event leaves when it is done."""
        thrower = self.create(node, scope, Role.COMPENSATION)
        thrower.data = {"then": "leave"} if wait else {}
        self.trace("thrown", node.id, thrower.key, activity)
        self.compensate(scope, activity, thrower)
        if not wait:
            self.leave(node, scope)

    def cancel_transaction(self, node: Node, scope: Instance) -> None:
        """End the enclosing transaction: stop what runs, undo what was done, leave by cancel."""
        current: Instance | None = scope
        while current is not None and self.nodes[current.node].kind is not NodeKind.TRANSACTION:
            current = self.instances.get(current.parent)
        if current is None:
            raise StuckError("CANCEL", f"{node.id} is not inside a transaction.")
        self.trace("thrown", node.id, current.key, "cancel")
        self.cancel_children(current, "transaction cancelled")
        self.close_subscriptions(current)
        thrower = self.create(node, current, Role.COMPENSATION)
        thrower.data = {"then": "cancel"}
        self.compensate(current, None, thrower)

    def _leave_transaction(self, transaction: Instance, end: Node) -> None:
        activity = self.activity_of(transaction)
        node = self.nodes[activity.node]
        scope = self.scope_of(activity)
        for boundary in node.boundaries:
            for event in boundary.events:
                if event.kind is EventKind.CANCEL:
                    self.trace("caught", boundary.id, activity.key, "cancel")
                    self.fire_boundary(activity, boundary, {}, event, interrupt=True)
                    return
        self.cancel(activity, "transaction cancelled")
        stuck = StuckError(
            "CANCEL", f"The transaction {node.id} was cancelled by {end.id}; nothing catches it."
        )
        self.park(node, scope, "cancelled", stuck)


def compensation_start(node: Node) -> Node | None:
    """Return the start event of the node's compensation event sub-process."""
    for scope in node.event_scopes:
        for start in scope.start_events:
            if any(event.kind is EventKind.COMPENSATION for event in start.events):
                return start
    return None
