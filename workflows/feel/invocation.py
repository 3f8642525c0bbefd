"""Invoking functions: closures and built-ins, by position or by name (DMN 1.5 §10.3.2.13.5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from workflows.feel.runtime import Run, Scope
from workflows.feel.types import coerce, named
from workflows.feel.values import (
    Closure,
    Date,
    DateTime,
    DaysTimeDuration,
    Function,
    Parameter,
    Range,
    Time,
    Value,
    YearsMonthsDuration,
)

DOMAINS: Mapping[str, tuple[type, ...]] = {
    "number": (Decimal,),
    "string": (str,),
    "boolean": (bool,),
    "date": (Date,),
    "time": (Time,),
    "date and time": (DateTime,),
    "day": (Date, DateTime),
    "moment": (Time, DateTime),
    "days and time duration": (DaysTimeDuration,),
    "magnitude": (Decimal, DaysTimeDuration, YearsMonthsDuration),
    "list": (list,),
    "context": (dict,),
    "function": (Function,),
    "range": (Range,),
    "point": (Decimal, str, Date, Time, DateTime, DaysTimeDuration, YearsMonthsDuration),
}
"""Domains of built-in parameters; besides these ``any`` admits null and ``not null`` does not."""

_DECLARED = ("number", "string", "boolean", "date", "time", "date and time", "days and time duration")


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a built-in.

    Attributes:
        name: Name for named arguments.
        domain: Name of its domain.
        optional: Whether it may be left out or null.
        many: Whether it takes all remaining positional arguments, as a list.
    """

    name: str
    domain: str
    optional: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """One of the ways to call a built-in."""

    slots: tuple[Slot, ...]
    implementation: Callable[..., Value]


class Builtin(Function):
    """A built-in function: the first signature that the arguments fit is applied."""

    __slots__ = ("name", "signatures")

    def __init__(self, name: str, signatures: Sequence[Signature]) -> None:
        slots = signatures[0].slots
        super().__init__(
            tuple(Parameter(s.name, named(s.domain) if s.domain in _DECLARED else None) for s in slots)
        )
        self.name = name
        self.signatures = tuple(signatures)


def invoke(
    function: Value,
    positional: Sequence[Value],
    keywords: Mapping[str, Value] | None,
    run: Run,
    at: int | None,
) -> Value:
    """Apply a function to evaluated arguments; null, with a diagnostic, where they do not fit.

    Raises:
        FeelBudgetError: The invocation exceeds the budget.
    """
    if isinstance(function, Closure):
        return _invoke_closure(function, positional, keywords, run, at)
    if isinstance(function, Builtin):
        return _invoke_builtin(function, positional, keywords, run, at)
    return run.note("invocation", "what is invoked is not a function", at)


def _invoke_closure(
    function: Closure,
    positional: Sequence[Value],
    keywords: Mapping[str, Value] | None,
    run: Run,
    at: int | None,
) -> Value:
    if function.body is None:
        return run.note("invocation", "external functions are refused", at)
    parameters = function.parameters
    if keywords is not None:
        if not keywords.keys() <= {parameter.name for parameter in parameters}:
            return run.note("invocation", "a named argument has no parameter of that name", at)
        positional = [keywords.get(parameter.name) for parameter in parameters]
    if len(positional) != len(parameters):
        return run.note("invocation", f"the function takes {len(parameters)} arguments", at)
    names: dict[str, Any] = {}
    for parameter, argument in zip(parameters, positional, strict=True):
        conforms, names[parameter.name] = coerce(argument, parameter.type)
        if not conforms:
            return run.note("invocation", f"the argument {parameter.name!r} has the wrong type", at)
    run.spend(function.size)
    run.descend(function.depth + 1)
    result = function.body(Scope(names, function.scope, run))
    run.ascend(function.depth + 1)
    return result


def _invoke_builtin(
    function: Builtin,
    positional: Sequence[Value],
    keywords: Mapping[str, Value] | None,
    run: Run,
    at: int | None,
) -> Value:
    run.spend(1 + len(positional))
    for signature in function.signatures:
        arguments = (
            _by_position(signature.slots, positional)
            if keywords is None
            else _by_name(signature.slots, keywords)
        )
        bound = None if arguments is None else _bind(signature.slots, arguments)
        if bound is not None:
            result = signature.implementation(run, *bound)
            if result is None:
                run.note("builtin", f"{function.name}() is null for these arguments", at)
            return result
    return run.note("invocation", f"no form of {function.name}() takes these arguments", at)


def _by_position(slots: tuple[Slot, ...], positional: Sequence[Value]) -> list[Value] | None:
    if slots and slots[-1].many:
        fixed = len(slots) - 1
        if len(positional) <= fixed:
            return None
        return [*positional[:fixed], list(positional[fixed:])]
    if len(positional) > len(slots) or any(not s.optional for s in slots[len(positional) :]):
        return None
    return [*positional, *([None] * (len(slots) - len(positional)))]


def _by_name(slots: tuple[Slot, ...], keywords: Mapping[str, Value]) -> list[Value] | None:
    if not keywords.keys() <= {slot.name for slot in slots}:
        return None
    values = [keywords.get(slot.name) for slot in slots]
    if slots and slots[-1].many:
        values[-1] = [values[-1]]
    return values


def _bind(slots: tuple[Slot, ...], arguments: list[Value]) -> list[Value] | None:
    bound: list[Value] = []
    for slot, argument in zip(slots, arguments, strict=True):
        if slot.many and isinstance(argument, list):
            if slot.domain != "any" and not all(_fits(slot.domain, item) for item in argument):
                return None
            bound.append(argument)
            continue
        if argument is None and slot.optional:
            bound.append(None)
            continue
        value = argument
        if not _fits(slot.domain, value):
            if isinstance(value, list) and len(value) == 1 and _fits(slot.domain, value[0]):
                value = value[0]
            elif slot.domain == "list" and value is not None:
                value = [value]
            else:
                return None
        bound.append(value)
    return bound


def _fits(domain: str, value: Value) -> bool:
    if domain == "any":
        return True
    if domain == "not null":
        return value is not None
    # bool is no number and str no list: the exact types decide, functions excepted.
    types = DOMAINS[domain]
    return isinstance(value, Function) if types is DOMAINS["function"] else type(value) in types
