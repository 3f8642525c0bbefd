"""JSON-compatible Python values in, FEEL values out, and back.

Going in, numbers become decimals, `datetime` objects become FEEL's temporal values, and strings
stay strings: FEEL never guesses a date. Going out, integral numbers become int, other numbers
float where the float's shortest form is the same number, else the exact decimal as a string;
temporal values become their ISO 8601 text.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

from workflows.feel.errors import FeelBudgetError
from workflows.feel.temporal_text import (
    format_date,
    format_date_time,
    format_days_time,
    format_time,
    format_years_months,
)
from workflows.feel.types import MAX_VALUE_DEPTH
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
    number,
)

MAX_ITEMS = 1_000_000
"""Largest number of list items and context entries converted at once."""

FEEL_TYPES: frozenset[type] = frozenset(
    (
        *(type(None), bool, Decimal, str, Date, Time, DateTime),
        *(DaysTimeDuration, YearsMonthsDuration, Range, Closure, list, dict),
    )
)


class _Count:
    """Bounds a walk over a value that may share its parts."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_ITEMS

    def take(self, items: int, depth: int) -> None:
        self.left -= items
        if self.left < 0:
            raise FeelBudgetError("value", MAX_ITEMS)
        if depth > MAX_VALUE_DEPTH:
            raise FeelBudgetError("value", MAX_VALUE_DEPTH)


def to_feel(value: Any) -> Value:
    """Convert a JSON-compatible value, `datetime` objects included, to a FEEL value.

    Args:
        value: None, bool, int, float, Decimal, str, date, time, datetime, timedelta, list, tuple or
            mapping with string keys, nested; FEEL values are taken as they are.

    Returns:
        The FEEL value. NaN, infinities, numbers out of decimal128's range and objects of any other
        type become null.

    Raises:
        FeelBudgetError: The value is nested too deeply or too large.
    """
    return _to_feel(value, _Count(), 0)


def _to_feel(value: Any, count: _Count, depth: int) -> Value:
    if isinstance(value, Mapping):
        count.take(len(cast("Mapping[Any, Any]", value)), depth)
        entries = cast("Mapping[Any, Any]", value).items()
        return {str(key): _to_feel(item, count, depth + 1) for key, item in entries}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        count.take(len(items), depth)
        return [_to_feel(item, count, depth + 1) for item in items]
    return _scalar_to_feel(value)


def _scalar_to_feel(value: Any) -> Value:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        # Beyond 34 digits the exact integer is rounded; the bound keeps huge ones cheap.
        return number(Decimal(value)) if value.bit_length() < 21_000 else None
    if isinstance(value, float):
        # repr gives the shortest decimal that reads back as the float: 0.1 stays 0.1.
        return number(Decimal(repr(value)))
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime | date | time | timedelta):
        return from_python_time(value)
    return value if type(value) in FEEL_TYPES or isinstance(value, Function) else None


def from_python_time(value: datetime | date | time | timedelta) -> Value:
    """Convert a Python date, time, datetime or timedelta; zones and offsets are kept."""
    if isinstance(value, timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return DaysTimeDuration(microseconds * 1000)
    if isinstance(value, datetime):
        return date_time(value)
    if isinstance(value, date):
        return Date(value.year, value.month, value.day)
    return _time(value, value.utcoffset())


def date_time(value: datetime) -> DateTime:
    """Convert a `datetime`, aware or naive."""
    return DateTime(Date(value.year, value.month, value.day), _time(value, value.utcoffset()))


def _time(value: datetime | time, offset: timedelta | None) -> Time:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    seconds = None if offset is None or zone is not None else int(offset.total_seconds())
    return Time(value.hour, value.minute, value.second, value.microsecond * 1000, seconds, zone)


def from_feel(value: Value) -> Any:
    """Convert a FEEL value to a JSON-compatible one.

    Returns:
        None, bool, int, float, str, list or dict. Ranges become a dict with ``start``, ``end``,
        ``startIncluded`` and ``endIncluded``; functions become null.

    Raises:
        FeelBudgetError: The value is nested too deeply or too large.
    """
    return _from_feel(value, _Count(), 0)


def _from_feel(value: Value, count: _Count, depth: int) -> Any:
    if isinstance(value, list):
        count.take(len(value), depth)
        return [_from_feel(item, count, depth + 1) for item in value]
    if isinstance(value, dict):
        count.take(len(value), depth)
        return {key: _from_feel(item, count, depth + 1) for key, item in value.items()}
    if isinstance(value, Range):
        count.take(2, depth)
        return {
            "start": _from_feel(value.start, count, depth + 1),
            "end": _from_feel(value.end, count, depth + 1),
            "startIncluded": value.start_included,
            "endIncluded": value.end_included,
        }
    if isinstance(value, Decimal):
        return _json_number(value)
    if value is None or isinstance(value, bool | str):
        return value
    return temporal_text(value)


def _json_number(value: Decimal) -> int | float | str:
    if value == value.to_integral_value() and value.adjusted() < 34:
        return int(value)
    binary = float(value)
    return binary if Decimal(repr(binary)) == value else str(value)


def temporal_text(value: Value) -> str | None:
    """ISO 8601 text of a temporal value; None for values of other kinds."""
    match value:
        case Date():
            return format_date(value)
        case Time():
            return format_time(value)
        case DateTime():
            return format_date_time(value)
        case DaysTimeDuration():
            return format_days_time(value)
        case YearsMonthsDuration():
            return format_years_months(value)
        case _:
            return None
