"""Policies: every rule refuses with its own code, denied purchases are kept, limits are exact."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from activities.purchase import record_denied_intent
from activities.records.policies import PolicyRevisionError, current_policy, replace_policy
from models.errors import PlatformError
from models.ledger import AccountFloorError
from models.payment import ReserveRequest
from models.policy import CurrencyLimits, DailyLimitExceededError, PolicyRules
from tests.payment.shop import Shop, ledger_faults


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
