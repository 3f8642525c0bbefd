"""A rail's statement against our records and the ledger: three ways, and each disagreement is a case."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from activities.rails.registry import Rails
from activities.rails.stripe import StripeRail
from activities.reconciliation import recheck_paid_payouts, reconcile_statement
from activities.records.money_health import money_health
from activities.records.reconciliation import list_cases
from activities.records.statements import platform_balances, statements_of
from models.payout import PayoutRow, PayoutStatus
from models.rail import RailName
from models.reconciliation import CaseKind, RailStatement, StatementEntry, StatementKind
from tests.payout.office import Developer, Office
from tests.rails.hostile import HostileServer
from tests.rails.stripe_books import StripeBooks


async def paid_over_stripe(office: Office, books: StripeBooks, url: str) -> tuple[Developer, PayoutRow]:
    developer = await office.developer(earned=60_000)
    await developer.register(rail="stripe")
    row, _ = await developer.claim()
    assert row is not None
    await office.open(row)
    rail = StripeRail(url, "sk_test")
    try:
        assert (await office.send(row, {"stripe": rail})).status is PayoutStatus.PAID
    finally:
        await rail.close()
    assert books.payouts() == 1
    return developer, row


def stated(books: StripeBooks, *, change: int = 0) -> RailStatement:
    """The statement of the day, as the rail writes it from its own books."""
    now = datetime.now(UTC)
    return RailStatement(
        rail=RailName.STRIPE,
        start=now - timedelta(hours=12),
        end=now + timedelta(hours=12),
        entries=[
            StatementEntry(
                kind=StatementKind.PAYOUT,
                reference=move["transfer_group"],
                amount=move["amount"] + change,
                currency="INR",
                moved_at=now,
            )
            for move in books.moves.values()
        ],
    )


async def kinds(office: Office, subject: str) -> set[CaseKind]:
    async with office.store.platform() as connection:
        found = await list_cases(connection, resolved=False)
    return {each.kind for each in found if each.subject_id == f"stripe:payout:{subject}"}


async def test_a_statement_that_agrees_opens_no_case_for_its_payout(office: Office) -> None:
    async with HostileServer(books := StripeBooks()) as server:
        _, row = await paid_over_stripe(office, books, server.url)
        await reconcile_statement(office.store, stated(books))
        await reconcile_statement(office.store, stated(books))
        assert await kinds(office, row.reference) == set()


async def test_another_amount_on_the_statement_is_a_case(office: Office) -> None:
    async with HostileServer(books := StripeBooks()) as server:
        _, row = await paid_over_stripe(office, books, server.url)
        await reconcile_statement(office.store, stated(books, change=1))
        assert await kinds(office, row.reference) == {CaseKind.STATEMENT_AMOUNT}


async def test_what_only_one_side_knows_is_a_case(office: Office) -> None:
    async with HostileServer(books := StripeBooks()) as server:
        _, row = await paid_over_stripe(office, books, server.url)
        statement = stated(books)
        strange = statement.entries[0].model_copy(update={"reference": f"{row.reference}-strange"})
        await reconcile_statement(office.store, statement.model_copy(update={"entries": [strange]}))
    assert await kinds(office, f"{row.reference}-strange") == {CaseKind.STATEMENT_WITHOUT_RECORD}
    assert await kinds(office, row.reference) == {CaseKind.RECORD_WITHOUT_STATEMENT}


async def test_a_payout_that_the_bank_sent_back_later_is_found_and_returned_once(office: Office) -> None:
    async with HostileServer(books := StripeBooks()) as server:
        developer, row = await paid_over_stripe(office, books, server.url)
        rail = StripeRail(server.url, "sk_test")
        rails = Rails([], [rail])
        await recheck_paid_payouts(office.store, rails)
        assert await developer.payable() == 0
        for move in books.moves.values():
            move["reversed"] = True
        await recheck_paid_payouts(office.store, rails)
        await recheck_paid_payouts(office.store, rails)
        await rail.close()
    assert await developer.payable() == row.amount


@pytest.mark.parametrize(
    "change", [{"amount": 1.5}, {"amount": -1}, {"amount": 2**53}, {"currency": "RUPEE"}, {"kind": "gift"}]
)
def test_a_statement_with_an_impossible_entry_is_refused(change: dict[str, object]) -> None:
    entry = {
        "kind": "payout",
        "reference": "po_1",
        "amount": 5,
        "currency": "INR",
        "moved_at": "2026-11-20T10:00:00Z",
    }
    document = {
        "rail": "stripe",
        "start": "2026-11-20T00:00:00Z",
        "end": "2026-11-21T00:00:00Z",
        "entries": [entry | change],
    }
    with pytest.raises(ValidationError):
        RailStatement.model_validate(document)


async def test_a_statement_of_accounts_re_adds(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    await developer.earn(-500)
    row, _ = await developer.claim()
    assert row is not None
    now = datetime.now(UTC)
    async with office.store.tenant(developer.tenant_id) as connection:
        before = await statements_of(connection, start=now + timedelta(days=1), end=now + timedelta(days=2))
        during = await statements_of(connection, start=now - timedelta(days=1), end=now + timedelta(days=1))
        cursor = await connection.execute("SELECT kind, balance FROM ledger_accounts")
        balances = {each["kind"]: each["balance"] for each in await cursor.fetchall()}
    assert {each.account: each.opening for each in before} == balances
    assert {each.account: each.closing for each in during} == balances
    [payable] = [each for each in during if each.account == "developer_payable"]
    assert [(line.kind, line.amount) for line in payable.lines] == [
        ("payout_claim", -59_500),
        ("refund", -500),
        ("settlement", 60_000),
    ]


async def test_what_waits_is_told(office: Office) -> None:
    developer = await office.developer(earned=60_000)
    await developer.claim()
    async with office.store.platform() as connection:
        health = await money_health(connection)
        platform = await platform_balances(connection)
    questions = {each.kind: each for each in health.questions}
    assert questions.keys() == {"settlement", "payout", "hold"}
    assert questions["payout"].count >= 1
    assert questions["payout"].oldest_seconds > 0
    [rupees] = [each for each in health.money if each.currency == "INR"]
    assert rupees.in_transit >= 60_000
    assert len({(each.account, each.rail, each.currency) for each in platform}) == len(platform)
