"""What crosses Temporal for a process instance: its start, its changes on their way to the store, its work.

Every change has a number ``n`` that counts up within the instance. The store remembers the last one it has
applied, so changes may be sent again and by several ways, as long as whoever sends one sends all that came
before it and are not yet known to be stored.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from models.event import EventType
from models.process import InstanceStatus, TaskStatus


class Caller(BaseModel):
    """Who called a process or agent, and is told how it ended."""

    workflow_id: str
    instance_id: str
    key: int
    attempt: int


class Carry(BaseModel):
    """What a run of the workflow hands to the next one (continue-as-new)."""

    version: int = 1
    state: dict[str, Any]
    last_change: int
    state_version: int
    semantics: int = 1
    pending: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    """Jobs whose start was put off."""
    children: dict[int, str] = Field(default_factory=dict[int, str])
    """Workflows that work for an element instance, by its key."""
    messages: list[str] = Field(default_factory=list[str])
    """Messages taken lately, so that one that comes twice is dropped."""
    runs: int = 1


class StartProcess(BaseModel):
    """What ``ProcessInstance`` starts with.

    Attributes:
        instance_id: Also the run's identifier.
        definition_id: The deployed version, or None where ``called`` names the process.
        called: Key of a process that a call activity starts, with ``binding`` (``latest`` or a version).
        start_node: The start event, where it is not the none start event.
        start_part: Which of its triggers came, where it has several.
        priority: Unused by the workflow itself; kept for its children.
    """

    instance_id: str
    tenant_id: str
    definition_id: str | None = None
    called: str | None = None
    binding: str | None = None
    started_by: str
    correlation_id: str
    business_key: str | None = None
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    start_node: str | None = None
    start_part: int = 0
    caller: Caller | None = None
    content_hash: str = ""
    process_key: str = ""
    carry: Carry | None = None


class InstanceOpened(BaseModel):
    """The answer to a start: what runs."""

    instance_id: str
    definition_id: str
    content_hash: str
    process_key: str


class FlowEvent(BaseModel):
    """An event of the run, still to be appended."""

    n: int
    type: EventType
    at: datetime
    data: dict[str, Any]


class TaskChange(BaseModel):
    """A task has begun, changed or ended; what is None stays as it is."""

    n: int
    key: int
    task_id: str
    task_name: str | None = None
    task_type: str
    status: TaskStatus
    at: datetime
    job_type: str | None = None
    agent_slug: str | None = None
    attempt: int = 0
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    error: str | None = None
    assignee: str | None = None
    candidate_groups: list[str] | None = None
    candidate_users: list[str] | None = None
    form: str | None = None
    due_at: datetime | None = None
    completed_by: str | None = None


class JobChange(BaseModel):
    """A job for outside workers is offered, or has ended."""

    n: int
    key: int
    attempt: int
    task_id: str = ""
    type: str = ""
    status: str
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    details: dict[str, Any] = Field(default_factory=dict[str, Any])
    retries: int = 3
    error: str | None = None


class SubscriptionChange(BaseModel):
    """A message or signal is waited for, or not any more (``open`` False)."""

    n: int
    key: int
    open: bool
    task_id: str = ""
    kind: str = ""
    name: str = ""
    correlation: str | None = None
    once: bool = True


class IncidentChange(BaseModel):
    """A token is stuck, or is not any more (``open`` False)."""

    n: int
    key: int
    open: bool
    task_id: str = ""
    type: str = ""
    message: str = ""


class MessageThrown(BaseModel):
    """A message or signal goes out."""

    n: int
    kind: str
    name: str
    correlation: str | None = None
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])


class MessageReceipt(BaseModel):
    """A message was taken (``delivered``), or came when nobody waited for it any more (``returned``)."""

    n: int
    kind: str
    message: str


class StateChange(BaseModel):
    """New values of the instance's variables."""

    n: int
    version: int
    variables: dict[str, Any]
    changed_by: str
    reason: str | None = None


class StatusChange(BaseModel):
    """The instance has another status."""

    n: int
    status: InstanceStatus
    error: str | None = None
    definition_id: str | None = None


class Batch(BaseModel):
    """Changes of one instance in order of their numbers."""

    instance_id: str
    tenant_id: str
    last: int = 0
    """Number of the last change; all since the last confirmed one are here."""
    events: list[FlowEvent] = Field(default_factory=list[FlowEvent])
    tasks: list[TaskChange] = Field(default_factory=list[TaskChange])
    jobs: list[JobChange] = Field(default_factory=list[JobChange])
    subscriptions: list[SubscriptionChange] = Field(default_factory=list[SubscriptionChange])
    incidents: list[IncidentChange] = Field(default_factory=list[IncidentChange])
    thrown: list[MessageThrown] = Field(default_factory=list[MessageThrown])
    receipts: list[MessageReceipt] = Field(default_factory=list[MessageReceipt])
    states: list[StateChange] = Field(default_factory=list[StateChange])
    statuses: list[StatusChange] = Field(default_factory=list[StatusChange])
    current_tasks: list[str] | None = None


class ServiceTask(BaseModel):
    """Work that an activity does for a task, with the changes to record before it begins."""

    instance_id: str
    tenant_id: str
    key: int
    attempt: int
    task_id: str
    type: str
    kind: str
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    details: dict[str, Any] = Field(default_factory=dict[str, Any])
    batch: Batch | None = None


class TaskAnswer(BaseModel):
    """How the work of a task ended: with results, with a BPMN error, or for technical reasons.

    Attributes:
        key: Key of the element instance.
        attempt: Which attempt answers; an answer to an older one is dropped.
        error_code: BPMN error, catchable by the process.
        failure: Technical failure that retrying did not mend: an incident.
        escalation: The work escalates and goes on.
        by: User or worker that completed it.
    """

    key: int
    attempt: int
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
    error_code: str | None = None
    message: str = ""
    failure: str | None = None
    escalation: str | None = None
    by: str | None = None


class AgentCallRequest(BaseModel):
    """What ``AgentCall`` starts with: which agent works for which task of which process."""

    caller: Caller
    tenant_id: str
    user_id: str
    agent_slug: str
    inputs: dict[str, Any]
    correlation_id: str
    cost_cap: int | None = None


class MessageArrival(BaseModel):
    """A published message for a subscription of the instance, or a signal that it waits for."""

    message: str
    kind: str = "message"
    key: int
    name: str
    correlation: str | None = None
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])


class ProcessResult(BaseModel):
    """What ``ProcessInstance`` returns; the row in the store says more."""

    instance_id: str
    status: InstanceStatus
    error: str | None = None
    error_code: str | None = None
    variables: dict[str, Any] = Field(default_factory=dict[str, Any])
