"""Conversion functions (DMN 1.5 §10.3.4.1, table 72) and `not` (table 73)."""

import re
from decimal import Decimal

from workflows.feel import calendar
from workflows.feel.builtins.library import Library
from workflows.feel.calendar import MAX_OFFSET
from workflows.feel.formatting import format_value
from workflows.feel.runtime import Run
from workflows.feel.semantics import order
from workflows.feel.temporal_text import parse_date, parse_date_time, parse_duration, parse_time
from workflows.feel.values import (
    NANOSECONDS,
    Date,
    DateTime,
    DaysTimeDuration,
    Range,
    Time,
    Value,
    YearsMonthsDuration,
    number,
    whole,
)

LIBRARY = Library()

_NUMERIC = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?\Z")
_GROUPINGS = (" ", ",", ".")
_DECIMALS = (",", ".")


@LIBRARY("date(from: string)")
def date_from_text(run: Run, text: str) -> Value:
    """Read a date."""
    return parse_date(text)


@LIBRARY("date(from: day)")
def date_from_point(run: Run, point: Date | DateTime) -> Value:
    """The date of a date or date and time."""
    return point if isinstance(point, Date) else point.date


@LIBRARY("date(year: number, month: number, day: number)")
def date_from_parts(run: Run, year: Decimal, month: Decimal, day: Decimal) -> Value:
    """Build a date; null where there is no such day."""
    parts = whole(year), whole(month), whole(day)
    if parts[0] is None or parts[1] is None or parts[2] is None:
        return None
    return calendar.make_date(parts[0], parts[1], parts[2])


@LIBRARY("date and time(from: string)")
def date_time_from_text(run: Run, text: str) -> Value:
    """Read a date and time; a date alone means its midnight."""
    return parse_date_time(text)


@LIBRARY("date and time(from: day)")
def date_time_from_point(run: Run, point: Date | DateTime) -> Value:
    """The midnight of a date; a date and time as it is."""
    return DateTime(point, Time(0, 0, 0)) if isinstance(point, Date) else point


@LIBRARY("date and time(date: day, time: time)")
def date_time_from_parts(run: Run, date: Date | DateTime, time: Time) -> Value:
    """Join a date, its own time ignored, with a time."""
    return DateTime(date if isinstance(date, Date) else date.date, time)


@LIBRARY("time(from: string)")
def time_from_text(run: Run, text: str) -> Value:
    """Read a time."""
    return parse_time(text)


@LIBRARY("time(from: moment)")
def time_from_point(run: Run, point: Time | DateTime) -> Value:
    """The time of a time or date and time, with its offset or zone."""
    return point if isinstance(point, Time) else point.time


@LIBRARY("time(from: date)")
def time_from_date(run: Run, date: Date) -> Value:
    """Midnight in UTC, to which a date is equivalent (§10.3.2.3.5)."""
    # A date is equivalent to a date and time at midnight in UTC (§10.3.2.3.5).
    return Time(0, 0, 0, 0, 0)


@LIBRARY("time(hour: number, minute: number, second: number, offset: days and time duration?)")
def time_from_parts(
    run: Run, hour: Decimal, minute: Decimal, second: Decimal, offset: DaysTimeDuration | None
) -> Value:
    """Build a time; the second may have a fraction."""
    hours, minutes, seconds = whole(hour), whole(minute), int(second.to_integral_value("ROUND_FLOOR"))
    if hours is None or minutes is None or not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 60):
        return None
    nanosecond = int((second - seconds) * NANOSECONDS)
    shift = None if offset is None else int(offset.nanoseconds / NANOSECONDS)
    if shift is not None and abs(shift) > MAX_OFFSET:
        return None
    return Time(hours, minutes, seconds, nanosecond, shift)


@LIBRARY("number(from: string, grouping separator: string?, decimal separator: string?)")
def number_from_text(run: Run, text: str, grouping: str | None, separator: str | None) -> Value:
    """Read a number, given its separators; null separators stand for none and the period."""
    if grouping is not None and grouping not in _GROUPINGS:
        return None
    if separator is not None and (separator not in _DECIMALS or separator == grouping):
        return None
    if grouping is not None:
        text = text.replace(grouping, "")
    if separator is not None:
        if separator != "." and "." in text:
            return None
        text = text.replace(separator, ".")
    return number(Decimal(text)) if _NUMERIC.match(text) else None


@LIBRARY("string(from: any)")
def string(run: Run, value: Value) -> Value:
    """Text of a value; null for null."""
    return None if value is None else format_value(value, run)


@LIBRARY("duration(from: string)")
def duration_from_text(run: Run, text: str) -> Value:
    """Read a duration of either kind."""
    return parse_duration(text)


@LIBRARY("duration(from: magnitude)")
def duration_from_duration(run: Run, value: Value) -> Value:
    """A duration as it is."""
    return None if isinstance(value, Decimal) else value


@LIBRARY("years and months duration(from: day, to: day)")
def years_and_months_duration(run: Run, start: Date | DateTime, end: Date | DateTime) -> Value:
    """Whole months between two points, truncated towards zero."""
    first = start if isinstance(start, Date) else start.date
    last = end if isinstance(end, Date) else end.date
    months = (last.year - first.year) * 12 + last.month - first.month
    # Incomplete months do not count, in whichever direction.
    if months > 0 and last.day < first.day:
        months -= 1
    elif months < 0 and last.day > first.day:
        months += 1
    return YearsMonthsDuration(months)


@LIBRARY("range(from: string)")
def range_from_text(run: Run, text: str) -> Value:
    """Read an interval whose ends are literals; an end that is left out is unbounded."""
    inner = text.strip()
    if len(inner) < 4 or inner[0] not in "[(]" or inner[-1] not in "])[" or ".." not in inner:
        return None
    start_included, end_included = inner[0] == "[", inner[-1] == "]"
    low_text, high_text = _split_ends(inner[1:-1])
    low, high = _endpoint(low_text), _endpoint(high_text)
    if (low is None) == bool(low_text) or (high is None) == bool(high_text) or low is high is None:
        return None
    # An unbounded end cannot be included.
    if (low is None and start_included) or (high is None and end_included):
        return None
    if (
        low is not None
        and high is not None
        and (sign := order(low, high)) != 0
        and (sign is None or sign > 0)
    ):
        return None
    if low is None:
        return Range(None, high, False, end_included, "<=" if end_included else "<")
    if high is None:
        return Range(low, None, start_included, False, ">=" if start_included else ">")
    return Range(low, high, start_included, end_included)


def _split_ends(text: str) -> tuple[str, str]:
    quoted = False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and text.startswith("..", position):
            return text[:position].strip(), text[position + 2 :].strip()
    return text.strip(), ""


def _endpoint(text: str) -> Value:
    """The value of a literal endpoint; None for everything else."""
    from workflows.feel.errors import FeelSyntaxError
    from workflows.feel.parser import parse_node
    from workflows.feel.syntax import Invocation, Literal, Name

    try:
        node = parse_node(text)
    except FeelSyntaxError:
        return None
    if isinstance(node, Literal):
        return None if isinstance(node.value, bool) else node.value
    readers = {"date": parse_date, "time": parse_time, "date and time": parse_date_time}
    if isinstance(node, Invocation) and isinstance(node.function, Name) and len(node.positional) == 1:
        argument = node.positional[0]
        reader = {**readers, "duration": parse_duration}.get(node.function.name)
        if reader is not None and isinstance(argument, Literal) and isinstance(argument.value, str):
            return reader(argument.value)
    return None


@LIBRARY("not(negand: boolean)")
def negation(run: Run, negand: bool) -> Value:
    """Ternary negation."""
    return not negand
