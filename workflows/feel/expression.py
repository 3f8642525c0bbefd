"""Parsed expressions, and their evaluation: the public face of the engine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows.feel.builtins import BUILTIN_NAMES, BUILTINS
from workflows.feel.compiler import Compiler
from workflows.feel.conversion import date_time
from workflows.feel.errors import FeelBudgetError
from workflows.feel.parser import Parser
from workflows.feel.program import Program, measure
from workflows.feel.runtime import DEFAULT_BUDGET, Budget, Diagnostic, Run, Scope
from workflows.feel.syntax import Name, Node, UnaryTests, children
from workflows.feel.types import FeelType
from workflows.feel.values import DateTime, Value

_NO_TYPES: Mapping[str, FeelType] = {}


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed and compiled expression; parse at deployment, evaluate as often as needed.

    Attributes:
        text: Source text.
        root: Syntax tree; for unary tests a `UnaryTests` node.
        size: Number of nodes, charged as steps by each evaluation.
        variables: Names the expression mentions that are not its own (built-ins included where it
            uses them), for finding out when it has to be evaluated again.
    """

    text: str
    root: Node
    size: int = field(compare=False)
    variables: frozenset[str] = field(compare=False, repr=False)
    program: Program = field(compare=False, repr=False)


def parse_expression(
    text: str,
    *,
    names: Iterable[str] = (),
    members: Iterable[str] = (),
    types: Mapping[str, FeelType] = _NO_TYPES,
) -> Expression:
    """Parse a FEEL expression (DMN 1.5 §10.3.1.2, rule 1).

    Args:
        text: The expression, without the leading ``=`` of BPMN attributes.
        names: Variables in scope. Needed only for names that hold operators or keywords
            (``a-b``, ``Profit and loss``); other names of several words are understood anyway.
        members: Entries of contexts of that kind, for paths and filters; see `member_names`.
        types: Item definitions by name, for ``instance of`` and typed parameters.

    Returns:
        The compiled expression.

    Raises:
        FeelSyntaxError: The text is no FEEL expression.
    """
    parser = Parser(text, names=names, members=members, types=types, builtins=BUILTIN_NAMES)
    return _compiled(text, parser.whole_expression(), types)


def parse_unary_tests(
    text: str,
    *,
    names: Iterable[str] = (),
    members: Iterable[str] = (),
    types: Mapping[str, FeelType] = _NO_TYPES,
) -> Expression:
    """Parse the unary tests of a decision table cell (DMN 1.5 §10.3.1.2, rule 15).

    Args:
        text: The cell: ``-``, ``not(…)``, or tests separated by commas.
        names: As for `parse_expression`.
        members: As for `parse_expression`.
        types: As for `parse_expression`.

    Returns:
        An expression for `satisfies`.

    Raises:
        FeelSyntaxError: The text is not a list of unary tests.
    """
    parser = Parser(text, names=names, members=members, types=types, builtins=BUILTIN_NAMES)
    return _compiled(text, parser.whole_unary_tests(), types)


def _compiled(text: str, root: Node, types: Mapping[str, FeelType]) -> Expression:
    program = Compiler(types, BUILTINS).compile(root)
    return Expression(text, root, measure(root), frozenset(_mentioned(root)), program)


def evaluate(
    expression: Expression,
    context: Mapping[str, Any],
    *,
    clock: datetime | DateTime | None = None,
    budget: Budget = DEFAULT_BUDGET,
    diagnostics: list[Diagnostic] | None = None,
) -> Value:
    """Evaluate an expression.

    Args:
        expression: What `parse_expression` gave.
        context: Variables as FEEL values (`to_feel`); Python numbers are converted when they are
            looked up, but not inside lists.
        clock: The value of ``now()``; without it ``now()`` and ``today()`` are null.
        budget: Bounds of the work.
        diagnostics: Receives the reasons for null values, at most 100.

    Returns:
        The FEEL value; see `from_feel` for JSON.

    Raises:
        FeelBudgetError: The evaluation exceeds the budget.
    """
    moment = date_time(clock) if isinstance(clock, datetime) else clock
    run = Run(budget, moment, diagnostics)
    run.spend(expression.size)
    try:
        return expression.program(Scope(context, None, run))
    except RecursionError:
        # The depth budget ends recursion first unless the caller's own stack is nearly full.
        raise FeelBudgetError("depth", budget.depth) from None


def satisfies(
    tests: Expression,
    value: Value,
    context: Mapping[str, Any],
    *,
    clock: datetime | DateTime | None = None,
    budget: Budget = DEFAULT_BUDGET,
    diagnostics: list[Diagnostic] | None = None,
) -> bool:
    """Whether an input value satisfies unary tests (DMN 1.5 §10.3.2.10).

    Args:
        tests: What `parse_unary_tests` gave.
        value: The input value; the tests may call it ``?``.
        context: As for `evaluate`.
        clock: As for `evaluate`.
        budget: As for `evaluate`.
        diagnostics: As for `evaluate`.

    Returns:
        True only if the tests are true; unknown is not satisfied.

    Raises:
        FeelBudgetError: The evaluation exceeds the budget.
    """
    scope = {**context, "?": value}
    return evaluate(tests, scope, clock=clock, budget=budget, diagnostics=diagnostics) is True


def member_names(value: Any) -> set[str]:
    """All context keys inside a value, for the `members` of `parse_expression`."""
    found: set[str] = set()
    pending: list[Any] = [value]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if id(current) in seen or not isinstance(current, Mapping | list):
            continue
        seen.add(id(current))
        if isinstance(current, Mapping):
            found.update(key for key in current if isinstance(key, str))
            pending.extend(current.values())
        else:
            pending.extend(current)
    return found


def _mentioned(root: Node) -> Iterator[str]:
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Name):
            yield node.name
        elif isinstance(node, UnaryTests):
            yield "?"
        pending.extend(children(node))
