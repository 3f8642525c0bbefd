"""Payouts: what developers have earned, sent to them once a week (frameos-agent-runtime-flows, step 5).

::

    claimed → submitted → paid | failed | unknown;  unknown → paid | failed;  paid → reversed

A claim moves the balance from ``developer_payable`` to ``payout_in_transit``; paid moves it on to the bank;
failed and reversed return it to ``developer_payable``, once.
"""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field

from models.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError
from models.ledger import PLATFORM_TENANT, AccountKey, AccountKind
from models.money import MAX_AMOUNT, Currency
from models.table import Record, time_field

MINIMUM_PAYOUT = 50_000
"""Least amount that leaves, in minor units, inclusive (frameos-agent-runtime-flows, "Payout Scheduling")."""

PAYOUT_SCHEDULE_ID = "payouts-weekly"


class PayoutStatus(StrEnum):
    """Where a payout stands."""

    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    """The rail has not said yet, or it works on it."""
    PAID = "paid"
    FAILED = "failed"
    REVERSED = "reversed"
    """Was paid; the bank sent the money back."""


RETURNED_PAYOUTS = frozenset({PayoutStatus.FAILED, PayoutStatus.REVERSED})
"""Those whose money is payable again."""

ENDED_PAYOUTS = RETURNED_PAYOUTS | {PayoutStatus.PAID}


class EarnedAs(StrEnum):
    """What somebody's share is paid for: their agents' work, or having agents of others work."""

    DEVELOPER = "developer"
    ORCHESTRATOR = "orchestrator"


_PAYABLES = {
    EarnedAs.DEVELOPER: AccountKind.DEVELOPER_PAYABLE,
    EarnedAs.ORCHESTRATOR: AccountKind.ORCHESTRATOR_PAYABLE,
}


class KycStatus(StrEnum):
    """Whether we know who the developer is."""

    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    REJECTED = "rejected"


class BeneficiaryStatus(StrEnum):
    """Whether money may be sent to an account."""

    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    RETIRED = "retired"


class RollOver(StrEnum):
    """Why a balance stays until the next period, in the order in which it is asked."""

    NEGATIVE_BALANCE = "negative_balance"
    BELOW_MINIMUM = "below_minimum"
    KYC_NOT_VERIFIED = "kyc_not_verified"
    ON_HOLD = "on_hold"
    NO_BENEFICIARY = "no_beneficiary"
    BENEFICIARY_NOT_VERIFIED = "beneficiary_not_verified"
    FAILED_THIS_PERIOD = "failed_this_period"
    """An earlier attempt in this period failed; finance looks and retries."""


class Payable(BaseModel):
    """What is known of one developer's balance in one currency when it is judged."""

    model_config = ConfigDict(frozen=True)

    account_id: str
    tenant_id: str
    owner_id: str
    earned_as: EarnedAs = EarnedAs.DEVELOPER
    currency: str
    amount: int
    """Minor units that have matured and were not refunded or claimed since."""
    through_seq: int
    """Last posting of the account that the amount covers."""
    kyc_status: KycStatus
    held: bool
    beneficiary_id: str | None
    beneficiary_status: BeneficiaryStatus | None
    rail: str | None
    destination: str | None
    attempts: int
    """Payouts of this period and account so far."""
    live: bool
    """One of them has not failed: there is nothing to do."""


def judge(payable: Payable, *, retry: bool = False) -> RollOver | None:
    """Return why the balance stays, or None where it is paid out (research 5, "Eligibility").

    Args:
        payable: The facts, read under the account's lock.
        retry: Finance asks for another attempt in the same period.
    """
    rules: tuple[tuple[bool, RollOver], ...] = (
        (payable.amount < 0, RollOver.NEGATIVE_BALANCE),
        (payable.amount < MINIMUM_PAYOUT, RollOver.BELOW_MINIMUM),
        (payable.kyc_status is not KycStatus.VERIFIED, RollOver.KYC_NOT_VERIFIED),
        (payable.held, RollOver.ON_HOLD),
        (payable.beneficiary_id is None, RollOver.NO_BENEFICIARY),
        (payable.beneficiary_status is not BeneficiaryStatus.VERIFIED, RollOver.BENEFICIARY_NOT_VERIFIED),
        (payable.attempts > 0 and not retry, RollOver.FAILED_THIS_PERIOD),
    )
    return next((reason for broken, reason in rules if broken), None)


def payout_reference(payable: Payable, period: str, number: int) -> str:
    """Return our name for a payout at the rail: the idempotency key of every attempt to send it."""
    start = "po" if payable.earned_as is EarnedAs.DEVELOPER else "po_orch"
    return f"{start}_{payable.tenant_id}_{payable.owner_id}_{payable.currency}_{period}_{number}"


def in_transit_account(tenant_id: str, developer_id: str, currency: str) -> AccountKey:
    """Return the key of the account of what is on its way to a developer."""
    return AccountKey(
        tenant_id=tenant_id, kind=AccountKind.PAYOUT_IN_TRANSIT, owner_id=developer_id, currency=currency
    )


def payable_account(
    tenant_id: str, owner_id: str, currency: str, earned_as: EarnedAs = EarnedAs.DEVELOPER
) -> AccountKey:
    """Return the key of the account of what somebody is owed for being a developer, or an orchestrator."""
    return AccountKey(tenant_id=tenant_id, kind=_PAYABLES[earned_as], owner_id=owner_id, currency=currency)


Period = Annotated[str, Described(pattern=r"^[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])$")]
"""ISO week of the Monday on which a payout run is due: ``2026-W47`` (ISO 8601)."""


class UnknownPeriodError(InvalidRequestError):
    """The period is no ISO week."""

    code = "PAYOUT_PERIOD_UNKNOWN"

    def __init__(self, period: str) -> None:
        rule = "must be an ISO week of the past or present, such as 2026-W47"
        super().__init__(f"The period {period[:20]!r} {rule}.", details={"fields": {"period": rule}})


def period_of(moment: datetime) -> str:
    """Return the period whose Monday 00:00 UTC is the last one at or before ``moment``."""
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02}"


def cut_off(period: str) -> datetime:
    """Return the Monday 00:00 UTC of a period; what was earned from then on is the next period's.

    Raises:
        UnknownPeriodError: The year has no such week.
    """
    try:
        monday = date.fromisocalendar(int(period[:4]), int(period[6:]), 1)
    except ValueError:
        raise UnknownPeriodError(period) from None
    return datetime(monday.year, monday.month, monday.day, tzinfo=UTC)


def matured_before(period: str, maturity_days: int) -> datetime:
    """Return the moment before which earnings must have been posted to be paid in ``period``."""
    return cut_off(period) - timedelta(days=maturity_days)


class PayoutNotFoundError(NotFoundError):
    """There is no such payout among the caller's."""

    code = "PAYOUT_NOT_FOUND"

    def __init__(self, payout_id: str) -> None:
        super().__init__(f"There is no payout {payout_id}.", details={"payout_id": payout_id})


class BeneficiaryNotFoundError(NotFoundError):
    """There is no such beneficiary."""

    code = "BENEFICIARY_NOT_FOUND"

    def __init__(self, beneficiary_id: str) -> None:
        super().__init__(
            f"There is no beneficiary {beneficiary_id}.", details={"beneficiary_id": beneficiary_id}
        )


class PayoutNotRetryableError(ConflictError):
    """Only a payout whose money came back is sent again."""

    code = "PAYOUT_NOT_RETRYABLE"

    def __init__(self, payout_id: str, reason: str) -> None:
        super().__init__(
            f"Payout {payout_id} cannot be sent again: {reason}.",
            details={"payout_id": payout_id, "reason": reason},
        )


class PayoutNotReversibleError(ConflictError):
    """Only a payout that was paid is reversed."""

    code = "PAYOUT_NOT_REVERSIBLE"

    def __init__(self, payout_id: str, status: str) -> None:
        super().__init__(
            f"Payout {payout_id} is {status}; only one that was paid can be reversed.",
            details={"payout_id": payout_id, "status": status},
        )


class PlatformFinanceError(PermissionDeniedError):
    """Only the platform's own finance people pay others."""

    code = "PLATFORM_FINANCE_REQUIRED"

    def __init__(self) -> None:
        super().__init__(f"This is for finance and admin of the tenant {PLATFORM_TENANT!r}.")


class Payee(Record, table=True):
    """What finance knows of somebody who is to be paid."""

    __tablename__ = "payees"

    tenant_id: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    kyc_status: KycStatus = Field(default=KycStatus.UNVERIFIED, sa_type=Text)
    held: bool = False
    hold_reason: str | None = None
    updated_by: str
    updated_at: datetime = time_field()


class Beneficiary(Record, table=True):
    """Where a developer's money in one currency goes. A new one takes the place of the one before."""

    __tablename__ = "beneficiaries"
    __table_args__ = (
        Index(
            "uq_beneficiaries_current",
            "tenant_id",
            "user_id",
            "currency",
            unique=True,
            postgresql_where=text("status <> 'retired'"),
        ),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    currency: str
    rail: str
    destination: str
    """The rail's own name for the account (a Cashfree beneficiary, a Stripe account): no account number."""
    name: str
    status: BeneficiaryStatus = Field(default=BeneficiaryStatus.UNVERIFIED, sa_type=Text)
    created_at: datetime = time_field()
    verified_at: datetime | None = time_field(nullable=True)
    verified_by: str | None = None


class PayoutRow(Record, table=True):
    """One payout. At most one per payable account (so per owner and currency) and period has not failed."""

    __tablename__ = "payouts"
    __table_args__ = (
        UniqueConstraint("account_id", "period", "number"),
        CheckConstraint(f"amount BETWEEN {MINIMUM_PAYOUT} AND {MAX_AMOUNT}", name="amount"),
        Index(
            "uq_payouts_live",
            "account_id",
            "period",
            unique=True,
            postgresql_where=text("status NOT IN ('failed', 'reversed')"),
        ),
        Index("ix_payouts_account_id_through_seq", "account_id", "through_seq"),
        Index("ix_payouts_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_payouts_period", "period"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    """The developer's."""
    developer_id: str
    """Who is paid, for what their agents did or for what they orchestrated."""
    earned_as: EarnedAs = Field(default=EarnedAs.DEVELOPER, sa_type=Text)
    currency: str
    period: str
    number: int
    """Attempt in the period, from 1; the next one only after this one failed."""
    reference: str = Field(unique=True)
    account_id: str = Field(foreign_key="ledger_accounts.id")
    amount: int = Field(sa_type=BigInteger)
    through_seq: int = Field(sa_type=BigInteger)
    """Last posting of the payable account that this pays for."""
    beneficiary_id: str = Field(foreign_key="beneficiaries.id")
    rail: str
    request_body: bytes = Field(sa_type=LargeBinary)
    """Exactly what is sent to the rail, kept before the first call."""
    status: PayoutStatus = Field(default=PayoutStatus.CLAIMED, sa_type=Text)
    attempts: int = 0
    provider_ref: str | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    unknown_reason: str | None = None
    created_at: datetime = time_field()
    submitted_at: datetime | None = time_field(nullable=True)
    paid_at: datetime | None = time_field(nullable=True)
    ended_at: datetime | None = time_field(nullable=True)


class PayoutRollOver(Record, table=True):
    """A balance that stayed in a period, and why."""

    __tablename__ = "payout_roll_overs"

    period: str = Field(primary_key=True)
    account_id: str = Field(primary_key=True, foreign_key="ledger_accounts.id")
    tenant_id: str = Field(index=True)
    developer_id: str
    currency: str
    amount: int = Field(sa_type=BigInteger)
    reason: RollOver = Field(sa_type=Text)
    created_at: datetime = time_field()


class BankTransfer(Record, table=True):
    """A transfer to an outside account that we carry out ourselves: the wallet rail's books."""

    __tablename__ = "bank_transfers"

    reference: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    amount: int = Field(sa_type=BigInteger)
    currency: str
    destination: str
    created_at: datetime = time_field()


class PayoutInstruction(BaseModel):
    """What is sent to a rail; its canonical bytes are stored with the claim."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    amount: int
    currency: Currency
    destination: str
    tenant_id: str
    user_id: str


class PayoutStart(BaseModel):
    """Input of the workflow of one payout."""

    payout_id: str
    tenant_id: str
    period: str
    checks: int = 0
    """Look-ups so far, over all continuations."""


class PayoutState(BaseModel):
    """What is known of a payout."""

    payout_id: str
    status: PayoutStatus
    amount: int
    currency: str


class ShardRequest(BaseModel):
    """A slice of the developers in a payout run."""

    period: Period
    after: str = ""
    """Account after which the slice begins."""
    size: int = 500


class Shard(BaseModel):
    """What came of a slice."""

    payouts: list[PayoutStart]
    rolled_over: int
    amounts: dict[str, int]
    """Currency → minor units claimed."""
    last: str | None
    """Account at which the slice ended; None after the last one."""


class PayoutRunRequest(BaseModel):
    """Input of a payout run; empty when the schedule starts it."""

    period: Period | None = None
    """Found from the schedule's nominal time where it is not given."""
    after: str = ""
    payouts: int = 0
    rolled_over: int = 0
    amounts: dict[str, int] = Described(default_factory=dict[str, int])


class PayoutRunSummary(BaseModel):
    """What a payout run did."""

    period: str
    payouts: int
    rolled_over: int
    amounts: dict[str, int]


class PlannedPayout(BaseModel):
    """What a run would do with one balance: a dry run's line."""

    tenant_id: str
    developer_id: str
    earned_as: EarnedAs
    currency: str
    amount: int
    pays: bool
    reason: RollOver | None
    """Why it stays; None where it is paid, or was already in this period."""


class Statement(BaseModel):
    """One account between two payouts, in minor units: opening + all movements = closing."""

    opening: int
    earned: int
    refunded: int
    paid_out: int
    returned: int
    closing: int


class RegisterBeneficiary(BaseModel):
    """Where your money in one currency is to go."""

    model_config = ConfigDict(extra="forbid")

    currency: Currency
    rail: Annotated[str, Described(pattern="^(wallet|stripe|cashfree)$")] = "wallet"
    destination: Annotated[str, Described(min_length=1, max_length=200)]
    name: Annotated[str, Described(min_length=1, max_length=200)]


class BeneficiaryView(BaseModel):
    """A beneficiary as its owner sees it."""

    beneficiary_id: str
    user_id: str
    currency: str
    rail: str
    destination: str
    name: str
    status: BeneficiaryStatus
    created_at: datetime

    @property
    def id(self) -> str:
        """Identifier, for lists."""
        return self.beneficiary_id


class PayeeFlags(BaseModel):
    """What finance decides about a developer; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    kyc_status: KycStatus | None = None
    held: bool | None = None
    hold_reason: Annotated[str | None, Described(max_length=500)] = None


class PayeeView(BaseModel):
    """Finance's view of a developer who is to be paid."""

    tenant_id: str
    user_id: str
    kyc_status: KycStatus
    held: bool
    hold_reason: str | None


class PayoutRunBody(BaseModel):
    """Body of ``POST /payout-runs``."""

    model_config = ConfigDict(extra="forbid")

    period: Period | None = None
    """The present ISO week where it is left out."""


class PayoutView(BaseModel):
    """A payout as its developer sees it."""

    payout_id: str
    developer_id: str
    earned_as: EarnedAs
    period: str
    number: int
    reference: str
    amount: int
    currency: str
    status: PayoutStatus
    rail: str
    provider_ref: str | None
    failure_code: str | None
    created_at: datetime
    paid_at: datetime | None
    statement: Statement | None = None

    @property
    def id(self) -> str:
        """Identifier, for lists."""
        return self.payout_id


class ReversePayout(BaseModel):
    """Body of ``POST /payouts/{id}/reverse``."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Described(min_length=1, max_length=500)]


class PayoutRunStarted(BaseModel):
    """A payout run that was started, or the one of its period that is under way."""

    period: str
    workflow_id: str
