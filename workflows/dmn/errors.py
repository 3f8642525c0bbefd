"""How a decision model is refused."""

from models.errors import InvalidRequestError


class DecisionModelError(InvalidRequestError):
    """The file is not a decision model that can be executed.

    Attributes:
        rule: Stable name of the broken rule, such as ``not-xml``, ``unknown-element``, ``cycle``.
        element: Id or name of the element, empty for the file as a whole.
        line: Line in the file, 0 where unknown.
    """

    code = "DECISION_MODEL_INVALID"

    def __init__(self, rule: str, message: str, *, element: str = "", line: int = 0) -> None:
        self.rule = rule
        self.element = element
        self.line = line
        place = f"{element or 'the file'}{f', line {line}' if line else ''}"
        super().__init__(f"DMN {place}: {message}", details={"rule": rule, "element": element, "line": line})
