"""Purchase, hold, settlement, payment: the state machines of paying for a run, and their contracts.

::

    purchase_intent: approved | denied;  approved → closed
    hold:            held → captured | releasing → released
                     (outside rails begin at authorising → held | declined)
    settlement:      requested → sent → settled | declined | unknown;  unknown → settled | declined
    payment:         settled

Terminal states are sticky; ``unknown`` is left by evidence only (research 2.1, 2.2).
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Date, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from models.errors import ConflictError, NotFoundError, PlatformError, UnavailableError
from models.mandate import Digest
from models.money import MAX_AMOUNT, Currency, MinorUnits
from models.policy import Vendor
from models.rail import RailName
from models.table import Record, json_field, time_field

SPLIT_BASIS_POINTS = (7_000, 2_000, 1_000)
"""Developer, platform, orchestrator, in the order in which ties are broken."""


class IntentStatus(StrEnum):
    """A purchase intent is judged when it is made."""

    APPROVED = "approved"
    DENIED = "denied"
    CLOSED = "closed"
    """Paid or released."""


class HoldStatus(StrEnum):
    """Our record of money held at a rail."""

    AUTHORISING = "authorising"
    """An outside rail is asked; nothing runs before it has answered."""
    DECLINED = "declined"
    HELD = "held"
    CAPTURED = "captured"
    RELEASING = "releasing"
    RELEASED = "released"


class SettlementStatus(StrEnum):
    """Where collecting stands."""

    REQUESTED = "requested"
    SENT = "sent"
    UNKNOWN = "unknown"
    SETTLED = "settled"
    DECLINED = "declined"


TERMINAL_SETTLEMENTS = frozenset({SettlementStatus.SETTLED, SettlementStatus.DECLINED})


class PaymentStatus(StrEnum):
    """A payment exists once money was collected."""

    SETTLED = "settled"


class Party(BaseModel):
    """Somebody who earns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: str
    tenant_id: str


class ReserveRequest(BaseModel):
    """One purchase: who pays whom how much for which run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str
    """Also the run's identifier; the run's row exists in the same transaction."""
    tenant_id: str
    """The payer's."""
    user_id: str
    agent_id: str
    developer: Party
    vendor: Vendor
    amount: MinorUnits
    currency: Currency
    cost_cap: MinorUnits | None = None
    """The caller's own limit for this run, in the same currency."""
    orchestrator: Party | None = None
    x402_payment: str | None = None
    """``PAYMENT-SIGNATURE`` that came with the request."""
    description: Annotated[str, Described(max_length=500)] = ""
    metadata: dict[str, str | int | bool | None] = Described(default_factory=dict)


class Reservation(BaseModel):
    """An approved purchase whose money is held."""

    intent_id: str
    execution_id: str
    rail: RailName
    amount: int
    currency: str
    hold_id: str | None
    """None where the amount is zero."""
    authorising: bool = False
    """The rail has yet to be asked: nothing may run before `activities.authorisation.authorise`."""


class AuthoriseHold(BaseModel):
    """Ask the outside rail to hold an execution's price."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str


class MintRequest(BaseModel):
    """What a mandate commits to beyond the purchase."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str
    code_hash: Digest
    code_version: str
    inputs_hash: Digest
    timeout_ms: Annotated[int, Described(ge=1)]


class SettleRequest(BaseModel):
    """Collect for an executed run.

    ``amount`` may be below what was held; the rest returns to the payer. A hash that is given must be the
    one the mandate was minted for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str
    amount: MinorUnits | None = None
    code_hash: Digest | None = None
    inputs_hash: Digest | None = None


class SettlementOutcome(BaseModel):
    """How collecting ended."""

    settlement_id: str
    status: SettlementStatus
    amount: int
    """Minor units collected; zero when declined."""
    currency: str
    payment_id: str | None = None
    receipt_id: str | None = None
    decline_code: str | None = None


class ReleaseRequest(BaseModel):
    """Give back what a run held."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_id: str
    reason: Annotated[str, Described(min_length=1, max_length=200)]


class ReleaseOutcome(BaseModel):
    """What was given back."""

    execution_id: str
    released: bool
    """False where nothing was held."""
    amount: int
    currency: str | None


class IntentNotFoundError(NotFoundError):
    """The execution has no approved purchase intent."""

    code = "PURCHASE_INTENT_NOT_FOUND"

    def __init__(self, subject: str) -> None:
        super().__init__(f"There is no purchase intent for {subject}.", details={"id": subject})


class PaymentRecordNotFoundError(NotFoundError):
    """There is no such mandate, settlement or payment among the caller's."""

    code = "PAYMENT_RECORD_NOT_FOUND"

    def __init__(self, subject: str) -> None:
        super().__init__(f"There is no {subject}.", details={"id": subject})


class ReservationMismatchError(ConflictError):
    """The execution holds money already, for another purchase."""

    code = "RESERVATION_MISMATCH"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Execution {execution_id} was reserved before with another amount, agent or payer.",
            details={"execution_id": execution_id},
        )


class HoldNotActiveError(ConflictError):
    """The money is not held any more."""

    code = "HOLD_NOT_ACTIVE"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Nothing is held for execution {execution_id}; it was released. Start a new run.",
            details={"execution_id": execution_id},
        )


class NotExecutedError(ConflictError):
    """Only a run that executed is paid."""

    code = "EXECUTION_NOT_EXECUTED"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Execution {execution_id} has not executed, or has ended otherwise; nothing was charged.",
            details={"execution_id": execution_id},
        )


class ReleaseRefusedError(ConflictError):
    """The settlement is under way or done, so the hold can no longer be given back."""

    code = "RELEASE_REFUSED"

    def __init__(self, execution_id: str, status: SettlementStatus) -> None:
        super().__init__(
            f"Execution {execution_id} cannot be released: its settlement is {status}.",
            details={"execution_id": execution_id, "settlement_status": status},
        )


class SettlementUnknownError(UnavailableError):
    """The rail has not said yet whether it collected; asking again is safe."""

    code = "SETTLEMENT_UNKNOWN"

    def __init__(self, settlement_id: str, reason: str) -> None:
        super().__init__(
            f"The outcome of settlement {settlement_id} is not known yet: {reason[:500]}",
            details={"settlement_id": settlement_id},
        )


class AuthorisationDeclinedError(PlatformError):
    """The payer's bank, or the rail, refused to hold the price; nothing runs and nobody is charged."""

    code = "PAYMENT_METHOD_DECLINED"
    http_status = 402

    def __init__(self, rail: str, decline_code: str, message: str) -> None:
        super().__init__(
            f"{rail} refused to hold the price ({decline_code}): {message[:500] or 'no reason given'}. "
            "Nothing was charged. Use another payment method.",
            details={"rail": rail, "decline_code": decline_code},
        )


class AuthorisationUnknownError(UnavailableError):
    """The rail has not said yet whether it holds the price; asking again is safe."""

    code = "AUTHORISATION_UNKNOWN"

    def __init__(self, execution_id: str, reason: str) -> None:
        super().__init__(
            f"Whether the price of {execution_id} is held is not known yet: {reason[:500]}",
            details={"execution_id": execution_id},
        )


class ReleaseUnknownError(UnavailableError):
    """The rail has not said yet whether the hold is void; asking again is safe."""

    code = "RELEASE_UNKNOWN"

    def __init__(self, execution_id: str, reason: str) -> None:
        super().__init__(
            f"The hold of execution {execution_id} is not released yet: {reason[:500]}",
            details={"execution_id": execution_id},
        )


_AMOUNT = f"amount BETWEEN 0 AND {MAX_AMOUNT}"


class PurchaseIntent(Record, table=True):
    """One wish to buy, approved or denied."""

    __tablename__ = "purchase_intents"
    __table_args__ = (
        CheckConstraint(_AMOUNT, name="amount"),
        Index(
            "uq_purchase_intents_execution",
            "execution_id",
            unique=True,
            postgresql_where=text("status <> 'denied'"),
        ),
        Index(
            "uq_purchase_intents_denial",
            "execution_id",
            "denial_code",
            unique=True,
            postgresql_where=text("status = 'denied'"),
        ),
        Index("ix_purchase_intents_tenant_id_created_at", "tenant_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    execution_id: str | None = None
    agent_id: str
    developer_id: str
    developer_tenant_id: str
    orchestrator_id: str | None = None
    orchestrator_tenant_id: str | None = None
    vendor: str
    amount: int = Field(sa_type=BigInteger)
    currency: str
    cost_cap: int | None = Field(default=None, sa_type=BigInteger)
    description: str = ""
    meta: dict[str, Any] = json_field()
    rail: RailName = Field(sa_type=Text)
    status: IntentStatus = Field(sa_type=Text)
    policy_id: str | None = None
    policy_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    spent_on: date | None = Field(default=None, sa_type=Date)
    """UTC day whose limit it counts against."""
    denial_code: str | None = None
    denial_message: str | None = None
    created_at: datetime = time_field()
    closed_at: datetime | None = time_field(nullable=True)


class PaymentHold(Record, table=True):
    """Money held at a rail for one intent, as we know it."""

    __tablename__ = "payment_holds"
    __table_args__ = (
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        Index("ix_payment_holds_tenant_id", "tenant_id"),
    )

    id: str = Field(primary_key=True)
    """Our reference at the rail."""
    tenant_id: str
    user_id: str
    intent_id: str = Field(foreign_key="purchase_intents.id", unique=True)
    execution_id: str | None = None
    rail: RailName = Field(sa_type=Text)
    amount: int = Field(sa_type=BigInteger)
    currency: str
    status: HoldStatus = Field(default=HoldStatus.HELD, sa_type=Text)
    reason: str | None = None
    """Why it was released."""
    payment_method_id: str | None = None
    """Over which of the payer's methods; None for the wallet."""
    authorise_key: str | None = Field(default=None, unique=True)
    """Idempotency key of the request to hold; None where the hold is our own."""
    authorise_body: bytes | None = Field(default=None, sa_type=LargeBinary)
    """The exact bytes that are sent, however often."""
    attempts: int = 0
    provider_ref: str | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    unknown_reason: str | None = None
    created_at: datetime = time_field()
    first_sent_at: datetime | None = time_field(nullable=True)
    ended_at: datetime | None = time_field(nullable=True)


class Settlement(Record, table=True):
    """One request to collect, with the exact bytes and key that are sent, however often."""

    __tablename__ = "settlements"
    __table_args__ = (
        CheckConstraint(_AMOUNT, name="amount"),
        UniqueConstraint("rail", "provider_ref"),
        Index("ix_settlements_tenant_id_requested_at", "tenant_id", "requested_at"),
        Index(
            "ix_settlements_open",
            "requested_at",
            postgresql_where=text("status IN ('requested', 'sent', 'unknown')"),
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    intent_id: str = Field(foreign_key="purchase_intents.id", unique=True)
    mandate_id: str = Field(foreign_key="mandates.id", unique=True)
    execution_id: str | None = Field(default=None, unique=True)
    rail: RailName = Field(sa_type=Text)
    idempotency_key: str = Field(unique=True)
    request_body: bytes = Field(sa_type=LargeBinary)
    amount: int = Field(sa_type=BigInteger)
    currency: str
    status: SettlementStatus = Field(default=SettlementStatus.REQUESTED, sa_type=Text)
    attempts: int = 0
    provider_ref: str | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    unknown_reason: str | None = None
    requested_at: datetime = time_field()
    first_sent_at: datetime | None = time_field(nullable=True)
    completed_at: datetime | None = time_field(nullable=True)


class Payment(Record, table=True):
    """Money that was collected."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint(_AMOUNT, name="amount"),
        UniqueConstraint("provider", "provider_ref"),
        Index("ix_payments_tenant_id_created_at", "tenant_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    intent_id: str = Field(foreign_key="purchase_intents.id", unique=True)
    mandate_id: str = Field(foreign_key="mandates.id", unique=True)
    settlement_id: str = Field(foreign_key="settlements.id", unique=True)
    execution_id: str | None = Field(default=None, unique=True)
    agent_id: str
    amount: int = Field(sa_type=BigInteger)
    currency: str
    status: PaymentStatus = Field(default=PaymentStatus.SETTLED, sa_type=Text)
    provider: RailName = Field(sa_type=Text)
    provider_ref: str
    transaction_id: str | None = Field(default=None, foreign_key="ledger_transactions.id")
    """None where the amount is zero: the ledger holds no empty transactions."""
    created_at: datetime = time_field()


class PaymentOutboxEntry(Record, table=True):
    """A call that is owed to a rail: written with the decision, done with the answer."""

    __tablename__ = "payment_outbox"
    __table_args__ = (
        Index("ix_payment_outbox_owed", "created_at", postgresql_where=text("done_at IS NULL")),
    )

    topic: str = Field(primary_key=True)
    subject_id: str = Field(primary_key=True)
    tenant_id: str
    created_at: datetime = time_field()
    done_at: datetime | None = time_field(nullable=True)


class PurchaseIntentView(BaseModel):
    """A purchase intent as its owner sees it."""

    intent_id: str
    user_id: str
    execution_id: str | None
    agent_id: str
    vendor: str
    amount: int
    currency: str
    cost_cap: int | None
    description: str
    metadata: dict[str, Any]
    rail: RailName
    status: IntentStatus
    denial_code: str | None
    denial_message: str | None
    created_at: datetime
    closed_at: datetime | None


class PaymentView(BaseModel):
    """A payment as its owner sees it (frameos-agent-runtime-flows, "C-Layer creates Payment record")."""

    payment_id: str
    mandate_id: str
    intent_id: str
    execution_id: str | None
    agent_id: str
    user_id: str
    amount: int
    currency: str
    status: PaymentStatus
    provider: RailName
    provider_ref: str
    receipt_id: str | None
    created_at: datetime
