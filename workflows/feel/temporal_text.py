"""Dates, times and durations as text: the lexical spaces of DMN 1.5 §10.3.4.1, both ways."""

import re
from decimal import Decimal

from workflows.feel.calendar import MAX_OFFSET, make_date, month_length, zone
from workflows.feel.values import (
    NANOSECONDS,
    Date,
    DateTime,
    DaysTimeDuration,
    Time,
    YearsMonthsDuration,
)

_DATE = re.compile(r"(-?)([1-9][0-9]{4,8}|[0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_TIME = re.compile(
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,30}))?"
    r"(?:(?P<utc>[Zz])|(?P<offset>[+-][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)|@(?P<zone>[A-Za-z0-9_+/-]{1,64}))?\Z"
)
_YEARS_MONTHS = re.compile(r"(-?)P(?:([0-9]{1,18})Y)?(?:([0-9]{1,18})M)?\Z")
_DAYS_TIME = re.compile(
    r"(-?)P(?:([0-9]{1,18})D)?"
    r"(?P<time>T(?:([0-9]{1,18})H)?(?:([0-9]{1,18})M)?(?:([0-9]{1,18})(?:\.([0-9]{0,30}))?S)?)?\Z"
)


def parse_date(text: str) -> Date | None:
    """Read ``[-]YYYY-MM-DD``; None where the text is not a day in FEEL's range."""
    match = _DATE.match(text)
    if match is None:
        return None
    sign, year, month, day = match.groups()
    return make_date(-int(year) if sign else int(year), int(month), int(day))


def _parse_offset(text: str) -> int | None:
    parts = [int(part) for part in text[1:].split(":")]
    seconds = parts[0] * 3600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0)
    if max(parts[1:]) > 59 or seconds > MAX_OFFSET:
        return None
    return -seconds if text[0] == "-" else seconds


def _parse_time(text: str) -> tuple[Time, bool] | None:
    """Read a time and whether it was 24:00:00, the midnight that ends the day."""
    match = _TIME.match(text)
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3])
    nanosecond = int((match[4] or "0")[:9].ljust(9, "0"))
    end_of_day = hour == 24 and minute == second == nanosecond == 0
    if (hour > 23 and not end_of_day) or minute > 59 or second > 59:
        return None
    offset = None
    if match["utc"]:
        offset = 0
    elif match["offset"]:
        offset = _parse_offset(match["offset"])
        if offset is None:
            return None
    elif match["zone"] and zone(match["zone"]) is None:
        return None
    return Time(0 if end_of_day else hour, minute, second, nanosecond, offset, match["zone"]), end_of_day


def parse_time(text: str) -> Time | None:
    """Read ``HH:MM:SS[.fraction][Z|±HH:MM|@Zone]``; None where the text is no time."""
    parsed = _parse_time(text)
    return parsed[0] if parsed else None


def parse_date_time(text: str) -> DateTime | None:
    """Read a date, optionally followed by ``T`` and a time; a date alone is its midnight."""
    day, separator, rest = text.partition("T")
    date = parse_date(day)
    if date is None:
        return None
    if not separator:
        return DateTime(date, Time(0, 0, 0))
    parsed = _parse_time(rest)
    if parsed is None:
        return None
    time, end_of_day = parsed
    if end_of_day:
        following = _next_day(date)
        return None if following is None else DateTime(following, time)
    return DateTime(date, time)


def _next_day(date: Date) -> Date | None:
    if date.day < month_length(date.year, date.month):
        return Date(date.year, date.month, date.day + 1)
    return make_date(date.year, date.month + 1, 1) or make_date(date.year + 1, 1, 1)


def parse_duration(text: str) -> DaysTimeDuration | YearsMonthsDuration | None:
    """Read an xs:dayTimeDuration or xs:yearMonthDuration; None for anything else."""
    match = _YEARS_MONTHS.match(text)
    if match is not None and (match[2] or match[3]):
        months = int(match[2] or 0) * 12 + int(match[3] or 0)
        return YearsMonthsDuration(-months if match[1] else months)
    match = _DAYS_TIME.match(text)
    if match is None or match["time"] == "T" or not (match[2] or match["time"]):
        return None
    seconds = int(match[2] or 0) * 86_400 + int(match[4] or 0) * 3600 + int(match[5] or 0) * 60
    seconds += int(match[6] or 0)
    nanoseconds = seconds * NANOSECONDS + int((match[7] or "0")[:9].ljust(9, "0"))
    return DaysTimeDuration(-nanoseconds if match[1] else nanoseconds)


def parse_temporal(
    text: str,
) -> Date | Time | DateTime | DaysTimeDuration | YearsMonthsDuration | None:
    """Read the text of an at-literal (grammar rule 65): whichever temporal kind it spells."""
    if "P" in text[:2]:
        return parse_duration(text)
    if "T" in text[:17] and "-" in text[1:]:
        return parse_date_time(text)
    return parse_date(text) or parse_time(text)


def format_date(date: Date) -> str:
    """Write a date so that `parse_date` reads it back."""
    sign = "-" if date.year < 0 else ""
    return f"{sign}{abs(date.year):04}-{date.month:02}-{date.day:02}"


def _fraction(nanosecond: int) -> str:
    return f".{nanosecond:09}".rstrip("0") if nanosecond else ""


def _format_offset(offset: int) -> str:
    if offset == 0:
        return "Z"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    tail = f":{seconds:02}" if seconds else ""
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}{tail}"


def format_time(time: Time) -> str:
    """Write a time so that `parse_time` reads it back."""
    clock = f"{time.hour:02}:{time.minute:02}:{time.second:02}{_fraction(time.nanosecond)}"
    if time.zone is not None:
        return f"{clock}@{time.zone}"
    return clock if time.offset is None else clock + _format_offset(time.offset)


def format_date_time(value: DateTime) -> str:
    """Write a date and time so that `parse_date_time` reads it back."""
    return f"{format_date(value.date)}T{format_time(value.time)}"


def format_days_time(duration: DaysTimeDuration) -> str:
    """Write a days and time duration in its normal form, such as ``P1DT2H`` or ``PT0S``."""
    seconds, nanosecond = divmod(abs(duration.nanoseconds), NANOSECONDS)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, second = divmod(rest, 60)
    clock = f"{hours}H" if hours else ""
    clock += f"{minutes}M" if minutes else ""
    clock += f"{second}{_fraction(nanosecond)}S" if second or nanosecond else ""
    text = (f"{days}D" if days else "") + (f"T{clock}" if clock else "")
    return ("-" if duration.nanoseconds < 0 else "") + "P" + (text or "T0S")


def format_years_months(duration: YearsMonthsDuration) -> str:
    """Write a years and months duration in its normal form, such as ``P1Y2M`` or ``P0M``."""
    years, months = divmod(abs(duration.months), 12)
    text = (f"{years}Y" if years else "") + (f"{months}M" if months else "")
    return ("-" if duration.months < 0 else "") + "P" + (text or "0M")


def seconds_of(duration: DaysTimeDuration) -> Decimal:
    """Length of a days and time duration in seconds."""
    return Decimal(duration.nanoseconds) / NANOSECONDS
