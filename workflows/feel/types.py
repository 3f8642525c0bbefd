"""The type lattice of FEEL (DMN 1.5 §10.3.2.9) and conformance of values to types."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from workflows.feel.errors import FeelBudgetError
from workflows.feel.values import (
    Closure,
    Date,
    DateTime,
    DaysTimeDuration,
    Function,
    Range,
    Time,
    Value,
    YearsMonthsDuration,
)

MAX_VALUE_DEPTH = 100
"""Values nested deeper than this are refused wherever a whole value is walked."""


@dataclass(frozen=True, slots=True)
class NamedType:
    """A type known by its name: a built-in simple type, Any, Null, or an item definition's name."""

    name: str


@dataclass(frozen=True, slots=True)
class ListType:
    """``list<item>``."""

    item: "FeelType"


@dataclass(frozen=True, slots=True)
class RangeType:
    """``range<endpoint>``."""

    endpoint: "FeelType"


@dataclass(frozen=True, slots=True)
class ContextType:
    """``context<name: type, …>``."""

    entries: tuple[tuple[str, "FeelType"], ...]


@dataclass(frozen=True, slots=True)
class FunctionType:
    """``function<parameter, …> -> result``."""

    parameters: tuple["FeelType", ...]
    result: "FeelType"


FeelType: TypeAlias = NamedType | ListType | RangeType | ContextType | FunctionType

ANY = NamedType("Any")
NULL = NamedType("Null")
NUMBER = NamedType("number")
STRING = NamedType("string")
BOOLEAN = NamedType("boolean")

SIMPLE_TYPES: Mapping[str, type] = {
    "number": Decimal,
    "string": str,
    "boolean": bool,
    "date": Date,
    "time": Time,
    "date and time": DateTime,
    "days and time duration": DaysTimeDuration,
    "years and months duration": YearsMonthsDuration,
}
_ALIASES = {
    "dateTime": "date and time",
    "dayTimeDuration": "days and time duration",
    "yearMonthDuration": "years and months duration",
    "day and time duration": "days and time duration",
    "year and month duration": "years and months duration",
}
_TYPE_NAMES: Mapping[type, FeelType] = {python: NamedType(name) for name, python in SIMPLE_TYPES.items()}


def named(name: str) -> NamedType:
    """The type of that name; the camel-case spellings of `typeRef` attributes are understood."""
    return NamedType(_ALIASES.get(name, name))


def simple_type_of(value: Value) -> FeelType:
    """Type of a value without looking inside lists, contexts, ranges and functions."""
    return _TYPE_NAMES.get(type(value), NULL if value is None else ANY)


def resolve(feel_type: FeelType, definitions: Mapping[str, FeelType], depth: int = 0) -> FeelType | None:
    """Replace item definitions' names by what they stand for.

    Returns:
        The type made of built-in types only, or None where a name is unknown or refers to itself.
    """
    if depth > MAX_VALUE_DEPTH:
        return None
    match feel_type:
        case NamedType(name):
            if name in SIMPLE_TYPES or name in ("Any", "Null"):
                return feel_type
            target = definitions.get(name)
            return None if target is None else resolve(target, definitions, depth + 1)
        case ListType(item):
            inner = resolve(item, definitions, depth + 1)
            return None if inner is None else ListType(inner)
        case RangeType(endpoint):
            inner = resolve(endpoint, definitions, depth + 1)
            return None if inner is None else RangeType(inner)
        case ContextType(entries):
            resolved = [(name, resolve(entry, definitions, depth + 1)) for name, entry in entries]
            known = tuple((name, entry) for name, entry in resolved if entry is not None)
            return ContextType(known) if len(known) == len(resolved) else None
        case FunctionType(parameters, result):
            inners = [resolve(parameter, definitions, depth + 1) for parameter in parameters]
            outcome = resolve(result, definitions, depth + 1)
            known_inners = tuple(inner for inner in inners if inner is not None)
            if outcome is None or len(known_inners) != len(inners):
                return None
            return FunctionType(known_inners, outcome)


def type_conforms(actual: FeelType, expected: FeelType) -> bool:
    """Whether values of one type may stand where another type is expected (§10.3.2.9.2)."""
    if expected == ANY or actual in (expected, NULL):
        return True
    match actual, expected:
        case (ListType(a), ListType(b)) | (RangeType(a), RangeType(b)):
            return type_conforms(a, b)
        case ContextType(have), ContextType(want):
            entries = dict(have)
            return all(name in entries and type_conforms(entries[name], entry) for name, entry in want)
        case FunctionType(params_a, result_a), FunctionType(params_b, result_b):
            return (
                len(params_a) == len(params_b)
                and all(type_conforms(b, a) for a, b in zip(params_a, params_b, strict=True))
                and type_conforms(result_a, result_b)
            )
        case _:
            return False


def value_conforms(value: Value, expected: FeelType, depth: int = 0) -> bool:
    """Whether a value belongs to a resolved type; null belongs to every type (§10.3.2.9.2).

    Raises:
        FeelBudgetError: The value is nested too deeply.
    """
    if value is None or expected == ANY:
        return True
    if depth > MAX_VALUE_DEPTH:
        raise FeelBudgetError("value", MAX_VALUE_DEPTH)
    match expected:
        case NamedType(name):
            return type(value) is SIMPLE_TYPES.get(name)
        case ListType(item):
            return isinstance(value, list) and all(value_conforms(x, item, depth + 1) for x in value)
        case ContextType(entries):
            return isinstance(value, dict) and all(
                name in value and value_conforms(value[name], entry, depth + 1) for name, entry in entries
            )
        case RangeType(endpoint):
            return isinstance(value, Range) and all(
                value_conforms(end, endpoint, depth + 1) for end in (value.start, value.end)
            )
        case FunctionType():
            return isinstance(value, Function) and type_conforms(function_type(value), expected)


def function_type(function: Function) -> FunctionType:
    """Signature of a function; what it does not declare is Any."""
    result = function.result if isinstance(function, Closure) else None
    return FunctionType(tuple(p.type or ANY for p in function.parameters), result or ANY)


def coerce(value: Value, expected: FeelType | None) -> tuple[bool, Value]:
    """Bind a value to something typed, with the implicit singleton conversions (§10.3.2.9.4).

    Returns:
        Whether the value conforms before or after conversion, and the converted value.
    """
    if expected is None or value_conforms(value, expected):
        return True, value
    if isinstance(value, list) and len(value) == 1 and value_conforms(value[0], expected):
        return True, value[0]
    if (
        isinstance(expected, ListType)
        and not isinstance(value, list)
        and value_conforms(value, expected.item)
    ):
        return True, [value]
    return False, None
