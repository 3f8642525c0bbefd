"""The abstract syntax of FEEL: one immutable node per construct of the grammar (DMN 1.5 §10.3.1.2).

Nodes compare by meaning; ``at``, the offset in the source, is ignored. Chains of one precedence
level (``a + b - c``, ``p and q and r``) are one node, so that long chains do not nest.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from workflows.feel.types import FeelType
from workflows.feel.values import Parameter, Value


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, boolean, null or at-literal."""

    value: Value


@dataclass(frozen=True, slots=True)
class Name:
    """A reference to something in scope; multi-word names have single spaces."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Path:
    """``base.name``: an entry, a property, or a projection over a list."""

    base: "Node"
    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Filter:
    """``base[condition]``: selection by position or by condition."""

    base: "Node"
    condition: "Node"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call with positional or named arguments, never both."""

    function: "Node"
    positional: tuple["Node", ...] = ()
    named: tuple[tuple[str, "Node"], ...] = ()
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negation:
    """``-operand``."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A chain of operators of one precedence level, evaluated from the left."""

    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right`` with one of ``= != < <= > >=``."""

    operator: str
    left: "Node"
    right: "Node"
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Between:
    """``value between low and high``."""

    value: "Node"
    low: "Node"
    high: "Node"


@dataclass(frozen=True, slots=True)
class In:
    """``value in test`` or ``value in (test, …)``."""

    value: "Node"
    tests: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Conjunction:
    """``a and b and …``."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """``a or b or …``."""

    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class InstanceOf:
    """``value instance of type``."""

    value: "Node"
    type: FeelType


@dataclass(frozen=True, slots=True)
class If:
    """``if condition then consequent else alternative``."""

    condition: "Node"
    consequent: "Node"
    alternative: "Node"


@dataclass(frozen=True, slots=True)
class Iterator:
    """``name in source`` or ``name in source .. end``."""

    name: str
    source: "Node"
    end: "Node | None" = None


@dataclass(frozen=True, slots=True)
class For:
    """``for iterators return result``."""

    iterators: tuple[Iterator, ...]
    result: "Node"


@dataclass(frozen=True, slots=True)
class Quantified:
    """``some|every iterators satisfies condition``."""

    every: bool
    iterators: tuple[Iterator, ...]
    condition: "Node"


@dataclass(frozen=True, slots=True)
class FunctionDefinition:
    """``function(parameters) body``; external ones keep their mapping and always give null."""

    parameters: tuple[Parameter, ...]
    body: "Node"
    external: bool = False


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """``[item, …]``."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class ContextLiteral:
    """``{key: value, …}`` in source order."""

    entries: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """``[start..end]`` with either end open or closed; None for an end left out."""

    start: "Node"
    end: "Node"
    start_included: bool
    end_included: bool


@dataclass(frozen=True, slots=True)
class UnaryComparison:
    """``operator endpoint`` without a left side: a range."""

    operator: str
    endpoint: "Node"


@dataclass(frozen=True, slots=True)
class UnaryTests:
    """The cell of a decision table: alternatives, negated alternatives, or ``-`` (no tests)."""

    tests: tuple["Node", ...]
    negated: bool = False


Node: TypeAlias = (
    Literal
    | Name
    | Path
    | Filter
    | Invocation
    | Negation
    | Arithmetic
    | Comparison
    | Between
    | In
    | Conjunction
    | Disjunction
    | InstanceOf
    | If
    | For
    | Quantified
    | FunctionDefinition
    | ListLiteral
    | ContextLiteral
    | Interval
    | UnaryComparison
    | UnaryTests
)


def children(node: Node | Iterator) -> list[Node]:
    """Direct sub-expressions of a node, in source order."""
    match node:
        case Path(base=child) | Negation(operand=child) | UnaryComparison(endpoint=child):
            found = [child]
        case InstanceOf(value=child) | FunctionDefinition(body=child):
            found = [child]
        case Filter(base=a, condition=b) | Comparison(left=a, right=b) | Interval(start=a, end=b):
            found = [a, b]
        case Between(value=a, low=b, high=c) | If(condition=a, consequent=b, alternative=c):
            found = [a, b, c]
        case Invocation():
            found = [node.function, *node.positional, *(value for _, value in node.named)]
        case Arithmetic():
            found = [node.first, *(operand for _, operand in node.rest)]
        case In():
            found = [node.value, *node.tests]
        case Conjunction(operands=many) | Disjunction(operands=many) | ListLiteral(items=many):
            found = list(many)
        case UnaryTests(tests=many):
            found = list(many)
        case ContextLiteral():
            found = [value for _, value in node.entries]
        case Iterator():
            found = [node.source] if node.end is None else [node.source, node.end]
        case For(iterators=iterators, result=last) | Quantified(iterators=iterators, condition=last):
            found = [child for iterator in iterators for child in children(iterator)]
            found.append(last)
        case _:
            found = []
    return found


def depth(root: Node) -> int:
    """Nesting of an expression, computed without recursion."""
    deepest, level = 0, [root]
    while level:
        deepest += 1
        level = [child for node in level for child in children(node)]
    return deepest
