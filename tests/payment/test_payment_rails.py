"""The rails' own answers: settled, declined or unknown, and the same for the same question."""

import asyncio

import pytest

from activities.rails.free import FreeRail
from activities.rails.wallet import WalletRail
from models.canonical import canonical_json
from models.rail import Declined, RailRequest, Settled, Unknown
from tests.payment.shop import Shop


async def held(shop: Shop, amount: int = 50) -> RailRequest:
    """A hold at the wallet rail, and the request that captures all of it."""
    await shop.fund(200)
    reservation = await shop.reserve(shop.request(amount))
    assert reservation.hold_id is not None
    return RailRequest(
        reference=reservation.hold_id,
        amount=amount,
        currency="INR",
        tenant_id=shop.tenant_id,
        user_id=shop.user_id,
    )


def body(request: RailRequest, **changes: object) -> bytes:
    return canonical_json(request.model_copy(update=changes).model_dump(mode="json"))


async def test_capturing_again_is_settled_and_moves_money_once(shop: Shop) -> None:
    rail, request = WalletRail(shop.store), await held(shop)
    first = await rail.capture(key="k", body=body(request))
    assert first == Settled(provider_ref=f"wallet:{request.reference}", amount=50)
    again = await asyncio.gather(*(rail.capture(key="k", body=body(request)) for _ in range(4)))
    assert set(map(repr, again)) == {repr(first)}
    assert await rail.capture(key="other", body=body(request)) == first
    assert await rail.look_up(request.reference) == first
    assert (await shop.wallet(), await shop.held()) == (150, 0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": 51}, "amount_refused"),
        ({"amount": 0}, "amount_refused"),
        ({"currency": "USD"}, "amount_refused"),
        ({"reference": "hold_of_nobody"}, "hold_not_found"),
    ],
)
async def test_what_was_not_held_is_not_captured(shop: Shop, changes: dict[str, object], code: str) -> None:
    rail, request = WalletRail(shop.store), await held(shop)
    answer = await rail.capture(key="k", body=body(request, **changes))
    assert isinstance(answer, Declined)
    assert answer.code == code
    assert (await shop.wallet(), await shop.held()) == (150, 50)


async def test_the_same_key_with_another_body_is_declined(shop: Shop) -> None:
    rail, request = WalletRail(shop.store), await held(shop)
    await rail.capture(key="k", body=body(request))
    for key, code in (("k", "idempotency_mismatch"), ("other", "captured_otherwise")):
        answer = await rail.capture(key=key, body=body(request, amount=20))
        assert isinstance(answer, Declined)
        assert answer.code == code
    assert await shop.wallet() == 150


async def test_a_hold_is_resolved_once(shop: Shop) -> None:
    rail, first, second = WalletRail(shop.store), await held(shop), await held(shop)
    assert await rail.look_up(first.reference) == Unknown(reason="held, not captured yet")
    await rail.capture(key="k", body=body(first))
    assert isinstance(await rail.void(key="v", reference=first.reference), Declined)
    assert isinstance(await rail.void(key="v", reference=second.reference), Settled)
    assert isinstance(await rail.void(key="v", reference=second.reference), Settled)
    assert isinstance(await rail.capture(key="k2", body=body(second)), Declined)
    assert isinstance(await rail.look_up(second.reference), Declined)
    assert isinstance(await rail.void(key="v", reference="hold_of_nobody"), Declined)
    assert (await shop.wallet(), await shop.held()) == (350, 0)


async def test_capturing_and_voiding_at_once_does_one_of_the_two(shop: Shop) -> None:
    rail, request = WalletRail(shop.store), await held(shop)
    answers = await asyncio.gather(
        rail.capture(key="k", body=body(request)), rail.void(key="v", reference=request.reference)
    )
    assert [isinstance(answer, Settled) for answer in answers].count(True) == 1


async def test_the_free_rail_settles_zero_and_nothing_else(shop: Shop) -> None:
    request = RailRequest(reference="pi_x", amount=0, currency="INR", tenant_id="t", user_id="u")
    rail = FreeRail()
    assert await rail.capture(key="k", body=body(request)) == Settled(provider_ref="free:pi_x", amount=0)
    assert isinstance(await rail.capture(key="k", body=body(request, amount=1)), Declined)
    assert isinstance(await rail.look_up("pi_x"), Settled)
    assert isinstance(await rail.void(key="k", reference="pi_x"), Settled)
