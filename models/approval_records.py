"""What the store remembers of approvals (flowgrid-level3 §10.1)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from models.approval import (
    Action,
    ApprovalState,
    ApprovalStatus,
    ApprovalType,
    Priority,
    RemarkKind,
    Result,
    Via,
)
from models.table import Record, json_field, time_field


def names_field() -> Any:
    """Declare a ``text[]`` column."""
    return Field(default_factory=list, sa_type=ARRAY(Text), nullable=False)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]


class ApprovalRow(Record, table=True):
    """A request; the workflow of the same id writes it, everybody else reads it."""

    __tablename__ = "approval_requests"
    __table_args__ = (
        Index("ix_approval_requests_tenant_id_status", "tenant_id", "status"),
        Index("ix_approval_requests_tenant_id_created_at", "tenant_id", "created_at", "id"),
        Index("ix_approval_requests_instance_id", "instance_id"),
        Index("ix_approval_requests_assigned_to_status", "assigned_to", "status"),
        Index(
            "ix_approval_requests_open",
            "assignees",
            postgresql_using="gin",
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="runs.id")
    """The run that waits, or the request's own."""
    task_execution_id: str | None = None
    task_id: str
    correlation_id: str
    requested_by: str
    type: ApprovalType = Field(sa_type=Text)
    title: str
    description: str
    context: dict[str, Any] = json_field()
    editable_fields: list[str] = json_field()
    form_schema: dict[str, Any] | None = json_field(nullable=True)
    payload: dict[str, Any] = json_field()
    payload_hash: str
    revision: int = 1
    assignment_rule: dict[str, Any] = json_field()
    policy: dict[str, Any] = json_field()
    assigned_to: str | None = None
    approval_group: str | None = None
    assignees: list[str] = names_field()
    """Whose decision is awaited now; empty once it is closed."""
    assignee_roles: list[str] = names_field()
    excluded: list[str] = names_field()
    sla: dict[str, Any] = json_field()
    escalation: dict[str, Any] = json_field()
    escalation_level: int = 0
    stage: int = 0
    claimed_by: str | None = None
    information_awaited: bool = False
    channels: list[str] = json_field()
    priority: Priority = Field(sa_type=Text)
    risk: str
    state: ApprovalState = Field(sa_type=Text)
    status: ApprovalStatus = Field(sa_type=Text)
    result: Result | None = Field(default=None, sa_type=Text)
    acknowledged_at: datetime | None = time_field(nullable=True)
    acknowledged_by: str | None = None
    response_due_at: datetime | None = time_field(nullable=True)
    due_at: datetime | None = time_field(nullable=True)
    proceeds_at: datetime | None = time_field(nullable=True)
    completed_at: datetime | None = time_field(nullable=True)
    completed_by: str | None = None
    close_reason: str | None = None
    response: dict[str, Any] | None = json_field(nullable=True)
    state_updates: list[dict[str, Any]] = json_field()
    recorded: int = 0
    """Number of the last changes that its workflow has reported: what comes again is dropped."""
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class ApprovalDecisionRow(Record, table=True):
    """The audit: one line per counted decision, never changed."""

    __tablename__ = "approval_decisions"
    __table_args__ = (
        UniqueConstraint("approval_id", "stage", "approver"),
        UniqueConstraint("approval_id", "idempotency_key"),
        Index("ix_approval_decisions_tenant_id_decided_at", "tenant_id", "decided_at", "id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    approval_id: str = Field(foreign_key="approval_requests.id")
    stage: int
    approver: str
    on_behalf_of: str | None = None
    via: Via = Field(sa_type=Text)
    channel_user_id: str | None = None
    action: Action = Field(sa_type=Text)
    reason: str | None = None
    edits: list[dict[str, Any]] = json_field()
    evidence: list[dict[str, Any]] = json_field()
    payload_hash: str
    """SHA-256 of what the person saw."""
    revision: int
    idempotency_key: str
    decided_at: datetime = time_field()


class ApprovalRemarkRow(Record, table=True):
    """The conversation about a request, and who changed what: never changed."""

    __tablename__ = "approval_remarks"

    approval_id: str = Field(primary_key=True, foreign_key="approval_requests.id")
    number: int = Field(primary_key=True)
    tenant_id: str
    kind: RemarkKind = Field(sa_type=Text)
    author: str
    via: Via = Field(sa_type=Text)
    text: str
    created_at: datetime = time_field()


class ApprovalEvidenceRow(Record, table=True):
    """An attachment; its bytes are in S3."""

    __tablename__ = "approval_evidence"
    __table_args__ = (Index("ix_approval_evidence_approval_id", "approval_id"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    approval_id: str = Field(foreign_key="approval_requests.id")
    name: str
    content_type: str
    size: int
    sha256: str
    object_key: str
    uploaded_by: str
    created_at: datetime = time_field()


class ApprovalGroupRow(Record, table=True):
    """People under a name; also those who hold a role, as far as somebody listed them."""

    __tablename__ = "approval_groups"

    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    members: list[str] = names_field()
    turn: int = 0
    """How often round robin has chosen one."""
    updated_by: str
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class AbsenceRow(Record, table=True):
    """Somebody is away, and who stands in for them."""

    __tablename__ = "approval_absences"
    __table_args__ = (Index("ix_approval_absences_tenant_id_substitute", "tenant_id", "substitute"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    substitute: str
    starts_at: datetime = time_field()
    ends_at: datetime = time_field()
    created_by: str
    created_at: datetime = time_field()
