from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from activities.calendar import pin_calendar
from models.calendar import CalendarDefinition, InvalidCalendarError, Span
from tests.approval.calendars import is_working, pinned, random_definition
from workflows.approvals.working_time import add_working_time, working_time_between

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")


def office(time_zone: str = "Europe/Berlin", **changes: Any) -> CalendarDefinition:
    """Weekdays from nine to five with a lunch break."""
    return CalendarDefinition.model_validate(
        {
            "timeZone": time_zone,
            "hours": {day: [{"start": "09:00", "end": "17:00"}] for day in WEEKDAYS},
            "breaks": [{"start": "12:00", "end": "13:00"}],
            **changes,
        }
    )


def local(text: str) -> datetime:
    """A local time of Berlin, as UTC."""
    from zoneinfo import ZoneInfo

    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def test_a_lunch_break_is_no_working_time() -> None:
    calendar = pinned(office())
    assert add_working_time(calendar, local("2026-03-04T11:30"), hours(1)) == local("2026-03-04T13:30")
    assert working_time_between(calendar, local("2026-03-04T11:30"), local("2026-03-04T13:30")) == hours(1)


def test_a_clock_that_starts_outside_the_hours_starts_with_the_next_ones() -> None:
    calendar = pinned(office())
    assert add_working_time(calendar, local("2026-03-07T10:00"), hours(2)) == local("2026-03-09T11:00")


def test_a_chain_of_holidays_and_a_weekend_is_skipped() -> None:
    calendar = pinned(office(holidays={"country": "DE", "subdivision": "BY", "closed": ["2026-12-24"]}))
    # Christmas Eve by the company, two public holidays, a Sunday.
    assert add_working_time(calendar, local("2026-12-23T16:00"), hours(2)) == local("2026-12-28T10:00")


def test_a_holiday_that_is_worked_counts() -> None:
    calendar = pinned(office(holidays={"country": "DE", "subdivision": "BY", "open": ["2026-01-01"]}))
    assert add_working_time(calendar, local("2026-01-01T09:00"), hours(1)) == local("2026-01-01T10:00")


def test_the_hour_that_summer_time_leaves_out_is_not_worked_and_the_repeated_one_is_worked_twice() -> None:
    night = {"sunday": [{"start": "01:00", "end": "04:00"}]}
    calendar = pinned(office(hours=night, breaks=[]))
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert working_time_between(calendar, spring, spring + timedelta(days=1)) == hours(2)
    autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert working_time_between(calendar, autumn, autumn + timedelta(days=1)) == hours(4)


def test_a_calendar_without_working_time_is_refused() -> None:
    with pytest.raises(InvalidCalendarError, match="no day has working time"):
        pinned(office(hours={}))
    with pytest.raises(InvalidCalendarError, match="no day has working time"):
        pinned(office(breaks=[{"start": "00:00", "end": "24:00"}]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"time_zone": "Europe/Nowhere"}, "time zone"),
        ({"holidays": {"country": "XX"}}, "holidays"),
        ({"holidays": {"country": "DE", "subdivision": "ZZ"}}, "holidays"),
        ({"holidays": {"subdivision": "BY"}}, "country"),
    ],
)
def test_an_unknown_place_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidCalendarError, match=word):
        pinned(office(**changes))


def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValidationError):
        Span(start="17:00", end="09:00")


def test_a_pinned_calendar_survives_its_way_through_json() -> None:
    calendar = pinned(office(holidays={"country": "DE"}))
    assert type(calendar).model_validate_json(calendar.model_dump_json()) == calendar


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), start=st.integers(0, 365 * 86_400), amount=st.integers(1, 200 * 3600))
def test_adding_working_time_and_its_inverse_agree(seed: int, start: int, amount: int) -> None:
    definition = random_definition(Random(seed))
    try:
        calendar = pin_calendar("random", definition, 2026)
    except InvalidCalendarError:
        assume(False)
        return
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=start, microseconds=seed % 1_000_000)
    wanted = timedelta(seconds=amount, microseconds=seed % 997)
    end = add_working_time(calendar, begin, wanted)
    assert working_time_between(calendar, begin, end) == wanted
    just_before = end - timedelta(microseconds=1)
    assert working_time_between(calendar, begin, just_before) == wanted - timedelta(microseconds=1)
    assert add_working_time(calendar, begin, wanted + timedelta(seconds=1)) > end
    later = begin + timedelta(seconds=seed % 7200)
    assert add_working_time(calendar, later, wanted) >= end


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_working_time_is_what_the_definition_says_minute_by_minute(seed: int) -> None:
    definition = random_definition(Random(seed))
    try:
        calendar = pin_calendar("random", definition, 2026)
    except InvalidCalendarError:
        assume(False)
        return
    # A day around a change of the zone's clock, or any day in a zone without one.
    changes = [moment for moment, _ in calendar.offsets[1:]] or [1_780_000_020]
    middle = datetime.fromtimestamp(changes[seed % len(changes)], UTC)
    minutes = [middle + timedelta(minutes=minute) for minute in range(-3 * 60, 3 * 60)]
    for minute, following in pairwise(minutes):
        worked = working_time_between(calendar, minute, following)
        assert (worked > timedelta(0)) == is_working(calendar, definition, minute)
