"""Events: past facts about a run, gap-free and stored exactly once (DESIGN §3; flowgrid-level3 §4.2)."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field as Column

from models.run import RunStatus
from models.table import Record, json_field, time_field


class EventType(StrEnum):
    """Every event type there is. No literal of one stands elsewhere."""

    RUN_QUEUED = "run.queued"
    RUN_DISPATCHED = "run.dispatched"
    RUN_STARTED = "run.started"
    RUN_RETRIED = "run.retried"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    RUN_EXECUTED = "run.executed"
    RUN_SUCCEEDED = "run.succeeded"
    RUN_FAILED = "run.failed"
    RUN_CANCELED = "run.canceled"
    LOG = "log"
    AGENT_SUBMITTED = "agent.submitted"
    AGENT_SCANNED = "agent.scanned"
    AGENT_APPROVED = "agent.approved"
    AGENT_REJECTED = "agent.rejected"
    AGENT_PUBLISHED = "agent.published"
    AGENT_QUARANTINED = "agent.quarantined"
    AGENT_INVOKED = "agent.invoked"
    AGENT_COMPLETED = "agent.completed"
    AGENT_ERROR = "agent.error"
    AGENT_TOOL_CALLED = "agent.tool_called"
    AGENT_TAMPERED = "agent.tampered"
    PAYMENT_INTENT_APPROVED = "payment.intent_approved"
    PAYMENT_INTENT_DENIED = "payment.intent_denied"
    PAYMENT_AUTHORISING = "payment.authorising"
    PAYMENT_HELD = "payment.held"
    PAYMENT_MANDATE_MINTED = "payment.mandate_minted"
    PAYMENT_SETTLE_REQUESTED = "payment.settle_requested"
    PAYMENT_SETTLED = "payment.settled"
    PAYMENT_DECLINED = "payment.declined"
    PAYMENT_UNKNOWN = "payment.unknown"
    PAYMENT_RELEASED = "payment.released"
    PAYMENT_REFUND_REQUESTED = "payment.refund_requested"
    PAYMENT_REFUNDED = "payment.refunded"
    PAYMENT_REFUND_DECLINED = "payment.refund_declined"
    PAYMENT_REFUND_UNKNOWN = "payment.refund_unknown"
    PAYMENT_RECEIPT_ISSUED = "payment.receipt_issued"
    PAYOUT_CLAIMED = "payout.claimed"
    PAYOUT_UNKNOWN = "payout.unknown"
    PAYOUT_PAID = "payout.paid"
    PAYOUT_FAILED = "payout.failed"
    RUN_EGRESS = "run.egress"
    FLOW_DEPLOYED = "flow.deployed"
    FLOW_STARTED = "flow.started"
    FLOW_COMPLETED = "flow.completed"
    FLOW_FAILED = "flow.failed"
    FLOW_CANCELLED = "flow.cancelled"
    FLOW_MODIFIED = "flow.modified"
    FLOW_MIGRATED = "flow.migrated"
    ELEMENT_STARTED = "element.started"
    ELEMENT_COMPLETED = "element.completed"
    ELEMENT_CANCELLED = "element.cancelled"
    ELEMENT_CAUGHT = "element.caught"
    ELEMENT_THROWN = "element.thrown"
    INCIDENT_RAISED = "incident.raised"
    INCIDENT_RESOLVED = "incident.resolved"
    TASK_DISPATCHED = "task.dispatched"
    TASK_STARTED = "task.started"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_RETRIED = "task.retried"
    TASK_CANCELLED = "task.cancelled"
    APPROVAL_CREATED = "approval.created"
    APPROVAL_ASSIGNED = "approval.assigned"
    APPROVAL_ACKNOWLEDGED = "approval.acknowledged"
    APPROVAL_VOTED = "approval.voted"
    APPROVAL_COMMENTED = "approval.commented"
    APPROVAL_REMINDED = "approval.reminded"
    APPROVAL_COMPLETED = "approval.completed"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_CANCELLED = "approval.cancelled"
    SLA_WARNING = "sla.warning"
    SLA_BREACHED = "sla.breached"
    STATE_UPDATED = "state.updated"


class EphemeralType(StrEnum):
    """What is told live and never stored: it has no number, and nobody can come back for it."""

    AGENT_DELTA = "agent.delta"
    AGENT_RESET = "agent.reset"


STATUS_EVENTS: dict[RunStatus, EventType] = {
    RunStatus.QUEUED: EventType.RUN_QUEUED,
    RunStatus.DISPATCHED: EventType.RUN_DISPATCHED,
    RunStatus.RUNNING: EventType.RUN_STARTED,
    RunStatus.PAUSED: EventType.RUN_PAUSED,
    RunStatus.SUCCEEDED: EventType.RUN_SUCCEEDED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELED: EventType.RUN_CANCELED,
}
"""The event that reports each change of a run's status."""


class NewEvent(BaseModel):
    """An event still to be appended; the store gives it its number and identifier."""

    type: EventType
    key: str = Field(max_length=200)
    """Deterministic within the run: a retried writer uses the same key, and the store writes nothing."""
    data: dict[str, Any] = Field(default_factory=dict)
    source: str = "worker"
    timestamp: datetime | None = None
    """When the fact happened; the database's clock where it is not given."""
    causation_id: str | None = None


class RunEvent(Record, table=True):
    """One stored event. ``seq`` counts 1, 2, 3 … within its run."""

    __tablename__ = "run_events"
    __table_args__ = (
        UniqueConstraint("run_id", "key", "month"),
        UniqueConstraint("id", "month"),
        UniqueConstraint("position", "month"),
        Index("ix_run_events_tenant_id_timestamp", "tenant_id", "timestamp"),
        Index(
            "ix_run_events_tenant_id_position",
            "tenant_id",
            "position",
            postgresql_where=text("position IS NOT NULL"),
        ),
        Index("ix_run_events_type_timestamp", "type", "timestamp"),
        Index("ix_run_events_correlation_id", "correlation_id"),
        {"postgresql_partition_by": "RANGE (month)"},
    )

    run_id: str = Column(primary_key=True, foreign_key="runs.id")
    seq: int = Column(primary_key=True, sa_type=BigInteger)
    month: date = Column(primary_key=True)
    """First day of the month that the run's events belong to (`models.run.Run.events_month`)."""
    id: str
    key: str
    tenant_id: str
    type: EventType = Column(sa_type=Text)
    source: str
    timestamp: datetime = time_field()
    data: dict[str, Any] = json_field()
    correlation_id: str
    causation_id: str | None = None
    published_at: datetime | None = time_field(nullable=True)
    position: int | None = Column(default=None, sa_type=BigInteger)
    """Gap-free number over all runs, given at publication."""


class EventPosition(Record, table=True):
    """The one row that holds the last position given: positions have no gap, whatever is archived."""

    __tablename__ = "event_positions"

    tenant_id: str = Column(primary_key=True)
    position: int = Column(sa_type=BigInteger)


class EventArchive(Record, table=True):
    """An object in S3 with the events of some runs of one tenant that ended long ago."""

    __tablename__ = "event_archives"
    __table_args__ = (Index("ix_event_archives_tenant_id_month", "tenant_id", "month"),)

    id: str = Column(primary_key=True)
    tenant_id: str
    month: date
    object_key: str
    sha256: bytes = Column(sa_type=LargeBinary)
    """Of the object: what was changed in S3 is not shown."""
    runs: int
    events: int
    last_position: int = Column(sa_type=BigInteger)
    created_at: datetime = time_field()
