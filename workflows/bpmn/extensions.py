"""What the modellers write beside BPMN: Camunda 7 and 8, Flowable, Activiti and our own namespace.

An attribute or element of `SWITCHYARD` wins over a vendor's. Things of a vendor that change behaviour
and cannot be executed here (listeners, Java code) are errors, never skipped in silence.
"""

from collections.abc import Iterator

from workflows.bpmn.definition import Assignment, Expression
from workflows.bpmn.diagnostics import Findings, Rule
from workflows.bpmn.juel import NotTranslatableError, is_juel, to_feel
from workflows.bpmn.source import BPMN, XmlElement, line_of, local_name, text_of

SWITCHYARD = "https://switchyard.dev/schema/bpmn/1.0"
ZEEBE = "http://camunda.org/schema/zeebe/1.0"
CAMUNDA = "http://camunda.org/schema/1.0/bpmn"
FLOWABLE = "http://flowable.org/bpmn"
ACTIVITI = "http://activiti.org/bpmn"
_ATTRIBUTE_SPACES = (SWITCHYARD, CAMUNDA, FLOWABLE, ACTIVITI)
_LISTENERS = frozenset({"executionListener", "taskListener", "eventListener"})


class Reader:
    """Reads expressions and extensions of one file, reporting to its findings."""

    def __init__(self, findings: Findings, default_language: str) -> None:
        self.findings = findings
        self.default_language = default_language

    def attribute(self, element: XmlElement, *names: str) -> str | None:
        """Return the first extension attribute with one of the names."""
        for space in _ATTRIBUTE_SPACES:
            for name in names:
                value = element.get(f"{{{space}}}{name}")
                if value is not None:
                    return value.strip()
        return None

    def extension(self, element: XmlElement, name: str) -> XmlElement | None:
        """Return the first extension element with that local name."""
        return next(self.extensions(element, name), None)

    def extensions(self, element: XmlElement, name: str) -> Iterator[XmlElement]:
        """Return all extension elements with that local name, ours first."""
        container = element.find(f"{{{BPMN}}}extensionElements")
        if container is None:
            return
        for space in (SWITCHYARD, ZEEBE, CAMUNDA, FLOWABLE, ACTIVITI):
            yield from container.iter(f"{{{space}}}{name}")

    def report_listeners(self, element: XmlElement, identifier: str) -> None:
        """Refuse code that a vendor's engine would run beside the element."""
        container = element.find(f"{{{BPMN}}}extensionElements")
        if container is None:
            return
        for item in container.iter():
            name = local_name(item)
            if name in _LISTENERS:
                self.findings.error(
                    Rule.UNSUPPORTED_ELEMENT,
                    identifier,
                    line_of(item),
                    f"{identifier} has a {name}, code that runs beside the model.",
                    "Model it as a task or an event, or remove it.",
                )

    def expression(self, element: XmlElement | None, identifier: str) -> Expression | None:
        """Read a BPMN expression element (condition, cardinality, …); None where it is empty."""
        text = text_of(element)
        if element is None or text is None:
            return None
        language = language_key(element.get("language"))
        return self.source(text, identifier, line_of(element), language)

    def source(self, text: str, identifier: str, line: int, language: str | None = None) -> Expression:
        """Return expression source, with the ``=`` prefix and JUEL brackets resolved."""
        stripped = text.strip()
        if is_juel(stripped):
            try:
                return Expression(text=to_feel(stripped))
            except NotTranslatableError as error:
                self.findings.error(
                    Rule.EXPRESSION,
                    identifier,
                    line,
                    f"The JUEL expression of {identifier} has no FEEL equivalent: {str(error)[:200]}.",
                    "Write it in FEEL.",
                )
                return Expression(text="null")
        if language in (None, "feel") and stripped.startswith("=") and not stripped.startswith("=="):
            return Expression(text=stripped[1:].strip())
        return Expression(text=stripped, language=language or self.default_language)

    def value(self, text: str | None, identifier: str, line: int) -> Expression | None:
        """Read a value that is literal unless marked: ``=`` or ``${…}`` make it an expression."""
        if text is None or not text.strip():
            return None
        stripped = text.strip()
        if stripped.startswith("=") or is_juel(stripped):
            return self.source(stripped, identifier, line)
        return Expression(text=stripped, language="literal")

    def mappings(
        self, element: XmlElement, identifier: str
    ) -> tuple[tuple[Assignment, ...], tuple[Assignment, ...]]:
        """Return input and output mappings: ``ioMapping``, ``inputOutput`` and ``in``/``out``."""
        inputs: list[Assignment] = []
        outputs: list[Assignment] = []
        for mapping in self.extensions(element, "ioMapping"):
            for item in mapping:
                target, source = item.get("target"), item.get("source")
                if target and source is not None:
                    value = self.value(source, identifier, line_of(item))
                    found = Assignment(target=target, source=value or _literal(""))
                    (inputs if local_name(item) == "input" else outputs).append(found)
        for mapping in self.extensions(element, "inputOutput"):
            for item in mapping:
                target = item.get("name")
                if target and local_name(item) in ("inputParameter", "outputParameter"):
                    found = Assignment(target=target, source=self._parameter(item, identifier))
                    (inputs if local_name(item) == "inputParameter" else outputs).append(found)
        for name, collected in (("in", inputs), ("out", outputs)):
            for item in self.extensions(element, name):
                target = item.get("target")
                expression = item.get("sourceExpression")
                source = item.get("source")
                if target and (expression or source):
                    found = self.source(expression or source or "", identifier, line_of(item))
                    collected.append(Assignment(target=target, source=found))
        return tuple(inputs), tuple(outputs)

    def _parameter(self, item: XmlElement, identifier: str) -> Expression:
        for child in item:
            if local_name(child) in ("script", "map", "list"):
                self.findings.error(
                    Rule.UNSUPPORTED_ELEMENT,
                    identifier,
                    line_of(child),
                    f"A parameter of {identifier} is a {local_name(child)}.",
                    "Write the value as a FEEL expression: = {a: 1} or = [1, 2].",
                )
        return self.value(text_of(item), identifier, line_of(item)) or _literal("")


def _literal(text: str) -> Expression:
    return Expression(text=text, language="literal")


_LANGUAGES = {
    "feel": "feel",
    "juel": "feel",
    "http://www.w3.org/1999/xpath": None,
    "http://www.w3.org/1999/xpath/": None,
    "http://www.java.com/java": None,
    "http://www.mvel.org/2.0": "mvel",
    "http://java.sun.com/products/jsp/": "feel",
}


def language_key(name: str | None) -> str | None:
    """Return the key of an expression language, None where the file leaves it to the engine.

    XPath is BPMN's default that modellers write without meaning it, so it counts as unnamed.
    """
    if name is None or not name.strip():
        return None
    lower = name.strip().lower()
    if lower in _LANGUAGES:
        return _LANGUAGES[lower]
    if "omg.org/spec/" in lower and "feel" in lower:
        return "feel"
    return lower
