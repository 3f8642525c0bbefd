"""Date, time and temporal functions (DMN 1.5 §10.3.4.6 to 8, §10.3.4.11, tables 77, 79, 82)."""

from decimal import Decimal

from workflows.feel import calendar
from workflows.feel.builtins.library import Library
from workflows.feel.runtime import Run
from workflows.feel.semantics import identical
from workflows.feel.values import Date, DateTime, Value

LIBRARY = Library()

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def _date(point: Date | DateTime) -> Date:
    return point if isinstance(point, Date) else point.date


@LIBRARY("is(value1: any, value2: any)")
def is_identical(run: Run, first: Value, second: Value) -> Value:
    """Whether both are the same element of the semantic domain."""
    return identical(first, second, run)


@LIBRARY("now()")
def now(run: Run) -> Value:
    """The evaluation's clock; null without one."""
    return run.clock


@LIBRARY("today()")
def today(run: Run) -> Value:
    """The date of the evaluation's clock."""
    return None if run.clock is None else run.clock.date


@LIBRARY("day of year(date: day)")
def day_of_year(run: Run, point: Date | DateTime) -> Value:
    """Ordinal of the day in its year."""
    return Decimal(calendar.day_of_year(_date(point)))


@LIBRARY("day of week(date: day)")
def day_of_week(run: Run, point: Date | DateTime) -> Value:
    """English name of the day of the week."""
    return _DAYS[calendar.weekday(_date(point)) - 1]


@LIBRARY("month of year(date: day)")
def month_of_year(run: Run, point: Date | DateTime) -> Value:
    """English name of the month."""
    return _MONTHS[_date(point).month - 1]


@LIBRARY("week of year(date: day)")
def week_of_year(run: Run, point: Date | DateTime) -> Value:
    """ISO 8601 week number."""
    return Decimal(calendar.week_of_year(_date(point)))
