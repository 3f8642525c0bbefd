"""The double-entry ledger: accounts, transactions, postings (DESIGN §6; research chart of accounts).

Sign convention: a positive balance is what the platform owes the account's owner, or has earned; the
accounts that stand for money held elsewhere (``bank``, ``rail_clearing``) go negative by what is there.
Every transaction sums to zero per currency.
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, Text, UniqueConstraint, text
from sqlmodel import Field

from models.errors import (
    ConflictError,
    InsufficientFundsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from models.identifiers import PREFIXES
from models.money import MAX_AMOUNT, Currency
from models.table import Record, json_field, time_field

PLATFORM_TENANT = "platform"
"""Owner of the platform's own accounts."""


class AccountKind(StrEnum):
    """The chart of accounts."""

    USER_WALLET = "user_wallet"
    USER_HOLD = "user_hold"
    DEVELOPER_PAYABLE = "developer_payable"
    ORCHESTRATOR_PAYABLE = "orchestrator_payable"
    PLATFORM_REVENUE = "platform_revenue"
    RAIL_CLEARING = "rail_clearing"
    BANK = "bank"
    RAIL_FEE = "rail_fee"
    PAYOUT_IN_TRANSIT = "payout_in_transit"
    REFUND_LOSS = "refund_loss"
    SUSPENSE = "suspense"


FLOORS: dict[AccountKind, int | None] = {
    AccountKind.USER_WALLET: 0,
    AccountKind.USER_HOLD: 0,
    # A refund after a payout leaves a debt that later earnings are netted against.
    AccountKind.DEVELOPER_PAYABLE: None,
    AccountKind.ORCHESTRATOR_PAYABLE: None,
    AccountKind.PLATFORM_REVENUE: None,
    AccountKind.RAIL_CLEARING: None,
    AccountKind.BANK: None,
    AccountKind.RAIL_FEE: None,
    AccountKind.PAYOUT_IN_TRANSIT: 0,
    AccountKind.REFUND_LOSS: None,
    AccountKind.SUSPENSE: None,
}
"""Lowest balance each kind of account may have; None: no floor."""


STRIPES = 16
"""Sub-accounts over which a crowded account is spread."""

STRIPED = frozenset({AccountKind.PLATFORM_REVENUE, AccountKind.RAIL_CLEARING, AccountKind.BANK})
"""Accounts that nearly every payment touches. A posting locks its account until the commit, so one row of
them would make all payments queue; their balance is the sum of their stripes. None of them has a floor, which
a part could not keep for the whole."""

STRIPE_MARK = "#"


class TransactionKind(StrEnum):
    """Why money moved."""

    TOP_UP = "top_up"
    HOLD = "hold"
    CAPTURE = "capture"
    VOID = "void"
    SETTLEMENT = "settlement"
    REFUND = "refund"
    PAYOUT_CLAIM = "payout_claim"
    PAYOUT = "payout"
    PAYOUT_RETURN = "payout_return"


class PostingPurpose(StrEnum):
    """What one line of a transaction stands for."""

    FUNDING = "funding"
    HOLD = "hold"
    CAPTURE = "capture"
    RETURN = "return"
    CLEARING = "clearing"
    DEVELOPER_SHARE = "developer_share"
    PLATFORM_SHARE = "platform_share"
    ORCHESTRATOR_SHARE = "orchestrator_share"
    UNORCHESTRATED_SHARE = "unorchestrated_share"
    """The orchestrator's tenth where nobody orchestrated: the platform's, as a posting of its own."""
    REFUND = "refund"
    PAYOUT = "payout"


class AccountKey(BaseModel):
    """What makes an account the one it is; its identifier is derived from this."""

    model_config = ConfigDict(frozen=True)

    tenant_id: str
    kind: AccountKind
    owner_id: str
    """User for wallets, holds and payables; ``platform`` for the platform's."""
    currency: Currency
    qualifier: str = ""
    """The rail's name for ``rail_clearing`` and ``rail_fee``; behind ``#`` the number of a stripe."""

    def stripe(self, reference: str) -> "AccountKey":
        """Return the sub-account on which a transaction posts, always the same one for its reference."""
        if self.kind not in STRIPED or STRIPE_MARK in self.qualifier:
            return self
        number = int.from_bytes(hashlib.sha256(reference.encode()).digest()[:4], "big") % STRIPES
        return self.model_copy(update={"qualifier": f"{self.qualifier}{STRIPE_MARK}{number}"})

    def parts(self) -> "list[AccountKey]":
        """Return every account whose balances add up to this one's, itself first."""
        if self.kind not in STRIPED:
            return [self]
        stripes = [
            self.model_copy(update={"qualifier": f"{self.qualifier}{STRIPE_MARK}{number}"})
            for number in range(STRIPES)
        ]
        return [self, *stripes]

    @property
    def id(self) -> str:
        """Identifier of the account, the same in every process: accounts can be locked in its order
        before they exist, which is what keeps concurrent postings free of deadlocks."""
        named = "\x00".join((self.tenant_id, self.kind, self.owner_id, self.currency, self.qualifier))
        return f"{PREFIXES['ledger_account']}_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def platform_account(kind: AccountKind, currency: str, qualifier: str = "") -> AccountKey:
    """Return the key of one of the platform's own accounts."""
    return AccountKey(
        tenant_id=PLATFORM_TENANT,
        kind=kind,
        owner_id=PLATFORM_TENANT,
        currency=currency,
        qualifier=qualifier,
    )


class NewPosting(BaseModel):
    """One line of a transaction still to be written."""

    account: AccountKey
    amount: int
    """Minor units; positive raises the balance. Never zero."""
    purpose: PostingPurpose


class NewTransaction(BaseModel):
    """A movement of money still to be written."""

    kind: TransactionKind
    reference: str = Described(max_length=200)
    """Deterministic and unique: posting the same reference twice moves money once."""
    tenant_id: str
    postings: list[NewPosting]
    execution_id: str | None = None
    agent_id: str | None = None
    description: str = ""
    metadata: dict[str, Any] = Described(default_factory=dict)


class UnbalancedTransactionError(ConflictError):
    """The postings do not sum to zero per currency, or are fewer than two."""

    code = "LEDGER_UNBALANCED"

    def __init__(self, reference: str) -> None:
        super().__init__(f"Transaction {reference} is not balanced; nothing was posted.")


class TransactionMismatchError(ConflictError):
    """The reference was posted before with other postings."""

    code = "LEDGER_REFERENCE_REUSED"

    def __init__(self, reference: str) -> None:
        super().__init__(f"Transaction {reference} was posted before with other amounts or accounts.")


class AccountFloorError(InsufficientFundsError):
    """The account would fall below its floor."""

    def __init__(self, currency: str, wanted: int) -> None:
        super().__init__(
            f"The balance does not cover {wanted} minor units of {currency}; top the wallet up and try "
            "again.",
            details={"currency": currency, "amount": wanted},
        )


class AccountLimitError(ConflictError):
    """A balance would leave ±(2⁵³-1)."""

    code = "LEDGER_BALANCE_TOO_LARGE"

    def __init__(self) -> None:
        super().__init__(f"A balance would exceed {MAX_AMOUNT} minor units; nothing was posted.")


class AccountNotFoundError(NotFoundError):
    """There is no such account among the caller's."""

    code = "ACCOUNT_NOT_FOUND"

    def __init__(self, account_id: str) -> None:
        super().__init__(f"There is no account {account_id}.", details={"account_id": account_id})


class LedgerAccount(Record, table=True):
    """An account with its balance. Only the database's posting trigger changes balance and last_seq."""

    __tablename__ = "ledger_accounts"
    __table_args__ = (
        UniqueConstraint("tenant_id", "kind", "owner_id", "currency", "qualifier"),
        CheckConstraint("floor IS NULL OR balance >= floor", name="floor"),
        CheckConstraint(f"balance BETWEEN -{MAX_AMOUNT} AND {MAX_AMOUNT}", name="balance"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        Index("ix_ledger_accounts_tenant_id_owner_id", "tenant_id", "owner_id"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    kind: AccountKind = Field(sa_type=Text)
    owner_id: str
    currency: str
    qualifier: str = ""
    floor: int | None = Field(default=None, sa_type=BigInteger)
    balance: int = Field(default=0, sa_type=BigInteger)
    last_seq: int = Field(default=0, sa_type=BigInteger)
    """Postings so far; each posting carries its number."""
    created_at: datetime = time_field()


class LedgerTransaction(Record, table=True):
    """One movement of money. Immutable."""

    __tablename__ = "ledger_transactions"
    __table_args__ = (Index("ix_ledger_transactions_tenant_id_created_at", "tenant_id", "created_at"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    """Tenant whose doing it is (the payer); other parties see their own postings only."""
    kind: TransactionKind = Field(sa_type=Text)
    reference: str = Field(unique=True)
    execution_id: str | None = Field(default=None, index=True)
    agent_id: str | None = None
    description: str = ""
    meta: dict[str, Any] = json_field()
    created_at: datetime = time_field()


class LedgerPosting(Record, table=True):
    """One line of a transaction on one account. Immutable.

    It repeats the transaction's kind, execution and agent, because the other party of a payment may read
    its own line but not the payer's transaction.
    """

    __tablename__ = "ledger_postings"
    __table_args__ = (
        UniqueConstraint("account_id", "account_seq"),
        CheckConstraint(f"amount <> 0 AND amount BETWEEN -{MAX_AMOUNT} AND {MAX_AMOUNT}", name="amount"),
        Index("ix_ledger_postings_tenant_id", "tenant_id"),
        Index(
            "ix_ledger_postings_execution_id",
            "execution_id",
            postgresql_where=text("execution_id IS NOT NULL"),
        ),
    )

    transaction_id: str = Field(foreign_key="ledger_transactions.id", primary_key=True)
    position: int = Field(primary_key=True)
    account_id: str = Field(foreign_key="ledger_accounts.id")
    tenant_id: str
    amount: int = Field(sa_type=BigInteger)
    currency: str
    purpose: PostingPurpose = Field(sa_type=Text)
    transaction_kind: TransactionKind = Field(sa_type=Text)
    execution_id: str | None = None
    agent_id: str | None = None
    agent_version: str | None = None
    """Version that ran, as the used mandate names it."""
    account_seq: int = Field(sa_type=BigInteger)
    balance_after: int = Field(sa_type=BigInteger)
    created_at: datetime = time_field()


class TrialBalance(BaseModel):
    """All books of one currency added up; both sums are zero, or something is wrong."""

    currency: str
    accounts: int
    postings: int
    balances: int
    """Sum of the balances kept on the accounts, in minor units."""
    postings_sum: int
    """Sum of all postings, in minor units."""


class StatementPeriodError(InvalidRequestError):
    """The statement's days are the wrong way round."""

    code = "STATEMENT_PERIOD"

    def __init__(self) -> None:
        rule = "must be a later day than from"
        super().__init__(f"to {rule}.", details={"fields": {"to": rule}})


class NotPlatformFinanceError(PermissionDeniedError):
    """The books of all tenants are for the platform's own finance people."""

    code = "PLATFORM_FINANCE_ONLY"

    def __init__(self) -> None:
        super().__init__(
            "The trial balance covers all tenants: "
            f"it is for finance and admin of the tenant {PLATFORM_TENANT!r}."
        )
