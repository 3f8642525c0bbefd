"""The ports through which the interpreter evaluates: expression languages and decisions.

FEEL is plugged in by `workflows.bpmn.languages`; tests and importers register others.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from workflows.bpmn.definition import Expression


class ExpressionSyntaxError(ValueError):
    """The source of an expression does not parse in its language."""


class ExpressionEvaluationError(Exception):
    """An expression could not be evaluated; the interpreter raises an incident from it."""


class CompiledExpression(Protocol):
    """An expression parsed at deployment."""

    def evaluate(self, variables: Mapping[str, Any], now: datetime) -> Any:
        """Return a JSON value.

        Args:
            variables: JSON values by name; must not be changed.
            now: The clock value of the event, the only clock there is.

        Raises:
            ExpressionEvaluationError: It has no value, or its budget is spent.
        """
        ...


class ExpressionLanguage(Protocol):
    """Parses sources; stateless."""

    def compile(self, source: str) -> CompiledExpression:
        """Parse ``source``.

        Raises:
            ExpressionSyntaxError: It does not parse.
        """
        ...


class BusinessRules(Protocol):
    """Decisions that business rule tasks evaluate inside the interpreter (DMN)."""

    def resolve(self, decision: str) -> CompiledExpression | None:
        """Return the decision with that identifier, None where only the adapter knows it."""
        ...


class Languages:
    """What a deployment may use.

    Args:
        expressions: Expression languages by key; ``feel`` is the one used where a file names none.
        scripts: Script languages that run outside, as jobs; the empty string stands for "none named".
        rules: Decisions evaluated in place.
    """

    def __init__(
        self,
        expressions: Mapping[str, ExpressionLanguage],
        scripts: frozenset[str] = frozenset(),
        rules: BusinessRules | None = None,
    ) -> None:
        self.expressions = dict(expressions)
        self.scripts = scripts
        self.rules = rules

    def compile(self, expression: Expression) -> CompiledExpression:
        """Parse an expression of a definition.

        Raises:
            ExpressionSyntaxError: It does not parse, or its language is unknown.
        """
        if expression.language == "literal":
            return Literal(expression.text)
        language = self.expressions.get(expression.language)
        if language is None:
            raise ExpressionSyntaxError(f"the language {expression.language!r} is not known here")
        return language.compile(expression.text)


class Literal:
    """An expression that is its own value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def evaluate(self, variables: Mapping[str, Any], now: datetime) -> Any:
        """Return the value."""
        return self.value
