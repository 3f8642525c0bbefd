"""What the approvals API takes and answers, in the words of flowgrid-level3 §2.3 and §11.2."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from models.approval import (
    Action,
    ApprovalSpec,
    ApprovalState,
    ApprovalStatus,
    ApprovalType,
    Priority,
    RemarkKind,
    Result,
    Via,
)
from models.approval_policy import Channel, Name
from models.approval_records import (
    AbsenceRow,
    ApprovalDecisionRow,
    ApprovalEvidenceRow,
    ApprovalGroupRow,
    ApprovalRemarkRow,
    ApprovalRow,
)
from models.calendar import CalendarName, CamelModel, ClockTime
from models.channel import DeliveryRow, DeliveryStatus
from models.identifiers import Identifier

Text = Annotated[str, StringConstraints(max_length=4_000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class View(BaseModel):
    """Fields are camelCase outside (DESIGN §10)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class ApprovalSummary(View):
    """One request in a list."""

    id: str
    instance_id: str
    task_id: str
    type: ApprovalType
    title: str
    priority: Priority
    status: ApprovalStatus
    state: ApprovalState
    result: Result | None
    requested_by: str
    assigned_to: str | None
    approval_group: str | None
    claimed_by: str | None
    escalation_level: int
    payload_hash: str
    due_at: datetime | None
    proceeds_at: datetime | None
    created_at: datetime
    completed_at: datetime | None
    completed_by: str | None


class DecisionView(View):
    """One line of the audit."""

    id: str
    approval_id: str
    stage: int
    approver: str
    on_behalf_of: str | None
    via: Via
    channel_user_id: str | None
    action: Action
    reason: str | None
    edits: list[dict[str, Any]]
    evidence: list[dict[str, Any]]
    payload_hash: str
    revision: int
    decided_at: datetime

    @classmethod
    def of(cls, row: ApprovalDecisionRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class RemarkView(View):
    """One line of the conversation."""

    kind: RemarkKind
    author: str
    via: Via
    text: str
    created_at: datetime

    @classmethod
    def of(cls, row: ApprovalRemarkRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class EvidenceView(View):
    """An attachment."""

    id: str
    name: str
    content_type: str
    size: int
    sha256: str
    uploaded_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: ApprovalEvidenceRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class ReceiptView(View):
    """A message to a person, and how far it got."""

    channel: Channel
    recipient: str
    kind: str
    status: DeliveryStatus
    external_id: str | None
    due_at: datetime
    sent_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, row: DeliveryRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class FlowContext(View):
    """What waits for the answer."""

    instance_id: str
    kind: str
    status: str
    subject: str


class ApprovalDetails(ApprovalSummary):
    """A request with everything that belongs to it."""

    tenant_id: str
    task_execution_id: str | None
    description: str
    context: dict[str, Any]
    payload: dict[str, Any]
    form_schema: dict[str, Any] | None
    editable_fields: list[str]
    assignment_rule: dict[str, Any]
    policy: dict[str, Any]
    sla: dict[str, Any]
    escalation: dict[str, Any]
    channels: list[str]
    risk: str
    stage: int
    revision: int
    assignees: list[str]
    assignee_roles: list[str]
    information_awaited: bool
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    response_due_at: datetime | None
    close_reason: str | None
    response: dict[str, Any] | None
    state_updates: list[dict[str, Any]] = Field(description="Edits as JSON Patch (RFC 6902).")
    flow_context: FlowContext | None = None
    agent_output: JsonValue = None
    decisions: list[DecisionView] = Field(default_factory=list[DecisionView])
    remarks: list[RemarkView] = Field(default_factory=list[RemarkView])
    evidence: list[EvidenceView] = Field(default_factory=list[EvidenceView])
    delivery_receipts: list[ReceiptView] = Field(default_factory=list[ReceiptView])

    @classmethod
    def of(cls, row: ApprovalRow) -> Self:
        """Show a row, without what other tables hold."""
        output = row.context.get("agentOutput")
        return cls.model_validate(row).model_copy(update={"agent_output": output})


class ApprovalPage(View):
    """Requests, newest first."""

    approvals: list[ApprovalSummary]
    total: int = Field(description="How many there are in all.")
    next_cursor: str | None = None


class AskBody(ApprovalSpec):
    """A request of its own, which no flow waits for."""

    instance_id: Identifier | None = Field(
        default=None, description="A run that it is about; its events tell of the request."
    )


class Asked(View):
    """The request is there."""

    approval_id: str
    status: ApprovalStatus
    payload_hash: str


class DecideBody(CamelModel):
    """A verdict."""

    action: Action
    comment: Text | None = None
    state_updates: dict[str, JsonValue] | None = Field(
        default=None, max_length=200, description="With `edit`: names or JSON Pointers, and their new values."
    )
    payload_hash: Digest | None = Field(
        default=None, description="`payloadHash` of what you saw; by default of what it says now."
    )


class DecideAnswer(View):
    """What the verdict came to."""

    status: str = Field(description="`completed`, or `recorded` where others must decide as well.")
    flow_resumed: bool
    result: Result | None
    approver: str
    on_behalf_of: str | None
    decided_at: datetime


class ReassignBody(CamelModel):
    """Others decide instead."""

    assign_to: Name = Field(description="A group, or a person.")
    reason: Text = ""


class DelegateBody(CamelModel):
    """One more person may decide in your place."""

    delegate: Name
    principal: Name | None = Field(default=None, description="For whom; you by default.")
    reason: Text = ""


class CommentBody(CamelModel):
    """A remark."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
    question: bool = Field(default=False, description="Stops the clocks until somebody answers.")
    answers: bool = Field(default=False, description="Answers the open question.")


class ExtendBody(CamelModel):
    """More time."""

    seconds: int = Field(ge=1, le=366 * 86_400)
    reason: Text = ""


class CancelBody(CamelModel):
    """The request is withdrawn."""

    reason: Text = ""


class CalendarBody(CamelModel):
    """The clock runs by another calendar from now on; none: wall time."""

    calendar: CalendarName | None


class Standing(View):
    """How the request stands now."""

    status: str


class BulkBody(CamelModel):
    """One verdict on many requests."""

    approval_ids: list[Identifier] = Field(min_length=1, max_length=100)
    action: Action
    comment: Text | None = None


class BulkResult(View):
    """What became of one of them."""

    approval_id: str
    status: str = Field(description="`completed`, `recorded` or `refused`.")
    result: Result | None = None
    error: dict[str, Any] | None = None


class BulkAnswer(View):
    """One entry per request, in the order of the question."""

    results: list[BulkResult]


class GroupBody(CamelModel):
    """Who belongs to a group."""

    members: list[Name] = Field(max_length=1000)


class GroupView(View):
    """A group."""

    name: str
    members: list[str]
    updated_by: str
    updated_at: datetime

    @classmethod
    def of(cls, row: ApprovalGroupRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class GroupList(View):
    """The tenant's groups."""

    groups: list[GroupView]


class AbsenceBody(CamelModel):
    """Somebody is away."""

    user_id: Name | None = Field(default=None, description="Who; you by default.")
    substitute: Name
    starts_at: datetime
    ends_at: datetime

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.starts_at.tzinfo is None or self.ends_at.tzinfo is None:
            raise ValueError("times need their zone, such as 2026-12-24T00:00:00Z")
        if self.ends_at <= self.starts_at:
            raise ValueError("an absence ends after it starts")
        return self


class AbsenceView(View):
    """An absence."""

    id: str
    user_id: str
    substitute: str
    starts_at: datetime
    ends_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: AbsenceRow) -> Self:
        """Show a row."""
        return cls.model_validate(row)


class AbsenceList(View):
    """Absences that are not over."""

    absences: list[AbsenceView]


class PreferenceBody(CamelModel):
    """How you want to be reached."""

    channels: list[Channel] = Field(
        default_factory=list[Channel], max_length=4, description="In your order; a request may know fewer."
    )
    quiet_from: ClockTime | None = None
    quiet_to: ClockTime | None = None
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$")] = "UTC"


class DecisionPage(View):
    """The audit's lines of a period, oldest first."""

    decisions: list[DecisionView]
    next_cursor: str | None = None
