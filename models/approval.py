"""Human approvals: what is asked, answered and remembered (flowgrid-level3 §2, §10.1)."""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, Field, JsonValue, model_validator

from models.approval_policy import (
    AssignmentRule,
    BreachAction,
    Channel,
    Default,
    Escalation,
    FinalAction,
    Policy,
    RiskClass,
    Sla,
)
from models.calendar import CamelModel, PinnedCalendar
from models.event import NewEvent
from models.identifiers import derived_identifier


class ApprovalType(StrEnum):
    """What is asked of a person (flowgrid-level3 §2.3; ``veto`` is its human on the loop)."""

    APPROVE_REJECT = "approve_reject"
    REVIEW_EDIT = "review_edit"
    INFORM = "inform"
    MANUAL_TASK = "manual_task"
    VETO = "veto"


class ApprovalState(StrEnum):
    """Where a request stands. Claims, acknowledgements and escalation are facts beside it, not states."""

    OPEN = "open"
    DECIDED = "decided"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Result(StrEnum):
    """What a closed request came to."""

    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class ApprovalStatus(StrEnum):
    """The documented words (flowgrid-level3 §10.1), derived from state and facts at the edge."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    APPROVED = "approved"
    REJECTED = "rejected"
    ESCALATED = "escalated"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN_STATUSES = frozenset(
    {
        ApprovalStatus.PENDING,
        ApprovalStatus.ASSIGNED,
        ApprovalStatus.IN_PROGRESS,
        ApprovalStatus.ESCALATED,
    }
)


class Priority(StrEnum):
    """How urgent it is; ``critical`` goes out by every channel at once, quiet hours or not."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Action(StrEnum):
    """What one may decide; of a veto, ``reject`` is the veto and ``approve`` lets the action go on now."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"


class Via(StrEnum):
    """Through what somebody spoke."""

    WEB = "web"
    API = "api"
    SLACK = "slack"
    TEAMS = "teams"
    EMAIL = "email"


class ApprovalSpec(CamelModel):
    """What is asked, of whom, until when."""

    type: ApprovalType = ApprovalType.APPROVE_REJECT
    title: str = Field(min_length=1, max_length=500)
    description: str = Field(default="", max_length=20_000)
    context: dict[str, JsonValue] = Field(
        default_factory=dict[str, JsonValue], description="What the person should know."
    )
    payload: dict[str, JsonValue] = Field(
        default_factory=dict[str, JsonValue], description="The very thing that is decided on, and edited."
    )
    form_schema: dict[str, Any] | None = Field(
        default=None, description="JSON Schema (2020-12) of the payload after edits."
    )
    editable_fields: list[str] = Field(
        default_factory=list[str], max_length=200, description="Fields of the payload that may be edited."
    )
    assignment_rule: AssignmentRule
    policy: Policy = Field(default_factory=Policy)
    sla: Sla = Field(default_factory=Sla)
    escalation: Escalation = Field(default_factory=Escalation)
    channels: list[Channel] = Field(default_factory=lambda: [Channel.WEB], min_length=1, max_length=4)
    priority: Priority = Priority.NORMAL
    risk: RiskClass = RiskClass.MEDIUM

    @model_validator(mode="after")
    def _safe(self) -> Self:
        """Refuse approval by silence where the risk does not allow it, and types without what they need."""
        silent = (
            self.sla.breach_action is BreachAction.AUTO_APPROVE
            or self.escalation.final_action is FinalAction.AUTO_APPROVE
            or (self.policy.default is Default.APPROVE and self.policy.expire_after is not None)
        )
        if silent and self.type is ApprovalType.VETO:
            raise ValueError(
                "a veto never proceeds unless somebody has seen it; use auto_reject or cancel_flow"
            )
        if silent and self.risk is not RiskClass.LOW:
            raise ValueError("approval without a person needs the risk `low`")
        if self.type is ApprovalType.VETO:
            if self.policy.veto_window is None:
                raise ValueError("a veto needs policy.vetoWindow")
            if self.policy.stages:
                raise ValueError("a veto has no stages: any one of those asked may use it")
        elif self.policy.veto_window is not None:
            raise ValueError("policy.vetoWindow belongs to the type `veto`")
        if self.editable_fields and self.type is not ApprovalType.REVIEW_EDIT:
            raise ValueError("editableFields belong to the type `review_edit`")
        if self.policy.evidence_required and self.type is not ApprovalType.MANUAL_TASK:
            raise ValueError("policy.evidenceRequired belongs to the type `manual_task`")
        return self

    def content_hash(self, payload: dict[str, Any] | None = None) -> str:
        """Return the SHA-256 (hex) of what a person is shown and decides on.

        Args:
            payload: The payload after edits; the one that was asked about by default.
        """
        shown = {
            "type": self.type,
            "title": self.title,
            "description": self.description,
            "context": self.context,
            "payload": self.payload if payload is None else payload,
        }
        # Contexts hold whatever a flow holds, fractions included, for which RFC 8785 has no exact form.
        text = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ApprovalRequest(BaseModel):
    """What the workflow ``Approval`` starts with.

    Attributes:
        approval_id: From `approval_id`, or new for a request of its own.
        run_id: The run whose events tell of it: the one that waits, or its own.
        task_id: The element or tool that asks.
        own_run: Whether ``run_id`` is made with the request and ends with it.
        requested_by: Who asks; may not decide unless the policy says so.
        excluded: Others who may not decide, such as the owner of the agent that asks.
    """

    approval_id: str
    tenant_id: str
    run_id: str
    task_id: str
    task_execution_id: str | None = None
    own_run: bool = False
    requested_by: str
    excluded: list[str] = Field(default_factory=list[str])
    correlation_id: str
    spec: ApprovalSpec


def approval_id(run_id: str, task_id: str, visit: int) -> str:
    """Return the identifier of one visit of one task: a loop that comes back asks anew."""
    return derived_identifier("approval", run_id, task_id, visit)


def approval_workflow_id(approval: str) -> str:
    """Return the workflow's id of a request."""
    return f"approval/{approval}"


class Pool(BaseModel):
    """People who may decide, as they were when the request was opened.

    Attributes:
        members: Their ids.
        role: A platform role whose holders belong to it as well, known from their token when they act.
    """

    members: list[str]
    role: str | None = None


class Opened(BaseModel):
    """What opening a request found out; pinned for its life.

    Attributes:
        stages: For each stage the pool of each group.
        levels: For each escalation level its pool.
        calendar: What the clock runs by; None: wall time.
    """

    stages: list[list[Pool]]
    levels: list[Pool]
    calendar: PinnedCalendar | None = None


class Actor(BaseModel):
    """Who does something to a request, as the edge has authenticated them.

    Attributes:
        user_id: The person.
        roles: Roles of their token; empty where a channel knows none.
        stands_in_for: People for whom the person is the substitute today.
        manages: Whether they may act on requests that are not theirs (administrators, operators).
        channel_user_id: Who the channel says it was.
    """

    user_id: str
    roles: list[str] = Field(default_factory=list[str])
    stands_in_for: list[str] = Field(default_factory=list[str])
    manages: bool = False
    via: Via = Via.API
    channel_user_id: str | None = None


class Evidence(BaseModel):
    """An attachment that proves a manual task."""

    evidence_id: str
    name: str
    sha256: str
    size: int


class Decide(BaseModel):
    """A verdict.

    Attributes:
        key: The click: what comes again with the same key gets the first answer.
        payload_hash: ``payloadHash`` of what the person saw.
        edits: JSON Pointers of the payload and their new values.
    """

    actor: Actor
    action: Action
    key: str = Field(max_length=200)
    payload_hash: str
    comment: str | None = Field(default=None, max_length=4_000)
    edits: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    evidence: list[Evidence] = Field(default_factory=list[Evidence])


class Decided(BaseModel):
    """The answer to a verdict.

    Attributes:
        approver: Who decided.
        on_behalf_of: For whom, where that is somebody else.
        closed: Whether it ended the request.
    """

    approval_id: str
    action: Action
    approver: str
    on_behalf_of: str | None
    closed: bool
    result: Result | None
    decided_at: datetime
    decided_by: str | None = None


class Order(BaseModel):
    """Anything else one may do: acknowledge, claim, release."""

    actor: Actor
    key: str = Field(default="", max_length=200)


class Reassign(Order):
    """Others decide instead of those asked so far."""

    assign_to: str
    members: list[str] = Field(description="Whom `assign_to` stands for.")
    reason: str = Field(default="", max_length=2_000)


class Delegate(Order):
    """Somebody else may decide for one of those asked."""

    delegate: str
    principal: str | None = None
    reason: str = Field(default="", max_length=2_000)


class Comment(Order):
    """A remark; ``answers`` one lets clocks go on that stood still for a question."""

    text: str = Field(min_length=1, max_length=4_000)
    question: bool = False
    answers: bool = False


class Extend(Order):
    """More time to decide."""

    seconds: int = Field(ge=1, le=366 * 86_400)
    reason: str = Field(default="", max_length=2_000)


class Cancel(Order):
    """The request is withdrawn, or what it was about has changed."""

    reason: str = Field(default="", max_length=2_000)
    superseded: bool = False


class SetCalendar(Order):
    """From now on the clock runs by this calendar."""

    calendar: PinnedCalendar | None


class Facts(BaseModel):
    """How a request stands; what a reader is shown and what the store's row says."""

    state: ApprovalState
    status: ApprovalStatus
    result: Result | None = None
    stage: int = 0
    assignees: list[str] = Field(default_factory=list[str])
    assignee_roles: list[str] = Field(default_factory=list[str])
    assigned_to: str | None = None
    claimed_by: str | None = None
    escalation_level: int = 0
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    information_awaited: bool = False
    response_due_at: datetime | None = None
    due_at: datetime | None = None
    proceeds_at: datetime | None = None
    next_at: datetime | None = None
    completed_at: datetime | None = None
    completed_by: str | None = None
    close_reason: str | None = None
    revision: int = 1
    payload: dict[str, Any] = Field(default_factory=dict[str, Any])
    payload_hash: str = ""
    state_updates: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


class DecisionRecord(BaseModel):
    """One line of the audit: who, for whom, through what, what they saw, when, why."""

    stage: int
    approver: str
    on_behalf_of: str | None
    via: Via
    channel_user_id: str | None
    action: Action
    reason: str | None
    edits: list[dict[str, Any]]
    evidence: list[Evidence]
    payload_hash: str
    revision: int
    decided_at: datetime
    key: str


class RemarkKind(StrEnum):
    """What a line of a request's conversation is."""

    COMMENT = "comment"
    QUESTION = "question"
    ANSWER = "answer"
    CHANGE = "change"
    """A claim, release, reassignment, delegation, extension or withdrawal."""


class Remark(BaseModel):
    """One line of a request's conversation."""

    kind: RemarkKind
    author: str
    via: Via
    text: str
    at: datetime


class NoticeKind(StrEnum):
    """Why people are written to."""

    APPROVAL = "approval"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    BREACH = "breach"
    QUESTION = "question"


class Notice(BaseModel):
    """People to be written to."""

    kind: NoticeKind
    recipients: list[str]
    channels: list[Channel]


class Changes(BaseModel):
    """What happened since the last record, to be stored in one transaction.

    Attributes:
        number: Counts up; the store drops what it has.
    """

    approval_id: str
    tenant_id: str
    run_id: str
    own_run: bool
    number: int
    facts: Facts
    events: list[NewEvent] = Field(default_factory=list[NewEvent])
    decisions: list[DecisionRecord] = Field(default_factory=list[DecisionRecord])
    remarks: list[Remark] = Field(default_factory=list[Remark])
    notices: list[Notice] = Field(default_factory=list[Notice])


class Creation(BaseModel):
    """A request with its first changes."""

    request: ApprovalRequest
    changes: Changes


class ApprovalOutcome(BaseModel):
    """What the one who waits gets.

    Attributes:
        state: How the request closed; ``expired`` means that a default applied, not that nothing came out.
        result: What it came to.
        payload: The payload as approved, edits included.
        payload_hash: SHA-256 of exactly what was decided on.
        state_updates: The edits as JSON Patch (RFC 6902).
        cancel_flow: The policy asks that whoever waits is cancelled, too.
    """

    approval_id: str
    state: ApprovalState
    result: Result
    completed_by: str | None
    completed_at: datetime
    comment: str | None
    payload: dict[str, Any]
    payload_hash: str
    state_updates: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    evidence: list[Evidence] = Field(default_factory=list[Evidence])
    cancel_flow: bool = False

    @property
    def approved(self) -> bool:
        """Whether what was asked about may go on."""
        return self.result is Result.APPROVED
