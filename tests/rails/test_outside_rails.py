"""What Stripe and Cashfree answer through a bad line: the truth, or unknown."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.rails.cashfree import minor_units, rupees
from models.canonical import canonical_json
from models.money import MAX_AMOUNT
from models.payout import PayoutInstruction
from models.rail import Declined, Settled, Unknown
from tests.rails.cashfree_books import CashfreeBooks
from tests.rails.hostile import FAULTS, Fault
from tests.rails.line import Line, insist


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_authorising_holds_once(line: Line, fault: Fault) -> None:
    line.server.faults = [fault]
    answer = await line.authorise(line.request())
    assert isinstance(answer, Settled)
    assert answer.amount == 5_000
    assert line.books.holds() == 1
    assert line.captured() == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_capturing_collects_once(line: Line, fault: Fault) -> None:
    await line.authorise(line.request())
    line.server.faults = [fault]
    answer = await line.capture(line.collect(4_000))
    assert isinstance(answer, Settled)
    assert answer.amount == 4_000
    assert line.captured() == [4_000]
    assert await line.rail.look_up(line.reference) == answer


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_voiding_gives_back_once(line: Line, fault: Fault) -> None:
    await line.authorise(line.request())
    line.server.faults = [fault]
    answers = [await line.rail.void(key="v", reference=line.reference) for _ in range(5)]
    assert isinstance(answers[-1], Settled)
    assert line.captured() == []
    assert isinstance(await line.capture(line.collect()), Declined)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_refunding_refunds_once(line: Line, fault: Fault) -> None:
    await line.authorise(line.request())
    await line.capture(line.collect())
    line.server.faults = [fault]
    answer = await insist(
        lambda: line.rail.look_up_refund(capture_reference=line.reference, reference="refund_1"),
        lambda: line.rail.refund(key="r", body=line.give_back("refund_1", 2_000)),
    )
    assert isinstance(answer, Settled)
    assert answer.amount == 2_000
    too_much = await line.rail.refund(key="r2", body=line.give_back("refund_2", 3_001))
    assert isinstance(too_much, Declined)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_paying_out_pays_once(line: Line, fault: Fault) -> None:
    instruction = PayoutInstruction(
        reference="po_1", amount=50_000, currency="INR", destination="dest_1", tenant_id="t", user_id="u"
    )
    body = canonical_json(instruction.model_dump(mode="json"))
    line.server.faults = [fault]
    for _ in range(6):
        answer = await line.rail.look_up_payout("po_1")
        if isinstance(answer, Unknown) and answer.not_found:
            answer = await line.rail.pay_out(key="po_1", body=body)
    if isinstance(line.books, CashfreeBooks):
        assert isinstance(await line.rail.look_up_payout("po_1"), Unknown), "RECEIVED is not paid"
        line.books.transfers["po_1"]["status"] = "SUCCESS"
    answer = await line.rail.look_up_payout("po_1")
    assert isinstance(answer, Settled)
    assert answer.amount == 50_000
    assert line.books.payouts() == 1


async def test_a_transfer_that_failed_is_declined_and_one_that_came_back_too(line: Line) -> None:
    if isinstance(line.books, CashfreeBooks):
        line.books.transfers["po_1"] = {"status": "REVERSED", "status_code": "BENE_BANK_DECLINED"}
    else:
        line.books.moves["mv_0"] = {
            "id": "mv_0",
            "amount": 1,
            "reversed": True,
            "transfer_group": "po_1",
            "metadata": {"reference": "po_1"},
        }
    assert isinstance(await line.rail.look_up_payout("po_1"), Declined)


async def test_a_refused_card_is_declined_and_stays_declined(line: Line) -> None:
    body = line.request(method="pm_declined")
    assert isinstance(await line.authorise(body), Declined)
    assert isinstance(await line.rail.look_up_authorisation(line.reference), Declined)


async def test_capturing_more_than_is_held_is_declined_and_nothing_is_collected(line: Line) -> None:
    await line.authorise(line.request())
    assert isinstance(await line.capture(line.collect(5_001)), Declined)
    assert line.captured() == []


async def test_a_void_after_a_capture_is_declined(line: Line) -> None:
    await line.authorise(line.request())
    await line.capture(line.collect())
    assert isinstance(await line.rail.void(key="v", reference=line.reference), Declined)


async def test_not_found_is_unknown_and_says_so(line: Line) -> None:
    for answer in (
        await line.rail.look_up_authorisation(line.reference),
        await line.rail.look_up(line.reference),
        await line.rail.look_up_payout("po_1"),
    ):
        assert isinstance(answer, Unknown)
        assert answer.not_found


async def test_a_rail_that_is_away_is_unknown(line: Line) -> None:
    line.server.faults = ["fail before"]
    answer = await line.rail.authorise(key="a", body=line.request())
    assert isinstance(answer, Unknown)
    assert not answer.not_found


@pytest.mark.parametrize("seed", range(6))
async def test_any_mix_of_faults_collects_once(line: Line, seed: int) -> None:
    chance = random.Random(seed)
    line.server.faults = [chance.choice(FAULTS) for _ in range(6)]
    assert isinstance(await line.authorise(line.request()), Settled)
    assert isinstance(await line.capture(line.collect()), Settled)
    assert line.captured() == [5_000]


@given(st.integers(0, MAX_AMOUNT), st.sampled_from(["INR", "JPY", "KWD"]))
def test_amounts_survive_the_way_to_rupees_and_back(amount: int, currency: str) -> None:
    assert minor_units(Decimal(rupees(amount, currency)), currency) == amount


@pytest.mark.parametrize("value", [0.5, True, "0.50", None, Decimal("0.505"), Decimal(-1), Decimal("NaN")])
def test_an_amount_that_is_not_exact_is_not_read(value: object) -> None:
    assert minor_units(value, "INR") is None
