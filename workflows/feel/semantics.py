"""Equality, order, arithmetic and properties of values (DMN 1.5 §10.3.2.15, tables 53 to 66).

Every function returns null where the table defines nothing.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from workflows.feel import calendar
from workflows.feel.errors import FeelBudgetError
from workflows.feel.runtime import Run
from workflows.feel.types import MAX_VALUE_DEPTH
from workflows.feel.values import (
    DECIMAL,
    NANOSECONDS,
    ZERO,
    Date,
    DateTime,
    DaysTimeDuration,
    Function,
    Range,
    Time,
    Value,
    YearsMonthsDuration,
    number,
    whole,
)

Temporal = Date | Time | DateTime | DaysTimeDuration | YearsMonthsDuration


# Equality (table 53)


def equal(left: Value, right: Value, run: Run, depth: int = 0) -> bool | None:
    """``left = right``: true, false, or null for values of different kinds."""
    if left is None or right is None:
        return left is right
    kind = type(left)
    if kind is not type(right):
        return (left is right) if isinstance(left, Function) and isinstance(right, Function) else None
    if isinstance(left, list | dict | Range):
        return _equal_structures(left, right, run, depth)
    if isinstance(left, str):
        run.spend(1 + (len(left) >> 4))
        return left == right
    if isinstance(left, Time | DateTime) and isinstance(right, Time | DateTime):
        return _seconds_apart(left, right) == 0
    if isinstance(left, Function):
        return left is right
    return left == right


def _equal_structures(left: Value, right: Value, run: Run, depth: int) -> bool:
    if depth > MAX_VALUE_DEPTH:
        raise FeelBudgetError("value", MAX_VALUE_DEPTH)
    if isinstance(left, list) and isinstance(right, list):
        run.spend(1 + min(len(left), len(right)))
        return len(left) == len(right) and all(
            equal(a, b, run, depth + 1) is True for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        run.spend(1 + min(len(left), len(right)))
        return left.keys() == right.keys() and all(
            equal(value, right[key], run, depth + 1) is True for key, value in left.items()
        )
    if isinstance(left, Range) and isinstance(right, Range):
        return (
            (left.operator, left.start_included, left.end_included)
            == (right.operator, right.start_included, right.end_included)
            and equal(left.start, right.start, run, depth + 1) is True
            and equal(left.end, right.end, run, depth + 1) is True
        )
    return False


def identical(left: Value, right: Value, run: Run) -> bool:
    """``is(left, right)``: the same element of the semantic domain, offsets and zones included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Time | DateTime):
        return left == right
    return equal(left, right, run) is True


def _seconds_apart(left: Time | DateTime, right: Time | DateTime) -> int:
    """Difference in whole seconds: equality of times does not look at fractions of a second."""
    a, b = _aligned(left, right)
    return a // NANOSECONDS - b // NANOSECONDS


# Order (table 54)


def _aligned(left: Time | DateTime, right: Time | DateTime) -> tuple[int, int]:
    """Both as nanoseconds on one axis; a local value takes the other one's offset."""
    if isinstance(left, DateTime) and isinstance(right, DateTime):
        a, b = calendar.local_nanoseconds(left), calendar.local_nanoseconds(right)
        offsets = calendar.offset_of(left.time, left.date), calendar.offset_of(right.time, right.date)
    elif isinstance(left, Time) and isinstance(right, Time):
        a, b = calendar.nanosecond_of_day(left), calendar.nanosecond_of_day(right)
        offsets = calendar.offset_of(left, None), calendar.offset_of(right, None)
    else:
        raise TypeError("times and dates and times have no common axis")
    if offsets[0] is None or offsets[1] is None:
        return a, b
    return a - offsets[0] * NANOSECONDS, b - offsets[1] * NANOSECONDS


def order(left: Value, right: Value) -> int | None:
    """Negative, zero or positive as left is before, with or after right; None if not comparable."""
    kind = type(left)
    if kind is not type(right):
        return None
    if isinstance(left, Time | DateTime) and isinstance(right, Time | DateTime):
        a, b = _aligned(left, right)
        return (a > b) - (a < b)
    key = _SORT_KEYS.get(kind)
    if key is None:
        return None
    x, y = key(left), key(right)
    return (x > y) - (x < y)


_SORT_KEYS: dict[type, Callable[[Any], Any]] = {
    Decimal: lambda value: value,
    str: lambda value: value,
    Date: lambda value: (value.year, value.month, value.day),
    DaysTimeDuration: lambda value: value.nanoseconds,
    YearsMonthsDuration: lambda value: value.months,
}

_ORDER_TESTS: dict[str, Callable[[int], bool]] = {
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    ">": lambda sign: sign > 0,
    ">=": lambda sign: sign >= 0,
}


def compare(operator: str, left: Value, right: Value, run: Run) -> bool | None:
    """``left operator right`` for any of the six comparison operators."""
    if operator == "=":
        return equal(left, right, run)
    if operator == "!=":
        result = equal(left, right, run)
        return None if result is None else not result
    sign = order(left, right)
    if sign is None:
        return None
    # <= is defined as < or =, and = does not look at fractions of a second.
    if sign and operator in ("<=", ">=") and isinstance(left, Time | DateTime) and equal(left, right, run):
        return True
    return _ORDER_TESTS[operator](sign)


def includes(container: Range, value: Value, run: Run) -> bool | None:
    """Whether a value lies in a range; null if it cannot be compared with the ends."""
    operator = container.operator
    if operator != "..":
        end = container.start if operator in (">", ">=", "=", "!=") else container.end
        return compare(operator, value, end, run)
    low: bool | None = True
    high: bool | None = True
    if container.start is not None:
        low = compare(">=" if container.start_included else ">", value, container.start, run)
    if container.end is not None:
        high = compare("<=" if container.end_included else "<", value, container.end, run)
    return both(low, high)


def both(left: Value, right: Value) -> bool | None:
    """Ternary and (table 50)."""
    if left is False or right is False:
        return False
    return True if left is True and right is True else None


def either(left: Value, right: Value) -> bool | None:
    """Ternary or (table 50)."""
    if left is True or right is True:
        return True
    return False if left is False and right is False else None


def negate(value: Value) -> bool | None:
    """Ternary not (table 51)."""
    return (not value) if isinstance(value, bool) else None


# Arithmetic (tables 56 to 60)


def arithmetic(operator: str, left: Value, right: Value, run: Run) -> Value:
    """``left operator right``; null where the operands do not fit."""
    return _OPERATIONS[operator](left, right, run)


def add(left: Value, right: Value, run: Run) -> Value:
    """``left + right`` (tables 56, 57)."""
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return number(DECIMAL.add(left, right))
    if isinstance(left, str) and isinstance(right, str):
        run.produce(len(left) + len(right))
        return left + right
    if isinstance(left, YearsMonthsDuration | DaysTimeDuration):
        if type(left) is type(right):
            return _sum(left, right, 1)
        left, right = right, left
    return _shift(left, right, 1)


def subtract(left: Value, right: Value, run: Run) -> Value:
    """``left - right`` (tables 56, 57)."""
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return number(DECIMAL.subtract(left, right))
    if isinstance(left, YearsMonthsDuration | DaysTimeDuration):
        return _sum(left, right, -1)
    if isinstance(left, Time) and isinstance(right, Time):
        a, b = calendar.offset_of(left, None), calendar.offset_of(right, None)
        if (a is None) != (b is None):
            return None
        return DaysTimeDuration(_aligned(left, right)[0] - _aligned(left, right)[1])
    if isinstance(left, Date | DateTime) and isinstance(right, Date | DateTime):
        return _difference(left, right)
    return _shift(left, right, -1)


_LONGEST = 10**40
"""Durations beyond this many months or nanoseconds are out of range."""


def _sum(left: Value, right: Value, sign: int) -> Value:
    if isinstance(left, YearsMonthsDuration) and isinstance(right, YearsMonthsDuration):
        months = left.months + sign * right.months
        return YearsMonthsDuration(months) if abs(months) < _LONGEST else None
    if isinstance(left, DaysTimeDuration) and isinstance(right, DaysTimeDuration):
        length = left.nanoseconds + sign * right.nanoseconds
        return DaysTimeDuration(length) if abs(length) < _LONGEST else None
    return None


def _difference(left: Date | DateTime, right: Date | DateTime) -> Value:
    """Length between two points; a date beside a date and time is its midnight in UTC."""
    if isinstance(left, Date) and isinstance(right, Date):
        return DaysTimeDuration((calendar.day_number(left) - calendar.day_number(right)) * calendar.DAY)
    midnight = Time(0, 0, 0, 0, 0)
    a = left if isinstance(left, DateTime) else DateTime(left, midnight)
    b = right if isinstance(right, DateTime) else DateTime(right, midnight)
    start, end = calendar.instant(b), calendar.instant(a)
    if start is None and end is None:
        return DaysTimeDuration(calendar.local_nanoseconds(a) - calendar.local_nanoseconds(b))
    return None if start is None or end is None else DaysTimeDuration(end - start)


def _shift(point: Value, duration: Value, sign: int) -> Value:
    """Move a date, time or date and time by a duration."""
    if isinstance(duration, YearsMonthsDuration):
        if isinstance(point, Date):
            return calendar.add_months(point, sign * duration.months)
        if isinstance(point, DateTime):
            date = calendar.add_months(point.date, sign * duration.months)
            return None if date is None else DateTime(date, point.time)
    if isinstance(duration, DaysTimeDuration):
        length = sign * duration.nanoseconds
        if isinstance(point, Date):
            return calendar.date_of((calendar.day_number(point) * calendar.DAY + length) // calendar.DAY)
        if isinstance(point, Time):
            return calendar.time_of(calendar.nanosecond_of_day(point) + length, point)
        if isinstance(point, DateTime):
            moment = calendar.instant(point)
            if moment is None:
                return calendar.date_time_of(calendar.local_nanoseconds(point) + length, point.time)
            return calendar.in_zone_of(moment + length, point.time)
    return None


def multiply(left: Value, right: Value, run: Run) -> Value:
    """``left * right`` (tables 58, 59)."""
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return number(DECIMAL.multiply(left, right))
    if isinstance(left, Decimal):
        left, right = right, left
    return _scale(left, right, DECIMAL.multiply)


def divide(left: Value, right: Value, run: Run) -> Value:
    """``left / right``; null when dividing by zero (tables 58, 59)."""
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return number(DECIMAL.divide(left, right))
    if isinstance(left, YearsMonthsDuration) and isinstance(right, YearsMonthsDuration):
        return number(DECIMAL.divide(Decimal(left.months), Decimal(right.months)))
    if isinstance(left, DaysTimeDuration) and isinstance(right, DaysTimeDuration):
        return number(DECIMAL.divide(Decimal(left.nanoseconds), Decimal(right.nanoseconds)))
    return _scale(left, right, DECIMAL.divide)


def _scale(
    duration: Value, factor: Value, operation: Callable[[Decimal, Decimal], Decimal]
) -> YearsMonthsDuration | DaysTimeDuration | None:
    """Multiply or divide a duration; months are truncated, nanoseconds rounded half to even."""
    if not isinstance(factor, Decimal):
        return None
    if isinstance(duration, YearsMonthsDuration):
        months = number(operation(Decimal(duration.months), factor))
        return None if months is None or months.adjusted() > 40 else YearsMonthsDuration(int(months))
    if isinstance(duration, DaysTimeDuration):
        length = number(operation(Decimal(duration.nanoseconds), factor))
        if length is None or length.adjusted() > 40:
            return None
        return DaysTimeDuration(int(length.to_integral_value()))
    return None


def power(left: Value, right: Value, run: Run) -> Value:
    """``left ** right`` (table 60)."""
    if not isinstance(left, Decimal) or not isinstance(right, Decimal) or abs(right) > 999_999_999:
        return None
    # 0 ** 0 is 1, as for Java's BigDecimal; decimal arithmetic leaves it undefined.
    if not left and not right:
        return Decimal(1)
    return number(DECIMAL.power(left, right))


def opposite(value: Value) -> Value:
    """``-value`` for numbers and durations."""
    if isinstance(value, Decimal):
        return number(DECIMAL.minus(value)) if value else ZERO
    if isinstance(value, YearsMonthsDuration):
        return YearsMonthsDuration(-value.months)
    if isinstance(value, DaysTimeDuration):
        return DaysTimeDuration(-value.nanoseconds)
    return None


_OPERATIONS: dict[str, Callable[[Value, Value, Run], Value]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "**": power,
}


# Selection and properties (tables 64 to 69)


def item_at(items: list[Value], position: Value) -> Value:
    """``items[position]``: from 1, or from -1 backwards; null outside the list."""
    index = whole(position)
    if index is None or index == 0 or abs(index) > len(items):
        return None
    return items[index - 1 if index > 0 else index]


def has_property(value: Value, name: str) -> bool:
    """Whether values of this kind have such a property."""
    return name in _PROPERTIES.get(type(value), {})


def get_property(value: Value, name: str) -> Value:
    """``value.name`` for dates, times, durations and ranges; null for what has no such property."""
    reader = _PROPERTIES.get(type(value), {}).get(name)
    return None if reader is None else reader(value)


def _offset(time: Time, date: Date | None) -> Value:
    seconds = calendar.offset_of(time, date)
    return None if seconds is None else DaysTimeDuration(seconds * NANOSECONDS)


_DATE: dict[str, Callable[[Date], Value]] = {
    "year": lambda date: Decimal(date.year),
    "month": lambda date: Decimal(date.month),
    "day": lambda date: Decimal(date.day),
    "weekday": lambda date: Decimal(calendar.weekday(date)),
}
_TIME: dict[str, Callable[[Time, Date | None], Value]] = {
    "hour": lambda time, _: Decimal(time.hour),
    "minute": lambda time, _: Decimal(time.minute),
    "second": lambda time, _: Decimal(time.second) + Decimal(time.nanosecond) / NANOSECONDS,
    "time offset": _offset,
    "timezone": lambda time, _: time.zone,
}


def _component(total: int, unit: int, modulus: int) -> Decimal:
    """A part of a duration's normal form, with the sign of the duration."""
    part = abs(total) // unit % modulus
    return Decimal(-part if total < 0 and part else part)


_DAYS_TIME: dict[str, Callable[[int], Decimal]] = {
    "days": lambda total: _component(total, calendar.DAY, 10**40),
    "hours": lambda total: _component(total, 3600 * NANOSECONDS, 24),
    "minutes": lambda total: _component(total, 60 * NANOSECONDS, 60),
    "seconds": lambda total: _component(total, 1, 60 * NANOSECONDS) / NANOSECONDS,
}
_YEARS_MONTHS: dict[str, Callable[[int], Decimal]] = {
    "years": lambda total: _component(total, 12, 10**40),
    "months": lambda total: _component(total, 1, 12),
}
_PROPERTIES: dict[type, dict[str, Callable[..., Value]]] = {
    Date: dict(_DATE),
    Time: {name: (lambda time, read=read: read(time, None)) for name, read in _TIME.items()},
    DateTime: {
        **{name: (lambda value, read=read: read(value.date)) for name, read in _DATE.items()},
        **{name: (lambda value, read=read: read(value.time, value.date)) for name, read in _TIME.items()},
    },
    DaysTimeDuration: {
        name: (lambda value, read=read: read(value.nanoseconds)) for name, read in _DAYS_TIME.items()
    },
    YearsMonthsDuration: {
        name: (lambda value, read=read: read(value.months)) for name, read in _YEARS_MONTHS.items()
    },
    Range: {
        "start": lambda value: value.start,
        "end": lambda value: value.end,
        "start included": lambda value: value.start_included,
        "end included": lambda value: value.end_included,
    },
}
