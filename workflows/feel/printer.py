"""Abstract syntax back to text; what is printed parses to the same tree.

Sub-expressions are parenthesised wherever precedence could change their meaning, so the text is
canonical rather than pretty. Names that hold operators need the same `names` to be read back.
"""

from decimal import Decimal

from workflows.feel.conversion import temporal_text
from workflows.feel.formatting import format_key, format_number, quote
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
)
from workflows.feel.types import ContextType, FeelType, FunctionType, ListType, NamedType, RangeType
from workflows.feel.values import Value

_SELF_CONTAINED = (Name, ListLiteral, ContextLiteral, Path, Filter, Invocation, Interval)


def print_expression(node: Node) -> str:
    """Text of an expression or of unary tests."""
    match node:
        case Literal(value):
            return _literal(value)
        case Name(name):
            return name
        case UnaryTests():
            tests = ", ".join(map(print_expression, node.tests))
            return "-" if not node.tests else f"not({tests})" if node.negated else tests
        case ListLiteral(items):
            return f"[{', '.join(map(print_expression, items))}]"
        case ContextLiteral(entries):
            return "{" + ", ".join(f"{format_key(k)}: {print_expression(v)}" for k, v in entries) + "}"
        case Path() | Filter() | Invocation() | InstanceOf():
            return _postfix(node)
        case If() | For() | Quantified() | FunctionDefinition():
            return _construct(node)
        case _:
            return _operation(node)


def print_type(feel_type: FeelType) -> str:
    """Text of a type."""
    match feel_type:
        case NamedType(name):
            return name
        case ListType(item):
            return f"list<{print_type(item)}>"
        case RangeType(endpoint):
            return f"range<{print_type(endpoint)}>"
        case ContextType(entries):
            return f"context<{', '.join(f'{name}: {print_type(entry)}' for name, entry in entries)}>"
        case FunctionType(parameters, result):
            return f"function<{', '.join(map(print_type, parameters))}>->{print_type(result)}"


def _literal(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        plain = format_number(value)
        return plain if len(plain) <= 60 else str(value)
    if isinstance(value, str):
        return quote(value)
    return f'@"{temporal_text(value)}"'


def _atom(node: Node) -> str:
    """Text that no neighbouring operator can pull apart."""
    text = print_expression(node)
    loose = isinstance(node, Literal) and isinstance(node.value, Decimal) and node.value.is_signed()
    return text if isinstance(node, (*_SELF_CONTAINED, Literal)) and not loose else f"({text})"


def _postfix(node: Path | Filter | Invocation | InstanceOf) -> str:
    match node:
        case Path(base, name):
            # A number in front of the dot would swallow it.
            return (
                f"({print_expression(base)}).{name}" if isinstance(base, Literal) else f"{_atom(base)}.{name}"
            )
        case Filter(base, condition):
            return f"{_atom(base)}[{print_expression(condition)}]"
        case InstanceOf(value, feel_type):
            return f"{_atom(value)} instance of {print_type(feel_type)}"
        case Invocation():
            named = [f"{name}: {print_expression(value)}" for name, value in node.named]
            arguments = ", ".join([*map(print_expression, node.positional), *named])
            return f"{_atom(node.function)}({arguments})"


def _construct(node: If | For | Quantified | FunctionDefinition) -> str:
    match node:
        case If(condition, consequent, alternative):
            parts = [print_expression(part) for part in (condition, consequent, alternative)]
            return f"if {parts[0]} then {parts[1]} else {parts[2]}"
        case For(iterators, result):
            return f"for {_iterators(iterators)} return {print_expression(result)}"
        case Quantified(every, iterators, condition):
            kind = "every" if every else "some"
            return f"{kind} {_iterators(iterators)} satisfies {print_expression(condition)}"
        case FunctionDefinition():
            parameters = ", ".join(
                p.name if p.type is None else f"{p.name}: {print_type(p.type)}" for p in node.parameters
            )
            external = "external " if node.external else ""
            return f"function({parameters}) {external}{print_expression(node.body)}"


def _iterators(iterators: tuple[Iterator, ...]) -> str:
    return ", ".join(
        f"{i.name} in {_atom(i.source)}" + ("" if i.end is None else f"..{_atom(i.end)}") for i in iterators
    )


def _operation(node: Node) -> str:
    match node:
        case Negation(operand):
            return (
                f"-{_atom(operand)}"
                if not isinstance(operand, Literal)
                else f"-({print_expression(operand)})"
            )
        case Arithmetic(first, rest):
            return _atom(first) + "".join(f" {operator} {_atom(operand)}" for operator, operand in rest)
        case Comparison(operator, left, right):
            return f"{_atom(left)} {operator} {_atom(right)}"
        case Between(value, low, high):
            return f"{_atom(value)} between {_atom(low)} and {_atom(high)}"
        case In(value, tests):
            return f"{_atom(value)} in ({', '.join(map(print_expression, tests))})"
        case Conjunction(operands):
            return " and ".join(map(_atom, operands))
        case Disjunction(operands):
            return " or ".join(map(_atom, operands))
        case Interval(start, end, start_included, end_included):
            opening, closing = "[" if start_included else "(", "]" if end_included else ")"
            return f"{opening}{_atom(start)}..{_atom(end)}{closing}"
        case UnaryComparison(operator, endpoint):
            return f"{operator} {_atom(endpoint)}"
        case _:
            return print_expression(node)
