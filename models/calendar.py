"""Working-time calendars: what a tenant defines, and what is pinned for a clock that runs by one."""

import re
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel
from sqlmodel import Field as Column

from models.errors import InvalidRequestError, NotFoundError
from models.table import Record, json_field, time_field

DAY_SECONDS = 86_400

ClockTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
"""A time of day, ``00:00`` to ``24:00``."""

CalendarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Weekday(StrEnum):
    """Days of the week, Monday first as in ISO 8601."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class InvalidCalendarError(InvalidRequestError):
    """The calendar cannot be used: an unknown time zone or country, or no working time at all."""

    code = "INVALID_CALENDAR"

    def __init__(self, field: str, rule: str, remedy: str) -> None:
        super().__init__(
            f"The calendar cannot be used: {field}: {rule}. {remedy}",
            details={"fields": [{"field": field, "rule": "calendar", "message": rule, "remedy": remedy}]},
        )


class CalendarNotFoundError(NotFoundError):
    """The tenant has no calendar of this name."""

    code = "CALENDAR_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no calendar {name}. `switchyard calendars list` shows yours.",
            details={"calendar": name},
        )


class CamelModel(BaseModel):
    """Fields are camelCase outside (DESIGN §10); unknown ones are refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


def seconds_of_day(time: str) -> int:
    """Read ``HH:MM`` as seconds after midnight."""
    hours, _, minutes = time.partition(":")
    return int(hours) * 3600 + int(minutes) * 60


class Span(CamelModel):
    """From one time of day to a later one of the same day."""

    start: ClockTime
    end: ClockTime

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if seconds_of_day(self.start) >= seconds_of_day(self.end):
            raise ValueError("a span ends after it starts; split one that crosses midnight")
        return self


class Holidays(CamelModel):
    """Days without work."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,3}$")] | None = Field(
        default=None, description="ISO 3166 code of the country whose public holidays are kept."
    )
    subdivision: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        default=None, description="Its part, such as `BY` in `DE`."
    )
    closed: list[date] = Field(
        default_factory=list[date], max_length=1000, description="Further days without work."
    )
    open: list[date] = Field(
        default_factory=list[date], max_length=1000, description="Holidays that are worked nevertheless."
    )


class CalendarDefinition(CamelModel):
    """Working time as people describe it."""

    time_zone: str = Field(max_length=64, description="IANA name, such as `Europe/Berlin`.")
    hours: dict[Weekday, list[Span]] = Field(description="Working hours by day; a missing day has none.")
    breaks: list[Span] = Field(
        default_factory=list[Span], max_length=12, description="Taken off every day's hours."
    )
    holidays: Holidays = Field(default_factory=Holidays)

    @field_validator("hours")
    @classmethod
    def _few_spans(cls, hours: dict[Weekday, list[Span]]) -> dict[Weekday, list[Span]]:
        if any(len(spans) > 12 for spans in hours.values()):
            raise ValueError("at most 12 spans a day")
        return hours

    @field_validator("time_zone")
    @classmethod
    def _plain_zone(cls, zone: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+/-]*", zone) or ".." in zone:
            raise ValueError("an IANA time zone such as Europe/Berlin")
        return zone


class PinnedCalendar(BaseModel):
    """A calendar with everything that could change between two replays written out.

    Attributes:
        name: What the tenant calls it.
        spans: Seven lists (Monday first) of working ``(start, end)`` in seconds of the local day.
        closed: Days without work, as days since 1970-01-01.
        offsets: ``(from, offset)``: from this UTC second on, local time is UTC + offset seconds. The first
            one reaches back without end, the last one forward.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    spans: tuple[tuple[tuple[int, int], ...], ...] = Field(min_length=7, max_length=7)
    closed: frozenset[int]
    offsets: tuple[tuple[int, int], ...] = Field(min_length=1)


class CalendarView(CamelModel):
    """A tenant's calendar."""

    name: str
    definition: CalendarDefinition
    updated_at: datetime


class CalendarRow(Record, table=True):
    """A tenant's calendar by its name."""

    __tablename__ = "calendars"

    tenant_id: str = Column(primary_key=True)
    name: str = Column(primary_key=True)
    definition: dict[str, Any] = json_field()
    updated_by: str
    created_at: datetime = time_field()
    updated_at: datetime = time_field()
