"""Unary tests: whether a value satisfies a test, as in `in` and in decision tables (table 55)."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from workflows.feel.program import Program
from workflows.feel.runtime import Run, Scope
from workflows.feel.semantics import compare, either, equal, includes
from workflows.feel.syntax import Interval, Name, Node, UnaryComparison, children
from workflows.feel.values import Range, Value

Test: TypeAlias = Callable[[Value, Scope], "bool | None"]
"""Whether the first argument satisfies the test, evaluated in a scope."""


def test_program(node: Node, compile_node: Callable[[Node], Program]) -> Test:
    """Compile one positive unary test."""
    if isinstance(node, UnaryComparison):
        operator, endpoint = node.operator, compile_node(node.endpoint)
        return lambda value, scope: compare(operator, value, endpoint(scope), scope.run)
    program = compile_node(node)
    if isinstance(node, Interval):

        def within(value: Value, scope: Scope) -> bool | None:
            interval = program(scope)
            return includes(interval, value, scope.run) if isinstance(interval, Range) else None

        return within
    if _mentions_input(node):

        def satisfied(value: Value, scope: Scope) -> bool | None:
            result = program(Scope({"?": value}, scope, scope.run))
            return result if isinstance(result, bool) else _member(value, result, scope.run)

        return satisfied
    return lambda value, scope: _member(value, program(scope), scope.run)


def any_test(tests: Sequence[Test], value: Value, scope: Scope) -> bool | None:
    """Ternary or of several tests."""
    result: bool | None = False
    for test in tests:
        result = either(result, test(value, scope))
        if result is True:
            break
    return result


def _member(value: Value, container: Value, run: Run) -> bool | None:
    """``value in container`` for the value of an arbitrary expression."""
    if isinstance(container, Range):
        return includes(container, value, run)
    if not isinstance(container, list):
        return equal(value, container, run)
    if isinstance(value, list) and equal(value, container, run):
        return True
    for item in list(container):
        found = includes(item, value, run) if isinstance(item, Range) else equal(value, item, run)
        if found is True:
            return True
        run.spend(1)
    return False


def _mentions_input(node: Node) -> bool:
    """Whether the test speaks of its input as ``?``."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, Name) and current.name == "?":
            return True
        pending.extend(children(current))
    return False
