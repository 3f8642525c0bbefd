"""What starts processes by itself: the calendar, start events of deployed processes, published events.

Temporal holds the schedules of time triggers, PostgreSQL says what they are (flowgrid-level3 §10.1
``scheduled_triggers``). Every start is a row of ``trigger_runs``, unique by trigger and period: a period that
comes twice starts one instance.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Index, Text, text
from sqlmodel import Field

from models.cron import Cron, CronError
from models.errors import ConflictError, InvalidRequestError, NotFoundError
from models.table import Record, json_field, time_field

TRIGGER_GROUP = "flow-triggers"
"""The consumer group that starts processes by events."""

MANUAL_PERIOD = "manual"


class TriggerKind(StrEnum):
    """What a trigger waits for."""

    CRON = "cron"
    TIMER = "timer"
    """A timer start event: ISO 8601 date, duration or repeating interval."""
    MESSAGE = "message"
    SIGNAL = "signal"
    EVENT = "event"


TIMED = frozenset({TriggerKind.CRON, TriggerKind.TIMER})


class TriggerOrigin(StrEnum):
    """Who made a trigger: somebody, or the deployment of a process with a start event."""

    USER = "user"
    DEPLOYMENT = "deployment"


class OverlapPolicy(StrEnum):
    """What happens when a period comes while the instance of an earlier one still runs."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    ALLOW_ALL = "allow_all"


class TriggerRunStatus(StrEnum):
    """What became of one start."""

    PENDING = "pending"
    STARTED = "started"


class ScheduledTrigger(Record, table=True):
    """A trigger; Temporal follows its row, never the other way."""

    __tablename__ = "scheduled_triggers"
    __table_args__ = (
        Index("ix_scheduled_triggers_tenant_id_process_key", "tenant_id", "process_key"),
        Index(
            "ix_scheduled_triggers_waiting",
            "tenant_id",
            "kind",
            "name",
            postgresql_where=text("enabled AND deleted_at IS NULL"),
        ),
        Index("ix_scheduled_triggers_unsynced", "updated_at", postgresql_where=text("synced_at IS NULL")),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    definition_id: str = Field(foreign_key="process_definitions.id")
    process_key: str
    pinned: bool
    """Whether that very version is started; else the latest active one of the process."""
    kind: TriggerKind = Field(sa_type=Text)
    origin: TriggerOrigin = Field(sa_type=Text)
    cron_expression: str | None = None
    """Five fields; of a timer start event its ISO 8601 text."""
    time_zone: str = "UTC"
    anchor: datetime = time_field()
    """From when durations and intervals count."""
    overlap_policy: OverlapPolicy = Field(default=OverlapPolicy.SKIP, sa_type=Text)
    name: str | None = None
    """Name of the message or signal, type of the event."""
    match: dict[str, Any] = json_field()
    """What an event's data must contain."""
    variables: dict[str, Any] = json_field()
    start_node: str | None = None
    start_part: int = 0
    enabled: bool = True
    last_triggered_at: datetime | None = time_field(nullable=True)
    next_trigger_at: datetime | None = time_field(nullable=True)
    created_by: str
    created_at: datetime = time_field()
    updated_at: datetime = time_field()
    deleted_at: datetime | None = time_field(nullable=True)
    synced_at: datetime | None = time_field(nullable=True)
    """When Temporal's schedule was last made like this row; None: it has to be."""


class TriggerRun(Record, table=True):
    """One start by a trigger."""

    __tablename__ = "trigger_runs"
    __table_args__ = (
        Index("ix_trigger_runs_pending", "created_at", postgresql_where=text("status = 'pending'")),
        Index("ix_trigger_runs_instance_id", "instance_id"),
    )

    trigger_id: str = Field(primary_key=True)
    period_key: str = Field(primary_key=True)
    """Nominal time of a schedule; id of a message, signal or event."""
    tenant_id: str
    instance_id: str
    definition_id: str
    variables: dict[str, Any] = json_field()
    business_key: str | None = None
    status: TriggerRunStatus = Field(default=TriggerRunStatus.PENDING, sa_type=Text)
    created_at: datetime = time_field()


class FiredTrigger(BaseModel):
    """What a schedule starts its workflow with."""

    trigger_id: str
    tenant_id: str


class TriggerPeriod(BaseModel):
    """One period of a schedule, to be claimed.

    Attributes:
        nominal: When it was due, whenever it runs.
    """

    trigger_id: str
    tenant_id: str
    nominal: datetime


class TriggerNotFoundError(NotFoundError):
    """There is no such trigger in the caller's tenant."""

    code = "TRIGGER_NOT_FOUND"

    def __init__(self, trigger_id: str) -> None:
        super().__init__(
            f"There is no trigger {trigger_id}; list yours with GET /api/orchestrator/triggers.",
            details={"trigger_id": trigger_id},
        )


class TriggerInvalidError(InvalidRequestError):
    """A trigger cannot be as it was asked for."""

    code = "TRIGGER_INVALID"

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(
            f"{field}: {problem}. {remedy}",
            details={"fields": [{"field": f"body.{field}", "rule": "trigger", "message": problem}]},
        )


class TriggerBoundError(ConflictError):
    """The trigger belongs to a start event: its process says when it starts."""

    code = "TRIGGER_BOUND"

    def __init__(self, trigger_id: str) -> None:
        super().__init__(
            f"Trigger {trigger_id} belongs to a start event of its process. Pause it, or deploy another "
            "version.",
            details={"trigger_id": trigger_id},
        )


def checked_cron(expression: str, time_zone: str) -> Cron:
    """Read the cron expression of a trigger: five fields, no seconds.

    Raises:
        TriggerInvalidError: It is none, or the time zone is unknown.
    """
    try:
        return Cron.parse(expression, time_zone, seconds=False)
    except CronError as error:
        raise TriggerInvalidError(
            "cronExpression", str(error), "Write five fields such as 0 9 * * MON-FRI, and an IANA time zone."
        ) from None
