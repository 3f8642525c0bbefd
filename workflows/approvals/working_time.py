"""Adding working time to a moment, and its inverse (research on approvals §1.2, "Business-hours calendar").

A moment is working time when the local clock stands within the day's hours. In the hour that a change to
summer time leaves out nobody works; the hour that comes twice in autumn is worked twice. Everything is
counted in whole microseconds, so that both directions agree exactly.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from models.calendar import DAY_SECONDS, PinnedCalendar

MICROSECOND = timedelta(microseconds=1)
SECOND = 1_000_000
_DAY = DAY_SECONDS * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday."""

_END_OF_TIME = 1 << 62


def microseconds_of(moment: datetime) -> int:
    """Return the microseconds since 1970 in UTC."""
    return (moment - _EPOCH) // MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Return the moment so many microseconds after 1970 in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def working_intervals(calendar: PinnedCalendar, start: int) -> Iterator[tuple[int, int]]:
    """Yield the working intervals from ``start`` on, in order, as microseconds in UTC; never ends.

    The first one begins at ``start`` where that is within it. The caller stops; a pinned calendar has
    working time in every week without holidays, so there is always another interval.
    """
    borders = [(begin * SECOND, offset * SECOND) for begin, offset in calendar.offsets]
    for index, (begin, offset) in enumerate(borders):
        end = borders[index + 1][0] if index + 1 < len(borders) else _END_OF_TIME
        if end <= start:
            continue
        # The first offset reaches back without end.
        low = start if index == 0 else max(start, begin)
        day = (low + offset) // _DAY
        while day * _DAY - offset < end:
            if day not in calendar.closed:
                midnight = day * _DAY - offset
                for opens, closes in calendar.spans[(day + _EPOCH_WEEKDAY) % 7]:
                    first = max(midnight + opens * SECOND, low)
                    last = min(midnight + closes * SECOND, end)
                    if first < last:
                        yield first, last
            day += 1


def add_working_time(calendar: PinnedCalendar | None, start: datetime, amount: timedelta) -> datetime:
    """Return the moment when ``amount`` of working time has passed since ``start``.

    Args:
        calendar: Whose working time; None: wall time.
        start: From when on.
        amount: How much; what is not positive is no time at all.

    Returns:
        The earliest such moment: a span that is used up to its end gives that end, not the next opening.
    """
    remaining = amount // MICROSECOND
    if remaining <= 0:
        return start
    if calendar is None:
        return start + amount
    for first, last in working_intervals(calendar, microseconds_of(start)):
        if last - first >= remaining:
            return moment_of(first + remaining)
        remaining -= last - first
    raise AssertionError("a pinned calendar has no last working day")


def working_time_between(calendar: PinnedCalendar | None, start: datetime, end: datetime) -> timedelta:
    """Return how much working time lies between two moments; none where ``end`` is not after ``start``."""
    if end <= start:
        return timedelta(0)
    if calendar is None:
        return end - start
    limit, total = microseconds_of(end), 0
    for first, last in working_intervals(calendar, microseconds_of(start)):
        if first >= limit:
            break
        total += min(last, limit) - first
    return timedelta(microseconds=total)
