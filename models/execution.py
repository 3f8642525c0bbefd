"""An agent's execution: its row, what crosses Temporal for it, and the ways it is refused or fails.

Source: frameos-agent-runtime-flows, "Agent Execution Flow" and "Queue Processing Flow".
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import JSON, BigInteger, Index, Text
from sqlmodel import Field as Column

from models.errors import ConflictError, InvalidRequestError, NotFoundError, PlatformError
from models.sandbox import EgressDecision, ExitReason
from models.table import Record, time_field


class FailureCode(StrEnum):
    """Why an execution ended without success; shown to the user as ``error.code``. None is charged."""

    AGENT_ERROR = "AGENT_ERROR"
    """The agent exited with another status than 0."""
    OUTPUT_INVALID = "OUTPUT_INVALID"
    """Exit 0, but standard output was not one JSON document, or not what the output schema asks for."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    OUTPUT_TOO_LARGE = "OUTPUT_TOO_LARGE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    """Another limit: processes, file size, disk."""
    CANCELLED = "CANCELLED"
    INFRASTRUCTURE_LOST = "INFRASTRUCTURE_LOST"
    """Ours: the engine, the store or the worker was lost more often than we retry."""
    CODE_TAMPERED = "CODE_TAMPERED"
    """The stored code is not the code that was reviewed."""
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    """The rail refused to capture; the outputs stay withheld."""
    MANDATE_EXPIRED = "MANDATE_EXPIRED"
    """The settlement could not be requested while the mandate was valid; nothing is charged."""


EXIT_FAILURES: dict[ExitReason, FailureCode] = {
    ExitReason.AGENT_ERROR: FailureCode.AGENT_ERROR,
    ExitReason.OUTPUT_INVALID: FailureCode.OUTPUT_INVALID,
    ExitReason.OOM: FailureCode.OUT_OF_MEMORY,
    ExitReason.TIMEOUT: FailureCode.TIMEOUT,
    ExitReason.OUTPUT_CAP: FailureCode.OUTPUT_TOO_LARGE,
    ExitReason.LIMIT: FailureCode.LIMIT_EXCEEDED,
    ExitReason.CANCELLED: FailureCode.CANCELLED,
    ExitReason.INFRA_LOST: FailureCode.INFRASTRUCTURE_LOST,
}
"""What each way a container ends means for its execution."""


class ExecutionNotFoundError(NotFoundError):
    """There is no such execution, or it is another tenant's."""

    code = "EXECUTION_NOT_FOUND"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"There is no execution {execution_id}; list yours with GET /executions.",
            details={"execution_id": execution_id},
        )


class ExecutionEndedError(ConflictError):
    """The execution can no longer be cancelled: it has ended, or it is being settled."""

    code = "EXECUTION_NOT_CANCELLABLE"

    def __init__(self, execution_id: str, state: str) -> None:
        super().__init__(
            f"Execution {execution_id} is {state}; only one whose agent has not finished can be cancelled.",
            details={"execution_id": execution_id, "state": state},
        )


class InvalidInputsError(InvalidRequestError):
    """The inputs do not fit the agent's input schema; every failing field is named."""

    code = "INVALID_INPUTS"

    def __init__(self, fields: list[dict[str, Any]]) -> None:
        names = ", ".join(str(field["field"]) for field in fields[:5])
        super().__init__(
            f"The inputs do not fit the agent's input schema: {names}. "
            "Correct the named fields; GET /agents/{slug} shows the schema.",
            details={"fields": fields},
        )


class AgentNotExecutableError(ConflictError):
    """The deployed version may not run: not approved yet, rejected, or quarantined since."""

    code = "AGENT_NOT_PUBLISHED"

    def __init__(self, version_id: str, status: str) -> None:
        super().__init__(
            f"The deployed version is {status}, and only published versions run. "
            "Deploy a published version of the agent.",
            details={"version_id": version_id, "status": status},
        )


class DeploymentMismatchError(InvalidRequestError):
    """The deployment is one of another agent."""

    code = "DEPLOYMENT_MISMATCH"

    def __init__(self, deployment_id: str, agent_id: str) -> None:
        super().__init__(
            f"Deployment {deployment_id} is not one of agent {agent_id}; "
            "pass the agent_id of its deployment in the path.",
            details={"fields": [{"field": "deployment_id", "rule": "belongs to the agent in the path"}]},
        )


class CodeTamperedError(PlatformError):
    """The stored code's SHA-256 differs from the reviewed one."""

    code = "CODE_TAMPERED"

    def __init__(self, version_id: str) -> None:
        super().__init__(
            f"The stored code of {version_id} is not the code that was reviewed; it is not run.",
            details={"version_id": version_id},
        )


class AgentExecution(Record, table=True):
    """What is remembered of one execution beside its run; its status is its run's."""

    __tablename__ = "agent_executions"
    __table_args__ = (
        Index("ix_agent_executions_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_agent_executions_agent_id", "agent_id"),
        Index("ix_agent_executions_deployment_id", "deployment_id"),
    )

    id: str = Column(primary_key=True, foreign_key="runs.id")
    tenant_id: str
    user_id: str
    agent_id: str
    version_id: str
    deployment_id: str
    developer_id: str
    developer_tenant_id: str
    purchase_intent_id: str | None = None
    mandate_id: str | None = None
    payment_id: str | None = None
    receipt_id: str | None = None
    price_amount: int = Column(sa_type=BigInteger)
    """Minor units, as the version's manifest says on the day of the execution."""
    price_currency: str
    # ``json`` keeps a document as it came, the character U+0000 included, which ``jsonb`` refuses.
    inputs: Any = Column(default=None, sa_type=JSON, nullable=True)
    outputs: Any = Column(default=None, sa_type=JSON, nullable=True)
    """Kept when the agent has finished, shown once the payment is settled."""
    worker_id: str | None = None
    attempt: int = 0
    exit_reason: str | None = Column(default=None, sa_type=Text)
    exit_code: int | None = None
    error_code: str | None = Column(default=None, sa_type=Text)
    error_message: str | None = None
    stderr: str | None = None
    """The end of the agent's standard error."""
    duration_ms: int | None = Column(default=None, sa_type=BigInteger)
    cpu_ms: int | None = Column(default=None, sa_type=BigInteger)
    memory_peak_bytes: int | None = Column(default=None, sa_type=BigInteger)
    created_at: datetime = time_field()
    dispatched_at: datetime | None = time_field(nullable=True)
    started_at: datetime | None = time_field(nullable=True)
    executed_at: datetime | None = time_field(nullable=True)
    """When the agent had finished well and its outputs were kept."""
    completed_at: datetime | None = time_field(nullable=True)


class ExecutionRequest(BaseModel):
    """What ``AgentExecution`` starts with. The inputs are checked already; no secret is among them."""

    execution_id: str
    tenant_id: str
    user_id: str
    deployment_id: str
    agent_id: str
    agent_slug: str
    version_id: str
    developer_id: str
    developer_tenant_id: str
    code_hash: str
    timeout_ms: int
    attempts: int = 1
    """How often the agent may be run when it fails by itself (2 or more only where its manifest allows)."""
    repeatable: bool = False
    """Whether a run whose end was not seen may be repeated: the agent can touch nothing outside."""
    price_amount: int
    price_currency: str
    cost_cap: int | None = None
    orchestrator_id: str | None = None
    x402_payment: str | None = None
    """A signed transfer of the price that was enclosed; it can move money to the platform's address only."""
    correlation_id: str
    inputs: Any = None


class ExecutionAccepted(BaseModel):
    """The answer to a start: the execution is queued and its price is held."""

    execution_id: str
    purchase_intent_id: str | None = None
    authorising: bool = False
    """An outside rail must hold the price before the execution is queued."""


class AgentRun(BaseModel):
    """Which execution to run, and what the worker must know to run it."""

    execution_id: str
    tenant_id: str
    version_id: str
    deployment_id: str
    code_hash: str
    timeout_ms: int
    repeatable: bool


class AgentRunOutcome(BaseModel):
    """How the agent ended, with its outputs: this answer is durable, so the agent need not run again."""

    succeeded: bool
    failure: FailureCode | None = None
    message: str = ""
    exit_reason: ExitReason | None = None
    exit_code: int | None = None
    outputs: Any = None
    stderr: str = ""
    duration_ms: int = 0
    cpu_ms: int | None = None
    memory_peak_bytes: int | None = None
    egress: list[EgressDecision] = Field(default_factory=list[EgressDecision])
    egress_refused: int = 0
    paused: bool = False
    """Nothing ran: the execution was paused when its turn came."""


class ExecutionEnd(BaseModel):
    """An agent's end, to be recorded for its execution."""

    execution_id: str
    tenant_id: str
    outcome: AgentRunOutcome


class ExecutionPaid(BaseModel):
    """A settled execution whose outputs may be released."""

    execution_id: str
    payment_id: str | None
    receipt_id: str | None


class ExecutionResult(BaseModel):
    """What ``AgentExecution`` returns; the row in the store says more."""

    execution_id: str
    status: str
    failure: str | None = None
    payment_id: str | None = None
    receipt_id: str | None = None


class CancelExecution(BaseModel):
    """A wish to end an execution early."""

    requested_by: str
    reason: str = Field(default="", max_length=500)
