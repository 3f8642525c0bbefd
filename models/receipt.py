"""Receipts: signed entries of a per-tenant SHA-256 hash chain, for success and refusal.

Entry hash = SHA-256(0x00 ‖ domain ‖ previous hash ‖ index as 8 bytes big-endian ‖ SHA-256(canonical body)).
The body goes in by its digest, so that a chain can be shown with other users' receipts blanked out and
still be verified; the mandate's nonce keeps a blanked body from being guessed. The leading 0x00 is RFC
6962's leaf prefix: the same bytes can be leaves of a Merkle tree.
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field

from models.canonical import canonical_json
from models.errors import InvalidRequestError, NotFoundError
from models.mandate import Digest
from models.money import MAX_AMOUNT, Currency, MinorUnits
from models.table import Record, time_field

RECEIPT_DOMAIN = b"switchyard/receipt/v1\n"
HEAD_DOMAIN = b"switchyard/receipt-head/v1\n"
GENESIS_HASH = bytes(32)
"""``prev_hash`` of a chain's first receipt."""

EXPORT_FORMAT = "switchyard-receipts/1"

Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
KeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
StrictIndex = Annotated[int, Described(strict=True, ge=0, le=MAX_AMOUNT)]


class ReceiptOutcome(StrEnum):
    """What the receipt attests."""

    SETTLED = "settled"
    DECLINED = "declined"
    REFUNDED = "refunded"
    """``amount`` went back; ``split`` says what each party gave."""
    REFUSED = "refused"
    """Nothing was asked of any rail: a rule of ours forbade it, which ``decline_code`` names."""


class ReceiptShare(BaseModel):
    """What one party got of the amount."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    party: Literal["developer", "platform", "orchestrator"]
    recipient: str
    amount: MinorUnits


class ReceiptBody(BaseModel):
    """What is attested. ``amount`` is what was charged: zero for a free run and for a refusal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    receipt_id: str
    tenant_id: str
    user_id: str
    outcome: ReceiptOutcome
    intent_id: str
    mandate_id: str | None
    mandate_hash: Digest | None
    """None only for a refusal that came before any mandate was minted."""
    settlement_id: str | None
    """None only for a refusal."""
    payment_id: str | None
    execution_id: str | None
    agent_id: str
    vendor: str
    payee: str
    amount: MinorUnits
    currency: Currency
    exponent: Annotated[int, Described(strict=True, ge=0, le=4)]
    rail: str
    provider_ref: str | None
    decline_code: str | None
    split: list[ReceiptShare]
    issued_at: Annotated[int, Described(strict=True, ge=0)]
    """Unix seconds, by the database's clock."""

    def canonical(self) -> bytes:
        """Return the canonical bytes that are stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))


class ReceiptEntry(BaseModel):
    """A receipt with its place in the chain: a line of an export.

    ``body`` is null where it belongs to somebody else; ``body_hash`` stands for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    chain_index: Annotated[int, Described(strict=True, ge=1, le=MAX_AMOUNT)]
    prev_hash: Digest
    hash: Digest
    body_hash: Digest
    body: ReceiptBody | None
    signature: Signature
    kid: KeyId

    def line(self) -> bytes:
        """Return the entry as a line of an export."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


class ChainHead(BaseModel):
    """How long a tenant's chain was at a time: what tells a whole export from one with its tail cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant_id: str
    size: StrictIndex
    hash: Digest
    stated_at: Annotated[int, Described(strict=True, ge=0)]

    def canonical(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return canonical_json(self.model_dump(mode="json"))


class ExportHeader(BaseModel):
    """First line of an export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["switchyard-receipts/1"] = EXPORT_FORMAT
    head: ChainHead
    signature: Signature
    kid: KeyId

    def line(self) -> bytes:
        """Return the header as the first line of an export."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


def body_hash(body: bytes) -> bytes:
    """Return the digest under which a canonical body enters its entry's hash."""
    return hashlib.sha256(body).digest()


def entry_hash(prev_hash: bytes, chain_index: int, digest: bytes) -> bytes:
    """Return the hash of the entry at ``chain_index`` (from 1) whose body has ``digest``."""
    return hashlib.sha256(
        b"\x00" + RECEIPT_DOMAIN + prev_hash + chain_index.to_bytes(8, "big") + digest
    ).digest()


class ReceiptNotFoundError(NotFoundError):
    """There is no such receipt among the caller's."""

    code = "RECEIPT_NOT_FOUND"

    def __init__(self, receipt_id: str) -> None:
        super().__init__(f"There is no receipt {receipt_id}.", details={"receipt_id": receipt_id})


class ReceiptChainBrokenError(InvalidRequestError):
    """An export does not verify."""

    code = "RECEIPT_CHAIN_BROKEN"

    def __init__(self, line: int, fault: str) -> None:
        super().__init__(
            f"Line {line}: {fault}. The export is not what was issued; do not rely on it.",
            details={"line": line, "fault": fault},
        )


class Receipt(Record, table=True):
    """A stored receipt. Immutable."""

    __tablename__ = "receipts"
    __table_args__ = (
        UniqueConstraint("tenant_id", "chain_index"),
        UniqueConstraint("tenant_id", "prev_hash"),
        CheckConstraint("chain_index >= 1", name="chain_index"),
        CheckConstraint("num_nonnulls(settlement_id, refund_id, refused_intent_id) = 1", name="subject"),
        Index("ix_receipts_tenant_id_user_id", "tenant_id", "user_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    chain_index: int = Field(sa_type=BigInteger)
    prev_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary, unique=True)
    body: bytes = Field(sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    kid: str
    settlement_id: str | None = Field(default=None, foreign_key="settlements.id", unique=True)
    """None for a refund; its body names the settlement."""
    payment_id: str | None = Field(default=None, foreign_key="payments.id", unique=True)
    refund_id: str | None = Field(default=None, foreign_key="refunds.id", unique=True)
    refused_intent_id: str | None = Field(default=None, foreign_key="purchase_intents.id", unique=True)
    """The purchase that was refused, where the receipt attests a refusal."""
    execution_id: str | None = Field(default=None, index=True)
    outcome: ReceiptOutcome = Field(sa_type=Text)
    issued_at: datetime = time_field()

    @property
    def created_at(self) -> datetime:
        """When it was issued."""
        return self.issued_at


class ReceiptChain(Record, table=True):
    """Head of a tenant's chain; its row is locked to append."""

    __tablename__ = "receipt_chains"

    tenant_id: str = Field(primary_key=True)
    size: int = Field(default=0, sa_type=BigInteger)
    hash: bytes = Field(sa_type=LargeBinary)


class ReceiptView(BaseModel):
    """A receipt as its owner sees it."""

    receipt_id: str
    chain_index: int
    prev_hash: str
    hash: str
    signature: str
    kid: str
    issued_at: datetime
    body: ReceiptBody
