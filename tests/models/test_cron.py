"""Cron expressions: fields, specials, clock changes."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cron import Cron, CronError


def times(text: str, after: str, count: int = 3, zone: str = "UTC") -> list[str]:
    cron, moment, found = Cron.parse(text, zone), datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(count):
        later = cron.following(moment)
        assert later is not None
        found.append(later.isoformat(" ", "seconds").removesuffix("+00:00"))
        moment = later
    return found


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("*/20 * * * *", "2026-01-01T00:20:00", ["2026-01-01 00:40:00", "2026-01-01 01:00:00"]),
        ("0 9 * * MON-FRI", "2026-01-02T09:00:00", ["2026-01-05 09:00:00", "2026-01-06 09:00:00"]),
        ("0 0 1,15 * *", "2026-01-01T00:00:00", ["2026-01-15 00:00:00", "2026-02-01 00:00:00"]),
        ("0 0 13 * 5", "2026-02-01T00:00:00", ["2026-02-06 00:00:00", "2026-02-13 00:00:00"]),
        ("0 0 0 13 * 5", "2026-02-01T00:00:00", ["2026-02-13 00:00:00", "2026-03-13 00:00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00:00", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 0 L * *", "2026-01-31T00:00:00", ["2026-02-28 00:00:00", "2026-03-31 00:00:00"]),
        ("0 0 L-2 * ?", "2026-01-31T00:00:00", ["2026-02-26 00:00:00", "2026-03-29 00:00:00"]),
        ("0 0 LW * ?", "2026-01-01T00:00:00", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 1W * ?", "2026-02-02T00:00:00", ["2026-03-02 00:00:00", "2026-04-01 00:00:00"]),
        ("0 0 ? * 5L", "2026-01-01T00:00:00", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 ? * MON#2", "2026-01-01T00:00:00", ["2026-01-12 00:00:00", "2026-02-09 00:00:00"]),
        ("0 0 ? * 7", "2026-01-01T00:00:00", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("@weekly", "2026-01-01T00:00:00", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("30 5/10 * * * *", "2026-01-01T00:00:00", ["2026-01-01 00:05:30", "2026-01-01 00:15:30"]),
        ("TZ=Asia/Kolkata 0 9 * * *", "2026-01-01T00:00:00", ["2026-01-01 03:30:00", "2026-01-02 03:30:00"]),
    ],
)  # fmt: skip
def test_an_expression_recurs_as_it_says(text: str, after: str, expected: list[str]) -> None:
    assert times(text, after, 2) == expected


def test_a_skipped_time_comes_when_the_skipped_hour_is_over() -> None:
    assert times("30 2 * * *", "2026-03-28T12:00:00", 2, "Europe/Berlin") == [
        "2026-03-29 01:30:00",
        "2026-03-30 00:30:00",
    ]


def test_a_time_that_happens_twice_counts_once() -> None:
    assert times("30 2 * * *", "2026-10-24T12:00:00", 2, "Europe/Berlin") == [
        "2026-10-25 00:30:00",
        "2026-10-26 01:30:00",
    ]


@pytest.mark.parametrize("begin", ["2026-03-28T20:00:00", "2026-10-24T20:00:00"])
def test_what_runs_every_hour_runs_through_clock_changes(begin: str) -> None:
    found = [datetime.fromisoformat(item) for item in times("0 * * * *", begin, 12, "Europe/Berlin")]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",

        "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,, * * * *", "* * * FOO *", "* * * * MON#6",
        "* * 32W * *",

        "@sometimes", "CRON_TZ=Mars/Base * * * * *", "TZ=../../etc/passwd * * * * *",
        "-1 * * * *", "² * * * *",
    ],
)  # fmt: skip
def test_what_is_no_cron_is_refused(text: str) -> None:
    with pytest.raises(CronError):
        Cron.parse(text)


def test_triggers_have_no_seconds() -> None:
    with pytest.raises(CronError, match="not five"):
        Cron.parse("0 0 9 * * *", seconds=False)


def test_what_never_comes_has_no_next_time() -> None:
    assert Cron.parse("0 0 31 2 *").following(datetime(2026, 1, 1, tzinfo=UTC)) is None


@given(
    st.integers(631_152_000, 3_786_912_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
    st.sampled_from(["*/7 * * * *", "0 3 * * 1,3", "15 2 L * *", "0 0 1 */5 *", "59 23 ? * FRI#1"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]),
)
def test_the_next_time_is_later_and_matches(moment: datetime, text: str, zone: str) -> None:
    cron = Cron.parse(text, zone)
    later = cron.following(moment)
    assert later is not None
    assert later > moment
    assert cron.following(later - timedelta(microseconds=1)) == later
