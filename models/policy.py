"""What a tenant lets its users spend: policies as data, and every way a purchase is refused.

(frameos-agent-runtime-flows, "Payment Pre-Authorization": vendor allow-list, cap, daily limit; the further
rules are those that companies set for people who spend on their behalf.)
"""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator
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


class CounterScope(StrEnum):
    """Whose spending a counter counts, in the order in which counters are locked."""

    AGENT = "agent"
    """What the tenant's users spend on one agent."""
    TENANT = "tenant"
    USER = "user"


class CounterPeriod(StrEnum):
    """Over what time: days and months of UTC."""

    DAY = "day"
    MONTH = "month"

    def starts(self, day: date) -> date:
        """Return the first day of the period that ``day`` is in."""
        return day if self is CounterPeriod.DAY else day.replace(day=1)


class CurrencyLimits(BaseModel):
    """Limits in one currency, in minor units; null: none. A sum counts what is held and spent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_per_transaction: MinorUnits | None = None
    approval_above: MinorUnits | None = None
    """A purchase of more needs a person's approval first."""
    daily_limit_per_user: MinorUnits | None = None
    daily_limit_per_agent: MinorUnits | None = None
    daily_limit_per_tenant: MinorUnits | None = None
    monthly_limit_per_user: MinorUnits | None = None
    monthly_limit_per_agent: MinorUnits | None = None
    monthly_limit_per_tenant: MinorUnits | None = None

    def limit_of(self, scope: CounterScope, period: CounterPeriod) -> tuple[str, int | None]:
        """Return the rule for a sum, by its name, and its limit."""
        per_period: dict[CounterPeriod, dict[CounterScope, int | None]] = {
            CounterPeriod.DAY: {
                CounterScope.USER: self.daily_limit_per_user,
                CounterScope.AGENT: self.daily_limit_per_agent,
                CounterScope.TENANT: self.daily_limit_per_tenant,
            },
            CounterPeriod.MONTH: {
                CounterScope.USER: self.monthly_limit_per_user,
                CounterScope.AGENT: self.monthly_limit_per_agent,
                CounterScope.TENANT: self.monthly_limit_per_tenant,
            },
        }
        return f"{_ADVERB[period]}_limit_per_{scope}", per_period[period][scope]

    def check_sum(
        self, scope: CounterScope, period: CounterPeriod, *, spent: int, amount: int, currency: str
    ) -> None:
        """Refuse when a sum, ``amount`` included, is over its limit.

        Args:
            scope: Whose sum.
            period: Over what time.
            spent: The sum, in minor units, with ``amount`` in it.
            amount: Of the purchase that is judged.
            currency: Of all three.

        Raises:
            DailyLimitExceededError, MonthlyLimitExceededError: Naming the rule.
        """
        rule, limit = self.limit_of(scope, period)
        if limit is not None and spent > limit:
            refusal = DailyLimitExceededError if period is CounterPeriod.DAY else MonthlyLimitExceededError
            raise refusal(rule, amount=amount, spent=spent - amount, limit=limit, currency=currency)


_ADVERB = {CounterPeriod.DAY: "daily", CounterPeriod.MONTH: "monthly"}

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

TimeOfDay = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class SpendingHours(BaseModel):
    """A window of the week in which purchases are allowed, by the clocks of one place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[list[Weekday], Described(min_length=1, max_length=7)]
    """On which days it opens."""
    opens: TimeOfDay
    closes: TimeOfDay
    """Exclusive. At or before ``opens``: on the next day."""
    time_zone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    """A name of the IANA database, such as Asia/Kolkata."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("no time zone of the IANA database")
        return value

    def admits(self, moment: datetime) -> bool:
        """Tell whether ``moment`` (with a zone) is inside the window, by the wall clock of its place."""
        local = moment.astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None)
        for opened in (local.date(), local.date() - timedelta(days=1)):
            if _WEEKDAYS[opened.weekday()] not in self.days:
                continue
            midnight = datetime.combine(opened, datetime.min.time())
            opens, closes = midnight + _offset(self.opens), midnight + _offset(self.closes)
            if closes <= opens:
                closes += timedelta(days=1)
            if opens <= local < closes:
                return True
        return False


def _offset(time_of_day: str) -> timedelta:
    hours, minutes = time_of_day.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


class PolicyRules(BaseModel):
    """A policy. A currency that has no limits here is not allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendors: Annotated[list[Vendor], Described(max_length=1000)]
    """Allowed vendors; ``*`` allows every one."""
    limits: Annotated[dict[Currency, CurrencyLimits], Described(max_length=200)]
    hours: Annotated[list[SpendingHours], Described(min_length=1, max_length=50)] | None = None
    """When purchases are allowed: inside any of these; null: always. A run that was bought in time is
    collected whatever the time."""

    def snapshot_hash(self) -> bytes:
        """SHA-256 of the canonical rules: what a mandate commits to."""
        return canonical_hash(self.model_dump(mode="json"))

    def check(self, vendor: str, amount: int, currency: str) -> CurrencyLimits:
        """Return the currency's limits if vendor, currency and amount are within the policy.

        Sums are not judged here: they need their counters, under their locks.

        Raises:
            VendorRefusedError: The vendor is not on the list.
            CurrencyRefusedError: The currency is not in the policy.
            CapExceededError: The amount is above the cap per transaction.
            ApprovalRequiredError: The amount needs a person's approval.
        """
        if ANY_VENDOR not in self.vendors and vendor not in self.vendors:
            raise VendorRefusedError(vendor)
        limits = self.limits.get(currency)
        if limits is None:
            raise CurrencyRefusedError(currency, sorted(self.limits))
        if limits.cap_per_transaction is not None and amount > limits.cap_per_transaction:
            raise CapExceededError(amount, limits.cap_per_transaction, currency)
        if limits.approval_above is not None and amount > limits.approval_above:
            raise ApprovalRequiredError(amount, limits.approval_above, currency)
        return limits

    def check_time(self, moment: datetime) -> None:
        """Refuse a purchase outside of the hours.

        Raises:
            OutsideHoursError: No window admits ``moment``.
        """
        if self.hours is not None and not any(window.admits(moment) for window in self.hours):
            raise OutsideHoursError(self.hours)


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


class ApprovalRequiredError(PurchaseRefusedError):
    """The amount needs a person's approval, and none was given."""

    code = "POLICY_APPROVAL_REQUIRED"

    def __init__(self, amount: int, threshold: int, currency: str) -> None:
        super().__init__(
            f"{format_amount(amount, currency)} is above {format_amount(threshold, currency)}, from where on "
            "the tenant's policy wants a person's approval. Ask finance to buy it or to raise the threshold.",
            details={
                "rule": "approval_above",
                "amount": amount,
                "threshold": threshold,
                "currency": currency,
            },
        )


class OutsideHoursError(PurchaseRefusedError):
    """Nobody may buy at this time."""

    code = "POLICY_OUTSIDE_HOURS"

    def __init__(self, hours: list[SpendingHours]) -> None:
        windows = "; ".join(
            f"{', '.join(each.days)} {each.opens} to {each.closes} {each.time_zone}" for each in hours[:5]
        )
        super().__init__(
            f"The tenant's policy allows purchases at these times only: {windows}. Repeat it then.",
            details={"rule": "hours", "hours": [each.model_dump() for each in hours[:5]]},
        )


class LimitExceededError(PurchaseRefusedError):
    """A sum would go over the policy's limit."""

    def __init__(self, rule: str, *, amount: int, spent: int, limit: int, currency: str) -> None:
        super().__init__(
            f"{format_amount(amount, currency)} more would exceed {rule.replace('_', ' ')}, "
            f"{format_amount(limit, currency)}; {format_amount(spent, currency)} are held or spent (UTC). "
            "Wait for the next period or ask finance to raise the limit.",
            details={"rule": rule, "amount": amount, "spent": spent, "limit": limit, "currency": currency},
        )


class DailyLimitExceededError(LimitExceededError):
    """The day of the user, agent or tenant would go over its limit."""

    code = "POLICY_DAILY_LIMIT_EXCEEDED"


class MonthlyLimitExceededError(LimitExceededError):
    """The month of the user, agent or tenant would go over its limit."""

    code = "POLICY_MONTHLY_LIMIT_EXCEEDED"


class CostCapExceededError(PurchaseRefusedError):
    """The price is above the cap that the caller gave with the request."""

    code = "COST_CAP_EXCEEDED"

    def __init__(self, amount: int, cap: int, currency: str) -> None:
        super().__init__(
            f"The price is {format_amount(amount, currency)}, above your own cap of "
            f"{format_amount(cap, currency)}; raise the cap or choose another agent.",
            details={"rule": "cost_cap", "amount": amount, "cap": cap, "currency": currency},
        )


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
