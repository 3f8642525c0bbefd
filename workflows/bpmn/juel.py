"""JUEL to FEEL: the comparison conditions that Camunda 7 and Flowable modellers write.

Handled: variables with dotted paths, literals, comparisons (symbols and words), ``&& || !``,
``empty``, the conditional operator, arithmetic, parentheses. Method calls and beans have no FEEL
equivalent and are refused at deployment.
"""

import re

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*)
      | (?P<operator>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:()])
    )""",
    re.VERBOSE,
)
_WORDS = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">=", "and": "&&", "or": "||"}
_COMPARISONS = {"==": "=", "!=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_MAX_DEPTH = 50


class NotTranslatableError(ValueError):
    """The JUEL expression has no FEEL equivalent."""


def is_juel(text: str) -> bool:
    """Tell whether the text is one JUEL expression: ``${…}`` or ``#{…}``."""
    return text[:2] in ("${", "#{") and text.endswith("}")


def to_feel(text: str) -> str:
    """Translate ``${…}`` to FEEL source.

    Raises:
        NotTranslatableError: It calls methods or uses an operator that FEEL lacks.
    """
    body = text.strip()
    if is_juel(body):
        body = body[2:-1]
    if "${" in body or "#{" in body:
        raise NotTranslatableError("text mixed with expressions is not a single JUEL expression")
    parser = _Parser(_tokens(body))
    result = parser.ternary(0)
    parser.expect_end()
    return result


def _tokens(body: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    body = body.strip()
    while position < len(body):
        match = _TOKEN.match(body, position)
        if match is None or match.lastgroup is None:
            raise NotTranslatableError(f"unexpected text at {body[position : position + 20]!r}")
        kind, value = match.lastgroup, match.group(match.lastgroup)
        if kind == "name" and value in _WORDS:
            kind, value = "operator", _WORDS[value]
        elif kind == "name" and value in ("not", "mod", "div"):
            kind, value = "operator", {"not": "!", "mod": "%", "div": "/"}[value]
        tokens.append((kind, value))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def _peek(self) -> str | None:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else None

    def _take(self, *values: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in [("operator", v) for v in values]:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def expect_end(self) -> None:
        if self._at != len(self._tokens):
            raise NotTranslatableError(f"unexpected {self._peek()!r}")

    def ternary(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise NotTranslatableError("nested too deeply")
        condition = self._disjunction(depth)
        if self._take("?"):
            yes = self.ternary(depth + 1)
            if not self._take(":"):
                raise NotTranslatableError("a conditional needs ':'")
            return f"if {condition} then {yes} else {self.ternary(depth + 1)}"
        return condition

    def _disjunction(self, depth: int) -> str:
        left = self._conjunction(depth)
        while self._take("||"):
            left = f"{left} or {self._conjunction(depth)}"
        return left

    def _conjunction(self, depth: int) -> str:
        left = self._comparison(depth)
        while self._take("&&"):
            left = f"{left} and {self._comparison(depth)}"
        return left

    def _comparison(self, depth: int) -> str:
        left = self._sum(depth)
        while operator := self._take(*_COMPARISONS):
            left = f"{left} {_COMPARISONS[operator]} {self._sum(depth)}"
        return left

    def _sum(self, depth: int) -> str:
        left = self._product(depth)
        while operator := self._take("+", "-"):
            left = f"{left} {operator} {self._product(depth)}"
        return left

    def _product(self, depth: int) -> str:
        left = self._unary(depth)
        while operator := self._take("*", "/", "%"):
            right = self._unary(depth)
            left = f"modulo({left}, {right})" if operator == "%" else f"{left} {operator} {right}"
        return left

    def _unary(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise NotTranslatableError("nested too deeply")
        if self._take("!"):
            return f"not({self._unary(depth + 1)})"
        if self._take("-"):
            return f"-{self._unary(depth + 1)}"
        if self._take("("):
            inner = self.ternary(depth + 1)
            if not self._take(")"):
                raise NotTranslatableError("a parenthesis is not closed")
            return f"({inner})"
        if self._at >= len(self._tokens):
            raise NotTranslatableError("the expression ends too early")
        kind, value = self._tokens[self._at]
        self._at += 1
        if kind == "name" and value == "empty":
            operand = self._unary(depth + 1)
            return f'({operand} = null or {operand} = "" or {operand} = [])'
        if kind == "name" and self._peek() == "(":
            raise NotTranslatableError(f"the call {value}() has no FEEL equivalent")
        if kind == "name":
            return "null" if value == "null" else value
        if kind == "number":
            return value
        if kind == "string":
            inner = value[1:-1].replace("\\'", "'").replace('\\"', '"')
            return '"' + inner.replace('"', '\\"') + '"'
        raise NotTranslatableError(f"unexpected {value!r}")
