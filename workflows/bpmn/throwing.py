"""Throwing: messages, signals, errors and escalations (clause 10.5.5)."""

from typing import Any

from workflows.bpmn.catching import Catching
from workflows.bpmn.commands import Failed, ThrowEscalation, ThrowMessage, ThrowSignal
from workflows.bpmn.core import StuckError
from workflows.bpmn.definition import EventKind
from workflows.bpmn.graph import Event, Node
from workflows.bpmn.state import Instance, Role


class Throwing(Catching):
    """Throws what throw events, end events, tasks and multi-instance behaviors throw."""

    def payload(self, node: Node, instance: Instance) -> dict[str, Any]:
        """Return what a thrown message or signal carries: the mapped inputs, else nothing.

        Raises:
            StuckError: A mapping has no value.
        """
        values = {item.target: self.value(item.source, instance, node.id) for item in node.inputs}
        for association in node.data_inputs:
            visible = self.visible(instance)
            for source in association.sources:
                if source in visible:
                    values[association.target or source] = visible[source]
        return values

    def throw_message(self, node: Node, event: Event, instance: Instance, key: int) -> None:
        """Publish a message.

        Raises:
            StuckError: Its name or key cannot be computed.
        """
        name = self.event_name(instance, node, event)
        correlation = self.text(event.correlation, instance, node.id)
        variables = self.payload(node, instance)
        self.trace("thrown", node.id, key, name)
        self.commands.append(ThrowMessage(node.id, key, name, correlation, variables))

    def throw_signal(self, node: Node, event: Event, instance: Instance, key: int) -> None:
        """Broadcast a signal: inside this instance at once, to others by the adapter.

        Raises:
            StuckError: Its name cannot be computed.
        """
        name = self.event_name(instance, node, event)
        variables = self.payload(node, instance)
        self.trace("thrown", node.id, key, name)
        self.commands.append(ThrowSignal(node.id, key, name, variables))
        self.signal(name, variables)

    def signal(self, name: str, variables: dict[str, Any]) -> int:
        """Trigger every waiting subscription to a signal, oldest first; return how many."""
        waiting = [sub.key for sub in self.state.subs.values() if sub.kind == "signal" and sub.name == name]
        count = 0
        for key in waiting:
            sub = self.state.subs.get(key)
            if sub is not None:
                self.trigger(sub, variables)
                count += 1
        return count

    def throw_error(
        self, origin: Instance, element: str, code: str | None, message: str, variables: dict[str, Any]
    ) -> bool:
        """Throw an error upward from ``origin``; tell whether it was caught."""
        self.trace("thrown", element, origin.key, code)
        catcher = self.find_catcher(origin, EventKind.ERROR, code)
        if catcher is None:
            return False
        self.deliver(catcher, code, message, variables)
        return True

    def fail(self, element: str, code: str | None, message: str) -> None:
        """End the whole instance by an error that nobody caught."""
        self.end_all("failed")
        self.commands.append(Failed(code, message, element))

    def end_all(self, status: str) -> None:
        """Cancel everything and end the instance."""
        root = next(iter(self.instances.values()), None)
        if root is not None:
            self.cancel(root, status)
        self.queue.clear()
        self.late.clear()
        self.dirty.clear()
        self.state.status = status

    def throw_escalation(
        self, origin: Instance, element: str, code: str | None, variables: dict[str, Any]
    ) -> None:
        """Throw an escalation upward; what nobody catches leaves the process and stops nothing."""
        self.trace("thrown", element, origin.key, code)
        catcher = self.find_catcher(origin, EventKind.ESCALATION, code)
        if catcher is not None:
            self.deliver(catcher, code, "", variables)
        else:
            self.commands.append(ThrowEscalation(element, code, variables))

    def throw_implicit(self, body: Instance, node: Node, event: Event) -> None:
        """Throw the event of a multi-instance behavior (clause 10.3.7).

        A boundary event of the activity catches it first. It reports progress and so never cancels
        the activity here: whether the remaining instances go on is the behavior's business.
        """
        try:
            name = event.name if event.name_expression is None else self.event_name(body, node, event)
        except StuckError as stuck:
            self.raise_incident(body, stuck)
            return
        self.trace("thrown", node.id, body.key, name)
        for boundary in node.boundaries:
            for index, waiting in enumerate(boundary.events):
                if waiting.kind is event.kind and (waiting.name is None or waiting.name == name):
                    self.trace("caught", boundary.id, body.key, name)
                    self.fire_boundary(body, boundary, {}, boundary.events[index], interrupt=False)
                    return
        if event.kind is EventKind.SIGNAL:
            self.commands.append(ThrowSignal(node.id, body.key, name or "", {}))
            self.signal(name or "", {})
        elif event.kind is EventKind.MESSAGE:
            self.commands.append(
                ThrowMessage(node.id, body.key, name or "", self.text(event.correlation, body, node.id), {})
            )
        elif event.kind is EventKind.ESCALATION:
            self.throw_escalation(body, node.id, name, {})
        elif event.kind is EventKind.ERROR and not self.throw_error(body, node.id, name, "", {}):
            self.fail(node.id, name, f"The error {name} of {node.id} was not caught.")

    def enclosing_scope(self, instance: Instance) -> Instance:
        """Return the scope an instance is, or lies in."""
        return instance if instance.role == Role.SCOPE else self.scope_of(instance)
