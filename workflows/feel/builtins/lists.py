"""List functions (DMN 1.5 §10.3.4.4, table 75) and sort (table 80)."""

from decimal import Decimal
from functools import cmp_to_key

from workflows.feel.builtins.library import Library
from workflows.feel.errors import FeelBudgetError
from workflows.feel.invocation import invoke
from workflows.feel.runtime import Run
from workflows.feel.semantics import equal
from workflows.feel.types import MAX_VALUE_DEPTH
from workflows.feel.values import (
    Closure,
    Date,
    DaysTimeDuration,
    Function,
    Value,
    YearsMonthsDuration,
    whole,
)

LIBRARY = Library()


@LIBRARY("list contains(list: list, element: any)")
def list_contains(run: Run, items: list[Value], element: Value) -> Value:
    """Whether an item equals the element."""
    run.spend(len(items))
    return any(equal(item, element, run) is True for item in items)


@LIBRARY("count(list: list)")
def count(run: Run, items: list[Value]) -> Value:
    """Number of items."""
    return Decimal(len(items))


@LIBRARY("sublist(list: list, start position: number, length: number?)")
def sublist(run: Run, items: list[Value], position: Decimal, length: Decimal | None) -> Value:
    """Items from a position on; null where the range leaves the list."""
    start = _index(items, position)
    if start is None:
        return None
    rest = items[start:]
    run.spend(len(rest))
    if length is None:
        return rest
    taken = int(length.to_integral_value("ROUND_DOWN")) if length.adjusted() < 20 else 0
    return rest[:taken] if 1 <= taken <= len(rest) else None


@LIBRARY("append(list: list, item: any...)")
def append(run: Run, items: list[Value], more: list[Value]) -> Value:
    """The list with items behind it."""
    run.spend(len(items) + len(more))
    return [*items, *more]


@LIBRARY("concatenate(list: any...)")
def concatenate(run: Run, lists: list[Value]) -> Value:
    """All lists in one; null where one of them is null."""
    return _joined(run, lists)


@LIBRARY("union(list: any...)")
def union(run: Run, lists: list[Value]) -> Value:
    """All lists in one, without duplicates."""
    items = _joined(run, lists)
    return None if items is None else _distinct(run, items)


@LIBRARY("distinct values(list: list)")
def distinct_values(run: Run, items: list[Value]) -> Value:
    """The list without duplicates, first occurrences kept."""
    return _distinct(run, items)


@LIBRARY("insert before(list: list, position: number, newItem: any)")
def insert_before(run: Run, items: list[Value], position: Decimal, item: Value) -> Value:
    """The list with an item before a position."""
    index = _index(items, position)
    if index is None:
        return None
    run.spend(len(items) + 1)
    return [*items[:index], item, *items[index:]]


@LIBRARY("remove(list: list, position: number)")
def remove(run: Run, items: list[Value], position: Decimal) -> Value:
    """The list without the item at a position."""
    index = _index(items, position)
    if index is None:
        return None
    run.spend(len(items))
    return [*items[:index], *items[index + 1 :]]


@LIBRARY("list replace(list: list, position: number, newItem: any)")
def list_replace_position(run: Run, items: list[Value], position: Decimal, item: Value) -> Value:
    """The list with the item at a position replaced."""
    index = _index(items, position)
    if index is None:
        return None
    run.spend(len(items))
    return [*items[:index], item, *items[index + 1 :]]


@LIBRARY("list replace(list: list, match: function, newItem: any)")
def list_replace_match(run: Run, items: list[Value], match: Function, item: Value) -> Value:
    """The list with the items replaced that ``match(item, newItem)`` picks."""
    if isinstance(match, Closure) and len(match.parameters) != 2:
        return None
    replaced: list[Value] = []
    for current in items:
        verdict = invoke(match, [current, item], None, run, None)
        if not isinstance(verdict, bool):
            return None
        replaced.append(item if verdict else current)
    return replaced


@LIBRARY("reverse(list: list)")
def reverse(run: Run, items: list[Value]) -> Value:
    """The list backwards."""
    run.spend(len(items))
    return items[::-1]


@LIBRARY("index of(list: list, match: any)")
def index_of(run: Run, items: list[Value], match: Value) -> Value:
    """Positions of the items equal to a value."""
    run.spend(len(items))
    return [Decimal(n) for n, item in enumerate(items, 1) if equal(item, match, run) is True]


@LIBRARY("flatten(list: list)")
def flatten(run: Run, items: list[Value]) -> Value:
    """The items of nested lists in one list."""
    flat: list[Value] = []
    _flatten(run, items, flat, 0)
    return flat


@LIBRARY("sort(list: list, precedes: function)", "sort(list: list)")
def sort(run: Run, items: list[Value], precedes: Function | None = None) -> Value:
    """Sort stably; null where ``precedes`` is not a boolean function of two arguments."""
    if precedes is None:
        return None
    if isinstance(precedes, Closure) and len(precedes.parameters) != 2:
        return None
    undefined: list[Value] = []

    def before(a: Value, b: Value) -> bool:
        verdict = invoke(precedes, [a, b], None, run, None)
        if not isinstance(verdict, bool):
            undefined.append(verdict)
        return verdict is True

    def compare(a: Value, b: Value) -> int:
        if before(a, b):
            return -1
        return 1 if before(b, a) else 0

    run.spend(len(items))
    ordered = sorted(items, key=cmp_to_key(compare))
    return None if undefined else ordered


def _index(items: list[Value], position: Decimal) -> int | None:
    """Zero-based index of a position from 1 or from -1 backwards; None outside the list."""
    index = whole(position)
    if index is None or index == 0 or abs(index) > len(items):
        return None
    return index - 1 if index > 0 else len(items) + index


# Kinds whose equality is that of their Python values; times, for one, are equal by the second.
_HASHED = (bool, Decimal, str, Date, DaysTimeDuration, YearsMonthsDuration)


def _joined(run: Run, lists: list[Value]) -> list[Value] | None:
    joined: list[Value] = []
    for items in lists:
        if items is None:
            return None
        part: list[Value] = items if isinstance(items, list) else [items]
        run.spend(len(part))
        joined.extend(part)
    return joined


def _distinct(run: Run, items: list[Value]) -> list[Value]:
    distinct: list[Value] = []
    compound: list[Value] = []
    simple: set[tuple[type, Value]] = set()
    for item in items:
        if isinstance(item, _HASHED):
            run.spend(1 + (len(item) >> 4 if isinstance(item, str) else 0))
            key = (type(item), item)
            fresh = key not in simple
            simple.add(key)
        else:
            run.spend(1 + len(compound))
            fresh = not any(equal(known, item, run) is True for known in compound)
            compound.append(item)
        if fresh:
            distinct.append(item)
    return distinct


def _flatten(run: Run, items: list[Value], flat: list[Value], depth: int) -> None:
    if depth > MAX_VALUE_DEPTH:
        raise FeelBudgetError("value", MAX_VALUE_DEPTH)
    run.spend(1 + len(items))
    for item in items:
        if isinstance(item, list):
            _flatten(run, item, flat, depth + 1)
        else:
            flat.append(item)
