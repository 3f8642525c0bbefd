"""Which events may stand where, and what they need (BPMN 2.0.2 table 10.93 and clause 10.5)."""

from typing import Protocol

from workflows.bpmn.definition import ACTIVITIES, EventDefinition, EventKind, Flow, FlowNode, NodeKind
from workflows.bpmn.diagnostics import Rule

_E = EventKind
_START = frozenset({_E.MESSAGE, _E.TIMER, _E.SIGNAL, _E.CONDITIONAL})
_HANDLER_START = _START | {_E.ERROR, _E.ESCALATION, _E.COMPENSATION}
_HANDLER_START_NON_INTERRUPTING = _START | {_E.ESCALATION}
_CATCH = _START | {_E.LINK}
_BOUNDARY = _START | {_E.ERROR, _E.ESCALATION, _E.COMPENSATION, _E.CANCEL}
_BOUNDARY_NON_INTERRUPTING = _START | {_E.ESCALATION}
_THROW = frozenset({_E.MESSAGE, _E.SIGNAL, _E.ESCALATION, _E.COMPENSATION, _E.LINK})
_END = frozenset({_E.MESSAGE, _E.SIGNAL, _E.ESCALATION, _E.ERROR, _E.COMPENSATION, _E.CANCEL, _E.TERMINATE})


class _Context(Protocol):
    nodes: dict[str, FlowNode]
    inner: dict[str | None, list[FlowNode]]
    incoming: dict[str, list[Flow]]
    outgoing: dict[str, list[Flow]]

    def error(self, rule: Rule, element: str, message: str, remedy: str) -> None: ...

    def warning(self, rule: Rule, element: str, message: str, remedy: str) -> None: ...


def check_event(context: _Context, node: FlowNode) -> None:
    """Apply the rules for events to one event node."""
    allowed = _allowed(context, node)
    for event in node.events:
        if event.kind not in allowed:
            kinds = ", ".join(sorted(kind.value for kind in allowed)) or "none"
            context.error(
                Rule.EVENT_NOT_ALLOWED,
                node.id,
                f"{node.id}: a {event.kind.value} event cannot be {_place(context, node)}.",
                f"Allowed there: {kinds}.",
            )
        else:
            _check_definition(context, node, event)
    if node.kind is NodeKind.BOUNDARY:
        _check_boundary(context, node)
    elif node.kind is NodeKind.CATCH and not node.events:
        context.error(
            Rule.EVENT_INCOMPLETE,
            node.id,
            f"The catch event {node.id} catches nothing.",
            "Give it an event definition.",
        )
    if any(event.kind is _E.LINK for event in node.events):
        _check_link(context, node)


def _handler(context: _Context, node: FlowNode) -> bool:
    parent = context.nodes.get(node.parent or "")
    return parent is not None and parent.triggered_by_event


def _allowed(context: _Context, node: FlowNode) -> frozenset[EventKind]:
    if node.kind is NodeKind.START:
        if not _handler(context, node):
            return _START
        return _HANDLER_START if node.interrupting else _HANDLER_START_NON_INTERRUPTING
    if node.kind is NodeKind.BOUNDARY:
        if not node.interrupting:
            # A compensation boundary event waits for a completed activity: there is nothing to interrupt.
            return _BOUNDARY_NON_INTERRUPTING | {_E.COMPENSATION}
        return _BOUNDARY
    return {NodeKind.CATCH: _CATCH, NodeKind.THROW: _THROW}.get(node.kind, _END)


def _place(context: _Context, node: FlowNode) -> str:
    if node.kind is NodeKind.START and _handler(context, node):
        mode = "interrupting" if node.interrupting else "non-interrupting"
        return f"a {mode} start of an event sub-process"
    if node.kind is NodeKind.BOUNDARY:
        return f"a{'n interrupting' if node.interrupting else ' non-interrupting'} boundary event"
    return f"a {node.kind.value}"


def _check_definition(context: _Context, node: FlowNode, event: EventDefinition) -> None:
    kind = event.kind
    named = event.name is not None or event.name_expression is not None
    does_work = node.work is not None and node.work.type is not None
    if kind in (_E.MESSAGE, _E.SIGNAL) and not named and not does_work:
        context.error(
            Rule.EVENT_INCOMPLETE,
            node.id,
            f"The event {node.id} names no {kind.value}.",
            f"Refer to a {kind.value} of the file.",
        )
    if kind is _E.COMPENSATION and event.activity is not None:
        target = context.nodes.get(event.activity)
        if target is None or target.kind not in ACTIVITIES:
            context.error(
                Rule.DANGLING_REFERENCE,
                node.id,
                f"{node.id} compensates {event.activity!r}, which is no activity of the process.",
                "Refer to an activity, or leave the reference out to compensate the whole scope.",
            )
    if kind is _E.CANCEL:
        _check_cancel(context, node)
    if kind is _E.TIMER and node.kind in (NodeKind.CATCH,) and event.timer == "cycle":
        context.warning(
            Rule.TIMER,
            node.id,
            f"The catch event {node.id} has a cycle, of which it takes the first time.",
            "Use a duration or a date.",
        )


def _check_cancel(context: _Context, node: FlowNode) -> None:
    if node.kind is NodeKind.BOUNDARY:
        target = context.nodes.get(node.attached_to or "")
        if target is None or target.kind is not NodeKind.TRANSACTION:
            context.error(
                Rule.TRANSACTION,
                node.id,
                f"The cancel boundary event {node.id} is not attached to a transaction.",
                "Attach it to one, or use an error event.",
            )
        return
    current = context.nodes.get(node.parent or "")
    seen: set[str] = set()  # identifiers used twice can make a scope its own parent
    while current is not None and current.kind is not NodeKind.TRANSACTION and current.id not in seen:
        seen.add(current.id)
        current = context.nodes.get(current.parent or "")
    if current is not None and current.kind is not NodeKind.TRANSACTION:
        current = None
    if current is None:
        context.error(
            Rule.TRANSACTION,
            node.id,
            f"The cancel end event {node.id} is not inside a transaction.",
            "Put it into one, or use an error end event.",
        )


def _check_boundary(context: _Context, node: FlowNode) -> None:
    target = context.nodes.get(node.attached_to or "")
    if target is None or target.kind not in ACTIVITIES or target.parent != node.parent:
        context.error(
            Rule.BOUNDARY_EVENT,
            node.id,
            f"The boundary event {node.id} is attached to {node.attached_to!r}, no activity of its scope.",
            "Attach it to an activity beside it.",
        )
        return
    if not node.events:
        context.error(
            Rule.BOUNDARY_EVENT, node.id, f"The boundary event {node.id} has no trigger.", "Give it one."
        )
    if any(event.kind is _E.COMPENSATION for event in node.events):
        handler = context.nodes.get(node.handler or "")
        if handler is None:
            context.error(
                Rule.COMPENSATION,
                node.id,
                f"The compensation boundary event {node.id} has no handler.",
                "Connect it to a compensation activity by an association.",
            )
        elif handler.parent != node.parent or handler.kind not in ACTIVITIES:
            context.error(
                Rule.COMPENSATION,
                node.id,
                f"The handler {handler.id} of {node.id} is no activity of the same scope.",
                "Move it beside the activity that it compensates.",
            )
        if context.outgoing.get(node.id):
            context.error(
                Rule.COMPENSATION,
                node.id,
                f"The compensation boundary event {node.id} has an outgoing sequence flow.",
                "Use an association to the compensation activity.",
            )
    elif not context.outgoing.get(node.id):
        context.warning(
            Rule.BOUNDARY_EVENT,
            node.id,
            f"Nothing follows the boundary event {node.id}.",
            "Connect it, or remove it.",
        )


def _check_link(context: _Context, node: FlowNode) -> None:
    source = node.kind is NodeKind.THROW
    wrong = context.outgoing.get(node.id) if source else context.incoming.get(node.id)
    if wrong:
        context.error(
            Rule.LINK_EVENT,
            node.id,
            f"The link event {node.id} has {'an outgoing' if source else 'an incoming'} sequence flow.",
            "A link replaces the flow: remove one of the two.",
        )
    if len(node.events) > 1:
        context.error(
            Rule.LINK_EVENT,
            node.id,
            f"The link event {node.id} has other definitions beside the link.",
            "A link event is nothing else.",
        )
