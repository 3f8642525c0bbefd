"""Refunds: giving back what was collected, in whole or in part, and unwinding who got what (research 2.5)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, Text
from sqlmodel import Field

from models.errors import ConflictError
from models.money import MAX_AMOUNT, PositiveMinorUnits, split
from models.payment import SPLIT_BASIS_POINTS
from models.rail import RailName
from models.table import Record, time_field


class RefundKind(StrEnum):
    """Why money goes back."""

    REFUND = "refund"
    DISPUTE = "dispute"
    """The payer's side took it back; the parties' shares are clawed back all the same."""


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
    """The payment's rail cannot give money back from here."""

    code = "REFUND_RAIL_UNSUPPORTED"

    def __init__(self, payment_id: str, rail: str) -> None:
        super().__init__(
            f"Payment {payment_id} was collected over {rail}; refund it with that provider's own tools.",
            details={"payment_id": payment_id, "rail": rail},
        )


class Refund(Record, table=True):
    """Money that went back to a payer. Immutable."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
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
    created_at: datetime = time_field()


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
    receipt_id: str | None
    created_at: datetime

    @property
    def id(self) -> str:
        """Identifier, for lists."""
        return self.refund_id
