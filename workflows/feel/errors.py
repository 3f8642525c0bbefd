"""The two ways the expression language refuses: unreadable text, and work beyond the budget.

Everything else that goes wrong in FEEL is `null` by definition (DMN 1.5 §10.3.2.16); the reason is
reported through `Diagnostics`, never raised.
"""

from models.errors import InvalidRequestError


class FeelSyntaxError(InvalidRequestError):
    """The text is not a FEEL expression.

    Attributes:
        line: Line of the offending character, starting at 1.
        column: Column of the offending character, in code points, starting at 1.
        expected: What the parser could have continued with.
    """

    code = "FEEL_SYNTAX"

    def __init__(self, problem: str, *, text: str, position: int, expected: str) -> None:
        before = text[:position]
        self.line = before.count("\n") + 1
        self.column = position - (before.rfind("\n") + 1) + 1
        self.expected = expected
        super().__init__(
            f"FEEL line {self.line}, column {self.column}: {problem}; expected {expected}.",
            details={"line": self.line, "column": self.column, "expected": expected},
        )


class FeelBudgetError(InvalidRequestError):
    """The evaluation needs more steps, depth or room than its budget allows.

    Attributes:
        limit: Name of the exhausted limit: ``steps``, ``depth``, ``string`` or ``value``.
        allowed: What the budget allowed.
    """

    code = "FEEL_BUDGET_EXCEEDED"

    def __init__(self, limit: str, allowed: int) -> None:
        self.limit = limit
        self.allowed = allowed
        super().__init__(
            f"The FEEL evaluation exceeds its budget of {allowed} ({limit}); "
            "simplify the expression or reduce the data it works on.",
            details={"limit": limit, "allowed": allowed},
        )
