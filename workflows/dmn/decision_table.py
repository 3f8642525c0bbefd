"""Decision tables: matching rules and applying the hit policy (DMN 1.5 §8.2.10, §10.3.2.10)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.dmn.errors import DecisionModelError
from workflows.dmn.scope import Names
from workflows.dmn.source import XmlElement, child, children, label_of, line_of, text_of
from workflows.feel.builtins import BUILTINS
from workflows.feel.invocation import invoke
from workflows.feel.program import Program
from workflows.feel.runtime import Run, Scope
from workflows.feel.semantics import equal
from workflows.feel.types import FeelType, coerce
from workflows.feel.values import Value

_AGGREGATIONS = {"SUM": "sum", "COUNT": "count", "MIN": "min", "MAX": "max"}
_POLICIES = ("UNIQUE", "ANY", "PRIORITY", "FIRST", "COLLECT", "RULE ORDER", "OUTPUT ORDER")


@dataclass(frozen=True, slots=True)
class Input:
    """An input clause.

    Attributes:
        expression: Gives the value to test.
        allowed: Tests of the input values, None without any.
        type: Declared type.
    """

    expression: Program
    allowed: Program | None
    type: FeelType | None


@dataclass(frozen=True, slots=True)
class Output:
    """An output clause.

    Attributes:
        name: Key of the output among several.
        priorities: Output values in order of priority, None where none are listed.
        default: Default entry, None without one.
        type: Declared type.
    """

    name: str
    priorities: Program | None
    default: Program | None
    type: FeelType | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a test per input, an expression per output."""

    tests: tuple[Program, ...]
    outputs: tuple[Program, ...]


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """A compiled decision table.

    Attributes:
        policy: Hit policy by its name in XML.
        aggregation: Built-in that aggregates a COLLECT, empty for the list itself.
        inputs: Input clauses.
        outputs: Output clauses.
        rules: Rules in order.
    """

    policy: str
    aggregation: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rules: tuple[Rule, ...]

    def evaluate(self, scope: Scope) -> Value:
        """Give the table's result in a scope."""
        run = scope.run
        values = [_conforming(clause.type, clause.expression(scope)) for clause in self.inputs]
        for clause, value in zip(self.inputs, values, strict=True):
            if clause.allowed is not None and not _satisfied(clause.allowed, value, scope):
                run.note("input_value", "an input value is not among the values the table allows")
        hits: list[Value] = []
        for rule in self.rules:
            run.spend(1 + len(values))
            if all(_satisfied(t, v, scope) for t, v in zip(rule.tests, values, strict=True)):
                hits.append(self._result([entry(scope) for entry in rule.outputs]))
                if self.policy == "FIRST":
                    break
        if not hits:
            return self._default(scope)
        return _APPLY[self.policy](self, hits, scope)

    def _result(self, entries: Sequence[Value]) -> Value:
        values = [_conforming(o.type, entry) for o, entry in zip(self.outputs, entries, strict=True)]
        if len(values) == 1:
            return values[0]
        return {output.name: value for output, value in zip(self.outputs, values, strict=True)}

    def _default(self, scope: Scope) -> Value:
        if all(output.default is None for output in self.outputs):
            return None
        return self._result([None if o.default is None else o.default(scope) for o in self.outputs])

    def unique(self, hits: list[Value], scope: Scope) -> Value:
        """U: the only hit."""
        return (
            hits[0]
            if len(hits) == 1
            else scope.run.note("hit_policy", "several rules of a unique table match")
        )

    def any(self, hits: list[Value], scope: Scope) -> Value:
        """A: all hits are equal."""
        if all(_same(hits[0], hit, scope.run) for hit in hits[1:]):
            return hits[0]
        return scope.run.note("hit_policy", "rules of an any table match with different outputs")

    def first(self, hits: list[Value], scope: Scope) -> Value:
        """F: the first hit in rule order."""
        return hits[0]

    def priority(self, hits: list[Value], scope: Scope) -> Value:
        """P: the hit whose output is listed first among the output values."""
        return self.output_order(hits, scope)[0]

    def rule_order(self, hits: list[Value], scope: Scope) -> Value:
        """R: all hits in rule order."""
        return hits

    def output_order(self, hits: list[Value], scope: Scope) -> list[Value]:
        """O: all hits in the order of the output values, the first output counting most."""
        orders = [_listed(output, scope) for output in self.outputs]

        def rank(hit: Value) -> tuple[int, ...]:
            parts = [hit] if len(self.outputs) == 1 else list(hit.values()) if isinstance(hit, dict) else []
            return tuple(
                next((i for i, known in enumerate(order) if _same(known, part, scope.run)), len(order))
                for order, part in zip(orders, parts, strict=True)
            )

        return sorted(hits, key=rank)

    def collect(self, hits: list[Value], scope: Scope) -> Value:
        """C, C+, C#, C<, C>: all hits, aggregated where the table says so."""
        if not self.aggregation:
            return hits
        return invoke(BUILTINS[self.aggregation], [hits], None, scope.run, None)


_APPLY: dict[str, Callable[[DecisionTable, list[Value], Scope], Value]] = {
    "UNIQUE": DecisionTable.unique,
    "ANY": DecisionTable.any,
    "PRIORITY": DecisionTable.priority,
    "FIRST": DecisionTable.first,
    "COLLECT": DecisionTable.collect,
    "RULE ORDER": DecisionTable.rule_order,
    "OUTPUT ORDER": DecisionTable.output_order,
}


def _satisfied(tests: Program, value: Value, scope: Scope) -> bool:
    return tests(Scope({"?": value}, scope, scope.run)) is True


def _conforming(feel_type: FeelType | None, value: Value) -> Value:
    return coerce(value, feel_type)[1]


def _same(left: Value, right: Value, run: Run) -> bool:
    return equal(left, right, run) is True


def _listed(output: Output, scope: Scope) -> list[Value]:
    values = None if output.priorities is None else output.priorities(scope)
    return values if isinstance(values, list) else []


def read_decision_table(element: XmlElement, names: Names) -> DecisionTable:
    """Compile a ``decisionTable`` element.

    Raises:
        DecisionModelError: A clause or rule is missing or malformed.
    """
    inputs = tuple(_input(clause, names) for clause in children(element, "input"))
    clauses = children(element, "output")
    outputs = tuple(_output(clause, names, single=len(clauses) == 1) for clause in clauses)
    policy = (element.get("hitPolicy") or "UNIQUE").upper()
    aggregation = (element.get("aggregation") or "").upper()
    problem: str | None = None
    if not outputs:
        problem = "the table has no output"
    elif policy not in _POLICIES:
        problem = f"the hit policy {policy[:40]!r} is not one of {', '.join(_POLICIES)}"
    elif aggregation and (aggregation not in _AGGREGATIONS or policy != "COLLECT" or len(outputs) > 1):
        problem = f"the aggregation {aggregation[:40]!r} needs COLLECT, one output, and a known name"
    if problem is not None:
        raise DecisionModelError("decision-table", problem, element=label_of(element), line=line_of(element))
    rules = tuple(_rule(rule, names, len(inputs), len(outputs)) for rule in children(element, "rule"))
    return DecisionTable(policy, _AGGREGATIONS.get(aggregation, ""), inputs, outputs, rules)


def _input(element: XmlElement, names: Names) -> Input:
    expression = child(element, "inputExpression")
    text = text_of(expression)
    if expression is None or not text:
        raise DecisionModelError(
            "decision-table", "an input has no expression", element=label_of(element), line=line_of(element)
        )
    allowed = text_of(child(element, "inputValues"))
    return Input(
        names.expression(text, expression),
        names.unary_tests(allowed, element) if allowed else None,
        names.type(expression),
    )


def _output(element: XmlElement, names: Names, *, single: bool) -> Output:
    values = text_of(child(element, "outputValues"))
    default = text_of(child(element, "defaultOutputEntry"))
    name = element.get("name") or element.get("label") or ("" if single else element.get("id") or "")
    return Output(
        name,
        names.expression(f"[{values}]", element) if values else None,
        names.expression(default, element) if default else None,
        names.type(element),
    )


def _rule(element: XmlElement, names: Names, inputs: int, outputs: int) -> Rule:
    tests, entries = children(element, "inputEntry"), children(element, "outputEntry")
    if len(tests) != inputs or len(entries) != outputs:
        raise DecisionModelError(
            "decision-table",
            f"a rule needs {inputs} input entries and {outputs} output entries",
            element=label_of(element),
            line=line_of(element),
        )
    return Rule(
        tuple(names.plus("?").unary_tests(text_of(entry), entry) for entry in tests),
        tuple(_entry(entry, names) for entry in entries),
    )


def _entry(element: XmlElement, names: Names) -> Program:
    text = text_of(element)
    return names.expression(text, element) if text and text != "-" else _nothing


def _nothing(scope: Scope) -> Any:
    return None
