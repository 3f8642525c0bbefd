"""List functions that reduce a list to one value (DMN 1.5 §10.3.4.4, table 75).

Each takes one list, or its items as separate arguments.
"""

from decimal import Decimal

from workflows.feel.builtins.library import Library
from workflows.feel.runtime import Run
from workflows.feel.semantics import order
from workflows.feel.values import DECIMAL, ZERO, Value, number

LIBRARY = Library()


def _items(arguments: list[Value]) -> list[Value] | None:
    """The list meant by the arguments: the only argument where it is a list, else all of them."""
    if len(arguments) == 1:
        only = arguments[0]
        if only is None:
            return None
        return only if isinstance(only, list) else [only]
    return arguments


def _numbers(run: Run, arguments: list[Value]) -> list[Decimal] | None:
    items = _items(arguments)
    if items is None:
        return None
    run.spend(len(items))
    numbers = [item for item in items if isinstance(item, Decimal)]
    return numbers if len(numbers) == len(items) else None


def _sum(numbers: list[Decimal]) -> Decimal:
    total = ZERO
    for item in numbers:
        total = DECIMAL.add(total, item)
    return total


def _extreme(run: Run, arguments: list[Value], sign: int) -> Value:
    items = _items(arguments)
    if not items:
        return None
    run.spend(len(items))
    best = items[0]
    if order(best, best) is None:
        return None
    for item in items[1:]:
        relation = order(item, best)
        if relation is None:
            return None
        if relation * sign > 0:
            best = item
    return best


@LIBRARY("min(list: any...)")
def minimum(run: Run, arguments: list[Value]) -> Value:
    """Least item; null for no items or items that cannot be compared."""
    return _extreme(run, arguments, -1)


@LIBRARY("max(list: any...)")
def maximum(run: Run, arguments: list[Value]) -> Value:
    """Greatest item; null for no items or items that cannot be compared."""
    return _extreme(run, arguments, 1)


@LIBRARY("sum(list: any...)")
def total(run: Run, arguments: list[Value]) -> Value:
    """Sum; null for no numbers."""
    numbers = _numbers(run, arguments)
    return number(_sum(numbers)) if numbers else None


@LIBRARY("mean(list: any...)")
def mean(run: Run, arguments: list[Value]) -> Value:
    """Arithmetic mean; null for no numbers."""
    numbers = _numbers(run, arguments)
    return number(DECIMAL.divide(_sum(numbers), Decimal(len(numbers)))) if numbers else None


@LIBRARY("product(list: any...)")
def product(run: Run, arguments: list[Value]) -> Value:
    """Product; null for no numbers."""
    numbers = _numbers(run, arguments)
    if not numbers:
        return None
    result = Decimal(1)
    for item in numbers:
        result = DECIMAL.multiply(result, item)
    return number(result)


@LIBRARY("median(list: any...)")
def median(run: Run, arguments: list[Value]) -> Value:
    """Middle number, or the mean of both middle ones."""
    numbers = _numbers(run, arguments)
    if not numbers:
        return None
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return number(DECIMAL.divide(DECIMAL.add(ordered[middle - 1], ordered[middle]), Decimal(2)))


@LIBRARY("stddev(list: any...)")
def standard_deviation(run: Run, arguments: list[Value]) -> Value:
    """Sample standard deviation; null for fewer than two numbers."""
    numbers = _numbers(run, arguments)
    if not numbers or len(numbers) < 2:
        return None
    average = DECIMAL.divide(_sum(numbers), Decimal(len(numbers)))
    squares = [DECIMAL.power(DECIMAL.subtract(item, average), Decimal(2)) for item in numbers]
    return number(DECIMAL.sqrt(DECIMAL.divide(_sum(squares), Decimal(len(numbers) - 1))))


@LIBRARY("mode(list: any...)")
def mode(run: Run, arguments: list[Value]) -> Value:
    """The most frequent numbers, ascending."""
    numbers = _numbers(run, arguments)
    if numbers is None:
        return None
    counts: dict[Decimal, int] = {}
    for item in numbers:
        counts[item] = counts.get(item, 0) + 1
    most = max(counts.values(), default=0)
    return sorted(item for item, times in counts.items() if times == most)


@LIBRARY("all(list: any...)")
def every_true(run: Run, arguments: list[Value]) -> Value:
    """False if any item is false, true if all are true, else null."""
    items = _items(arguments)
    if items is None:
        return None
    run.spend(len(items))
    if any(item is False for item in items):
        return False
    return True if all(item is True for item in items) else None


@LIBRARY("any(list: any...)")
def some_true(run: Run, arguments: list[Value]) -> Value:
    """True if any item is true, false if all are false, else null."""
    items = _items(arguments)
    if items is None:
        return None
    run.spend(len(items))
    if any(item is True for item in items):
        return True
    return False if all(item is False for item in items) else None
