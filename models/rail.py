"""What a payment rail is asked and what it may answer: settled, declined or unknown, never a boolean."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Text
from sqlmodel import Field as Column

from models.errors import AuthenticationError, NotFoundError
from models.money import Currency, MinorUnits
from models.table import Record, time_field


class RailName(StrEnum):
    """The rails there are."""

    WALLET = "wallet"
    FREE = "free"
    """Executions without a price: nothing moves, the protocol is the same."""
    STRIPE = "stripe"
    CASHFREE = "cashfree"
    X402 = "x402"
    """Signed transfers enclosed with the request (HTTP 402), settled through a facilitator."""


class RailRequest(BaseModel):
    """What is sent to a rail. Its canonical bytes are stored before the first call and never rebuilt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    """Our name for the hold at the rail; look-ups go by it."""
    amount: MinorUnits
    currency: Currency
    tenant_id: str
    user_id: str
    description: str = ""


class AuthoriseRequest(RailRequest):
    """What an outside rail is asked to hold, and whose money it is there."""

    customer: str = Field(min_length=1, max_length=200)
    """The rail's own name for the payer."""
    method: str = Field(min_length=1, max_length=200)
    """The rail's own name for the payer's card or account: never its number."""
    phone: str = Field(default="", max_length=20)
    """The payer's telephone number, where the rail asks for it (Cashfree does)."""


class RefundInstruction(BaseModel):
    """What an outside rail is asked to give back of a capture. Stored like every request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    """Our name for the refund at the rail."""
    capture_reference: str
    """Our name for the hold that was captured."""
    amount: MinorUnits
    currency: Currency


class Settled(BaseModel):
    """It happened, once. For a void: nothing is held any more."""

    model_config = ConfigDict(frozen=True)

    answer: Literal["settled"] = "settled"
    provider_ref: str
    """The rail's own reference; unique per rail."""
    amount: MinorUnits


class Declined(BaseModel):
    """It did not happen and never will under this key."""

    model_config = ConfigDict(frozen=True)

    answer: Literal["declined"] = "declined"
    code: str = Field(max_length=100)
    message: str = Field(default="", max_length=2000)


class Unknown(BaseModel):
    """Nobody can tell yet: no answer, an unreadable one, or "not found" inside the rail's window."""

    model_config = ConfigDict(frozen=True)

    answer: Literal["unknown"] = "unknown"
    reason: str = Field(max_length=2000)
    not_found: bool = False
    """The rail knows nothing under our reference *yet*. It is evidence only once nothing can be under way."""


RailAnswer = Annotated[Settled | Declined | Unknown, Field(discriminator="answer")]


class WebhookHint(BaseModel):
    """What a rail's webhook is about: a reference to look up, never an outcome."""

    model_config = ConfigDict(frozen=True)

    rail: RailName
    event_id: str
    """The rail's name for the event; where it has none, the digest of its bytes."""
    kind: str
    reference: str | None = None
    """Ours."""
    digest: str
    """SHA-256 of the body, hex."""


class RailWebhook(Record, table=True):
    """One event that a rail reported: the platform's inbox."""

    __tablename__ = "rail_webhooks"

    rail: RailName = Column(primary_key=True, sa_type=Text)
    event_id: str = Column(primary_key=True)
    tenant_id: str
    """The platform's."""
    kind: str
    reference: str | None = None
    digest: str
    received_at: datetime = time_field()
    handled_at: datetime | None = time_field(nullable=True)
    """Unset while nobody was told: the reference is not known here (yet)."""


class WebhookSignatureError(AuthenticationError):
    """The webhook was not signed by the rail, or too long ago."""

    code = "WEBHOOK_SIGNATURE_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The webhook is refused: {reason}. Check the endpoint's signing secret.")


class RailNotConfiguredError(NotFoundError):
    """This installation does not use the rail."""

    code = "RAIL_NOT_CONFIGURED"

    def __init__(self, rail: str) -> None:
        super().__init__(
            f"The rail {rail} is not configured here; set its credentials (docs/settings.md).",
            details={"rail": rail},
        )
