"""Calendar arithmetic over FEEL's whole year range, and the offsets of IANA zones.

Days are counted from 1970-01-01 in the proleptic Gregorian calendar (Hinnant's civil-day
algorithms); instants are nanoseconds from 1970-01-01T00:00:00Z.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from workflows.feel.values import MAX_YEAR, NANOSECONDS, Date, DateTime, Time

DAY = 86_400 * NANOSECONDS
MAX_OFFSET = 14 * 3600
"""Offsets beyond 14 hours are outside the dateTime datatype of XML Schema."""

_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*\Z")
_MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_STANDARD_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall-clock reading, placed in a zone below


def is_leap(year: int) -> bool:
    """Whether the year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    """Number of days of a month."""
    return 29 if month == 2 and is_leap(year) else _MONTH_LENGTHS[month - 1]


def make_date(year: int, month: int, day: int) -> Date | None:
    """Build a date, or return None where no such day exists in FEEL's year range."""
    if not (-MAX_YEAR <= year <= MAX_YEAR and 1 <= month <= 12 and 1 <= day <= month_length(year, month)):
        return None
    return Date(year, month, day)


def day_number(date: Date) -> int:
    """Days from 1970-01-01 to the date."""
    year = date.year - (date.month <= 2)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (date.month + (-3 if date.month > 2 else 9)) + 2) // 5 + date.day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def date_of(number: int) -> Date | None:
    """Inverse of `day_number`; None outside FEEL's year range."""
    shifted = number + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    month = month_index + (3 if month_index < 10 else -9)
    year = year_of_era + era * 400 + (month <= 2)
    return make_date(year, month, day_of_year - (153 * month_index + 2) // 5 + 1)


def weekday(date: Date) -> int:
    """ISO day of the week, Monday 1 to Sunday 7."""
    return (day_number(date) + 3) % 7 + 1


def day_of_year(date: Date) -> int:
    """Ordinal of the day in its year, from 1."""
    return day_number(date) - day_number(Date(date.year, 1, 1)) + 1


def week_of_year(date: Date) -> int:
    """ISO 8601 week number: weeks start on Monday, week 1 holds the first Thursday."""
    thursday = day_number(date) - weekday(date) + 4
    # The Thursday of an ISO week may lie in the next year, beyond the last representable day.
    year = date.year
    for candidate in (date.year + 1, date.year, date.year - 1):
        if day_number(Date(candidate, 1, 1)) <= thursday:
            year = candidate
            break
    return (thursday - day_number(Date(year, 1, 1))) // 7 + 1


def add_months(date: Date, months: int) -> Date | None:
    """Add months; a day that the target month lacks becomes its last day."""
    total = date.year * 12 + date.month - 1 + months
    year, month = divmod(total, 12)
    if not -MAX_YEAR <= year <= MAX_YEAR:
        return None
    return Date(year, month + 1, min(date.day, month_length(year, month + 1)))


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo | None:
    """Look up an IANA zone by its exact name; None when there is none."""
    if not _ZONE_NAME.match(name):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


def _equivalent_year(year: int) -> int:
    """A year within the range of `datetime` that has the same days and zone rules.

    Calendars and rules repeat with the Gregorian cycle of 400 years; a margin keeps additions and
    conversions within the range.
    """
    if year > 9900:
        return 9200 + year % 400
    return year if year > 4 else (8 if is_leap(year) else 5)


def _zone_offset(name: str, date: Date, seconds: int) -> int:
    """Seconds east of UTC of a zone at a local date and second of the day."""
    info = zone(name)
    if info is None:
        return 0
    year = _equivalent_year(date.year)
    local = datetime(year, date.month, date.day, tzinfo=info) + timedelta(seconds=seconds)
    offset = local.utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def offset_of(time: Time, date: Date | None) -> int | None:
    """Seconds east of UTC of a time, None for local times.

    A zoned time without a date takes the zone's standard offset of the year 2000, so that the
    result never depends on the day of evaluation.
    """
    if time.zone is None:
        return time.offset
    if date is not None:
        return _zone_offset(time.zone, date, time.hour * 3600 + time.minute * 60 + time.second)
    info = zone(time.zone)
    local = _STANDARD_DAY.replace(tzinfo=info)
    total, daylight = local.utcoffset(), local.dst()
    if total is None:
        return 0
    return int((total - (daylight or timedelta(0))).total_seconds())


def nanosecond_of_day(time: Time) -> int:
    """Nanoseconds from midnight on the wall clock."""
    return (time.hour * 3600 + time.minute * 60 + time.second) * NANOSECONDS + time.nanosecond


def time_of(nanoseconds: int, like: Time) -> Time:
    """Wall-clock time for nanoseconds modulo a day, with the offset or zone of another time."""
    seconds, nanosecond = divmod(nanoseconds % DAY, NANOSECONDS)
    hour, rest = divmod(seconds, 3600)
    minute, second = divmod(rest, 60)
    return Time(hour, minute, second, nanosecond, like.offset, like.zone)


def local_nanoseconds(value: DateTime) -> int:
    """Wall-clock nanoseconds from 1970-01-01T00:00:00, ignoring the offset."""
    return day_number(value.date) * DAY + nanosecond_of_day(value.time)


def date_time_of(local: int, like: Time) -> DateTime | None:
    """Inverse of `local_nanoseconds`, with the offset or zone of another time."""
    day, rest = divmod(local, DAY)
    date = date_of(day)
    return None if date is None else DateTime(date, time_of(rest, like))


def instant(value: DateTime) -> int | None:
    """Nanoseconds from the epoch of a date and time in UTC form, None for a local one."""
    offset = offset_of(value.time, value.date)
    return None if offset is None else local_nanoseconds(value) - offset * NANOSECONDS


def in_zone_of(moment: int, like: Time) -> DateTime | None:
    """The wall-clock reading of an instant in the offset or zone of another time."""
    if like.zone is None:
        return date_time_of(moment + (like.offset or 0) * NANOSECONDS, like)
    utc, info = date_time_of(moment, like), zone(like.zone)
    if utc is None or info is None:
        return None
    seconds = utc.time.hour * 3600 + utc.time.minute * 60 + utc.time.second
    year = _equivalent_year(utc.date.year)
    reading = datetime(year, utc.date.month, utc.date.day, tzinfo=UTC) + timedelta(seconds=seconds)
    offset = reading.astimezone(info).utcoffset() or timedelta(0)
    return date_time_of(moment + int(offset.total_seconds()) * NANOSECONDS, like)
