"""Earnings say what became of every share, and add up."""

from datetime import UTC, datetime

from activities.records.earnings import earnings_of
from tests.payout.office import Office


async def test_earnings_tell_pending_from_in_transit_and_paid(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    paid, _ = await developer.claim("2071-W01")
    assert paid is not None
    await office.open(paid)
    await office.send(paid)
    await developer.earn(70_000)
    await developer.claim("2071-W02")
    await developer.earn(9)
    await developer.earn(-4)
    async with office.store.tenant(developer.tenant_id) as connection:
        summary = await earnings_of(connection, developer.user_id)
    (total,) = summary.totals
    assert total.model_dump() == {
        "currency": "INR",
        "executions": 3,
        "earned": 130_009,
        "refunded": -4,
        "pending": 9,
        "in_transit": 70_000,
        "paid": 60_000,
        "payable": 5,
    }
    assert [(each.agent_id, each.earned) for each in summary.agents] == [("agt_1", 130_009)]
    assert [(each.day, each.executions, each.refunded) for each in summary.days] == [
        (datetime.now(UTC).date(), 3, -4)
    ]


async def test_another_tenant_s_earnings_are_not_shown(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    async with office.store.tenant("tenant-of-somebody-else") as connection:
        summary = await earnings_of(connection, developer.user_id)
    assert (summary.totals, summary.agents, summary.days) == ([], [], [])
