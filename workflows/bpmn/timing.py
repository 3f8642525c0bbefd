"""When a timer is due: ISO 8601 dates, durations and repeating intervals, or cron.

Dates without an offset are UTC. Months and years are calendar arithmetic on the date, clipped to the
end of the month. A cycle steps from the scheduled time, never from the time it was handled.
"""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from models.cron import Cron, CronError

_DURATION = re.compile(
    r"(-)?P(?!$)(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,6})W)?(?:(\d{1,7})D)?"
    r"(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,10})(?:[.,](\d{1,9}))?S)?)?"
)
_CRON = re.compile(r"[\d*?][\d*?/,-]*(?:\s+[\w*?/,#-]+){4,5}")
_CYCLE = re.compile(r"R(-1|\d{0,9})/")


class TimerValueError(ValueError):
    """The text is no ISO 8601 date, duration or repeating interval, or lies outside years 1 to 9999."""


class Duration(NamedTuple):
    """A calendar part in months and an exact part."""

    months: int
    exact: timedelta


class Due(NamedTuple):
    """When a timer fires next and what comes after.

    Attributes:
        at: Aware, in UTC.
        remaining: Firings left, this one included; -1 for endless.
        interval: ISO 8601 duration between firings, or a cron expression; None for a single one.
    """

    at: datetime
    remaining: int = 1
    interval: str | None = None


def parse_duration(text: str) -> Duration:
    """Read an ISO 8601 duration such as ``P1DT2H``.

    Raises:
        TimerValueError: It is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise TimerValueError(f"{text[:80]!r} is not an ISO 8601 duration such as PT15M or P3D")
    sign = -1 if match[1] else 1
    years, months, weeks, days, hours, minutes, seconds = (
        int(match[group] or 0) for group in (2, 3, 4, 5, 6, 7, 8)
    )
    micro = int((match[9] or "").ljust(6, "0")[:6] or 0)
    try:
        exact = timedelta(
            weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=micro
        )
    except OverflowError:
        raise TimerValueError(f"{text[:80]!r} is too long a duration") from None
    return Duration(sign * (years * 12 + months), sign * exact)


def parse_date(text: str) -> datetime:
    """Read an ISO 8601 date and time; without an offset it is UTC.

    Raises:
        TimerValueError: It is none.
    """
    value = text.strip()
    if value.endswith("]") and "[" in value:
        value = value[: value.index("[")]
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise TimerValueError(f"{text[:80]!r} is not an ISO 8601 date and time") from None


def add(moment: datetime, duration: Duration) -> datetime:
    """Return ``moment`` plus the duration.

    Raises:
        TimerValueError: The result lies outside the calendar.
    """
    try:
        if duration.months:
            index = moment.year * 12 + moment.month - 1 + duration.months
            year, month = divmod(index, 12)
            day = min(moment.day, monthrange(year, month + 1)[1])
            moment = moment.replace(year=year, month=month + 1, day=day)
        return moment + duration.exact
    except (OverflowError, ValueError, IndexError):
        raise TimerValueError("the due time lies outside the years 1 to 9999") from None


def check(kind: str, text: str) -> None:
    """Check a literal timer value at deployment.

    Raises:
        TimerValueError: It is not of its kind.
    """
    compute(kind, text, datetime(2000, 1, 1, tzinfo=UTC))


def compute(kind: str, text: str, now: datetime) -> Due:
    """Return when a timer of that kind (``date``, ``duration`` or ``cycle``) is due.

    Raises:
        TimerValueError: The text is not of its kind.
    """
    value = text.strip()
    if kind == "date":
        return Due(parse_date(value))
    if kind == "duration":
        return Due(add(now, parse_duration(value)))
    match = _CYCLE.match(value)
    if match is None and looks_like_cron(value):
        return Due(_cron_after(value, now), -1, value)
    if match is None:
        # Modellers write plain durations as cycles; they mean "every", without an end.
        duration = parse_duration(value)
        _refuse_stillstand(duration, value)
        return Due(add(now, duration), -1, value)
    count = -1 if match[1] in ("", "-1") else int(match[1])
    parts = value[match.end() :].split("/")
    if len(parts) == 1:
        duration = parse_duration(parts[0])
        _refuse_stillstand(duration, value)
        return Due(add(now, duration), count, parts[0])
    if len(parts) != 2:
        raise TimerValueError(f"{text[:80]!r} is not a repeating interval such as R3/PT10M")
    if parts[1].startswith("P"):
        duration = parse_duration(parts[1])
        _refuse_stillstand(duration, value)
        return Due(parse_date(parts[0]), count, parts[1])
    # R<n>/<duration>/<end>: the last firing is at the end.
    duration = parse_duration(parts[0])
    _refuse_stillstand(duration, value)
    end = parse_date(parts[1])
    back = Duration(-duration.months * max(count - 1, 0), -duration.exact * max(count - 1, 0))
    return Due(add(end, back), count, parts[0])


def _refuse_stillstand(duration: Duration, text: str) -> None:
    if duration.months < 0 or duration.exact < timedelta(0) or duration == Duration(0, timedelta(0)):
        raise TimerValueError(f"{text[:80]!r} repeats without time passing")


def following(due: Due) -> Due | None:
    """Return the next firing of a cycle, None after the last."""
    if due.interval is None or due.remaining in (0, 1):
        return None
    remaining = due.remaining if due.remaining < 0 else due.remaining - 1
    if looks_like_cron(due.interval):
        return Due(_cron_after(due.interval, due.at), remaining, due.interval)
    return Due(add(due.at, parse_duration(due.interval)), remaining, due.interval)


def looks_like_cron(text: str) -> bool:
    """Tell whether a cycle is meant as cron: a macro, or fields with spaces between."""
    return text.startswith(("@", "CRON_TZ=", "TZ=")) or _CRON.fullmatch(text) is not None


def _cron_after(text: str, moment: datetime) -> datetime:
    try:
        found = Cron.parse(text).following(moment)
    except CronError as error:
        raise TimerValueError(str(error)) from None
    if found is None:
        raise TimerValueError(f"{text[:80]!r} never comes to pass")
    return found
