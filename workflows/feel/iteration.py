"""Iterating over lists and ranges in for, some and every (DMN 1.5 §10.3.2.14)."""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TypeAlias

from workflows.feel import calendar, syntax
from workflows.feel.program import Program
from workflows.feel.runtime import Scope
from workflows.feel.values import Date, Range, Value, whole

Source: TypeAlias = tuple[str, Callable[[Scope], "Iterable[Value] | None"]]
"""A variable's name, and what gives the values it takes in a scope; None if it cannot."""


def source(iterator: syntax.Iterator, compile_node: Callable[[syntax.Node], Program]) -> Source:
    """Compile one iterator."""
    start = compile_node(iterator.source)
    if iterator.end is None:
        return iterator.name, lambda scope: elements(start(scope))
    end = compile_node(iterator.end)
    return iterator.name, lambda scope: _between(start(scope), end(scope))


def bindings(sources: list[Source], scope: Scope, index: int = 0) -> Iterator[Scope | None]:
    """Scopes for the cross product of the iterators, the last one varying fastest.

    Yields:
        One scope per combination; None, and then nothing more, where a source cannot be iterated.
    """
    if index == len(sources):
        yield scope
        return
    name, items_in = sources[index]
    items = items_in(scope)
    if items is None:
        yield None
        return
    run = scope.run
    for item in items:
        run.spend(1)
        for inner in bindings(sources, Scope({name: item}, scope, run), index + 1):
            yield inner
            if inner is None:
                return


def elements(value: Value) -> Iterable[Value] | None:
    """What a list or range is iterated as; None for everything else."""
    if isinstance(value, list):
        return list(value)
    if isinstance(value, Range) and value.operator == "..":
        return _of_range(value)
    return None


def _of_range(value: Range) -> Iterable[Value] | None:
    items = _between(value.start, value.end)
    if items is None:
        return None

    def members() -> Iterator[Value]:
        for item in items:
            if item == value.start and not value.start_included:
                continue
            if item == value.end and not value.end_included:
                continue
            yield item

    return members()


def _between(start: Value, end: Value) -> Iterable[Value] | None:
    """Consecutive integers or days, upwards or downwards, both ends included."""
    if isinstance(start, Date) and isinstance(end, Date):
        return _count(calendar.day_number(start), calendar.day_number(end), calendar.date_of)
    low, high = whole(start), whole(end)
    return None if low is None or high is None else _count(low, high, Decimal)


def _count(start: int, end: int, make: Callable[[int], Value]) -> Iterator[Value]:
    step = 1 if end >= start else -1
    return (make(position) for position in range(start, end + step, step))
