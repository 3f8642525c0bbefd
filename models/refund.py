"""Refunds: giving back what was collected, in whole or in part, and unwinding who got what (research 2.5).

::

    refund: settled                                                    (wallet: our own books, at once)
            requested → sent → settled | declined | unknown; unknown → settled | declined   (outside rails)

Terminal states are sticky; ``unknown`` is left by evidence only. Money is booked when it has moved.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from models.errors import ConflictError, NotFoundError
from models.money import MAX_AMOUNT, PositiveMinorUnits, split
from models.payment import SPLIT_BASIS_POINTS
from models.rail import RailName
from models.table import Record, time_field


class RefundKind(StrEnum):
    """Why money goes back."""

    REFUND = "refund"
    DISPUTE = "dispute"
    """The payer's side took it back; the parties' shares are clawed back all the same."""


class RefundStatus(StrEnum):
    """Where giving back stands."""

    REQUESTED = "requested"
    SENT = "sent"
    UNKNOWN = "unknown"
    SETTLED = "settled"
    DECLINED = "declined"
    """The rail refused; the amount can be refunded again, by another refund."""


ENDED_REFUNDS = frozenset({RefundStatus.SETTLED, RefundStatus.DECLINED})


def unwind(total: int, refunded: int, amount: int) -> tuple[int, int, int]:
    """Return what developer, platform and orchestrator give back, in minor units; the sum is ``amount``.

    It is ``split(total - refunded) - split(total - refunded - amount)``, so that any sequence of partial
    refunds ends where one refund of their sum would, and nobody ever gives more than they got. 70/20/10 is
    monotone in the total, so no share is negative.

    Args:
        total: What was collected.
        refunded: What went back before.
        amount: What goes back now; at most ``total - refunded``.
    """
    before = split(total - refunded, SPLIT_BASIS_POINTS)
    after = split(total - refunded - amount, SPLIT_BASIS_POINTS)
    developer, platform, orchestrator = (old - new for old, new in zip(before, after, strict=True))
    return developer, platform, orchestrator


class RefundTooLargeError(ConflictError):
    """More would go back than was collected."""

    code = "REFUND_TOO_LARGE"

    def __init__(self, payment_id: str, left: int) -> None:
        super().__init__(
            f"At most {left} minor units of payment {payment_id} can still be refunded.",
            details={"payment_id": payment_id, "refundable": left},
        )


class RefundRailError(ConflictError):
    """The payment's rail cannot give money back, or is not configured here any more."""

    code = "REFUND_RAIL_UNSUPPORTED"

    def __init__(self, payment_id: str, rail: str) -> None:
        super().__init__(
            f"Payment {payment_id} was collected over {rail}, which cannot give it back from here.",
            details={"payment_id": payment_id, "rail": rail},
        )


class RefundNotFoundError(NotFoundError):
    """There is no such refund among the caller's."""

    code = "REFUND_NOT_FOUND"

    def __init__(self, refund_id: str) -> None:
        super().__init__(f"There is no refund {refund_id}.", details={"refund_id": refund_id})


class Refund(Record, table=True):
    """Money that goes back to a payer, with the exact bytes and key that are sent, however often."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        UniqueConstraint("rail", "provider_ref"),
        Index(
            "ix_refunds_open",
            "created_at",
            postgresql_where=text("status IN ('requested', 'sent', 'unknown')"),
        ),
        Index("ix_refunds_tenant_id_created_at", "tenant_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    """The payer's."""
    user_id: str
    payment_id: str = Field(foreign_key="payments.id", index=True)
    kind: RefundKind = Field(sa_type=Text)
    amount: int = Field(sa_type=BigInteger)
    currency: str
    reason: str
    rail: RailName = Field(sa_type=Text)
    created_by: str
    status: RefundStatus = Field(default=RefundStatus.SETTLED, sa_type=Text)
    idempotency_key: str | None = Field(default=None, unique=True)
    """None for the wallet, as are the bytes: its books are ours."""
    request_body: bytes | None = Field(default=None, sa_type=LargeBinary)
    attempts: int = 0
    provider_ref: str | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    unknown_reason: str | None = None
    created_at: datetime = time_field()
    first_sent_at: datetime | None = time_field(nullable=True)
    completed_at: datetime | None = time_field(nullable=True)


class RefundRequest(BaseModel):
    """Body of ``POST /payments/{id}/refunds``."""

    model_config = ConfigDict(extra="forbid")

    amount: PositiveMinorUnits | None = None
    """What is left of the payment where it is left out."""
    kind: RefundKind = RefundKind.REFUND
    reason: Annotated[str, Described(min_length=1, max_length=500)]


class RefundView(BaseModel):
    """A refund as the payer sees it."""

    refund_id: str
    payment_id: str
    kind: RefundKind
    amount: int
    currency: str
    reason: str
    rail: RailName
    status: RefundStatus
    decline_code: str | None
    receipt_id: str | None
    """Issued once the money has moved."""
    created_at: datetime
    completed_at: datetime | None

    @property
    def id(self) -> str:
        """Identifier, for lists."""
        return self.refund_id


class RefundStart(BaseModel):
    """What the workflow ``RefundPayment`` starts with."""

    refund_id: str
    payment_id: str
    tenant_id: str
    """The payer's."""
    request: RefundRequest
    created_by: str
    correlation_id: str
    checks: int = 0
    """Look-ups so far, carried over when the history starts anew."""


class RefundState(BaseModel):
    """Where a refund stands, as its workflow knows it."""

    refund_id: str
    status: RefundStatus
    amount: int
    currency: str
