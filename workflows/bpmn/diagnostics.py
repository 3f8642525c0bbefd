"""What validation has to say about a definition, with stable rule identifiers (docs/bpmn.md lists them)."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from models.errors import InvalidRequestError


class Severity(StrEnum):
    """How much a diagnostic weighs: an error refuses the deployment, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Rule(StrEnum):
    """Stable identifiers: never renamed, never reused."""

    TOO_LARGE = "BPMN-001"
    NOT_XML = "BPMN-002"
    DOCTYPE = "BPMN-003"
    NOT_BPMN = "BPMN-004"
    NO_PROCESS = "BPMN-005"
    TOO_DEEP = "BPMN-006"
    DUPLICATE_ID = "BPMN-010"
    MISSING_ID = "BPMN-011"
    DANGLING_REFERENCE = "BPMN-012"
    WRONG_REFERENCE = "BPMN-013"
    UNSUPPORTED_ELEMENT = "BPMN-020"
    BAD_ATTRIBUTE = "BPMN-021"
    FLOW_CROSSES_SCOPE = "BPMN-030"
    FLOW_NOT_ALLOWED = "BPMN-031"
    DEFAULT_FLOW = "BPMN-032"
    CONDITION_NOT_ALLOWED = "BPMN-033"
    GATEWAY_DIRECTION = "BPMN-034"
    START_EVENT = "BPMN-040"
    EVENT_NOT_ALLOWED = "BPMN-041"
    EVENT_INCOMPLETE = "BPMN-042"
    BOUNDARY_EVENT = "BPMN-043"
    LINK_EVENT = "BPMN-044"
    EVENT_GATEWAY = "BPMN-045"
    EVENT_SUB_PROCESS = "BPMN-046"
    COMPENSATION = "BPMN-047"
    TRANSACTION = "BPMN-048"
    EXPRESSION = "BPMN-050"
    EXPRESSION_LANGUAGE = "BPMN-051"
    TIMER = "BPMN-052"
    LOOP = "BPMN-060"
    TASK_INCOMPLETE = "BPMN-061"
    CALL_ACTIVITY = "BPMN-062"
    AD_HOC = "BPMN-063"
    QUANTITY = "BPMN-064"
    UNREACHABLE = "BPMN-070"
    DEADLOCK = "BPMN-071"
    IGNORED = "BPMN-080"


class Diagnostic(NamedTuple):
    """One finding.

    Attributes:
        rule: Identifier of the rule that is broken.
        severity: Errors refuse the deployment.
        element: Identifier of the element, empty where the file as a whole is meant.
        line: Line in the source, 0 where unknown.
        message: What is wrong, naming the element.
        remedy: What to do about it.
    """

    rule: Rule
    severity: Severity
    element: str
    line: int
    message: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as the API and ``flows validate --json`` show it."""
        return {
            "rule": self.rule.value,
            "severity": self.severity.value,
            "element": self.element,
            "line": self.line,
            "message": self.message,
            "remedy": self.remedy,
        }


class DefinitionRefusedError(InvalidRequestError):
    """A BPMN file breaks at least one rule; ``details["diagnostics"]`` lists every finding."""

    code = "BPMN_REFUSED"

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = [item for item in self.diagnostics if item.severity is Severity.ERROR]
        first = errors[0] if errors else self.diagnostics[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(
            f"{first.rule.value}, line {first.line}: {first.message} {first.remedy}{more}",
            details={"diagnostics": [item.to_json() for item in self.diagnostics]},
        )


class Findings:
    """Collects diagnostics while a file is read; at most ``limit`` are kept."""

    def __init__(self, limit: int = 200) -> None:
        self.items: list[Diagnostic] = []
        self._limit = limit
        self.refused = False

    def error(self, rule: Rule, element: str, line: int, message: str, remedy: str) -> None:
        """Record a finding that refuses the deployment."""
        self.refused = True
        self._add(Diagnostic(rule, Severity.ERROR, element, line, message, remedy))

    def warning(self, rule: Rule, element: str, line: int, message: str, remedy: str) -> None:
        """Record a finding that the author should know about."""
        self._add(Diagnostic(rule, Severity.WARNING, element, line, message, remedy))

    def _add(self, item: Diagnostic) -> None:
        if len(self.items) < self._limit or (
            item.severity is Severity.ERROR and all(i.severity is not Severity.ERROR for i in self.items)
        ):
            self.items.append(item)

    def raise_if_refused(self) -> None:
        """Raise if an error was found.

        Raises:
            DefinitionRefusedError: At least one finding is an error.
        """
        if self.refused:
            raise DefinitionRefusedError(self.items)
