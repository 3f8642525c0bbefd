"""Payers' cards and accounts, by the names that the rails gave them: never the card itself.

A method is registered by its reference at the rail, and only once the rail has confirmed that it is there
and that its customer is the caller. What looks like a card's number is refused before anything reads it.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import Index, Text, text
from sqlmodel import Field

from models.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from models.rail import RailName
from models.table import Record, time_field

RailReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}$")]
Phone = Annotated[str, StringConstraints(pattern=r"^(\+[0-9]{6,15})?$")]

_DIGITS = re.compile(r"(?:[0-9][ .\-_]?){12,18}[0-9]")


class PaymentMethodStatus(StrEnum):
    """A method is there until it is removed; removed, it never comes back."""

    ACTIVE = "active"
    REMOVED = "removed"


class CardDataRefusedError(InvalidRequestError):
    """A field holds what looks like a card's number."""

    code = "CARD_DATA_REFUSED"

    def __init__(self, field: str) -> None:
        rule = "must be the rail's reference of a stored method, never a card number"
        super().__init__(
            f"{field} {rule}. Nothing was kept. Store the card with the rail's own form first.",
            details={"fields": [{"field": field, "rule": rule}]},
        )


class PaymentMethodNotFoundError(NotFoundError):
    """There is no such payment method among the caller's."""

    code = "PAYMENT_METHOD_NOT_FOUND"

    def __init__(self, method_id: str) -> None:
        super().__init__(
            f"There is no payment method {method_id}; GET /payment-methods lists yours.",
            details={"payment_method_id": method_id},
        )


class PaymentMethodRefusedError(ConflictError):
    """The rail does not know the method, or it is not the caller's there."""

    code = "PAYMENT_METHOD_REFUSED"

    def __init__(self, rail: str, reason: str) -> None:
        super().__init__(
            f"{rail} does not confirm the payment method as yours: {reason[:300]}. Nothing was registered.",
            details={"rail": rail},
        )


class PaymentMethodTakenError(ConflictError):
    """The method is registered already, by somebody else."""

    code = "PAYMENT_METHOD_TAKEN"

    def __init__(self) -> None:
        super().__init__("This payment method is registered already; a method has one owner.")


class RailUnavailableError(UnavailableError):
    """The rail did not answer a question that changes nothing; asking again is safe."""

    code = "RAIL_UNAVAILABLE"

    def __init__(self, rail: str, reason: str) -> None:
        super().__init__(f"{rail} did not answer: {reason[:300]}. Try again.", details={"rail": rail})


class PaymentMethod(Record, table=True):
    """One payer's method at one rail."""

    __tablename__ = "payment_methods"
    __table_args__ = (
        Index(
            "uq_payment_methods_active",
            "rail",
            "customer",
            "method",
            unique=True,
            postgresql_where=text("status = 'active'"),
        ),
        Index("ix_payment_methods_tenant_id_user_id", "tenant_id", "user_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    rail: RailName = Field(sa_type=Text)
    customer: str
    """The rail's own name for the payer."""
    method: str
    """The rail's own name for the card or account."""
    phone: str = ""
    """The payer's telephone number, where the rail asks for it with every payment."""
    label: str = ""
    status: PaymentMethodStatus = Field(default=PaymentMethodStatus.ACTIVE, sa_type=Text)
    verified_at: datetime = time_field()
    """When the rail confirmed it."""
    created_at: datetime = time_field()
    removed_at: datetime | None = time_field(nullable=True)


class RegisterPaymentMethod(BaseModel):
    """Body of ``POST /payment-methods``."""

    model_config = ConfigDict(extra="forbid")

    rail: Literal["stripe", "cashfree"]
    method: RailReference
    """``pm_…`` at Stripe, the ``instrument_id`` at Cashfree."""
    customer: RailReference | None = None
    """The customer at Stripe, whose ``metadata[user_id]`` must name the caller. At Cashfree the customer's
    id is the caller's user id, and this is left out."""
    phone: Phone = ""
    """With country code; Cashfree asks for it."""
    label: Annotated[str, StringConstraints(max_length=100)] = ""

    def refuse_card_data(self) -> None:
        """Refuse what may be a card's number (12 to 19 digits that pass Luhn's check), in any field.

        Raises:
            CardDataRefusedError: Naming the field, not the value.
        """
        for field in ("method", "customer", "label"):
            if looks_like_card(getattr(self, field) or ""):
                raise CardDataRefusedError(field)


class PaymentMethodView(BaseModel):
    """A payment method as its owner sees it."""

    payment_method_id: str
    rail: RailName
    customer: str
    method: str
    label: str
    status: PaymentMethodStatus
    verified_at: datetime
    created_at: datetime
    removed_at: datetime | None

    @property
    def id(self) -> str:
        """Identifier, for lists."""
        return self.payment_method_id


def looks_like_card(value: str) -> bool:
    """Tell whether ``value`` holds 13 to 19 digits, separated or not, that pass Luhn's check."""
    for found in _DIGITS.finditer(value):
        digits = [int(each) for each in found.group() if each.isdigit()]
        total = sum(
            digit if place % 2 == 0 else sum(divmod(digit * 2, 10))
            for place, digit in enumerate(reversed(digits))
        )
        if total % 10 == 0:
            return True
    return False
