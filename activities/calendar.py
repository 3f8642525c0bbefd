"""Pinning a calendar: holidays and time-zone data are read once and become part of the clock's own data.

Both change between two releases of their packages; a workflow that looked them up again while it replays
would come to other deadlines than it did.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays

from models.calendar import (
    CalendarDefinition,
    InvalidCalendarError,
    PinnedCalendar,
    Span,
    Weekday,
    seconds_of_day,
)

YEARS_AHEAD = 6
"""Holidays and clock changes are known for so many years; no clock of ours runs longer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)


def pin_calendar(name: str, definition: CalendarDefinition, year: int) -> PinnedCalendar:
    """Write a calendar out for the years from the one before ``year`` on.

    Raises:
        InvalidCalendarError: The zone, country or subdivision is unknown, or there is no working time.
    """
    breaks = [(seconds_of_day(span.start), seconds_of_day(span.end)) for span in definition.breaks]
    spans = tuple(_day(definition.hours.get(day, []), breaks) for day in Weekday)
    if not any(spans):
        raise InvalidCalendarError(
            "hours", "no day has working time", "Give at least one day hours that no break covers."
        )
    years = range(year - 1, year + YEARS_AHEAD + 1)
    return PinnedCalendar(
        name=name,
        spans=spans,
        closed=_closed_days(definition, years),
        offsets=_offsets(definition.time_zone, years[0], years[-1]),
    )


def _day(hours: list[Span], breaks: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the day's working spans: hours merged where they overlap, breaks taken off."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((seconds_of_day(span.start), seconds_of_day(span.end)) for span in hours):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    for off, on in breaks:
        merged = [
            (low, high)
            for start, end in merged
            for low, high in ((start, min(end, off)), (max(start, on), end))
            if low < high
        ]
    return tuple(sorted(set(merged)))


def _closed_days(definition: CalendarDefinition, years: range) -> frozenset[int]:
    kept = definition.holidays
    days: set[date] = set()
    if kept.country is not None:
        try:
            days = set(_country_holidays(kept.country, kept.subdivision, tuple(years)))
        except NotImplementedError:
            raise InvalidCalendarError(
                "holidays.country",
                f"the holidays of {kept.country} {kept.subdivision or ''}".strip() + " are not known",
                "Use an ISO 3166 code such as DE with BY, or list the days under `closed`.",
            ) from None
    elif kept.subdivision is not None:
        raise InvalidCalendarError(
            "holidays.subdivision", "a subdivision without its country", "Give `country`, too."
        )
    days = (days | set(kept.closed)) - set(kept.open)
    return frozenset((day - _EPOCH_DAY).days for day in days)


@lru_cache(maxsize=256)
def _country_holidays(country: str, subdivision: str | None, years: tuple[int, ...]) -> tuple[date, ...]:
    return tuple(holidays.country_holidays(country, subdiv=subdivision, years=years))


@lru_cache(maxsize=256)
def _offsets(zone: str, first_year: int, last_year: int) -> tuple[tuple[int, int], ...]:
    """Find every change of the zone's offset, to the second."""
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidCalendarError(
            "timeZone", f"{zone} is no known time zone", "Use an IANA name such as Europe/Berlin."
        ) from None

    def offset(second: int) -> int:
        gap = (_EPOCH + timedelta(seconds=second)).astimezone(place).utcoffset()
        assert gap is not None
        return int(gap.total_seconds())

    begin = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(last_year + 1, 1, 1, tzinfo=UTC).timestamp())
    found = [(begin, offset(begin))]
    # No zone changes twice within a day.
    for day in range(begin, end, 86_400):
        after = offset(day + 86_400)
        if after == found[-1][1]:
            continue
        low, high = day, day + 86_400
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if offset(middle) == after else (middle, high)
        found.append((high, after))
    return tuple(found)
