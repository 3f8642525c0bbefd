"""Abstract syntax to closures: each node becomes one Python function of the scope, built once.

The closures are the evaluator. Loops, filters and invocations charge the size of what they repeat,
so that the cost of an evaluation is counted without a counter at every node.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from workflows.feel import iteration
from workflows.feel.conversion import FEEL_TYPES, to_feel
from workflows.feel.invocation import Builtin, invoke
from workflows.feel.matching import Test, any_test, test_program
from workflows.feel.program import Program, lookup, measure
from workflows.feel.runtime import Scope
from workflows.feel.selection import select_items
from workflows.feel.semantics import (
    arithmetic,
    both,
    compare,
    either,
    get_property,
    has_property,
    item_at,
    opposite,
    order,
)
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
    ListLiteral,
    Literal,
    Name,
    Negation,
    Node,
    Path,
    Quantified,
    UnaryComparison,
    UnaryTests,
)
from workflows.feel.types import NULL, FeelType, resolve, simple_type_of, value_conforms
from workflows.feel.values import Closure, Parameter, Range, Value


class Compiler:
    """Compiles nodes that share item definitions and built-in functions."""

    def __init__(self, types: Mapping[str, FeelType], builtins: Mapping[str, Builtin]) -> None:
        self.types = types
        self.builtins = builtins

    def compile(self, node: Node) -> Program:
        """Build the program of a node."""
        return _COMPILERS[type(node)](self, node)

    def test(self, node: Node) -> Test:
        """Build the program of a positive unary test."""
        return test_program(node, self.compile)

    # Leaves

    def _literal(self, node: Literal) -> Program:
        value = node.value
        return lambda scope: value

    def _name(self, node: Name) -> Program:
        load = self._load(node)
        if node.name != "partial":
            return load

        def load_snapshot(scope: Scope) -> Value:
            # The list behind `partial` grows with the loop; what is kept must not.
            value = load(scope)
            if isinstance(value, list):
                scope.run.spend(len(value))
                return list(value)
            return value

        return load_snapshot

    def _load(self, node: Name) -> Program:
        name, at = node.name, node.at
        builtin = self.builtins.get(name)

        def load(scope: Scope) -> Value:
            here: Scope | None = scope
            while here is not None:
                names = here.names
                if name in names:
                    value = names[name]
                    return value if type(value) in FEEL_TYPES else to_feel(value)
                here = here.parent
            if builtin is not None:
                return builtin
            return scope.run.note("unknown_variable", f"there is no variable {name!r}", at)

        return load

    # Selection

    def _path(self, node: Path) -> Program:
        base, name, at = self.compile(node.base), node.name, node.at

        def select(scope: Scope) -> Value:
            value = base(scope)
            if isinstance(value, dict) and name in value:
                found = value[name]
                return found if type(found) in FEEL_TYPES else to_feel(found)
            if isinstance(value, list):
                scope.run.spend(len(value))
                return [_selected(item, name) for item in value]
            if value is not None and has_property(value, name):
                return get_property(value, name)
            return scope.run.note("unknown_entry", f"there is no entry or property {name!r}", at)

        return select

    def _filter(self, node: Filter) -> Program:
        base = self._load(node.base) if isinstance(node.base, Name) else self.compile(node.base)
        condition, size = self.compile(node.condition), measure(node.condition)
        constant = node.condition.value if isinstance(node.condition, Literal) else None

        def select(scope: Scope) -> Value:
            value = base(scope)
            if isinstance(constant, Decimal) and value is not None:
                return item_at(value if isinstance(value, list) else [value], constant)
            return select_items(value, condition, size, scope)

        return select

    # Operators

    def _arithmetic(self, node: Arithmetic) -> Program:
        first = self.compile(node.first)
        rest = [(operator, self.compile(operand)) for operator, operand in node.rest]
        at = node.at

        def calculate(scope: Scope) -> Value:
            value = first(scope)
            for operator, operand in rest:
                right = operand(scope)
                result = arithmetic(operator, value, right, scope.run)
                if result is None:
                    scope.run.note("arithmetic", f"{operator!r} is not defined for its operands", at)
                value = result
            return value

        return calculate

    def _negation(self, node: Negation) -> Program:
        operand = self.compile(node.operand)
        return lambda scope: opposite(operand(scope))

    def _comparison(self, node: Comparison) -> Program:
        left, right, operator, at = self.compile(node.left), self.compile(node.right), node.operator, node.at
        fast = _DECIMAL_TESTS[operator]

        def test(scope: Scope) -> Value:
            a = left(scope)
            b = right(scope)
            if type(a) is Decimal and type(b) is Decimal:
                return fast(a, b)
            result = compare(operator, a, b, scope.run)
            if result is None:
                scope.run.note("comparison", f"{operator!r} is not defined for its operands", at)
            return result

        return test

    def _between(self, node: Between) -> Program:
        value, low, high = self.compile(node.value), self.compile(node.low), self.compile(node.high)

        def test(scope: Scope) -> Value:
            middle, run = value(scope), scope.run
            return both(compare(">=", middle, low(scope), run), compare("<=", middle, high(scope), run))

        return test

    def _within(self, node: In) -> Program:
        value, tests = self.compile(node.value), [self.test(test) for test in node.tests]
        return lambda scope: any_test(tests, value(scope), scope)

    def _conjunction(self, node: Conjunction) -> Program:
        operands = [self.compile(operand) for operand in node.operands]

        def conjoin(scope: Scope) -> Value:
            result: bool | None = True
            for operand in operands:
                value = operand(scope)
                if value is False:
                    return False
                result = both(result, value)
            return result

        return conjoin

    def _disjunction(self, node: Disjunction) -> Program:
        operands = [self.compile(operand) for operand in node.operands]

        def disjoin(scope: Scope) -> Value:
            result: bool | None = False
            for operand in operands:
                value = operand(scope)
                if value is True:
                    return True
                result = either(result, value)
            return result

        return disjoin

    def _instance_of(self, node: InstanceOf) -> Program:
        value, expected = self.compile(node.value), resolve(node.type, self.types)

        def test(scope: Scope) -> Value:
            actual = value(scope)
            if expected is None:
                return scope.run.note("type", "the type is not known")
            if actual is None:
                return expected == NULL
            scope.run.spend(len(actual) if isinstance(actual, list | dict) else 1)
            return value_conforms(actual, expected)

        return test

    # Constructs

    def _conditional(self, node: If) -> Program:
        condition = self.compile(node.condition)
        consequent, alternative = self.compile(node.consequent), self.compile(node.alternative)
        return lambda scope: consequent(scope) if condition(scope) is True else alternative(scope)

    def _for_expression(self, node: For) -> Program:
        sources = [iteration.source(iterator, self.compile) for iterator in node.iterators]
        result, size = self.compile(node.result), measure(node.result)

        def loop(scope: Scope) -> Value:
            results: list[Value] = []
            outer = Scope({"partial": results}, scope, scope.run)
            for inner in iteration.bindings(sources, outer):
                if inner is None:
                    return scope.run.note("iteration", "what is iterated over is neither list nor range")
                scope.run.spend(size)
                results.append(result(inner))
            return results

        return loop

    def _quantified(self, node: Quantified) -> Program:
        sources = [iteration.source(iterator, self.compile) for iterator in node.iterators]
        condition, size, every = self.compile(node.condition), measure(node.condition), node.every

        def quantify(scope: Scope) -> Value:
            result: bool | None = every
            for inner in iteration.bindings(sources, scope):
                if inner is None:
                    return scope.run.note("iteration", "what is quantified over is neither list nor range")
                scope.run.spend(size)
                value = condition(inner)
                result = both(result, value) if every else either(result, value)
                if result is not None and result is not every:
                    return result
            return result

        return quantify

    def _function_definition(self, node: FunctionDefinition) -> Program:
        parameters = tuple(
            Parameter(p.name, None if p.type is None else resolve(p.type, self.types) or p.type)
            for p in node.parameters
        )
        body = None if node.external else self.compile(node.body)
        size, levels = measure(node.body), measure(node.body, depth=True)
        literal = node.body.value if isinstance(node.body, Literal) else None
        result = None if literal is None else simple_type_of(literal)
        return lambda scope: Closure(parameters, body, scope, size=size, depth=levels, result=result)

    def _invocation(self, node: Invocation) -> Program:
        function, at = self.compile(node.function), node.at
        positional = [self.compile(argument) for argument in node.positional]
        if node.named:
            named = [(name, self.compile(argument)) for name, argument in node.named]
            return lambda scope: invoke(
                function(scope), (), {name: argument(scope) for name, argument in named}, scope.run, at
            )
        return lambda scope: invoke(
            function(scope), [argument(scope) for argument in positional], None, scope.run, at
        )

    # Collections

    def _list_literal(self, node: ListLiteral) -> Program:
        items = [self.compile(item) for item in node.items]
        return lambda scope: [item(scope) for item in items]

    def _context_literal(self, node: ContextLiteral) -> Program:
        entries = [(key, self.compile(value)) for key, value in node.entries]

        def build(scope: Scope) -> Value:
            result: dict[str, Any] = {}
            # Later entries, and functions when they run, see the entries before them.
            inner = Scope(result, scope, scope.run)
            for key, value in entries:
                result[key] = value(inner)
            return result

        return build

    def _interval(self, node: Interval) -> Program:
        start, end = self.compile(node.start), self.compile(node.end)
        start_included, end_included = node.start_included, node.end_included

        def build(scope: Scope) -> Value:
            low, high = start(scope), end(scope)
            sign = None if low is None or high is None else order(low, high)
            if sign is None or sign > 0:
                return scope.run.note("range", "the ends of the range are null, unlike or out of order")
            return Range(low, high, start_included, end_included)

        return build

    def _unary_comparison(self, node: UnaryComparison) -> Program:
        endpoint, operator = self.compile(node.endpoint), node.operator

        def build(scope: Scope) -> Value:
            return unary_range(operator, endpoint(scope))

        return build

    def _unary_tests(self, node: UnaryTests) -> Program:
        tests, negated = [self.test(test) for test in node.tests], node.negated

        def satisfy(scope: Scope) -> Value:
            if not tests:
                return True
            result = any_test(tests, lookup(scope, "?"), scope)
            return (None if result is None else not result) if negated else result

        return satisfy


def unary_range(operator: str, endpoint: Value) -> Value:
    """The range that a unary comparison stands for (table 42)."""
    if operator in ("<", "<="):
        return Range(None, endpoint, False, operator == "<=", operator)
    if operator in (">", ">="):
        return Range(endpoint, None, operator == ">=", False, operator)
    return Range(endpoint, endpoint, operator == "=", operator == "=", operator)


def _selected(item: Value, name: str) -> Value:
    if isinstance(item, dict):
        found = item.get(name)
        return found if type(found) in FEEL_TYPES else to_feel(found)
    return get_property(item, name)


_DECIMAL_TESTS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": Decimal.__eq__,
    "!=": lambda a, b: a != b,
    "<": Decimal.__lt__,
    "<=": Decimal.__le__,
    ">": Decimal.__gt__,
    ">=": Decimal.__ge__,
}

_COMPILERS: dict[type, Callable[[Compiler, Any], Program]] = {
    Literal: Compiler._literal,
    Name: Compiler._name,
    Path: Compiler._path,
    Filter: Compiler._filter,
    Invocation: Compiler._invocation,
    Negation: Compiler._negation,
    Arithmetic: Compiler._arithmetic,
    Comparison: Compiler._comparison,
    Between: Compiler._between,
    In: Compiler._within,
    Conjunction: Compiler._conjunction,
    Disjunction: Compiler._disjunction,
    InstanceOf: Compiler._instance_of,
    If: Compiler._conditional,
    For: Compiler._for_expression,
    Quantified: Compiler._quantified,
    FunctionDefinition: Compiler._function_definition,
    ListLiteral: Compiler._list_literal,
    ContextLiteral: Compiler._context_literal,
    Interval: Compiler._interval,
    UnaryComparison: Compiler._unary_comparison,
    UnaryTests: Compiler._unary_tests,
}
