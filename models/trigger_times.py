"""When timer start events begin processes: the times of an ISO 8601 text, from an anchor on.

The interpreter knows the same texts for timers inside processes (`workflows.bpmn.timing`); here they become
a rule that a schedule can follow without us: an exact interval, or times one by one.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.trigger import TriggerInvalidError

_DURATION = re.compile(
    r"P(?!$)(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?"
    r"(?:T(?=\d)(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})(?:\.\d+)?S)?)?"
)
_CYCLE = re.compile(r"R(-1|\d{0,6})/(.+)")


@dataclass(frozen=True)
class TimerTimes:
    """When something happens.

    Attributes:
        moments: The first times, ascending, in UTC; at least one unless ``count`` is 0.
        every: Exact distance of the times, None where ``moments`` are all of them.
        count: How many times, -1 for ever.
    """

    moments: list[datetime]
    every: timedelta | None
    count: int


def timer_times(text: str, anchor: datetime, most: int) -> TimerTimes:
    """Read a date, a duration after ``anchor``, or a repeating interval.

    Args:
        text: ISO 8601.
        anchor: From when durations count.
        most: So many times are written out where there is no exact interval.

    Raises:
        TriggerInvalidError: It is none of these, or repeats without a second passing.
    """
    value = text.strip()
    cycle = _CYCLE.fullmatch(value)
    if cycle is None and not value.startswith("P"):
        return TimerTimes([_date(value)], None, 1)
    if cycle is None:
        return TimerTimes([_after(anchor, _duration(value), 1)], None, 1)
    count = -1 if cycle[1] in ("", "-1") else int(cycle[1])
    first, _, second = cycle[2].partition("/")
    duration = _duration(second if second.startswith("P") else first)
    if second and second.startswith("P"):
        begin, offset = _date(first), 0
    elif second:
        begin, offset = _date(second), 1 - max(count, 1)
    else:
        begin, offset = anchor, 1
    months, exact = duration
    if not months:
        return TimerTimes([_after(begin, duration, offset)], exact, count)
    times = range(offset, offset + (min(count, most) if count >= 0 else most))
    return TimerTimes([_after(begin, duration, number) for number in times], None, count)


def _date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.partition("[")[0])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(text) from None


def _duration(text: str) -> tuple[int, timedelta]:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise _wrong(text)
    years, months, weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    exact = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not months and not years and exact < timedelta(seconds=1):
        raise _wrong(text)
    return years * 12 + months, exact


def _after(moment: datetime, duration: tuple[int, timedelta], times: int) -> datetime:
    months, exact = duration
    try:
        index = moment.year * 12 + moment.month - 1 + months * times
        year, month = divmod(index, 12)
        day = min(moment.day, monthrange(year, month + 1)[1])
        return moment.replace(year=year, month=month + 1, day=day) + exact * times
    except (ValueError, OverflowError):
        raise _wrong(str(duration)) from None


def _wrong(text: str) -> TriggerInvalidError:
    return TriggerInvalidError(
        "timer",
        f"{text[:60]!r} is no date, no duration and no repeating interval of at least a second",
        "Write ISO 8601, such as R/PT1H, or cron.",
    )
