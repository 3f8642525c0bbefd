"""Correlation as BPMN writes it (clause 8.4.2): keys made of properties, read from messages and from data.

A correlation key groups properties. A property says, per message, how its value is read from what the
message carries (retrieval expression); a subscription of the process says what the value must be there
(data path). Several properties become one key, their values joined by a bar.
"""

from workflows.bpmn.definition import Assignment, Expression
from workflows.bpmn.extensions import Reader
from workflows.bpmn.source import XmlElement, child, children, local_name, text_of

_THROWING = frozenset({"intermediateThrowEvent", "endEvent", "sendTask"})


class Correlation:
    """The correlation keys of a file."""

    def __init__(self, root: XmlElement, reader: Reader) -> None:
        self._reader = reader
        self._retrieval: dict[str, dict[str, Expression]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        for element in children(root, "correlationProperty"):
            identifier = element.get("id", "")
            found = self._retrieval.setdefault(identifier, {})
            for item in children(element, "correlationPropertyRetrievalExpression"):
                path = reader.expression(child(item, "messagePath"), identifier)
                message = _reference(item.get("messageRef"))
                if path is not None and message:
                    found[message] = path
        for key in root.iter("{*}correlationKey"):
            properties = (_reference(text_of(item)) for item in children(key, "correlationPropertyRef"))
            self._keys[key.get("id", "")] = tuple(item for item in properties if item)

    def catching(self, process: XmlElement | None, message: str) -> Expression | None:
        """Return what the key of an awaited message must be, None where the process does not say."""
        for subscription in () if process is None else children(process, "correlationSubscription"):
            properties = self._of(subscription, message)
            paths = {
                _reference(binding.get("correlationPropertyRef")): self._reader.expression(
                    child(binding, "dataPath"), process.get("id", "") if process is not None else ""
                )
                for binding in children(subscription, "correlationPropertyBinding")
            }
            parts = [paths.get(name) for name in properties]
            if parts and all(part is not None for part in parts):
                return _joined([part for part in parts if part is not None])
        return None

    def throwing(self, message: str) -> Expression | None:
        """Return how the key of a message is read from what it carries."""
        for properties in self._keys.values():
            parts = [self._retrieval.get(name, {}).get(message) for name in properties]
            if parts and all(part is not None for part in parts):
                return _joined([part for part in parts if part is not None])
        return None

    def keys(self, messages: dict[str, str]) -> tuple[Assignment, ...]:
        """Return how the key of each message is read, by message name."""
        found = ((name, self.throwing(identifier)) for identifier, name in messages.items())
        return tuple(Assignment(target=name, source=source) for name, source in found if source is not None)

    def _of(self, subscription: XmlElement, message: str) -> tuple[str, ...]:
        properties = self._keys.get(_reference(subscription.get("correlationKeyRef")) or "", ())
        if all(message in self._retrieval.get(name, {}) for name in properties):
            return properties
        return ()


def is_throwing(element: XmlElement) -> bool:
    """Tell whether a task or event definition sends its message."""
    parent = element.getparent()
    return local_name(element) in _THROWING or (parent is not None and local_name(parent) in _THROWING)


def process_of(element: XmlElement) -> XmlElement | None:
    """Return the process around an element."""
    return next(element.iterancestors("{*}process"), None)


def _reference(value: str | None) -> str | None:
    return value.strip().rpartition(":")[2] if value and value.strip() else None


def _joined(parts: list[Expression]) -> Expression:
    if len(parts) == 1:
        return parts[0]
    text = ' + "|" + '.join(f"string({part.text})" for part in parts)
    return Expression(text=text, language=parts[0].language)
