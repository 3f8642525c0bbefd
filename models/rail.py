"""What a payment rail is asked and what it may answer: settled, declined or unknown, never a boolean."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.money import Currency, MinorUnits


class RailName(StrEnum):
    """The rails there are."""

    WALLET = "wallet"
    FREE = "free"
    """Executions without a price: nothing moves, the protocol is the same."""
    STRIPE = "stripe"
    CASHFREE = "cashfree"


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
