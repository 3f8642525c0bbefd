"""Orchestrators are paid like developers, from an account of their own."""

from activities.records.ledger import find_account, post
from activities.records.payout import claim, single_account
from models.identifiers import new_identifier
from models.ledger import (
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.payout import EarnedAs, PayoutRow, PayoutStatus, payable_account
from tests.payment.shop import ledger_faults
from tests.payout.office import NEXT_PERIOD, Developer, Office


async def orchestrate(developer: Developer, amount: int) -> str:
    """Post an orchestrator's share; returns the account."""
    account = payable_account(developer.tenant_id, developer.user_id, "INR", EarnedAs.ORCHESTRATOR)
    transaction = NewTransaction(
        kind=TransactionKind.SETTLEMENT,
        reference=new_identifier("ledger_transaction"),
        tenant_id=developer.tenant_id,
        postings=[
            NewPosting(
                account=platform_account(AccountKind.RAIL_CLEARING, "INR", "test"),
                amount=-amount,
                purpose=PostingPurpose.CLEARING,
            ),
            NewPosting(account=account, amount=amount, purpose=PostingPurpose.ORCHESTRATOR_SHARE),
        ],
    )
    async with developer.store.platform() as connection:
        await post(connection, transaction)
    return account.id


async def claimed(developer: Developer, account_id: str) -> list[PayoutRow]:
    async with developer.store.platform() as connection:
        found = await single_account(connection, account_id)
        made, _ = await claim(connection, found, NEXT_PERIOD, 0)
    return made


async def test_somebody_who_earns_both_ways_gets_both_in_one_period(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    account_id = await orchestrate(developer, 70_000)
    own, _ = await developer.claim()
    [made] = await claimed(developer, account_id)
    assert own is not None
    assert (own.earned_as, own.amount) == (EarnedAs.DEVELOPER, 60_000)
    assert (made.earned_as, made.amount) == (EarnedAs.ORCHESTRATOR, 70_000)
    assert own.reference != made.reference
    assert await claimed(developer, account_id) == []
    for row in (own, made):
        await office.open(row)
        assert (await office.send(row)).status is PayoutStatus.PAID
    async with office.store.platform() as connection:
        assert (await find_account(connection, account_id)).balance == 0
    async with office.store.tenant(developer.tenant_id) as connection:
        cursor = await connection.execute("SELECT amount, status, payout_ref FROM orchestrator_revenue")
        [share] = await cursor.fetchall()
    assert (share["amount"], share["status"], share["payout_ref"]) == (70_000, "paid_out", made.id)
    assert await ledger_faults(office.store) == []


async def test_what_an_orchestrator_earned_below_the_minimum_stays(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    account_id = await orchestrate(developer, 49_999)
    assert await claimed(developer, account_id) == []
