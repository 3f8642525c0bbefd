"""Which rail a purchase takes: by amount, currency and what the payer has, as finance wrote it down."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from activities.records.database import Database
from activities.records.routing import current_routing, replace_routing
from models.money import MAX_AMOUNT
from models.rail import RailName
from models.routing import (
    DEFAULT_ROUTING,
    PayerMeans,
    Route,
    RouteCondition,
    RoutingChangedError,
    RoutingRules,
)

EVERY = frozenset({RailName.STRIPE, RailName.CASHFREE, RailName.X402})


def chosen(
    amount: int, currency: str = "INR", *, usable: frozenset[RailName] = EVERY, funded: bool = False
) -> str:
    means = PayerMeans(usable=usable, wallet_covers=funded)
    return DEFAULT_ROUTING.choose(amount, currency, means)


@pytest.mark.parametrize(
    ("amount", "currency", "rail"),
    [
        (0, "INR", "free"),
        (1, "INR", "x402"),
        (200, "INR", "x402"),
        (201, "INR", "cashfree"),
        (200, "USD", "x402"),
        (201, "USD", "stripe"),
        (MAX_AMOUNT, "JPY", "stripe"),
    ],
)
def test_the_default_is_the_documents_decision_tree(amount: int, currency: str, rail: str) -> None:
    assert chosen(amount, currency) == rail


def test_a_funded_wallet_is_spent_first() -> None:
    assert {chosen(amount, funded=True) for amount in (1, 200, 201, 10_000)} == {"wallet"}


def test_the_wallet_is_taken_where_no_other_rail_can_be() -> None:
    assert chosen(5, usable=frozenset()) == "wallet"
    assert chosen(500, usable=frozenset({RailName.X402})) == "wallet"
    assert chosen(500, usable=frozenset({RailName.STRIPE})) == "stripe"
    assert chosen(500, "USD", usable=frozenset({RailName.CASHFREE})) == "wallet"


@given(
    st.integers(0, MAX_AMOUNT),
    st.sampled_from(["INR", "USD", "JPY"]),
    st.frozensets(st.sampled_from(sorted(EVERY))),
    st.booleans(),
)
def test_a_rail_that_the_payer_cannot_use_is_never_chosen(
    amount: int, currency: str, usable: frozenset[RailName], funded: bool
) -> None:
    rail = chosen(amount, currency, usable=usable, funded=funded)
    assert (rail == "free") == (amount == 0)
    assert rail in usable | {"wallet", "free"}


@pytest.mark.parametrize(
    "route",
    [
        {"rail": "free"},
        {"rail": "stripe", "when": "funded"},
        {"rail": "stripe", "minimum": 10, "maximum": 9},
        {"rail": "stripe", "minimum": 0},
        {"rail": "stripe", "minimum": 1.0},
        {"rail": "stripe", "maximum": 2**53},
        {"rail": "stripe", "currencies": ["XXX"]},
        {"rail": "paypal"},
        {"rail": "stripe", "unknown": 1},
    ],
)
def test_a_route_that_makes_no_sense_is_refused(route: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RoutingRules.model_validate({"routes": [route]})
    with pytest.raises(ValidationError):
        RoutingRules(routes=[])


async def test_two_edits_of_the_routing_at_once_do_not_overwrite_each_other(store: Database) -> None:
    async with store.platform() as connection:
        before = await current_routing(connection)

    async def edit() -> int:
        async with store.platform() as connection:
            rules = RoutingRules(routes=[Route(rail=RailName.WALLET, when=RouteCondition.USABLE)])
            return (await replace_routing(connection, rules, changed_by="finance")).revision

    results = await asyncio.gather(*(edit() for _ in range(3)), return_exceptions=True)
    revisions = [each for each in results if isinstance(each, int)]
    assert all(isinstance(each, int | RoutingChangedError) for each in results)
    assert len(set(revisions)) == len(revisions) >= 1
    async with store.platform() as connection:
        await replace_routing(connection, before.rules, changed_by="finance")
        assert (await current_routing(connection)).rules == before.rules
