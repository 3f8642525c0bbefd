"""Random calendars, with the changes of their zone's clock and chains of holidays."""

from datetime import date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from activities.calendar import pin_calendar
from models.calendar import CalendarDefinition, Holidays, PinnedCalendar, Span, Weekday

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/Havana",
    "Asia/Beirut",
    "UTC",
)


def _time(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _span(random: Random) -> Span:
    start = random.randrange(0, 24 * 60)
    return Span(start=_time(start), end=_time(random.randrange(start + 1, 24 * 60 + 1)))


def random_definition(random: Random) -> CalendarDefinition:
    """Any hours, any breaks, a few holidays in a row; may have no working time at all."""
    hours = {day: [_span(random) for _ in range(random.choice((0, 1, 1, 2)))] for day in Weekday}
    first = date(2026, 1, 1) + timedelta(days=random.randrange(365))
    return CalendarDefinition(
        time_zone=random.choice(ZONES),
        hours=hours,
        breaks=[_span(random)] if random.random() < 0.3 else [],
        holidays=Holidays(
            country=random.choice((None, "DE", "US", "IN")),
            closed=[first + timedelta(days=day) for day in range(random.randrange(0, 15))],
            open=[first],
        ),
    )


def is_working(calendar: PinnedCalendar, definition: CalendarDefinition, moment: datetime) -> bool:
    """Tell by the definition itself whether a moment is working time: the slow truth."""
    local = moment.astimezone(ZoneInfo(definition.time_zone))
    if (local.date() - date(1970, 1, 1)).days in calendar.closed:
        return False
    second = local.hour * 3600 + local.minute * 60 + local.second

    def within(spans: list[Span]) -> bool:
        return any(_seconds(span.start) <= second < _seconds(span.end) for span in spans)

    day = definition.hours.get(list(Weekday)[local.weekday()], [])
    return within(day) and not within(definition.breaks)


def _seconds(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def pinned(definition: CalendarDefinition) -> PinnedCalendar:
    return pin_calendar("random", definition, 2026)
