"""What each type of event says: one model of its ``data`` per type, for writers, readers and AsyncAPI.

A reader must bear fields that it does not know: types only ever gain fields. Times are RFC 3339, amounts are
whole numbers of minor units.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.event import EphemeralType, EventType
from models.sandbox import EgressDecision


class EventData(BaseModel):
    """Facts of an event."""

    model_config = ConfigDict(extra="allow")


class Nothing(EventData):
    """The type says it all."""


# -- Runs -------------------------------------------------------------------------------------------------
class RunQueued(EventData):
    """The run waits for its turn."""

    agent: str | None = Field(default=None, description="Slug of the agent that is to run.")
    version_id: str | None = None


class RunTaken(EventData):
    """A worker has taken the run on."""

    worker: str | None = None
    attempt: int | None = Field(default=None, ge=1, description="Which start of the work this is.")


class RunOrdered(EventData):
    """Somebody told the run to do this."""

    requested_by: str | None = None
    reason: str = ""


class RunPaused(RunOrdered):
    """The run is held."""

    paused_from: str | None = Field(default=None, description="Status that it goes back to.")


class RunResumed(RunOrdered):
    """The run goes on."""

    status: str | None = Field(default=None, description="Status that it went back to.")


class RunExecuted(EventData):
    """The agent has finished well; it is paid for next."""

    duration_ms: int = Field(ge=0)
    exit_code: int | None


class RunSucceeded(EventData):
    """The run has ended well."""

    duration_ms: int | None = Field(default=None, ge=0)
    payment_id: str | None = None
    receipt_id: str | None = None


class RunFailed(EventData):
    """The run has ended without success."""

    code: str | None = Field(default=None, description="Why, as in errors of the API.")
    message: str | None = None
    exit_code: int | None = None


class RunEgress(EventData):
    """What an agent tried to reach outside."""

    decisions: list[EgressDecision]
    refused: int = Field(ge=0, description="How many attempts were refused in all.")


class LogLine(EventData):
    """Output, while it comes."""

    text: str
    stream: str | None = Field(default=None, description="`stderr` of the agent.")


# -- Agents on their way to the marketplace ---------------------------------------------------------------
class AgentSubmitted(EventData):
    """A version was handed in."""

    agent_id: str
    slug: str
    version: str
    upload_sha256: str
    upload_bytes: int


class Finding(BaseModel):
    """One line of a scan's report."""

    rule: str
    file: str | None
    line: int | None
    severity: str


class AgentScanned(EventData):
    """The scanner has judged a version; a refusal at the door has a code and no counts."""

    verdict: str
    code: str | None = None
    message: str | None = None
    code_hash: str | None = None
    rule_set_version: str | None = None
    files_scanned: int | None = None
    violations: int | None = None
    warnings: int | None = None
    findings: list[Finding] = Field(default_factory=list[Finding], description="The first of them.")


class AgentDecided(EventData):
    """A reviewer has decided."""

    agent_id: str
    reviewer: str
    reason: str | None
    code_hash: str | None


class AgentPublished(EventData):
    """The version may be deployed and run."""

    agent_id: str
    reviewer: str
    reason: str | None


class AgentQuarantined(EventData):
    """A published version was taken back."""

    agent_id: str
    version: str
    reason: str


class AgentTampered(EventData):
    """The stored code is not the reviewed code."""

    version_id: str


# -- Agents at work ---------------------------------------------------------------------------------------
class AgentInvoked(EventData):
    """An agent begins to work."""

    agent: str | None = Field(default=None, description="Slug or name of the agent.")
    version_id: str | None = None
    attempt: int | None = None


class AgentCompleted(EventData):
    """An agent has finished well."""

    agent: str | None = None
    duration_ms: int | None = None
    model: str | None = Field(default=None, description="Language model that answered.")
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: str | float | None = None


class AgentErrored(EventData):
    """An agent has failed."""

    agent: str | None = None
    code: str | None = None
    message: str | None = None


class AgentToolCalled(EventData):
    """An agent has used a tool."""

    agent: str | None = None
    tool: str | None = None


class Delta(EventData):
    """A piece of what an agent is just saying."""

    messageId: str  # noqa: N815 (told as it is, in the words of flowgrid-level3)
    attempt: int = Field(description="Pieces of an earlier attempt are void.")
    index: int = Field(
        description="Counts 0, 1, 2 … within the attempt; a jump means that pieces were missed."
    )
    text: str


class DeltaReset(EventData):
    """What an agent was saying is void: forget the message's pieces."""

    messageId: str  # noqa: N815
    attempt: int
    index: int


EPHEMERAL_DATA: dict[EphemeralType, type[EventData]] = {
    EphemeralType.AGENT_DELTA: Delta,
    EphemeralType.AGENT_RESET: DeltaReset,
}


# -- Money ------------------------------------------------------------------------------------------------
class Price(EventData):
    """An amount of money."""

    amount: int = Field(description="Minor units.")
    currency: str = Field(description="ISO 4217.")
    rail: str | None = Field(default=None, description="The payment rail.")


class IntentApproved(Price):
    """The purchase is within policy."""

    intent_id: str
    policy_id: str
    vendor: str


class IntentDenied(EventData):
    """The purchase is refused; nobody is charged."""

    code: str
    message: str
    amount: int | None = None
    currency: str | None = None
    rail: str | None = None
    hold_id: str | None = None


class Held(Price):
    """The price is held, or a rail is asked to hold it."""

    hold_id: str


class MandateMinted(EventData):
    """The right to settle is signed."""

    mandate_id: str
    mandate_hash: str
    kid: str = Field(description="Key that signed it.")
    expires_at: str


class SettleRequested(Price):
    """The settlement is on record and about to be sent."""

    settlement_id: str
    mandate_id: str


class Settled(Price):
    """The payer was charged."""

    settlement_id: str
    payment_id: str
    provider_ref: str


class Declined(EventData):
    """The rail refused to collect."""

    settlement_id: str
    code: str
    message: str


class Unknown(EventData):
    """The rail's answer is not known yet; it is asked again until it is."""

    reason: str | None
    settlement_id: str | None = None
    hold_id: str | None = None
    amount: int | None = None
    currency: str | None = None
    rail: str | None = None


class Released(Price):
    """The hold was given back."""

    hold_id: str
    reason: str


class Refund(Price):
    """Money on its way back to the payer, or not."""

    payment_id: str | None = None
    receipt_id: str | None = None
    provider_ref: str | None = None
    code: str | None = None
    message: str | None = None
    reason: str | None = Field(default=None, description="Why the answer is not known yet.")


class ReceiptIssued(EventData):
    """A receipt was written."""

    receipt_id: str
    chain_index: int
    hash: str = Field(description="SHA-256, hexadecimal.")
    outcome: str


class PayoutClaimed(Price):
    """Earnings were gathered into a payout."""

    period: str = Field(description="ISO week.")


class PayoutSent(Price):
    """How the payout went."""

    reference: str
    provider_ref: str | None = None
    code: str | None = None
    message: str | None = None
    reason: str | None = None


# -- Processes --------------------------------------------------------------------------------------------
class FlowStarted(EventData):
    """An instance of a process has begun."""

    definition_id: str | None = None
    process: str | None = Field(default=None, description="The process's key.")
    by: str | None = None


class FlowEnded(EventData):
    """An instance of a process has ended, or was changed by hand."""

    by: str | None = None
    reason: str | None = None
    code: str | None = None
    message: str | None = None


class ElementMoved(EventData):
    """Something happened at an element of a process."""

    element: str | None = Field(default=None, description="Id of the element in the BPMN file.")
    kind: str | None = Field(default=None, description="Kind of element.")
    key: int | None = Field(default=None, description="This activation of it.")
    name: str | None = None
    detail: str | None = None
    flows: list[str] | None = Field(default=None, description="Sequence flows taken from it.")
    error: str | None = None


class Incident(EventData):
    """A process cannot go on by itself, or can again."""

    element: str | None = None
    key: int | None = None
    type: str | None = None
    message: str | None = None


class Approval(EventData):
    """An approval and where it stands."""

    approval_id: str | None = None


class Deadline(EventData):
    """A deadline is near, or was missed."""

    approval_id: str | None = None


class StateUpdated(EventData):
    """Shared state has another version."""

    version: int | None = None
    namespace: str | None = None


_NAMED: dict[EventType, type[EventData]] = {
    EventType.RUN_QUEUED: RunQueued,
    EventType.RUN_DISPATCHED: RunTaken,
    EventType.RUN_STARTED: RunTaken,
    EventType.RUN_RETRIED: RunTaken,
    EventType.RUN_PAUSED: RunPaused,
    EventType.RUN_RESUMED: RunResumed,
    EventType.RUN_EXECUTED: RunExecuted,
    EventType.RUN_SUCCEEDED: RunSucceeded,
    EventType.RUN_FAILED: RunFailed,
    EventType.RUN_CANCELED: RunFailed,
    EventType.RUN_EGRESS: RunEgress,
    EventType.LOG: LogLine,
    EventType.AGENT_SUBMITTED: AgentSubmitted,
    EventType.AGENT_SCANNED: AgentScanned,
    EventType.AGENT_APPROVED: AgentDecided,
    EventType.AGENT_REJECTED: AgentDecided,
    EventType.AGENT_PUBLISHED: AgentPublished,
    EventType.AGENT_QUARANTINED: AgentQuarantined,
    EventType.AGENT_TAMPERED: AgentTampered,
    EventType.AGENT_INVOKED: AgentInvoked,
    EventType.AGENT_COMPLETED: AgentCompleted,
    EventType.AGENT_ERROR: AgentErrored,
    EventType.AGENT_TOOL_CALLED: AgentToolCalled,
    EventType.PAYMENT_INTENT_APPROVED: IntentApproved,
    EventType.PAYMENT_INTENT_DENIED: IntentDenied,
    EventType.PAYMENT_AUTHORISING: Held,
    EventType.PAYMENT_HELD: Held,
    EventType.PAYMENT_MANDATE_MINTED: MandateMinted,
    EventType.PAYMENT_SETTLE_REQUESTED: SettleRequested,
    EventType.PAYMENT_SETTLED: Settled,
    EventType.PAYMENT_DECLINED: Declined,
    EventType.PAYMENT_UNKNOWN: Unknown,
    EventType.PAYMENT_RELEASED: Released,
    EventType.PAYMENT_REFUND_REQUESTED: Refund,
    EventType.PAYMENT_REFUNDED: Refund,
    EventType.PAYMENT_REFUND_DECLINED: Refund,
    EventType.PAYMENT_REFUND_UNKNOWN: Refund,
    EventType.PAYMENT_RECEIPT_ISSUED: ReceiptIssued,
    EventType.PAYOUT_CLAIMED: PayoutClaimed,
    EventType.PAYOUT_PAID: PayoutSent,
    EventType.PAYOUT_FAILED: PayoutSent,
    EventType.PAYOUT_UNKNOWN: PayoutSent,
    EventType.FLOW_STARTED: FlowStarted,
    EventType.STATE_UPDATED: StateUpdated,
}

_FAMILIES: dict[str, type[EventData]] = {
    "flow": FlowEnded,
    "task": ElementMoved,
    "element": ElementMoved,
    "node": ElementMoved,
    "incident": Incident,
    "approval": Approval,
    "sla": Deadline,
}
"""Types that say the same kind of thing, by the word before the dot."""


def data_model(event_type: EventType) -> type[EventData]:
    """Return the model of what events of this type say."""
    return _NAMED.get(event_type) or _FAMILIES.get(event_type.value.partition(".")[0], EventData)


def described(event_type: EventType, data: dict[str, Any]) -> list[str]:
    """Return which of an event's fields its type's model does not describe.

    Raises:
        ValidationError: A field that it asks for is missing or of another kind.
    """
    found = data_model(event_type).model_validate(data)
    return sorted(found.model_extra or {})
