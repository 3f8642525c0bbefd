"""Event definitions of a file: their own elements, shared ones, and the messages, signals, errors and
escalations that they refer to (BPMN 2.0.2 clauses 8.4 and 10.5.5)."""

import re
from typing import NamedTuple

from workflows.bpmn.correlation import Correlation, is_throwing, process_of
from workflows.bpmn.definition import EventDefinition, EventKind, Expression
from workflows.bpmn.diagnostics import Rule
from workflows.bpmn.extensions import Reader
from workflows.bpmn.source import XmlElement, child, children, is_bpmn, line_of, local_name, text_of
from workflows.bpmn.timing import looks_like_cron

_KINDS = {
    "messageEventDefinition": EventKind.MESSAGE,
    "timerEventDefinition": EventKind.TIMER,
    "signalEventDefinition": EventKind.SIGNAL,
    "conditionalEventDefinition": EventKind.CONDITIONAL,
    "errorEventDefinition": EventKind.ERROR,
    "escalationEventDefinition": EventKind.ESCALATION,
    "compensateEventDefinition": EventKind.COMPENSATION,
    "linkEventDefinition": EventKind.LINK,
    "terminateEventDefinition": EventKind.TERMINATE,
    "cancelEventDefinition": EventKind.CANCEL,
}
_TIME = re.compile(r"\d{4}-|-?P[\dT]|R[-\d]*/")


class Named(NamedTuple):
    """A message, signal, error or escalation of the file."""

    name: str
    correlation: Expression | None = None
    expression: Expression | None = None
    any_code: bool = False


def reference(value: str | None) -> str | None:
    """Return the identifier that a QName refers to: prefixes are dropped."""
    if value is None or not value.strip():
        return None
    return value.strip().rpartition(":")[2]


class EventParser:
    """Knows the root elements of a file and reads event definitions against them."""

    def __init__(self, root: XmlElement, reader: Reader) -> None:
        self._reader = reader
        self._findings = reader.findings
        self.correlation = Correlation(root, reader)
        self.messages: dict[str, Named] = {}
        self._signals: dict[str, Named] = {}
        self._errors: dict[str, Named] = {}
        self._escalations: dict[str, Named] = {}
        self._operations: dict[str, str] = {}
        self._shared: dict[str, XmlElement] = {}
        for element in root:
            identifier, name = element.get("id"), local_name(element)
            if not is_bpmn(element):
                continue
            if name == "interface":
                self._read_operations(element)
            if identifier is None:
                continue
            if name == "message":
                self.messages[identifier] = self._named(element, element.get("name"))
            elif name == "signal":
                self._signals[identifier] = self._named(element, element.get("name"))
            elif name == "error":
                self._errors[identifier] = self._named(element, element.get("errorCode"))
            elif name == "escalation":
                self._escalations[identifier] = self._named(element, element.get("escalationCode"))
            elif name in _KINDS:
                self._shared[identifier] = element

    def _read_operations(self, element: XmlElement) -> None:
        for operation in children(element, "operation"):
            message = reference(text_of(child(operation, "inMessageRef")))
            if message and operation.get("id"):
                self._operations[operation.get("id", "")] = message

    def _named(self, element: XmlElement, name: str | None) -> Named:
        identifier = element.get("id", "")
        subscription = self._reader.extension(element, "subscription")
        key = self._reader.attribute(element, "correlationKey")
        if subscription is not None:
            key = subscription.get("correlationKey") or key
        line = line_of(element)
        codeless = local_name(element) in ("error", "escalation") and not name
        correlation = self._reader.source(key, identifier, line) if key else None
        if name and (name.startswith("=") or name.startswith("${")):
            return Named(identifier, correlation, self._reader.source(name, identifier, line))
        return Named(name or identifier, correlation, any_code=codeless)

    def definitions(self, element: XmlElement, identifier: str) -> tuple[EventDefinition, ...]:
        """Return the event definitions of an event, those shared by reference included."""
        found: list[EventDefinition] = []
        for item in element:
            if not is_bpmn(item):
                continue
            name = local_name(item)
            if name == "eventDefinitionRef":
                target = reference(text_of(item)) or ""
                shared = self._shared.get(target)
                if shared is None:
                    self._dangling(identifier, line_of(item), "event definition", target)
                else:
                    found.append(self.definition(shared, identifier))
            elif name in _KINDS:
                found.append(self.definition(item, identifier))
            elif name.endswith("EventDefinition"):
                self._findings.error(
                    Rule.UNSUPPORTED_ELEMENT,
                    identifier,
                    line_of(item),
                    f"{identifier} has a {name}, which is not BPMN 2.0.",
                    "Use one of the standard event definitions.",
                )
        return tuple(found)

    def shared(self, target: str | None, identifier: str, line: int) -> EventDefinition | None:
        """Return an event definition of the file by its identifier."""
        element = self._shared.get(target or "")
        if element is None:
            self._dangling(identifier, line, "event definition", target or "")
            return None
        return self.definition(element, identifier)

    def definition(self, element: XmlElement, identifier: str) -> EventDefinition:
        """Read one event definition."""
        kind = _KINDS[local_name(element)]
        if kind is EventKind.MESSAGE:
            return self.message(
                element, identifier, element.get("messageRef"), text_of(child(element, "operationRef"))
            )
        if kind is EventKind.TIMER:
            return self._timer(element, identifier)
        if kind is EventKind.SIGNAL:
            return self._by_reference(element, identifier, kind, "signalRef", self._signals)
        if kind is EventKind.ERROR:
            return self._by_reference(element, identifier, kind, "errorRef", self._errors)
        if kind is EventKind.ESCALATION:
            return self._by_reference(element, identifier, kind, "escalationRef", self._escalations)
        if kind is EventKind.CONDITIONAL:
            condition = self._reader.expression(child(element, "condition"), identifier)
            if condition is None:
                self._incomplete(identifier, line_of(element), "has no condition", "Add one.")
            return EventDefinition(kind=kind, value=condition)
        if kind is EventKind.COMPENSATION:
            wait = element.get("waitForCompletion", "true").strip() not in ("false", "0")
            return EventDefinition(kind=kind, activity=reference(element.get("activityRef")), wait=wait)
        if kind is EventKind.LINK:
            name = element.get("name")
            if not name:
                self._incomplete(identifier, line_of(element), "has no link name", "Name the link.")
            return EventDefinition(kind=kind, name=name or identifier)
        return EventDefinition(kind=kind)

    def message(
        self, element: XmlElement, identifier: str, message: str | None, operation: str | None
    ) -> EventDefinition:
        """Read a message by its reference or, failing that, by the operation that it belongs to."""
        target = reference(message) or self._operations.get(reference(operation) or "")
        key = self._reader.attribute(element, "correlationKey")
        own = self._reader.source(key, identifier, line_of(element)) if key else None
        if target is None:
            return EventDefinition(kind=EventKind.MESSAGE, correlation=own)
        if own is None:
            throws = is_throwing(element)
            own = (
                self.correlation.throwing(target)
                if throws
                else self.correlation.catching(process_of(element), target)
            )
        named = self.messages.get(target)
        if named is None:
            self._dangling(identifier, line_of(element), "message", target)
            return EventDefinition(kind=EventKind.MESSAGE, name=target)
        return EventDefinition(
            kind=EventKind.MESSAGE,
            name=None if named.expression else named.name,
            name_expression=named.expression,
            correlation=own or named.correlation,
            message_variable=self._reader.attribute(element, "messageVariable", "variableName"),
        )

    def _by_reference(
        self,
        element: XmlElement,
        identifier: str,
        kind: EventKind,
        attribute: str,
        known: dict[str, Named],
    ) -> EventDefinition:
        target = reference(element.get(attribute))
        code_variable = self._reader.attribute(element, "errorCodeVariable", "escalationCodeVariable")
        message_variable = self._reader.attribute(element, "errorMessageVariable", "variableName")
        if target is None:
            return EventDefinition(kind=kind, code_variable=code_variable, message_variable=message_variable)
        named = known.get(target)
        if named is None:
            self._dangling(identifier, line_of(element), kind.value, target)
            named = Named(target)
        return EventDefinition(
            kind=kind,
            name=None if named.expression else named.name,
            any_code=named.any_code,
            name_expression=named.expression,
            code_variable=code_variable,
            message_variable=message_variable,
        )

    def _timer(self, element: XmlElement, identifier: str) -> EventDefinition:
        for name, timer in (("timeDate", "date"), ("timeDuration", "duration"), ("timeCycle", "cycle")):
            item = child(element, name)
            text = text_of(item)
            if item is None or text is None:
                continue
            value = self._reader.value(text, identifier, line_of(item))
            if value is not None and value.language == "literal" and not looks_like_time(text):
                value = self._reader.expression(item, identifier)
            return EventDefinition(kind=EventKind.TIMER, timer=timer, value=value)
        self._incomplete(
            identifier, line_of(element), "has no time", "Add a date, a duration or a cycle (ISO 8601)."
        )
        return EventDefinition(kind=EventKind.TIMER)

    def _incomplete(self, identifier: str, line: int, what: str, remedy: str) -> None:
        self._findings.error(
            Rule.EVENT_INCOMPLETE, identifier, line, f"The event {identifier} {what}.", remedy
        )

    def _dangling(self, identifier: str, line: int, what: str, target: str) -> None:
        self._findings.error(
            Rule.DANGLING_REFERENCE,
            identifier,
            line,
            f"{identifier} refers to the {what} {target!r}, which the file does not define.",
            "Define it, or correct the reference.",
        )


def looks_like_time(text: str) -> bool:
    """Tell whether timer text is meant as ISO 8601 or cron rather than as an expression."""
    return _TIME.match(text.strip()) is not None or looks_like_cron(text.strip())
