"""A price held at an outside rail before anything runs: once, whatever the line does; then taken or freed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from activities.authorisation import record_authorisation, send_authorisation
from activities.rails.registry import open_rails
from activities.records.database import Database
from activities.signing import Signer
from models.ledger import AccountKind
from models.payment import (
    AuthorisationDeclinedError,
    AuthorisationUnknownError,
    HoldNotActiveError,
    ReleaseUnknownError,
    SettlementStatus,
)
from models.rail import AuthoriseRequest, Declined, RailName, Settled, Unknown
from tests.payment.shop import Shop, ledger_faults
from tests.rails.hostile import FAULTS, Fault
from tests.rails.line import Line, open_line

PRICE = 5_000


@pytest.fixture(params=["stripe", "cashfree"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with open_line(request.param) as opened:
        yield opened


@pytest.fixture
async def buyer(line: Line, store: Database, signer: Signer) -> Shop:
    """Somebody with a card and no wallet."""
    shop = Shop(store, signer, open_rails(store, [line.rail]), configured=frozenset({line.name}))
    await shop.pays_with(line.name)
    return shop


async def hold_of(shop: Shop) -> dict[str, Any]:
    [hold] = await shop.rows("payment_holds")
    return hold


async def asked(shop: Shop) -> str:
    """A purchase whose price the rail has yet to hold."""
    reservation = await shop.reserve(shop.request(PRICE))
    assert reservation.authorising
    return reservation.execution_id


async def insist(shop: Shop, execution_id: str) -> None:
    """As the workflow does: for as long as nobody knows."""
    for _ in range(30):
        try:
            await shop.authorise(execution_id)
        except AuthorisationUnknownError:
            continue
        return
    raise AssertionError(await hold_of(shop))


async def test_nothing_runs_and_nothing_is_collected_before_the_rail_has_answered(
    buyer: Shop, line: Line
) -> None:
    execution_id = await asked(buyer)
    assert (await hold_of(buyer))["status"] == "authorising"
    assert line.server.calls == []
    with pytest.raises(HoldNotActiveError):
        await buyer.mint(execution_id)
    with pytest.raises(ReleaseUnknownError):
        await buyer.release(execution_id)


async def test_what_is_asked_is_stored_with_its_key_before_it_is_sent(buyer: Shop, line: Line) -> None:
    await asked(buyer)
    hold = await hold_of(buyer)
    stored = AuthoriseRequest.model_validate_json(hold["authorise_body"])
    assert (stored.reference, stored.amount, stored.method) == (hold["id"], PRICE, "pm_card")
    assert len(hold["authorise_key"]) == 64
    for column in ("authorise_key", "authorise_body"):
        with pytest.raises(Exception, match="permission denied"):
            async with buyer.store.platform() as connection:
                await connection.execute(
                    f"UPDATE payment_holds SET {column} = NULL WHERE id = %s".encode(), [hold["id"]]
                )


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_authorising_holds_the_price_once(buyer: Shop, line: Line, fault: Fault) -> None:
    execution_id = await asked(buyer)
    line.server.faults = [fault]
    await insist(buyer, execution_id)
    assert ((await hold_of(buyer))["status"], line.books.holds()) == ("held", 1)
    again = await buyer.authorise(execution_id)
    assert again.rail == line.name
    assert line.books.holds() == 1
    assert (await buyer.events(execution_id))[-1] == "payment.held"


async def test_a_held_price_is_captured_when_the_run_has_executed(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    await insist(buyer, execution_id)
    await buyer.mint(execution_id)
    await buyer.execute(execution_id)
    outcome = await buyer.settle(execution_id)
    assert (outcome.status, outcome.amount) == (SettlementStatus.SETTLED, PRICE)
    assert len(line.books.captures) == 1
    assert await buyer.earned() == 3_500
    assert (await hold_of(buyer))["status"] == "captured"
    assert await ledger_faults(buyer.store) == []


async def test_a_held_price_is_given_back_when_the_run_fails(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    await insist(buyer, execution_id)
    assert (await buyer.release(execution_id)).released
    assert (await buyer.release(execution_id)).released
    assert ((await hold_of(buyer))["status"], line.books.captures) == ("released", [])
    assert await buyer.spent_today() == 0


async def test_a_declined_card_denies_the_purchase_and_leaves_nothing_behind(
    line: Line, store: Database, signer: Signer
) -> None:
    shop = Shop(store, signer, open_rails(store, [line.rail]), configured=frozenset({line.name}))
    await shop.pays_with(line.name, method="pm_declined")
    execution_id = await asked(shop)
    for _ in range(2):
        with pytest.raises(AuthorisationDeclinedError) as refusal:
            await insist(shop, execution_id)
        assert (refusal.value.code, refusal.value.http_status) == ("PAYMENT_METHOD_DECLINED", 402)
    [intent] = await shop.rows("purchase_intents")
    assert (intent["status"], intent["denial_code"]) == ("denied", "PAYMENT_METHOD_DECLINED")
    assert ((await hold_of(shop))["status"], await shop.spent_today()) == ("declined", 0)
    assert not (await shop.release(execution_id)).released


async def test_an_answer_is_sticky_whatever_comes_later(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    await insist(buyer, execution_id)
    for late in (Declined(code="late"), Unknown(reason="late"), Settled(provider_ref="other", amount=1)):
        async with buyer.store.platform() as connection:
            assert (await record_authorisation(connection, execution_id, late)).status == "held"
    assert await send_authorisation(buyer.store, buyer.rails, execution_id) is None


async def test_another_amount_than_was_asked_for_is_not_believed(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    async with buyer.store.platform() as connection:
        hold = await record_authorisation(
            connection, execution_id, Settled(provider_ref="x", amount=PRICE - 1)
        )
    assert hold.status == "authorising"
    assert "4999" in (hold.unknown_reason or "")


async def test_a_rail_that_is_away_leaves_the_purchase_open_until_it_answers(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    line.server.faults = ["fail before"]
    with pytest.raises(AuthorisationUnknownError):
        await buyer.authorise(execution_id)
    assert (await hold_of(buyer))["unknown_reason"]
    await insist(buyer, execution_id)
    assert (await hold_of(buyer))["status"] == "held"


async def sent_ago(shop: Shop, age: timedelta) -> None:
    """Let the first sending lie in the past."""
    async with shop.store.platform() as connection:
        await connection.execute(
            "UPDATE payment_holds SET first_sent_at = now() - %s WHERE tenant_id = %s", [age, shop.tenant_id]
        )


async def test_after_the_keys_lifetime_the_rail_is_only_asked_never_sent_to(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    await sent_ago(buyer, line.rail.key_lifetime + timedelta(minutes=1))
    with pytest.raises(AuthorisationUnknownError):
        await buyer.authorise(execution_id)
    assert line.server.calls == []


async def test_not_found_is_evidence_only_once_nothing_can_be_under_way(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    await sent_ago(buyer, line.rail.key_lifetime + timedelta(hours=2))
    with pytest.raises(AuthorisationDeclinedError, match="never_arrived"):
        await buyer.authorise(execution_id)
    assert line.server.calls == []


async def test_several_workers_at_once_hold_the_price_once(buyer: Shop, line: Line) -> None:
    execution_id = await asked(buyer)
    answers = await asyncio.gather(*(buyer.authorise(execution_id) for _ in range(4)), return_exceptions=True)
    assert all(not isinstance(each, AuthorisationDeclinedError) for each in answers)
    await insist(buyer, execution_id)
    assert line.books.holds() == 1


async def test_a_removed_method_is_not_charged(buyer: Shop, line: Line) -> None:
    async with buyer.store.platform() as connection:
        await connection.execute(
            "UPDATE payment_methods SET status = 'removed' WHERE tenant_id = %s", [buyer.tenant_id]
        )
    await buyer.fund(PRICE)
    assert (await buyer.reserve(buyer.request(PRICE))).rail is RailName.WALLET


async def test_a_funded_wallet_is_spent_before_the_card(buyer: Shop, line: Line) -> None:
    await buyer.fund(PRICE)
    first = await buyer.reserve(buyer.request(PRICE))
    second = await buyer.reserve(buyer.request(PRICE))
    assert (first.rail, second.rail) == (RailName.WALLET, line.name)
    assert await buyer.balance(AccountKind.USER_WALLET) == 0
