"""The spine: whatever runs durably is a run (DESIGN §2; run-events-flowchart, "States")."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, Text, text
from sqlmodel import Field

from models.errors import ConflictError
from models.table import Record, time_field, utc_now


class RunKind(StrEnum):
    """What kind of thing runs; each has a workflow type of its own."""

    PUBLISH_REVIEW = "publish_review"
    AGENT_EXECUTION = "agent_execution"
    FLOW = "flow"
    NODE_FLOW = "node_flow"
    AGENT_TASK = "agent_task"
    EXPLORATION = "exploration"
    PAYOUT = "payout"
    APPROVAL = "approval"
    PURCHASE = "purchase"
    REFUND = "refund"


class RunStatus(StrEnum):
    """Where a run stands (run-events-flowchart, "States")."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    DISPATCHED = "DISPATCHED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


TERMINAL_STATUSES = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED})
LIVE_STATUSES = frozenset(RunStatus) - TERMINAL_STATUSES - {RunStatus.PAUSED}

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.QUEUED, RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.QUEUED: frozenset(
        {RunStatus.DISPATCHED, RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELED}
    ),
    RunStatus.DISPATCHED: frozenset(
        {RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELED}
    ),
    RunStatus.RUNNING: frozenset(
        {RunStatus.SUCCEEDED, RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELED}
    ),
    RunStatus.PAUSED: LIVE_STATUSES | {RunStatus.FAILED, RunStatus.CANCELED},
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELED: frozenset(),
}
"""The one state machine. Terminal statuses are sticky."""

EXECUTION_STATUS = {
    RunStatus.PENDING: "queued",
    RunStatus.QUEUED: "queued",
    RunStatus.DISPATCHED: "queued",
    RunStatus.RUNNING: "running",
    RunStatus.PAUSED: "queued",
    RunStatus.SUCCEEDED: "success",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELED: "cancelled",
}
"""The words of frameos-agent-runtime-flows ("User Polling") for the same statuses."""


class RunTransitionError(ConflictError):
    """A run was asked to go where its state machine has no arrow."""

    code = "RUN_TRANSITION_REFUSED"

    def __init__(self, run_id: str, current: RunStatus, wanted: RunStatus) -> None:
        super().__init__(
            f"Run {run_id} is {current}; it cannot become {wanted}."
            + (" It has ended." if current in TERMINAL_STATUSES else ""),
            details={"run_id": run_id, "status": current, "wanted": wanted},
        )


class Run(Record, table=True):
    """One durable run. ``id`` is the identifier of the thing that runs (``exec_…``, ``ver_…``, …)."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_runs_unpublished", "id", postgresql_where=text("published_seq < last_seq")),
        Index("ix_runs_correlation_id", "correlation_id"),
        Index("ix_runs_parent_run_id", "parent_run_id"),
        Index("ix_runs_events_month", "events_month", "tenant_id", "id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    kind: RunKind = Field(sa_type=Text)
    status: RunStatus = Field(default=RunStatus.PENDING, sa_type=Text)
    paused_from: str | None = None
    parent_run_id: str | None = None
    subject: str
    """What the run is about, for people: an agent's slug, a process key."""
    correlation_id: str
    workflow_id: str
    last_seq: int = Field(default=0, sa_type=BigInteger)
    """Number of the last event written; events are 1..last_seq without a gap."""
    published_seq: int = Field(default=0, sa_type=BigInteger)
    """Number of the last event handed to the publisher."""
    created_at: datetime = time_field()
    updated_at: datetime = time_field()
    started_at: datetime | None = time_field(nullable=True)
    ended_at: datetime | None = time_field(nullable=True)
    events_month: date = Field(default_factory=lambda: utc_now().date().replace(day=1))
    """First day of the month whose partition takes the run's events: the one it was created in."""
    archive_id: str | None = None
    """Where its events up to ``archived_seq`` are, once they have left the store."""
    archived_seq: int = Field(default=0, sa_type=BigInteger)
