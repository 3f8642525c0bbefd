"""Policies: every rule refuses with its own code, denied purchases are kept, limits are exact."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from activities.purchase import record_denied_intent
from activities.records.policies import PolicyRevisionError, current_policy, replace_policy
from models.errors import PlatformError
from models.ledger import AccountFloorError
from models.payment import ReserveRequest
from models.policy import (
    ApprovalRequiredError,
    CurrencyLimits,
    DailyLimitExceededError,
    OutsideHoursError,
    PolicyRules,
    SpendingHours,
    Weekday,
)
from tests.payment.shop import Shop, ledger_faults

WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vendor": "elsewhere"}, "POLICY_VENDOR_REFUSED"),
        ({"currency": "JPY"}, "POLICY_CURRENCY_REFUSED"),
        ({"amount": 101}, "POLICY_CAP_EXCEEDED"),
        ({"amount": 100}, "POLICY_DAILY_LIMIT_EXCEEDED"),
        ({"amount": 50, "cost_cap": 49}, "COST_CAP_EXCEEDED"),
        ({"amount": 51}, "INSUFFICIENT_FUNDS"),
    ],
)
async def test_each_rule_refuses_with_its_own_code(shop: Shop, changes: dict[str, Any], code: str) -> None:
    await shop.fund(50)
    await shop.rules(cap_per_transaction=100, daily_limit_per_user=90)
    request = shop.request(**changes)
    with pytest.raises(PlatformError) as refusal:
        await shop.reserve(request)
    assert refusal.value.code == code
    for _ in range(2):
        async with shop.store.platform() as connection:
            await record_denied_intent(connection, request, refusal.value)
    [intent] = await shop.rows("purchase_intents")
    assert (intent["status"], intent["denial_code"]) == ("denied", code)
    assert (await shop.wallet(), await shop.spent_today()) == (50, 0)
    assert await shop.rows("payment_holds") == []
    assert await shop.rows("runs") == []


async def test_a_denied_execution_may_be_bought_later(shop: Shop) -> None:
    request = shop.request(50)
    with pytest.raises(AccountFloorError) as refusal:
        await shop.reserve(request)
    async with shop.store.platform() as connection:
        await record_denied_intent(connection, request, refusal.value)
    await shop.fund(50)
    assert (await shop.reserve(request)).amount == 50


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1.0},
        {"amount": -1},
        {"amount": 2**53},
        {"amount": True},
        {"amount": "50"},
        {"currency": "XXX"},
        {"currency": "inr"},
        {"cost_cap": 0.5},
        {"unknown": 1},
        {"vendor": "a b"},
    ],
)
def test_a_malformed_purchase_is_refused(shop: Shop, change: dict[str, Any]) -> None:
    facts = shop.request(50).model_dump() | change
    with pytest.raises(ValidationError):
        ReserveRequest.model_validate(facts)


async def test_eight_purchases_at_once_never_pass_one_daily_limit(shop: Shop) -> None:
    await shop.fund(10_000)
    await shop.rules(daily_limit_per_user=250)
    results = await asyncio.gather(
        *(shop.reserve(shop.request(50)) for _ in range(8)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 3
    assert all(isinstance(each, DailyLimitExceededError) for each in refused)
    assert (await shop.spent_today(), await shop.held()) == (250, 250)


async def test_eight_purchases_at_once_never_overdraw_one_wallet(shop: Shop) -> None:
    await shop.fund(170)
    results = await asyncio.gather(
        *(shop.reserve(shop.request(50)) for _ in range(8)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 5
    assert all(isinstance(each, AccountFloorError) for each in refused)
    assert (await shop.wallet(), await shop.held(), await shop.spent_today()) == (20, 150, 150)
    assert await ledger_faults(shop.store) == []


async def test_what_was_released_no_longer_counts_against_the_day(shop: Shop) -> None:
    await shop.fund(1000)
    await shop.rules(daily_limit_per_user=50)
    request = shop.request(50)
    await shop.reserve(request)
    with pytest.raises(DailyLimitExceededError):
        await shop.reserve(shop.request(1))
    await shop.release(request.execution_id)
    assert (await shop.reserve(shop.request(50))).amount == 50


async def test_one_users_spending_does_not_count_for_another(shop: Shop) -> None:
    await shop.fund(100)
    await shop.rules(daily_limit_per_user=50)
    colleague = Shop(shop.store, shop.signer, shop.rails, tenant_id=shop.tenant_id)
    await colleague.fund(100)
    await shop.reserve(shop.request(50))
    assert (await colleague.reserve(colleague.request(50))).amount == 50


async def test_a_policy_edited_between_purchase_and_settlement_is_obeyed(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    await shop.rules(cap_per_transaction=40)
    with pytest.raises(PlatformError) as refusal:
        await shop.settle(execution_id)
    assert refusal.value.code == "POLICY_CAP_EXCEEDED"
    assert (await shop.release(execution_id)).released
    assert await shop.wallet() == 100


async def test_an_edit_that_still_allows_the_purchase_does_not_hinder_it(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    await shop.rules(cap_per_transaction=60)
    assert (await shop.settle(execution_id)).amount == 50


SCOPES = ("user", "agent", "tenant")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("period", "code"),
    [("daily", "POLICY_DAILY_LIMIT_EXCEEDED"), ("monthly", "POLICY_MONTHLY_LIMIT_EXCEEDED")],
)
async def test_eight_purchases_at_once_never_pass_any_limit(
    shop: Shop, scope: str, period: str, code: str
) -> None:
    await shop.fund(10_000)
    await shop.rules(**{f"{period}_limit_per_{scope}": 250})
    results = await asyncio.gather(
        *(shop.reserve(shop.request(50)) for _ in range(8)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert [each.code for each in refused if isinstance(each, PlatformError)] == [code] * 3
    assert all(
        isinstance(each, PlatformError) and each.details["rule"] == f"{period}_limit_per_{scope}"
        for each in refused
    )
    assert set((await shop.counters()).values()) == {250}


async def test_limits_of_a_tenant_and_an_agent_count_every_user(shop: Shop) -> None:
    colleague = Shop(shop.store, shop.signer, shop.rails, tenant_id=shop.tenant_id, agent_id=shop.agent_id)
    await shop.fund(100)
    await colleague.fund(100)
    for rule, code in (
        ("daily_limit_per_tenant", "POLICY_DAILY_LIMIT_EXCEEDED"),
        ("monthly_limit_per_agent", "POLICY_MONTHLY_LIMIT_EXCEEDED"),
    ):
        await shop.rules(**{rule: 80})
        bought = shop.request(50)
        await shop.reserve(bought)
        with pytest.raises(PlatformError) as refusal:
            await colleague.reserve(colleague.request(50))
        assert refusal.value.code == code
        await shop.release(bought.execution_id)


async def test_purchases_of_different_agents_and_users_of_a_tenant_never_lock_each_other_out(
    shop: Shop,
) -> None:
    buyers = [Shop(shop.store, shop.signer, shop.rails, tenant_id=shop.tenant_id) for _ in range(4)]
    for buyer in buyers:
        await buyer.fund(500)

    async def buy_and_return(buyer: Shop) -> None:
        for _ in range(5):
            request = buyer.request(50)
            await buyer.reserve(request)
            await buyer.release(request.execution_id)

    await asyncio.gather(*map(buy_and_return, buyers))
    assert set((await shop.counters()).values()) == {0}


async def test_what_is_settled_for_less_counts_for_less_in_every_sum(shop: Shop) -> None:
    await shop.fund(100)
    await shop.settle(await shop.executed(50), amount=20)
    assert set((await shop.counters()).values()) == {20}


async def test_a_purchase_above_the_threshold_wants_an_approval(shop: Shop) -> None:
    await shop.fund(100)
    await shop.rules(approval_above=40)
    assert (await shop.reserve(shop.request(40))).amount == 40
    with pytest.raises(ApprovalRequiredError) as refusal:
        await shop.reserve(shop.request(41))
    assert refusal.value.code == "POLICY_APPROVAL_REQUIRED"


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ({"approval_above": 49}, "POLICY_APPROVAL_REQUIRED"),
        ({"daily_limit_per_user": 49}, "POLICY_DAILY_LIMIT_EXCEEDED"),
        ({"daily_limit_per_tenant": 0}, "POLICY_DAILY_LIMIT_EXCEEDED"),
        ({"monthly_limit_per_agent": 49}, "POLICY_MONTHLY_LIMIT_EXCEEDED"),
    ],
)
async def test_every_rule_edited_between_purchase_and_settlement_is_obeyed(
    shop: Shop, edit: dict[str, int], code: str
) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    await shop.rules(**edit)
    with pytest.raises(PlatformError) as refusal:
        await shop.settle(execution_id)
    assert refusal.value.code == code
    await shop.release(execution_id)
    assert (await shop.wallet(), set((await shop.counters()).values())) == (100, {0})


async def test_a_vendor_or_currency_struck_off_between_purchase_and_settlement_is_not_paid(
    shop: Shop,
) -> None:
    await shop.fund(100)
    for rules, code in (
        (PolicyRules(vendors=["other"], limits={"INR": CurrencyLimits()}), "POLICY_VENDOR_REFUSED"),
        (PolicyRules(vendors=["frameos"], limits={"USD": CurrencyLimits()}), "POLICY_CURRENCY_REFUSED"),
    ):
        await shop.rules()
        execution_id = await shop.executed(50)
        await shop.put(rules)
        with pytest.raises(PlatformError) as refusal:
            await shop.settle(execution_id)
        assert refusal.value.code == code
        await shop.release(execution_id)


def within(*hours: SpendingHours) -> PolicyRules:
    return PolicyRules(vendors=["frameos"], limits={"INR": CurrencyLimits()}, hours=list(hours))


def never() -> SpendingHours:
    """A window that is never now: one minute, two days from now."""
    day = WEEKDAYS[(datetime.now(UTC).weekday() + 2) % 7]
    return SpendingHours(days=[day], opens="12:00", closes="12:01")


async def test_nothing_is_bought_outside_of_the_hours_but_what_was_bought_is_paid(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    await shop.put(within(never()))
    with pytest.raises(OutsideHoursError) as refusal:
        await shop.reserve(shop.request(50))
    assert refusal.value.code == "POLICY_OUTSIDE_HOURS"
    assert (await shop.settle(execution_id)).amount == 50
    await shop.put(within(never(), SpendingHours(days=list(WEEKDAYS), opens="00:00", closes="24:00")))
    assert (await shop.reserve(shop.request(50))).amount == 50


@pytest.mark.parametrize(
    ("moment", "admitted"),
    [
        ("2026-11-20T09:00+05:30", True),
        ("2026-11-20T08:59+05:30", False),
        ("2026-11-20T17:59+05:30", True),
        ("2026-11-20T18:00+05:30", False),
        ("2026-11-20T03:30+00:00", True),
        ("2026-11-21T12:00+05:30", False),
    ],
)
def test_hours_are_those_of_the_places_clocks(moment: str, admitted: bool) -> None:
    office = SpendingHours(
        days=["mon", "tue", "wed", "thu", "fri"], opens="09:00", closes="18:00", time_zone="Asia/Kolkata"
    )
    assert office.admits(datetime.fromisoformat(moment)) is admitted


@pytest.mark.parametrize(
    ("moment", "admitted"),
    [
        ("2026-11-20T22:00+00:00", True),
        ("2026-11-21T05:59+00:00", True),
        ("2026-11-21T06:00+00:00", False),
        ("2026-11-21T22:30+00:00", False),
        ("2026-11-20T05:00+00:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_opens(moment: str, admitted: bool) -> None:
    night = SpendingHours(days=["fri"], opens="22:00", closes="06:00")
    assert night.admits(datetime.fromisoformat(moment)) is admitted


@pytest.mark.parametrize(("month", "expected"), [(3, False), (7, True)])
def test_hours_follow_the_summer_time_of_the_place(month: int, expected: bool) -> None:
    berlin = SpendingHours(days=list(WEEKDAYS), opens="09:00", closes="10:00", time_zone="Europe/Berlin")
    assert berlin.admits(datetime(2026, month, 10, 7, 30, tzinfo=UTC)) is expected


@pytest.mark.parametrize(
    "change",
    [
        {"time_zone": "Mars/Olympus"},
        {"opens": "9:00"},
        {"opens": "24:01"},
        {"closes": 18},
        {"days": []},
        {"days": ["monday"]},
        {"unknown": 1},
    ],
)
def test_malformed_hours_are_refused(change: dict[str, Any]) -> None:
    facts: dict[str, Any] = {"days": ["mon"], "opens": "09:00", "closes": "18:00"} | change
    with pytest.raises(ValidationError):
        SpendingHours.model_validate(facts)


async def test_two_edits_at_once_do_not_overwrite_each_other(shop: Shop) -> None:
    rules = PolicyRules(vendors=["*"], limits={"INR": CurrencyLimits()})

    async def edit() -> int:
        async with shop.store.tenant(shop.tenant_id) as connection:
            return (await replace_policy(connection, shop.tenant_id, rules, changed_by="u")).revision

    results = await asyncio.gather(*(edit() for _ in range(4)), return_exceptions=True)
    revisions = [result for result in results if isinstance(result, int)]
    assert len(set(revisions)) == len(revisions)
    assert all(isinstance(result, int | PolicyRevisionError) for result in results)
    async with shop.store.tenant(shop.tenant_id) as connection:
        assert (await current_policy(connection, shop.tenant_id)).revision == max(revisions)
