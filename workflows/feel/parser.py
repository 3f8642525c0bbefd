"""Text to abstract syntax: the whole FEEL grammar (DMN 1.5 §10.3.1.2), by precedence climbing.

From loosest to tightest: or, and, comparison (with between and in), ``+ -``, ``* /``, ``**``,
negation, then path, filter, invocation and instance of.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TypeVar

from workflows.feel.errors import FeelSyntaxError
from workflows.feel.lexer import decimal_literal
from workflows.feel.names import NameTable
from workflows.feel.reader import MAX_NESTING, Reader
from workflows.feel.syntax import (
    Arithmetic,
    Between,
    Comparison,
    Conjunction,
    ContextLiteral,
    Disjunction,
    Filter,
    For,
    FunctionDefinition,
    If,
    In,
    InstanceOf,
    Interval,
    Invocation,
    Iterator,
    ListLiteral,
    Literal,
    Name,
    Negation,
    Node,
    Path,
    Quantified,
    UnaryComparison,
    UnaryTests,
    depth,
)
from workflows.feel.temporal_text import parse_temporal
from workflows.feel.types import FeelType
from workflows.feel.values import Parameter, Value, number

MAX_DEPTH = 2 * MAX_NESTING
"""Deepest syntax tree accepted; long chains of paths or comparisons count as well."""

MAX_ITERATORS = 16

_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_OR, _AND, _COMPARE, _ADD, _MULTIPLY, _POWER = range(1, 7)
_LEVELS = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys((*_COMPARISONS, "between", "in"), _COMPARE),
    **dict.fromkeys(("+", "-"), _ADD),
    **dict.fromkeys(("*", "/"), _MULTIPLY),
    "**": _POWER,
}
RootT = TypeVar("RootT", bound=Node)
_ARGUMENT_NAME = re.compile(r"[^\W\d][^()\[\]{},:\"<>=@;]{0,200}:")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}


class Parser(Reader):
    """One parse of one text."""

    def whole_expression(self) -> Node:
        """Read the text as one expression."""
        return self._finish(self.expression())

    def whole_unary_tests(self) -> UnaryTests:
        """Read the text as the tests of a decision table cell (grammar rule 15)."""
        if self.accept("-"):
            if self.token.kind == "end":
                return UnaryTests(())
            self.position = 0
        if self.accept("not") and self.accept("("):
            try:
                tests = self._tests()
                self.expect(")")
                if self.token.kind == "end":
                    return self._checked(UnaryTests(tests, negated=True))
            except FeelSyntaxError:
                pass
        self.position = 0
        tests = self._tests()
        if self.token.kind != "end":
            raise self.unexpected("',' or the end")
        return self._checked(UnaryTests(tests))

    def _finish(self, root: Node) -> Node:
        if self.token.kind != "end":
            raise self.unexpected("an operator or the end")
        return self._checked(root)

    def _checked(self, root: RootT) -> RootT:
        if depth(root) > MAX_DEPTH:
            raise self.error("the expression is nested too deeply", 0, f"at most {MAX_DEPTH} levels")
        return root

    # Expressions

    def expression(self) -> Node:
        """Read an expression of any kind."""
        with self.nested():
            token = self.token
            if token.kind == "operator" and token.text in _COMPARISONS:
                self.position = token.end
                return UnaryComparison(token.text, self._binary(_ADD))
            construct = self._construct()
            return construct() if construct is not None else self._binary(_OR)

    def _construct(self) -> Callable[[], Node] | None:
        """The reader of the construct whose keyword is next, if it is one that reaches far right."""
        token = self.token
        if token.kind != "word":
            return None
        if token.text == "if":
            return self._if
        if token.text == "for":
            return self._for
        if token.text in ("some", "every"):
            return self._quantified
        if token.text == "function":
            return self._function
        return None

    def _if(self) -> Node:
        self.expect("if")
        condition = self.expression()
        self.expect("then")
        consequent = self.expression()
        self.expect("else")
        return If(condition, consequent, self.expression())

    def _for(self) -> Node:
        self.expect("for")
        with ExitStack() as scopes:
            iterators = self._iterators(scopes)
            self.expect("return")
            scopes.enter_context(self.scope(["partial"]))
            return For(iterators, self.expression())

    def _quantified(self) -> Node:
        every = self.accept("every")
        if not every:
            self.expect("some")
        with ExitStack() as scopes:
            iterators = self._iterators(scopes)
            self.expect("satisfies")
            return Quantified(every, iterators, self.expression())

    def _iterators(self, scopes: ExitStack) -> tuple[Iterator, ...]:
        found: list[Iterator] = []
        while not found or self.accept(","):
            name = self.binding("in")
            self.expect("in")
            source = self.expression()
            end = self.expression() if self.accept("..") else None
            found.append(Iterator(name, source, end))
            if len(found) > MAX_ITERATORS:
                raise self.error("too many iterators", self.position, f"at most {MAX_ITERATORS} of them")
            scopes.enter_context(self.scope([name]))
        return tuple(found)

    def _function(self) -> Node:
        self.expect("function")
        self.expect("(")
        parameters: list[Parameter] = []
        while not self.at(")") and (not parameters or self.accept(",")):
            name = self.binding()
            parameters.append(Parameter(name, self.type() if self.accept(":") else None))
        self.expect(")")
        external = self.accept("external")
        with self.scope(parameter.name for parameter in parameters):
            return FunctionDefinition(tuple(parameters), self.expression(), external)

    # Operators

    def _binary(self, minimum: int) -> Node:
        left = self._unary()
        while True:
            token = self.token
            level = _LEVELS.get(token.text, 0) if token.kind in ("operator", "word") else 0
            if level < max(minimum, 1):
                return left
            if level in (_OR, _AND):
                operands = [left]
                while self.accept(token.text):
                    operands.append(self._binary(level + 1))
                left = Disjunction(tuple(operands)) if level == _OR else Conjunction(tuple(operands))
            elif level == _COMPARE:
                left = self._comparison(left)
            else:
                left = self._arithmetic(left, level)

    def _arithmetic(self, first: Node, level: int) -> Node:
        rest: list[tuple[str, Node]] = []
        at = self.token.start
        while self.token.kind == "operator" and _LEVELS.get(self.token.text) == level:
            operator = self.token.text
            self.position = self.token.end
            rest.append((operator, self._binary(level + 1)))
        return Arithmetic(first, tuple(rest), at)

    def _comparison(self, left: Node) -> Node:
        token = self.token
        self.position = token.end
        if token.text == "between":
            low = self._binary(_ADD)
            self.expect("and")
            return Between(left, low, self._binary(_ADD))
        if token.text == "in":
            return In(left, self._in_tests())
        return Comparison(token.text, left, self._binary(_ADD), token.start)

    def _in_tests(self) -> tuple[Node, ...]:
        token = self.token
        if token.kind == "operator" and token.text in _COMPARISONS:
            self.position = token.end
            return (UnaryComparison(token.text, self._binary(_ADD)),)
        if not self.at("("):
            return (self._binary(_ADD),)
        start = self.position
        self.expect("(")
        tests = self._tests()
        if len(tests) == 1 and self.at(".."):
            tests = (self._interval(tests[0], start_included=False),)
        else:
            self.expect(")")
        if not self.at(".", "[", "(", "+", "-", "*", "/", "**", "instance"):
            return tests
        # The parenthesis was only the beginning of an expression.
        self.position = start
        return (self._binary(_ADD),)

    def _tests(self) -> tuple[Node, ...]:
        tests = [self.expression()]
        while self.accept(","):
            tests.append(self.expression())
        return tuple(tests)

    def _unary(self) -> Node:
        signs = 0
        while self.at("-"):
            self.position = self.token.end
            signs += 1
            if signs > MAX_NESTING:
                raise self.error("too many signs", self.position, f"at most {MAX_NESTING} of them")
        negative = signs > 0 and self.token.kind == "number"
        operand = self._postfix(self._number(negative=True) if negative else self._primary())
        for _ in range(signs - negative):
            operand = Negation(operand)
        return operand

    # Path, filter, invocation, instance of

    def _postfix(self, base: Node, *, filters: bool = True) -> Node:
        while True:
            token = self.token
            if token.kind == "operator" and token.text == ".":
                self.position = token.end
                base = Path(base, self.member(), token.start)
            elif token.kind == "operator" and token.text == "[" and filters:
                self.position = token.end
                with self.filter_scope():
                    condition = self.expression()
                self.expect("]")
                base = Filter(base, condition)
            elif token.kind == "operator" and token.text == "(":
                base = self._invocation(base)
            elif token.kind == "word" and token.text == "instance":
                self.position = token.end
                self.expect("of")
                base = InstanceOf(base, self.type())
            else:
                return base

    def _invocation(self, function: Node) -> Node:
        at = self.token.start
        self.expect("(")
        positional: list[Node] = []
        named: list[tuple[str, Node]] = []
        while not self.at(")") and (not (positional or named) or self.accept(",")):
            start = self.token.start
            match = _ARGUMENT_NAME.match(self.lexer.text, start)
            if match is not None:
                name = self.binding()
                self.expect(":")
                if any(name == known for known, _ in named):
                    raise self.error(f"the argument {name!r} is given twice", start, "distinct names")
                named.append((name, self.expression()))
            else:
                positional.append(self.expression())
            if positional and named:
                raise self.error("named and positional arguments are mixed", start, "one kind of arguments")
        self.expect(")")
        return Invocation(function, tuple(positional), tuple(named), at)

    # Primaries

    def _primary(self) -> Node:
        token = self.token
        if token.kind == "number":
            return self._number(negative=False)
        if token.kind == "string":
            self.position = token.end
            return Literal(token.text)
        if token.kind == "word":
            return self._word()
        readers = {
            "(": self._parenthesis,
            "[": self._list,
            "]": self._open,
            "{": self._context,
            "@": self._at,
        }
        reader = readers.get(token.text) if token.kind == "operator" else None
        if reader is None:
            raise self.unexpected("an expression")
        return reader()

    def _number(self, *, negative: bool) -> Node:
        token = self.token
        self.position = token.end
        value = number(decimal_literal(token.text))
        if value is None:
            raise self.error("the number is out of range", token.start, "at most 34 digits times 10**6144")
        return Literal(value.copy_negate() if negative and value else value)

    def _word(self) -> Node:
        token = self.token
        construct = self._construct()
        if construct is not None:
            with self.nested():
                return construct()
        if token.text in _CONSTANTS:
            self.position = token.end
            return Literal(_CONSTANTS[token.text])
        return Name(self._variable(), token.start)

    def _variable(self) -> str:
        if self.token.text in (
            "then",
            "else",
            "return",
            "satisfies",
            "in",
            "and",
            "or",
            "between",
            "instance",
        ):
            raise self.unexpected("an expression")
        return self.name()

    def _at(self) -> Node:
        self.expect("@")
        token = self.token
        if token.kind != "string":
            raise self.unexpected("a string")
        value = parse_temporal(token.text)
        if value is None:
            raise self.error("the at-literal is no date, time or duration", token.start, "an ISO 8601 value")
        self.position = token.end
        return Literal(value)

    def _parenthesis(self) -> Node:
        self.expect("(")
        inner = self.expression()
        if self.at(".."):
            return self._interval(inner, start_included=False)
        self.expect(")")
        return inner

    def _open(self) -> Node:
        self.expect("]")
        return self._interval(self.expression(), start_included=False)

    def _list(self) -> Node:
        self.expect("[")
        items: list[Node] = []
        while not self.at("]") and (not items or self.accept(",")):
            items.append(self.expression())
            if len(items) == 1 and self.at(".."):
                return self._interval(items[0], start_included=True)
        self.expect("]")
        return ListLiteral(tuple(items))

    def _interval(self, start: Node, *, start_included: bool) -> Node:
        self.expect("..")
        end = self._endpoint()
        closed = self.accept("]")
        if not closed and not self.accept(")") and not self.accept("["):
            raise self.unexpected("']', ')' or '['")
        return Interval(start, end, start_included, closed)

    def _endpoint(self) -> Node:
        """Read the upper end; the ``[`` of an open end must not be taken for a filter."""
        start = self.position
        try:
            end = self.expression()
            if self.at("]", ")", "["):
                return end
        except FeelSyntaxError:
            if self.exhausted:
                raise
        self.position = start
        with self.nested():
            return self._postfix(self._primary(), filters=False)

    def _context(self) -> Node:
        self.expect("{")
        entries: list[tuple[str, Node]] = []
        with self.nested(), self.scope() as names:
            while not self.at("}") and (not entries or self.accept(",")):
                token = self.token
                if token.kind == "string":
                    key = token.text
                    self.position = token.end
                else:
                    key = self.binding(":")
                self.expect(":")
                if any(key == known for known, _ in entries):
                    raise self.error(f"the key {key!r} is given twice", token.start, "distinct keys")
                entries.append((key, self.expression()))
                names.add(key)
                self.learn_member(key)
        self.expect("}")
        return ContextLiteral(tuple(entries))


def parse_node(
    text: str,
    *,
    names: Iterable[str] = (),
    members: Iterable[str] = (),
    types: Mapping[str, FeelType] | None = None,
    builtins: NameTable | None = None,
) -> Node:
    """Parse one expression to its syntax tree; see `workflows.feel.parse_expression`."""
    parser = Parser(text, names=names, members=members, types=types, builtins=builtins)
    return parser.whole_expression()
