"""What is measured of runs, and how it is kept: counts and durations that add up (flowgrid-level3 §8, §11.3).

A measurement is a count and a total under a key; writing is adding, so that any number of events become one
row and two rows of different hours become one figure. Durations are kept as counts per histogram bucket:
percentiles of any period, agent or process come from adding buckets.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, DateTime, Index, Text
from sqlmodel import Field

from models.errors import InvalidRequestError
from models.run import RunKind
from models.table import Record, time_field

PLATFORM_TENANT = "*"
"""Tenant of the rows that belong to the platform itself; no tenant's identifier can be this."""

NANOS = 1_000_000_000
"""Costs are kept in billionths of a currency's major unit: a language model's call costs less than a cent."""

FLOW_KINDS = frozenset({RunKind.FLOW, RunKind.NODE_FLOW})
"""What the dashboard calls a flow."""

AGENT_KINDS = frozenset({RunKind.AGENT_EXECUTION, RunKind.AGENT_TASK})
"""Runs whose subject is an agent's slug."""


class Measure(StrEnum):
    """What a measurement counts. The three words behind each are its scope, subject and detail."""

    RUN_STARTED = "run_started"
    """Runs begun: kind, subject (empty: all of the kind), none."""
    RUN_ENDED = "run_ended"
    """Runs ended: kind, subject (empty: all of the kind), final status."""
    RUN_DURATION = "run_duration"
    """From start to success: kind, subject (empty: all of the kind), bucket; total in milliseconds."""
    RUN_QUEUED = "run_queued"
    """From creation to start: kind, subject (empty: all of the kind), none; total in milliseconds."""
    RUN_ERROR = "run_error"
    """Runs failed: kind, subject, error code."""
    ACTIVE_RUNS = "active_runs"
    """Runs that go on now: kind, none, none. Kept without time."""
    ELEMENT_ENDED = "element_ended"
    """Steps of processes: definition, element, outcome."""
    ELEMENT_TYPE = "element_type"
    """Steps of processes: definition, element, type of element."""
    ELEMENT_DURATION = "element_duration"
    """From a step's start to its end: definition, element, bucket; total in milliseconds."""
    ELEMENT_WAITING = "element_waiting"
    """From a step's dispatch to its start: definition, element, bucket; total in milliseconds."""
    AGENT_TOKENS = "agent_tokens"
    """Tokens of language models: agent, model, direction (input, output)."""
    TOOL_CALLS = "tool_calls"
    """Calls of tools: agent, tool, none."""
    COST = "cost"
    """Calls that cost: agent, model (empty: the marketplace's price), currency; total in billionths."""
    APPROVAL_CREATED = "approval_created"
    """none, none, none."""
    APPROVAL_COMPLETED = "approval_completed"
    """none, none, result (approved, rejected, …, expired)."""
    APPROVAL_RESPONSE = "approval_response"
    """From creation to decision: none, none, bucket; total in milliseconds."""
    SLA_BREACHED = "sla_breached"
    """none, none, none."""
    PENDING_APPROVALS = "pending_approvals"
    """Approvals that wait now: none, none, none. Kept without time."""
    POSITION = "position"
    """The platform's own: total is the position of the last event that is in the measurements."""


class Resolution(StrEnum):
    """The width of time that a measurement covers."""

    HOUR = "hour"
    DAY = "day"
    """A day in UTC."""
    ALL = "all"
    """No time: what stands now."""


ALL_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The bucket of measurements of resolution ``ALL``."""


class Measurement(Record, table=True):
    """A count and a total of one measure, of one tenant, in one hour or day."""

    __tablename__ = "measurements"

    tenant_id: str = Field(primary_key=True)
    resolution: Resolution = Field(sa_type=Text, primary_key=True)
    measure: Measure = Field(sa_type=Text, primary_key=True)
    scope: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    bucket: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)  # pyright: ignore[reportCallIssue, reportArgumentType]
    """Start of the hour or day."""
    detail: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
    total: int = Field(sa_type=BigInteger)


class OpenSpan(Record, table=True):
    """Something of a run that has begun and not ended: a process's step, an approval, the process itself."""

    __tablename__ = "open_spans"
    __table_args__ = (Index("ix_open_spans_tenant_id", "tenant_id"),)

    run_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    """``flow``, ``element:<id of the visit>``, ``approval:<id>``."""
    tenant_id: str
    subject: str
    """The definition's id for the process, the element's for a step."""
    opened_at: datetime = time_field()
    started_at: datetime | None = time_field(nullable=True)


class PartReport(Record, table=True):
    """What a worker last said of itself and of the parts that only it reaches."""

    __tablename__ = "part_reports"

    part: str = Field(primary_key=True)
    instance: str = Field(primary_key=True)
    """The process that reports."""
    tenant_id: str = PLATFORM_TENANT
    healthy: bool
    latency_ms: int | None = None
    detail: str = ""
    reported_at: datetime = time_field()


# Buckets grow by an eighth of a doubling: a percentile read from them is off by at most 4.5 %.
_BUCKETS_PER_DOUBLING = 8
_LAST_BUCKET = 8 * 36


def bucket_of(milliseconds: float) -> int:
    """Return the histogram bucket of a duration; 0 holds everything up to one millisecond."""
    if milliseconds <= 1:
        return 0
    return min(math.ceil(math.log2(milliseconds) * _BUCKETS_PER_DOUBLING), _LAST_BUCKET)


def bucket_middle(bucket: int) -> float:
    """Return the duration that stands for a bucket, in milliseconds: the middle of its bounds' logarithms."""
    return 1.0 if bucket <= 0 else 2 ** ((bucket - 0.5) / _BUCKETS_PER_DOUBLING)


def quantile(buckets: Mapping[int, int], share: float) -> int | None:
    """Return the duration in milliseconds that ``share`` of the sample does not exceed, or None without one.

    Args:
        buckets: Histogram bucket → how many durations fell into it.
        share: Between 0 and 1: 0.95 for the 95th percentile.
    """
    size = sum(buckets.values())
    if size <= 0:
        return None
    rank = max(1, math.ceil(share * size))
    seen, found = 0, 0
    for bucket in sorted(buckets):
        if seen < rank:
            found = bucket
        seen += buckets[bucket]
    return round(bucket_middle(found))


class InvalidPeriodError(InvalidRequestError):
    """The period is not one that is measured."""

    code = "INVALID_PERIOD"

    def __init__(self, given: str) -> None:
        rule = "hours or days, such as 24h or 7d; at most 48h or 400d"
        super().__init__(
            f"The period {given[:20]!r} cannot be read. Give {rule}.",
            details={
                "fields": [
                    {
                        "field": "query.period",
                        "rule": "period",
                        "message": f"is not {rule}",
                        "remedy": "Send period=24h or period=7d.",
                    }
                ]
            },
        )


@dataclass(frozen=True)
class Period:
    """A time to look back on.

    Attributes:
        resolution: The measurements to add up: hours for a period in hours, days for one in days.
        since: Start of the first of them.
    """

    resolution: Resolution
    since: datetime


LONGEST_HOURS = 48
LONGEST_DAYS = 400


def period_of(given: str, now: datetime) -> Period:
    """Read a period: ``24h`` is this hour and the 23 before it, ``7d`` today (UTC) and six days before.

    Raises:
        InvalidPeriodError: It is neither hours nor days, or too long.
    """
    number, unit = given[:-1], given[-1:]
    if number.isascii() and number.isdecimal() and len(number) <= 3 and int(number) >= 1:
        length = int(number)
        if unit == "h" and length <= LONGEST_HOURS:
            return Period(Resolution.HOUR, hour_of(now) - timedelta(hours=length - 1))
        if unit == "d" and length <= LONGEST_DAYS:
            return Period(Resolution.DAY, day_of(now) - timedelta(days=length - 1))
    raise InvalidPeriodError(given)


def hour_of(moment: datetime) -> datetime:
    """Return the start of the hour in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    """Return the start of the day in UTC."""
    return hour_of(moment).replace(hour=0)
