"""FEEL as the interpreter's expression language."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workflows.bpmn.expression import (
    BusinessRules,
    ExpressionEvaluationError,
    ExpressionSyntaxError,
    Languages,
)
from workflows.feel import (
    Expression,
    FeelBudgetError,
    FeelSyntaxError,
    evaluate,
    from_feel,
    parse_expression,
    to_feel,
)


class FeelExpression:
    """A parsed FEEL expression; only the variables that it mentions are converted."""

    __slots__ = ("_expression", "_names")

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self._names = tuple(sorted(expression.variables))

    def evaluate(self, variables: Mapping[str, Any], now: datetime) -> Any:
        """Return the value as JSON; see `CompiledExpression.evaluate`."""
        try:
            context = {name: to_feel(variables[name]) for name in self._names if name in variables}
            return from_feel(evaluate(self._expression, context, clock=now))
        except FeelBudgetError as error:
            raise ExpressionEvaluationError(error.message) from None


class Feel:
    """FEEL (DMN 1.5)."""

    def compile(self, source: str) -> FeelExpression:
        """Parse FEEL; see `ExpressionLanguage.compile`."""
        try:
            return FeelExpression(parse_expression(source))
        except FeelSyntaxError as error:
            raise ExpressionSyntaxError(error.message) from None


JOB_SCRIPTS = frozenset({"javascript", "python", "groovy", "text/javascript", "application/javascript"})
"""Script languages that run outside the interpreter, as jobs in the sandbox."""


def standard_languages(
    rules: BusinessRules | None = None, scripts: frozenset[str] = JOB_SCRIPTS
) -> Languages:
    """Return what deployments may use: FEEL here, scripts of other languages as jobs."""
    return Languages({"feel": Feel()}, scripts, rules)
