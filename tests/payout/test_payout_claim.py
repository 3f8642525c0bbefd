"""What is claimed, what stays and why: research 5, invariants 13 and 14."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.payout import PayoutRails, claim_again, reverse_payout
from activities.records.payout import statement_of
from models.payout import (
    KycStatus,
    PayoutNotRetryableError,
    PayoutNotReversibleError,
    PayoutStatus,
    RollOver,
    UnknownPeriodError,
    cut_off,
    period_of,
)
from models.rail import Declined, RailAnswer, Settled, Unknown
from tests.payment.shop import ledger_faults
from tests.payout.office import NEXT_PERIOD, Office


class Scripted:
    """A rail that loses answers on demand; what it paid is its own truth."""

    def __init__(self, *answers: str) -> None:
        from datetime import timedelta

        self.key_lifetime = timedelta(hours=24)
        self.answers = list(answers)
        self.paid: dict[str, int] = {}
        self.calls = 0

    async def pay_out(self, *, key: str, body: bytes) -> RailAnswer:
        from models.payout import PayoutInstruction

        self.calls += 1
        answer = self.answers.pop(0) if self.answers else "paid"
        if answer == "declined":
            return Declined(code="account_closed", message="The account is closed.")
        if answer == "lost_request":
            raise ConnectionError
        self.paid.setdefault(key, PayoutInstruction.model_validate_json(body).amount)
        if answer == "lost_answer":
            raise TimeoutError
        return Settled(provider_ref=f"ref-{key}", amount=self.paid[key])

    async def look_up_payout(self, reference: str) -> RailAnswer:
        if reference in self.paid:
            return Settled(provider_ref=f"ref-{reference}", amount=self.paid[reference])
        return Unknown(reason="not found")


async def test_the_minimum_is_inclusive(office: Office) -> None:
    developer = await office.developer(earned=50_000)
    row, reason = await developer.claim()
    assert row is not None
    assert (row.amount, reason) == (50_000, None)
    assert (await developer.payable(), await developer.in_transit()) == (0, 50_000)


async def test_what_is_below_the_minimum_rolls_over_with_its_reason(office: Office) -> None:
    developer = await office.developer(earned=49_999)
    assert await developer.claim() == (None, RollOver.BELOW_MINIMUM)
    assert await developer.payable() == 49_999
    async with office.store.tenant(developer.tenant_id) as connection:
        cursor = await connection.execute("SELECT period, reason, amount FROM payout_roll_overs")
        assert await cursor.fetchall() == [
            {"period": NEXT_PERIOD, "reason": "below_minimum", "amount": 49_999}
        ]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"kyc_status": KycStatus.REJECTED}, RollOver.KYC_NOT_VERIFIED),
        ({"held": True, "hold_reason": "dispute"}, RollOver.ON_HOLD),
    ],
)
async def test_finance_s_flags_keep_money_back(
    office: Office, flags: dict[str, object], reason: RollOver
) -> None:
    developer = await office.developer(earned=90_000)
    await developer.flag(**flags)
    assert await developer.claim() == (None, reason)


async def test_nothing_is_paid_to_an_account_nobody_verified(office: Office) -> None:
    developer = await office.developer(earned=90_000)
    await developer.register(verify=False, destination="bene-2")
    assert await developer.claim() == (None, RollOver.BENEFICIARY_NOT_VERIFIED)


async def test_the_application_cannot_verify_a_beneficiary(office: Office) -> None:
    developer = await office.developer()
    await developer.register(verify=False, destination="bene-2")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with office.store.tenant(developer.tenant_id) as connection:
            await connection.execute("UPDATE beneficiaries SET status = 'verified'")


async def test_a_refund_after_the_earning_is_netted(office: Office) -> None:
    developer = await office.developer(earned=120_000)
    await developer.earn(-20_000)
    row, _ = await developer.claim()
    assert row is not None
    assert row.amount == 100_000


async def test_a_debt_is_carried_over_and_netted_later(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    row, _ = await developer.claim("2030-W01")
    assert row is not None
    await developer.earn(-10_000)
    assert await developer.claim("2030-W02") == (None, RollOver.NEGATIVE_BALANCE)
    await developer.earn(70_000)
    later, _ = await developer.claim("2030-W03")
    assert later is not None
    assert later.amount == 60_000


async def test_what_has_not_matured_is_not_paid_and_not_lost(office: Office) -> None:
    developer = await office.developer(earned=80_000)
    present = period_of(datetime.now(UTC))
    assert await developer.claim(present) == (None, RollOver.BELOW_MINIMUM)
    assert await developer.claim(NEXT_PERIOD, maturity_days=7) == (None, RollOver.BELOW_MINIMUM)
    row, _ = await developer.claim(NEXT_PERIOD)
    assert row is not None


async def test_a_claim_of_last_week_is_not_paid_again_while_its_posting_matures(office: Office) -> None:
    developer = await office.developer(earned=80_000)
    await developer.claim("2030-W01")
    await developer.earn(1_000)
    assert await developer.claim("2030-W02", maturity_days=90) == (None, RollOver.BELOW_MINIMUM)


async def test_overlapping_runs_make_one_payout(office: Office) -> None:
    developers = [await office.developer(earned=60_000 + number) for number in range(6)]
    await asyncio.gather(*(office.run("2031-W05", size=2) for _ in range(4)))
    async with office.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT developer_id, amount FROM payouts WHERE period = '2031-W05' "
            "AND developer_id = ANY(%s) ORDER BY amount",
            [[each.user_id for each in developers]],
        )
        found = [(row["developer_id"], row["amount"]) for row in await cursor.fetchall()]
    assert found == [(each.user_id, 60_000 + number) for number, each in enumerate(developers)]
    assert await ledger_faults(office.store) == []


async def test_a_run_that_is_repeated_finds_what_was_not_sent(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    first = await office.run("2032-W05")
    again = await office.run("2032-W05")
    sent = {
        each.payout_id for shard in first for each in shard.payouts if each.tenant_id == developer.tenant_id
    }
    assert len(sent) == 1
    assert sent <= {each.payout_id for shard in again for each in shard.payouts}
    assert sum(shard.amounts.get("INR", 0) for shard in again) == 0


async def test_paid_revenue_names_its_payout(office: Office) -> None:
    developer = await office.developer()
    await developer.earn(30_000)
    await developer.earn(30_000)
    row, _ = await developer.claim()
    assert row is not None
    await developer.earn(7)
    assert await developer.revenue() == [
        (30_000, "in_transit", row.id),
        (30_000, "in_transit", row.id),
        (7, "pending", None),
    ]
    await office.open(row)
    assert (await office.send(row)).status is PayoutStatus.PAID
    assert [status for _, status, _ in await developer.revenue()] == ["paid_out", "paid_out", "pending"]
    assert await developer.in_transit() == 0


async def test_a_failed_payout_returns_its_amount_exactly_once(office: Office) -> None:
    developer = await office.developer(earned=70_000)
    row, _ = await developer.claim()
    assert row is not None
    await office.open(row)
    rails: PayoutRails = {"wallet": Scripted("declined")}
    for _ in range(3):
        assert (await office.send(row, rails)).status is PayoutStatus.FAILED
    assert (await developer.payable(), await developer.in_transit()) == (70_000, 0)
    assert [status for _, status, _ in await developer.revenue()] == ["pending"]
    # The run of the same period does not try by itself; finance does.
    assert await developer.claim() == (None, RollOver.FAILED_THIS_PERIOD)
    async with office.store.platform() as connection:
        again = await claim_again(connection, row.id, 0)
    assert (again.number, again.amount, again.period) == (2, 70_000, row.period)
    assert again.reference != row.reference
    with pytest.raises(PayoutNotRetryableError):
        async with office.store.platform() as connection:
            await claim_again(connection, row.id, 0)


async def test_a_lost_answer_is_looked_up_and_never_paid_twice(office: Office) -> None:
    developer = await office.developer(earned=70_000)
    row, _ = await developer.claim()
    assert row is not None
    await office.open(row)
    rail = Scripted("lost_answer")
    assert (await office.send(row, {"wallet": rail})).status is PayoutStatus.UNKNOWN
    assert (await office.send(row, {"wallet": rail})).status is PayoutStatus.PAID
    assert rail.paid == {row.reference: 70_000}
    assert rail.calls == 1


async def test_a_paid_payout_may_be_reversed_once(office: Office) -> None:
    developer = await office.developer(earned=70_000)
    row, _ = await developer.claim()
    assert row is not None
    with pytest.raises(PayoutNotReversibleError):
        async with office.store.platform() as connection:
            await reverse_payout(connection, row.id, "returned by the bank")
    await office.open(row)
    await office.send(row)
    for _ in range(2):
        async with office.store.platform() as connection:
            await reverse_payout(connection, row.id, "returned by the bank")
    assert await developer.payable() == 70_000
    with pytest.raises(psycopg.errors.CheckViolation):
        async with office.store.platform() as connection:
            await connection.execute("UPDATE payouts SET status = 'paid' WHERE id = %s", [row.id])
    assert await ledger_faults(office.store) == []


async def test_a_statement_re_adds_to_the_ledger(office: Office) -> None:
    developer = await office.developer(earned=100_000)
    await developer.earn(-5_000)
    row, _ = await developer.claim("2030-W01")
    assert row is not None
    async with office.store.tenant(developer.tenant_id) as connection:
        statement = await statement_of(connection, row)
    assert statement.model_dump() == {
        "opening": 0,
        "earned": 100_000,
        "refunded": -5_000,
        "paid_out": -95_000,
        "returned": 0,
        "closing": 0,
    }


EVENTS = st.lists(
    st.one_of(
        st.integers(1, 80_000).map(lambda amount: ("earn", amount)),
        st.integers(1, 30_000).map(lambda amount: ("refund", amount)),
        st.sampled_from(["paid", "declined", "lost_answer", "lost_request"]).map(lambda how: ("run", how)),
        st.just(("reverse", "")),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
async def test_whatever_happens_the_books_agree_with_the_rail(
    office: Office, events: list[tuple[str, int | str]]
) -> None:
    """Invariants 1, 13, 14: earned = payable + in transit + paid; the rail paid each reference once."""
    developer = await office.developer()
    rail, week, earned, reversals = Scripted(), 0, 0, 0
    rows = []
    for what, how in events:
        if what == "earn":
            await developer.earn(int(how))
            earned += int(how)
        elif what == "refund":
            await developer.earn(-int(how))
            earned -= int(how)
        elif what == "run" and await _has_account(developer.store, developer.account_id):
            week += 1
            rail.answers = [str(how)]
            row, _ = await developer.claim(f"2040-W{week:02}")
            if row is not None:
                rows.append(row)
                await office.open(row)
                await office.send(row, {"wallet": rail})
                assert (await office.send(row, {"wallet": rail})).status in ("paid", "failed")
        elif what == "reverse" and rows:
            async with office.store.platform() as connection:
                cursor = await connection.execute("SELECT status FROM payouts WHERE id = %s", [rows[-1].id])
                found = await cursor.fetchone()
                if found is not None and found["status"] == "paid":
                    await reverse_payout(connection, rows[-1].id, "returned")
                    reversals += rows[-1].amount
    if not await _has_account(developer.store, developer.account_id):
        return
    transit = await developer.in_transit() if rows else 0
    assert earned == await developer.payable() + transit + sum(rail.paid.values()) - reversals
    assert set(rail.paid) <= {row.reference for row in rows}
    assert all(row.amount >= 50_000 for row in rows)


async def _has_account(store: object, account_id: str) -> bool:
    from activities.records.database import Database

    assert isinstance(store, Database)
    async with store.platform() as connection:
        cursor = await connection.execute("SELECT FROM ledger_accounts WHERE id = %s", [account_id])
        return await cursor.fetchone() is not None


def test_a_period_is_the_iso_week_of_its_monday() -> None:
    assert period_of(datetime(2026, 11, 16, tzinfo=UTC)) == "2026-W47"
    assert period_of(datetime(2026, 11, 22, 23, 59, tzinfo=UTC)) == "2026-W47"
    assert period_of(datetime(2027, 1, 1, tzinfo=UTC)) == "2026-W53"
    assert cut_off("2026-W47") == datetime(2026, 11, 16, tzinfo=UTC)
    with pytest.raises(UnknownPeriodError):
        cut_off("2027-W53")
