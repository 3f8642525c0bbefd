"""What a tenant lets its users spend: policies as data, and every way a purchase is refused.

(frameos-agent-runtime-flows, "Payment Pre-Authorization": vendor allow-list, cap, daily limit.)
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Described
from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field

from models.canonical import canonical_hash
from models.errors import PermissionDeniedError
from models.money import Currency, MinorUnits, format_amount
from models.table import Record, json_field, time_field

PLATFORM_VENDOR = "frameos"
"""The vendor of every agent of our own marketplace."""

ANY_VENDOR = "*"

Vendor = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9._-]{0,62})$")]


class CurrencyLimits(BaseModel):
    """Limits in one currency, in minor units; null: none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_per_transaction: MinorUnits | None = None
    daily_limit_per_user: MinorUnits | None = None
    """Sum of what a user has held and spent in one UTC day."""


class PolicyRules(BaseModel):
    """A policy. A currency that has no limits here is not allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendors: Annotated[list[Vendor], Described(max_length=1000)]
    """Allowed vendors; ``*`` allows every one."""
    limits: Annotated[dict[Currency, CurrencyLimits], Described(max_length=200)]

    def snapshot_hash(self) -> bytes:
        """SHA-256 of the canonical rules: what a mandate commits to."""
        return canonical_hash(self.model_dump(mode="json"))

    def check(self, vendor: str, amount: int, currency: str) -> CurrencyLimits:
        """Return the currency's limits if vendor, currency and amount are within the policy.

        The daily limit is not judged here: it needs the user's day, under its lock.

        Raises:
            VendorRefusedError: The vendor is not on the list.
            CurrencyRefusedError: The currency is not in the policy.
            CapExceededError: The amount is above the cap per transaction.
        """
        if ANY_VENDOR not in self.vendors and vendor not in self.vendors:
            raise VendorRefusedError(vendor)
        limits = self.limits.get(currency)
        if limits is None:
            raise CurrencyRefusedError(currency, sorted(self.limits))
        if limits.cap_per_transaction is not None and amount > limits.cap_per_transaction:
            raise CapExceededError(amount, limits.cap_per_transaction, currency)
        return limits


DEFAULT_RULES = PolicyRules(
    vendors=[PLATFORM_VENDOR],
    limits={
        "INR": CurrencyLimits(cap_per_transaction=100_000, daily_limit_per_user=1_000_000),
        "USD": CurrencyLimits(cap_per_transaction=10_000, daily_limit_per_user=100_000),
        "EUR": CurrencyLimits(cap_per_transaction=10_000, daily_limit_per_user=100_000),
    },
)
"""The policy of a tenant that has not written one."""


class PurchaseRefusedError(PermissionDeniedError):
    """A purchase that a rule forbids; the intent is recorded as denied."""

    code = "PURCHASE_REFUSED"


class VendorRefusedError(PurchaseRefusedError):
    """The policy does not allow the vendor."""

    code = "POLICY_VENDOR_REFUSED"

    def __init__(self, vendor: str) -> None:
        super().__init__(
            f"The tenant's policy does not allow purchases from {vendor!r}; "
            "finance can add it to the policy's vendors.",
            details={"rule": "vendors", "vendor": vendor},
        )


class CurrencyRefusedError(PurchaseRefusedError):
    """The policy does not allow the currency."""

    code = "POLICY_CURRENCY_REFUSED"

    def __init__(self, currency: str, allowed: list[str]) -> None:
        super().__init__(
            f"The tenant's policy does not allow payments in {currency}; "
            f"allowed: {', '.join(allowed) or 'none'}.",
            details={"rule": "limits", "currency": currency, "allowed": allowed},
        )


class CapExceededError(PurchaseRefusedError):
    """The amount is above the policy's cap per transaction."""

    code = "POLICY_CAP_EXCEEDED"

    def __init__(self, amount: int, cap: int, currency: str) -> None:
        super().__init__(
            f"{format_amount(amount, currency)} is above the tenant's cap of {format_amount(cap, currency)} "
            "per transaction; finance can raise it in the policy.",
            details={"rule": "cap_per_transaction", "amount": amount, "cap": cap, "currency": currency},
        )


class DailyLimitExceededError(PurchaseRefusedError):
    """The user's day would go over the policy's daily limit."""

    code = "POLICY_DAILY_LIMIT_EXCEEDED"

    def __init__(self, amount: int, spent: int, limit: int, currency: str) -> None:
        super().__init__(
            f"{format_amount(amount, currency)} more would exceed the daily limit of "
            f"{format_amount(limit, currency)} per user; {format_amount(spent, currency)} are held or spent "
            "today (UTC). Wait for the next day or ask finance to raise the limit.",
            details={
                "rule": "daily_limit_per_user",
                "amount": amount,
                "spent": spent,
                "limit": limit,
                "currency": currency,
            },
        )


class CostCapExceededError(PurchaseRefusedError):
    """The price is above the cap that the caller gave with the request."""

    code = "COST_CAP_EXCEEDED"

    def __init__(self, amount: int, cap: int, currency: str) -> None:
        super().__init__(
            f"The price is {format_amount(amount, currency)}, above your own cap of "
            f"{format_amount(cap, currency)}; raise the cap or choose another agent.",
            details={"rule": "cost_cap", "amount": amount, "cap": cap, "currency": currency},
        )


class CounterScope(StrEnum):
    """Whose spending a counter counts."""

    USER = "user"


class CounterPeriod(StrEnum):
    """Over what time."""

    DAY = "day"


class PaymentPolicy(Record, table=True):
    """One revision of a tenant's policy. Revisions are only added; the highest is in force."""

    __tablename__ = "payment_policies"
    __table_args__ = (UniqueConstraint("tenant_id", "revision"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    revision: int
    rules: dict[str, Any] = json_field()
    rules_hash: bytes = Field(sa_type=LargeBinary)
    created_by: str | None = None
    created_at: datetime = time_field()


class SpendingCounter(Record, table=True):
    """What is held or spent in one period, so that a limit is exact: the row is locked to add to it."""

    __tablename__ = "spending_counters"
    __table_args__ = (CheckConstraint("spent >= 0", name="spent"),)

    tenant_id: str = Field(primary_key=True)
    scope: CounterScope = Field(primary_key=True, sa_type=Text)
    subject_id: str = Field(primary_key=True)
    period: CounterPeriod = Field(primary_key=True, sa_type=Text)
    starts_on: date = Field(primary_key=True)
    currency: str = Field(primary_key=True)
    spent: int = Field(default=0, sa_type=BigInteger)
