"""Cron expressions: five fields as crontab(5) reads them, six with seconds as Spring and Camunda do.

A pure value: the next matching time after another, in a time zone. Clock changes: a time that a change
skips comes when the skipped hour is over; a time that happens twice counts once, unless every hour counts.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {
    name: n
    for n, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_DAYS = {name: n for n, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"])}
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_STEPPED = re.compile(r"(\*|\?|\w+(?:-\w+)?)(?:/(\d{1,4}))?")
_SPECIAL_DAY = re.compile(r"L(?:-(\d{1,2}))?|LW|(\d{1,2})W")
_SPECIAL_WEEKDAY = re.compile(r"(\w{1,3})L|(\w{1,3})#([1-5])")
_HORIZON_DAYS = 366 * 29
"""29 February on a given weekday comes back within 28 years."""


class CronError(ValueError):
    """The text is no cron expression; the message says which field is wrong."""


@dataclass(frozen=True, slots=True)
class Cron:
    """When something recurs.

    Attributes:
        text: The expression as it was written, without its time zone.
        zone: IANA name of the time zone.
        seconds, minutes, hours, days, months, weekdays: Matching values; weekdays count from Sunday = 0.
        special_days: ``L``, ``L-3``, ``LW`` and ``15W``.
        special_weekdays: Last (``5L``) and n-th (``FRI#2``) weekday of a month: (weekday, n), 0 for last.
        either: Whether a day matches by day of month or by weekday, as crontab does where both are given.
    """

    text: str
    zone: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    special_days: tuple[str, ...]
    special_weekdays: tuple[tuple[int, int], ...]
    either: bool

    @classmethod
    def parse(cls, text: str, zone: str = "UTC", *, seconds: bool = True) -> Self:
        """Read an expression.

        Args:
            text: Five fields (minute, hour, day of month, month, weekday), six with seconds first, or a
                macro such as ``@daily``; a leading ``CRON_TZ=Europe/Berlin`` names the zone.
            zone: IANA time zone where the text names none.
            seconds: Whether six fields are allowed.

        Raises:
            CronError: A field or the zone is wrong.
        """
        body = text.strip()
        match = _ZONE.fullmatch(body)
        if match is not None:
            zone, body = match[1], match[2].strip()
        check_zone(zone)
        fields = _MACROS.get(body.lower(), body).upper().split()
        if len(fields) == 6 and seconds:
            second, *rest = fields
            matching = _values("second", second, 0, 59, {})
        elif len(fields) == 5:
            matching, rest = [0], fields
        else:
            allowed = "five or six" if seconds else "five"
            raise CronError(f"{text[:80]!r} has {len(fields)} fields, not {allowed}")
        minute, hour, day, month, weekday = rest
        days, special_days = _month_days(day)
        weekdays, special_weekdays = _weekdays(weekday)
        free = ("*", "?")
        return cls(
            body,
            zone,
            tuple(matching),
            tuple(_values("minute", minute, 0, 59, {})),
            tuple(_values("hour", hour, 0, 23, {})),
            frozenset(days),
            frozenset(_values("month", month, 1, 12, _MONTHS)),
            frozenset(weekdays),
            tuple(special_days),
            tuple(special_weekdays),
            len(fields) == 5 and day[0] not in free and weekday[0] not in free,
        )

    def following(self, after: datetime) -> datetime | None:
        """Return the first matching time later than ``after`` (aware), in UTC; None where there is none."""
        zone = ZoneInfo(self.zone)
        try:
            local = after.astimezone(zone)
        except OverflowError:
            return None
        day = local.date()
        for _ in range(_HORIZON_DAYS):
            if day.month in self.months and self._day_matches(day):
                found = self._time_on(day, after, zone)
                if found is not None:
                    return found
            if day == date.max:
                return None
            day += timedelta(days=1)
        return None

    def _time_on(self, day: date, after: datetime, zone: ZoneInfo) -> datetime | None:
        # What runs every hour also runs in the hour that happens twice.
        folds = (0, 1) if len(self.hours) == 24 else (0,)
        for hour in self.hours:
            for fold in folds:
                for minute in self.minutes:
                    for second in self.seconds:
                        moment = datetime(
                            day.year, day.month, day.day, hour, minute, second, tzinfo=zone, fold=fold
                        )
                        instant = moment.astimezone(UTC)
                        # In a skipped hour the later fold lies before the earlier one.
                        if instant > after and not (fold and moment.utcoffset() != _offset(instant, zone)):
                            return instant
        return None

    def _day_matches(self, day: date) -> bool:
        by_date = day.day in self.days or any(_is_special(day, rule) for rule in self.special_days)
        weekday = day.isoweekday() % 7
        by_weekday = weekday in self.weekdays or any(
            weekday == wanted and _is_nth(day, nth) for wanted, nth in self.special_weekdays
        )
        return by_date or by_weekday if self.either else by_date and by_weekday


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


def check_zone(zone: str) -> None:
    """Check the name of a time zone.

    Raises:
        CronError: There is no such zone.
    """
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):  # unknown, a path, a folder
        raise CronError(f"{zone[:60]!r} is no IANA time zone such as Europe/Berlin") from None


def _values(name: str, field: str, low: int, high: int, names: dict[str, int]) -> list[int]:
    """Return the matching values of one field, ascending."""
    found: set[int] = set()
    for part in field.split(","):
        match = _STEPPED.fullmatch(part)
        if match is None:
            raise CronError(f"the {name} {part[:20]!r} is not *, a number, a list, a range or a step")
        span, step = match[1], int(match[2] or 1)
        if step == 0:
            raise CronError(f"the {name} {part[:20]!r} steps by zero")
        if span in ("*", "?"):
            first, last = low, high
        else:
            begin, _, end = span.partition("-")
            first = _number(name, begin, low, high, names)
            last = _number(name, end, low, high, names) if end else high if match[2] else first
        if first > last:
            raise CronError(f"the {name} {part[:20]!r} runs backwards")
        found.update(range(first, last + 1, step))
    return sorted(found)


def _number(name: str, text: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text)
    if value is None and text.isascii() and text.isdecimal():
        value = int(text[:6])
    if value is None or not low <= value <= high:
        raise CronError(f"the {name} {text[:20]!r} is not from {low} to {high}")
    return value


def _month_days(field: str) -> tuple[list[int], list[str]]:
    plain = [part for part in field.split(",") if _SPECIAL_DAY.fullmatch(part) is None]
    special = [part for part in field.split(",") if part not in plain]
    for part in special:
        match = _SPECIAL_DAY.fullmatch(part)
        if match is not None and match[2] is not None:
            _number("day of month", match[2], 1, 31, {})
    return (_values("day of month", ",".join(plain), 1, 31, {}) if plain else [], special)


def _weekdays(field: str) -> tuple[list[int], list[tuple[int, int]]]:
    plain: list[str] = []
    special: list[tuple[int, int]] = []
    for part in field.split(","):
        match = _SPECIAL_WEEKDAY.fullmatch(part)
        if match is None:
            plain.append("6" if part == "L" else part)
        elif match[1] is not None:
            special.append((_number("weekday", match[1], 0, 7, _DAYS) % 7, 0))
        else:
            special.append((_number("weekday", match[2], 0, 7, _DAYS) % 7, int(match[3])))
    values = _values("weekday", ",".join(plain), 0, 7, _DAYS) if plain else []
    return [value % 7 for value in values], special


def _is_special(day: date, rule: str) -> bool:
    """Tell whether a day is the last, the last but n, or the working day next to a date."""
    length = monthrange(day.year, day.month)[1]
    if rule == "L":
        return day.day == length
    if rule.startswith("L-"):
        return day.day == length - int(rule[2:])
    wanted = length if rule == "LW" else min(int(rule[:-1]), length)
    weekday = date(day.year, day.month, wanted).weekday()
    if weekday == 5:
        wanted += -1 if wanted > 1 else 2
    elif weekday == 6:
        wanted += 1 if wanted < length else -2
    return day.day == wanted


def _is_nth(day: date, nth: int) -> bool:
    if nth == 0:
        return day.day > monthrange(day.year, day.month)[1] - 7
    return (day.day - 1) // 7 + 1 == nth
