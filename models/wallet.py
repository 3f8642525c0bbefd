"""Prepaid wallets: the books of the ``wallet`` rail, kept in our own ledger."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text
from sqlmodel import Field

from models.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from models.ledger import AccountKey, AccountKind
from models.money import MAX_AMOUNT, Currency, PositiveMinorUnits
from models.table import Record, time_field


def wallet_account(tenant_id: str, user_id: str, currency: str) -> AccountKey:
    """Return the key of a user's wallet."""
    return AccountKey(tenant_id=tenant_id, kind=AccountKind.USER_WALLET, owner_id=user_id, currency=currency)


def hold_account(tenant_id: str, user_id: str, currency: str) -> AccountKey:
    """Return the key of the account of what a user has on hold."""
    return AccountKey(tenant_id=tenant_id, kind=AccountKind.USER_HOLD, owner_id=user_id, currency=currency)


class WalletHoldStatus(StrEnum):
    """Where a hold stands at the rail; it is resolved once."""

    HELD = "held"
    CAPTURED = "captured"
    VOIDED = "voided"


class WalletNotFoundError(NotFoundError):
    """There is no such wallet among the caller's."""

    code = "WALLET_NOT_FOUND"

    def __init__(self, wallet_id: str) -> None:
        super().__init__(
            f"There is no wallet {wallet_id}; `GET /wallets` lists yours, `POST /wallets` opens one.",
            details={"wallet_id": wallet_id},
        )


class WalletCurrencyError(InvalidRequestError):
    """A top-up came in another currency than the wallet's."""

    code = "WALLET_CURRENCY_MISMATCH"

    def __init__(self, wallet_currency: str) -> None:
        rule = f"must be the wallet's currency, {wallet_currency}, or left out"
        super().__init__(f"The currency {rule}.", details={"fields": {"currency": rule}})


class TopUpsDisabledError(PermissionDeniedError):
    """Wallets are not topped up through this operation here."""

    code = "TOP_UPS_DISABLED"

    def __init__(self) -> None:
        super().__init__(
            "Wallets are topped up without a payment only where WALLET_TOP_UPS is set and Switchyard issues "
            "its own tokens; here, pay through a rail."
        )


class WalletHold(Record, table=True):
    """Money set aside from a wallet, by our reference."""

    __tablename__ = "wallet_holds"
    __table_args__ = (
        CheckConstraint("captured_amount BETWEEN 0 AND amount", name="captured_amount"),
        Index("ix_wallet_holds_tenant_id", "tenant_id"),
    )

    reference: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    amount: int = Field(sa_type=BigInteger)
    captured_amount: int = Field(default=0, sa_type=BigInteger)
    currency: str
    status: WalletHoldStatus = Field(default=WalletHoldStatus.HELD, sa_type=Text)
    capture_key: str | None = None
    capture_body_hash: bytes | None = Field(default=None, sa_type=LargeBinary)
    created_at: datetime = time_field()
    resolved_at: datetime | None = time_field(nullable=True)


class WalletTopUp(Record, table=True):
    """Money put into a wallet."""

    __tablename__ = "wallet_top_ups"
    __table_args__ = (
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        Index("ix_wallet_top_ups_tenant_id", "tenant_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    wallet_id: str = Field(foreign_key="ledger_accounts.id")
    amount: int = Field(sa_type=BigInteger)
    currency: str
    created_at: datetime = time_field()


class OpenWallet(BaseModel):
    """Body of ``POST /wallets``."""

    model_config = ConfigDict(extra="forbid")

    currency: Currency = "INR"


class TopUpRequest(BaseModel):
    """Body of ``POST /wallets/{id}/top-ups``."""

    model_config = ConfigDict(extra="forbid")

    amount: PositiveMinorUnits
    currency: Currency | None = None
    """The wallet's own where it is left out; another one is refused."""


class WalletView(BaseModel):
    """A wallet as its owner sees it. Amounts in minor units."""

    wallet_id: str
    user_id: str
    currency: str
    exponent: int
    available: int
    """What can be spent."""
    held: int
    """What is set aside for runs that have not ended."""
    created_at: datetime

    @property
    def id(self) -> str:
        """The wallet is a ledger account; this is its identifier."""
        return self.wallet_id


class TopUpView(BaseModel):
    """A top-up and the wallet after it."""

    top_up_id: str
    amount: int
    currency: str
    wallet: WalletView
