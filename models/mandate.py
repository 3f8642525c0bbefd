"""Mandates: the payer's signed, single-use permission to collect one amount for one run.

Bytes signed: an ASCII domain tag, then the RFC 8785 form of the body. The tag keeps a receipt's signature
from being replayed as a mandate's (research 2.3).
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, Index, LargeBinary, Text, text
from sqlmodel import Field

from models.canonical import canonical_json
from models.errors import ConflictError
from models.money import Currency, MinorUnits
from models.table import Record, time_field

MANDATE_DOMAIN = b"switchyard/mandate/v1\n"
MANDATE_LIFETIME_SECONDS = 600
SETTLE_MARGIN_SECONDS = 60
"""What a mandate must have left, after the run's whole time limit, for recording the settlement."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Nonce = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
StrictSeconds = Annotated[int, Described(strict=True, ge=0)]


class MandateStatus(StrEnum):
    """A mandate is used once, or never."""

    ACTIVE = "active"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    REVOKED = "revoked"


class MandateBody(BaseModel):
    """What is signed. Every field is compared with the purchase when the settlement is recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    mandate_id: str
    intent_id: str
    execution_id: str
    tenant_id: str
    user_id: str
    payer_agent: str
    """Who pays on the user's behalf: the platform's runtime, or the orchestrating agent."""
    payee: str
    """The developer."""
    agent_id: str
    amount: MinorUnits
    currency: Currency
    exponent: Annotated[int, Described(strict=True, ge=0, le=4)]
    rail: str
    policy_hash: Digest
    code_hash: Digest
    code_version: str
    inputs_hash: Digest
    iat: StrictSeconds
    nbf: StrictSeconds
    exp: StrictSeconds
    nonce: Nonce
    kid: str

    def canonical(self) -> bytes:
        """Return the canonical bytes that are stored, hashed and signed."""
        return canonical_json(self.model_dump(mode="json"))


def mandate_hash(body: bytes) -> bytes:
    """Return the SHA-256 by which receipts refer to a mandate; its nonce makes it unguessable."""
    return hashlib.sha256(MANDATE_DOMAIN + body).digest()


def read_mandate(body: bytes) -> MandateBody:
    """Read stored bytes back, which must be canonical and complete.

    Raises:
        MandateInvalidError: They are not a mandate in canonical form.
    """
    try:
        mandate = MandateBody.model_validate_json(body)
    except ValidationError as error:
        raise MandateInvalidError(f"its body is malformed ({error.error_count()} faults)") from None
    if mandate.canonical() != body:
        raise MandateInvalidError("its body is not in canonical form")
    return mandate


def outlives(expires_at: datetime, now: datetime, timeout_ms: int) -> bool:
    """Tell whether a run of at most ``timeout_ms`` started at ``now`` can still be settled in time."""
    return (expires_at - now).total_seconds() >= timeout_ms / 1000 + SETTLE_MARGIN_SECONDS


class MandateInvalidError(ConflictError):
    """The mandate does not hold what was agreed, or its signature does not verify."""

    code = "MANDATE_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The mandate is refused: {reason}. Nothing was charged.")


class MandateExpiredError(ConflictError):
    """The mandate's time is over, or has not begun."""

    code = "MANDATE_EXPIRED"

    def __init__(self, mandate_id: str) -> None:
        super().__init__(
            f"Mandate {mandate_id} is not valid at this time; nothing was charged. Start a new run.",
            details={"mandate_id": mandate_id},
        )


class MandateConsumedError(ConflictError):
    """The mandate was used already."""

    code = "MANDATE_CONSUMED"

    def __init__(self, mandate_id: str) -> None:
        super().__init__(
            f"Mandate {mandate_id} was used already; one mandate pays once.",
            details={"mandate_id": mandate_id},
        )


class MandateMissingError(ConflictError):
    """The execution has no active mandate."""

    code = "MANDATE_MISSING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Execution {execution_id} has no active mandate; nothing was charged.",
            details={"execution_id": execution_id},
        )


class MandateTooShortError(ConflictError):
    """The mandate cannot outlive the run's time limit and the settlement."""

    code = "MANDATE_CANNOT_OUTLIVE_RUN"

    def __init__(self, timeout_ms: int) -> None:
        limit = (MANDATE_LIFETIME_SECONDS - SETTLE_MARGIN_SECONDS) * 1000
        super().__init__(
            f"A run of up to {timeout_ms} ms could end after its mandate; the longest time limit is "
            f"{limit} ms, and a mandate must be minted again when a run starts late.",
            details={"timeout_ms": timeout_ms, "limit_ms": limit},
        )


class Mandate(Record, table=True):
    """A minted mandate. Body, hash and signature never change; only the status moves on."""

    __tablename__ = "mandates"
    __table_args__ = (
        Index(
            "uq_mandates_active_intent", "intent_id", unique=True, postgresql_where=text("status = 'active'")
        ),
        Index(
            "uq_mandates_consumed_intent",
            "intent_id",
            unique=True,
            postgresql_where=text("status = 'consumed'"),
        ),
        CheckConstraint("expires_at <= issued_at + interval '600 seconds'", name="lifetime"),
        CheckConstraint("status IN ('active', 'consumed', 'expired', 'revoked')", name="status"),
        Index("ix_mandates_tenant_id_created_at", "tenant_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    intent_id: str = Field(foreign_key="purchase_intents.id")
    execution_id: str | None = None
    status: MandateStatus = Field(default=MandateStatus.ACTIVE, sa_type=Text)
    body: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    kid: str
    nonce: str = Field(unique=True)
    issued_at: datetime = time_field()
    expires_at: datetime = time_field()
    created_at: datetime = time_field()
    ended_at: datetime | None = time_field(nullable=True)
    """When it was consumed, revoked or found expired."""


class MandateInfo(BaseModel):
    """A mandate as callers see it."""

    mandate_id: str
    intent_id: str
    execution_id: str | None
    status: MandateStatus
    body: MandateBody
    hash: str
    signature: str
    kid: str
    issued_at: datetime
    expires_at: datetime
