"""BPMN processes in the store: definitions, instances, tasks, jobs, incidents (flowgrid-level3 §10.1)."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint, text
from sqlmodel import Field

from models.run import RunStatus
from models.table import Record, json_field, time_field


class DefinitionStatus(StrEnum):
    """Whether a deployed version may be started."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class InstanceStatus(StrEnum):
    """Where an instance stands, in the words of flowgrid-level3 §10.1."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_STATUS_OF: dict[InstanceStatus, RunStatus] = {
    InstanceStatus.RUNNING: RunStatus.RUNNING,
    InstanceStatus.SUSPENDED: RunStatus.PAUSED,
    InstanceStatus.COMPLETED: RunStatus.SUCCEEDED,
    InstanceStatus.FAILED: RunStatus.FAILED,
    InstanceStatus.CANCELLED: RunStatus.CANCELED,
}
"""The run's status for each status of an instance."""

ENDED = frozenset({InstanceStatus.COMPLETED, InstanceStatus.FAILED, InstanceStatus.CANCELLED})


class TaskStatus(StrEnum):
    """Where one task of an instance stands (flowgrid-level3 §10.1)."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobStatus(StrEnum):
    """Where a job for an outside worker stands."""

    AVAILABLE = "available"
    LOCKED = "locked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class IncidentStatus(StrEnum):
    """Whether an operator is still needed."""

    OPEN = "open"
    RESOLVED = "resolved"


class MessageStatus(StrEnum):
    """Where a published message stands."""

    BUFFERED = "buffered"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    EXPIRED = "expired"


class ProcessDesign(Record, table=True):
    """A drawn process that is not deployed yet; its versions never change."""

    __tablename__ = "process_designs"

    tenant_id: str = Field(primary_key=True)
    design_id: str = Field(primary_key=True)
    design_version: int = Field(primary_key=True)
    bpmn_xml: str
    dmn_xml: list[str] = json_field()
    created_by: str
    created_at: datetime = time_field()


class ProcessDefinition(Record, table=True):
    """A deployed version of a process: never changed, only suspended or retired."""

    __tablename__ = "process_definitions"
    __table_args__ = (
        UniqueConstraint("tenant_id", "design_id", "design_version"),
        Index("ix_process_definitions_tenant_id_process_key", "tenant_id", "process_key", "design_version"),
        Index("ix_process_definitions_content_hash", "content_hash"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    design_id: str
    design_version: int
    process_key: str
    """Identifier of the process in its file: what call activities name."""
    name: str
    version_tag: str | None = None
    bpmn_xml: str
    dmn_xml: list[str] = json_field()
    """Decision models that its business rule tasks use."""
    parsed_model: dict[str, Any] = json_field()
    """Canonical form that workers execute."""
    content_hash: str
    """SHA-256 of the canonical form and the decision models: the key of workers' caches."""
    status: DefinitionStatus = Field(default=DefinitionStatus.ACTIVE, sa_type=Text)
    diagnostics: list[dict[str, Any]] = json_field()
    deployed_by: str
    deployed_at: datetime = time_field()


class ProcessInstance(Record, table=True):
    """A running or ended process; ``id`` is its run's."""

    __tablename__ = "process_instances"
    __table_args__ = (
        Index("ix_process_instances_tenant_id_status", "tenant_id", "status", "started_at"),
        Index("ix_process_instances_tenant_id_started_at", "tenant_id", "started_at", "id"),
        Index("ix_process_instances_definition_id", "definition_id"),
        Index("ix_process_instances_correlation_id", "correlation_id"),
        Index("ix_process_instances_parent_instance_id", "parent_instance_id"),
    )

    id: str = Field(primary_key=True, foreign_key="runs.id")
    tenant_id: str
    definition_id: str = Field(foreign_key="process_definitions.id")
    status: InstanceStatus = Field(default=InstanceStatus.RUNNING, sa_type=Text)
    started_by: str | None = None
    started_at: datetime = time_field()
    completed_at: datetime | None = time_field(nullable=True)
    error_message: str | None = None
    current_tasks: list[str] = json_field()
    variables: dict[str, Any] = json_field()
    """Those it started with; the present ones are in ``flow_states``."""
    correlation_id: str
    business_key: str | None = None
    parent_instance_id: str | None = None
    open_incidents: int = 0
    recorded: int = Field(default=0, sa_type=BigInteger)
    """Number of the last change its workflow has reported: what comes again is dropped."""


class TaskExecution(Record, table=True):
    """One run of one task within an instance."""

    __tablename__ = "task_executions"
    __table_args__ = (
        Index("ix_task_executions_instance_id", "instance_id"),
        Index("ix_task_executions_tenant_id_status", "tenant_id", "status"),
        Index(
            "ix_task_executions_waiting",
            "tenant_id",
            "assignee",
            postgresql_where=text("status = 'waiting'"),
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id")
    task_id: str
    """Identifier of the BPMN element."""
    task_name: str | None = None
    task_type: str
    agent_slug: str | None = None
    status: TaskStatus = Field(default=TaskStatus.PENDING, sa_type=Text)
    input_variables: dict[str, Any] | None = json_field(nullable=True)
    output_variables: dict[str, Any] | None = json_field(nullable=True)
    error_message: str | None = None
    attempt_count: int = 0
    started_at: datetime | None = time_field(nullable=True)
    completed_at: datetime | None = time_field(nullable=True)
    duration_ms: int | None = Field(default=None, sa_type=BigInteger)
    element_key: int = Field(sa_type=BigInteger)
    """Key of the element instance inside the process instance."""
    job_type: str | None = None
    assignee: str | None = None
    candidate_groups: list[str] | None = json_field(nullable=True)
    candidate_users: list[str] | None = json_field(nullable=True)
    form: str | None = None
    due_at: datetime | None = time_field(nullable=True)
    claimed_at: datetime | None = time_field(nullable=True)
    completed_by: str | None = None


class ProcessJob(Record, table=True):
    """Work for an outside worker: locked, then completed, failed or given back."""

    __tablename__ = "process_jobs"
    __table_args__ = (
        Index(
            "ix_process_jobs_open",
            "tenant_id",
            "type",
            "available_at",
            postgresql_where=text("status IN ('available', 'locked')"),
        ),
        Index("ix_process_jobs_instance_id", "instance_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id")
    element_key: int = Field(sa_type=BigInteger)
    attempt: int
    task_id: str
    type: str
    status: JobStatus = Field(default=JobStatus.AVAILABLE, sa_type=Text)
    variables: dict[str, Any] = json_field()
    details: dict[str, Any] = json_field()
    retries: int
    """Attempts left."""
    available_at: datetime = time_field()
    locked_by: str | None = None
    locked_until: datetime | None = time_field(nullable=True)
    error_message: str | None = None
    created_at: datetime = time_field()
    ended_at: datetime | None = time_field(nullable=True)


class ProcessIncident(Record, table=True):
    """A token that is stuck until an operator helps."""

    __tablename__ = "process_incidents"
    __table_args__ = (
        Index("ix_process_incidents_tenant_id_status", "tenant_id", "status", "created_at"),
        Index("ix_process_incidents_instance_id", "instance_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id")
    element_key: int = Field(sa_type=BigInteger)
    task_id: str
    type: str
    message: str
    status: IncidentStatus = Field(default=IncidentStatus.OPEN, sa_type=Text)
    created_at: datetime = time_field()
    resolved_at: datetime | None = time_field(nullable=True)


class EventSubscription(Record, table=True):
    """Something outside that an element of an instance waits for: a message or a signal."""

    __tablename__ = "process_subscriptions"
    __table_args__ = (Index("ix_process_subscriptions_name", "tenant_id", "kind", "name", "correlation"),)

    instance_id: str = Field(primary_key=True, foreign_key="process_instances.id")
    subscription_key: int = Field(primary_key=True, sa_type=BigInteger)
    tenant_id: str
    task_id: str
    kind: str
    name: str
    correlation: str | None = None
    once: bool
    created_at: datetime = time_field()


class PublishedMessage(Record, table=True):
    """A message by name and correlation key; kept until somebody takes it or its time is over."""

    __tablename__ = "process_messages"
    __table_args__ = (
        UniqueConstraint("tenant_id", "message_id"),
        Index(
            "ix_process_messages_open",
            "tenant_id",
            "name",
            "correlation",
            postgresql_where=text("status = 'buffered'"),
        ),
        Index("ix_process_messages_claimed", "claimed_at", postgresql_where=text("status = 'claimed'")),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    message_id: str
    """The publisher's name of it: published twice, it is one message."""
    kind: str
    """``message``, or ``signal``: one row per instance that waited for it."""
    name: str
    correlation: str | None = None
    variables: dict[str, Any] = json_field()
    status: MessageStatus = Field(default=MessageStatus.BUFFERED, sa_type=Text)
    source: str
    created_at: datetime = time_field()
    expires_at: datetime = time_field()
    instance_id: str | None = None
    subscription_key: int | None = Field(default=None, sa_type=BigInteger)
    claimed_at: datetime | None = time_field(nullable=True)
