"""FEEL, the expression language of DMN 1.5, complete and pure: no I/O, no clock, no Temporal.

Parse once with `parse_expression` or `parse_unary_tests`, evaluate with `evaluate` or `satisfies`;
variables go in through `to_feel`, results come out through `from_feel`. `docs/feel.md` tells the
whole story.
"""

from workflows.feel.conversion import from_feel, to_feel
from workflows.feel.errors import FeelBudgetError, FeelSyntaxError
from workflows.feel.expression import (
    Expression,
    evaluate,
    member_names,
    parse_expression,
    parse_unary_tests,
    satisfies,
)
from workflows.feel.runtime import DEFAULT_BUDGET, Budget, Diagnostic
from workflows.feel.values import Value

__all__ = [
    "DEFAULT_BUDGET",
    "Budget",
    "Diagnostic",
    "Expression",
    "FeelBudgetError",
    "FeelSyntaxError",
    "Value",
    "evaluate",
    "from_feel",
    "member_names",
    "parse_expression",
    "parse_unary_tests",
    "satisfies",
    "to_feel",
]
