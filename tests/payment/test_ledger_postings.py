"""The ledger: balanced, exact under concurrency, append-only, whoever writes and however."""

import asyncio
import random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.records.database import Connection, Database
from activities.records.ledger import find_account, list_postings, open_accounts, post
from models.identifiers import new_identifier
from models.ledger import (
    AccountFloorError,
    AccountKey,
    AccountKind,
    AccountLimitError,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    TransactionMismatchError,
    UnbalancedTransactionError,
)
from models.money import MAX_AMOUNT
from models.settings import Settings
from tests.payment.shop import Shop, ledger_faults


def account(kind: AccountKind = AccountKind.SUSPENSE, currency: str = "INR") -> AccountKey:
    """A fresh account; suspense has no floor."""
    return AccountKey(
        tenant_id=new_identifier("tenant"), kind=kind, owner_id=new_identifier("user"), currency=currency
    )


def moving(*lines: tuple[AccountKey, int], reference: str | None = None) -> NewTransaction:
    return NewTransaction(
        kind=TransactionKind.TOP_UP,
        reference=reference or new_identifier("ledger_transaction"),
        tenant_id="t",
        postings=[
            NewPosting(account=key, amount=amount, purpose=PostingPurpose.FUNDING) for key, amount in lines
        ],
    )


async def posted(store: Database, transaction: NewTransaction) -> str:
    async with store.platform() as connection:
        return await post(connection, transaction)


async def balance(store: Database, key: AccountKey) -> int:
    async with store.platform() as connection:
        return (await find_account(connection, key.id)).balance


async def test_each_posting_carries_its_number_and_the_balance_after_it(store: Database) -> None:
    a, b = account(), account()
    for amount in (5, 7, -2):
        await posted(store, moving((a, amount), (b, -amount)))
    async with store.platform() as connection:
        lines = await list_postings(connection, a.id)
    assert [(line.account_seq, line.amount, line.balance_after) for line in lines] == [
        (3, -2, 10),
        (2, 7, 12),
        (1, 5, 5),
    ]


async def test_the_same_reference_moves_money_once(store: Database) -> None:
    a, b = account(), account()
    reference = new_identifier("ledger_transaction")
    first = await posted(store, moving((a, 5), (b, -5), reference=reference))
    together = await asyncio.gather(
        *(posted(store, moving((a, 5), (b, -5), reference=reference)) for _ in range(4))
    )
    assert set(together) == {first}
    assert await balance(store, a) == 5
    with pytest.raises(TransactionMismatchError):
        await posted(store, moving((a, 6), (b, -6), reference=reference))


@pytest.mark.parametrize("amounts", [(5, -4), (5,), (), (0, 0), (MAX_AMOUNT + 1, -MAX_AMOUNT - 1)])
async def test_what_does_not_balance_is_refused(store: Database, amounts: tuple[int, ...]) -> None:
    with pytest.raises(UnbalancedTransactionError):
        await posted(store, moving(*((account(), amount) for amount in amounts)))


async def test_currencies_do_not_balance_each_other(store: Database) -> None:
    with pytest.raises(UnbalancedTransactionError):
        await posted(store, moving((account(), 5), (account(currency="USD"), -5)))


async def test_a_wallet_never_goes_below_zero(store: Database) -> None:
    wallet, other = account(AccountKind.USER_WALLET), account()
    await posted(store, moving((wallet, 10), (other, -10)))
    with pytest.raises(AccountFloorError):
        await posted(store, moving((wallet, -11), (other, 11)))
    await posted(store, moving((wallet, -10), (other, 10)))
    assert await balance(store, wallet) == 0


async def test_a_balance_stays_within_what_json_can_carry(store: Database) -> None:
    a, b = account(), account()
    await posted(store, moving((a, MAX_AMOUNT), (b, -MAX_AMOUNT)))
    with pytest.raises(AccountLimitError):
        await posted(store, moving((a, 1), (b, -1)))


async def test_transfers_among_few_accounts_at_once_neither_lose_money_nor_block(store: Database) -> None:
    chance = random.Random(7)
    accounts = [account(AccountKind.USER_WALLET) for _ in range(4)]
    source = account()
    for each in accounts:
        await posted(store, moving((each, 100), (source, -100)))

    async def worker() -> int:
        refused = 0
        for _ in range(25):
            payer, payee = chance.sample(accounts, 2)
            amount = chance.randint(1, 60)
            try:
                await posted(store, moving((payer, -amount), (payee, amount)))
            except AccountFloorError:
                refused += 1
        return refused

    refused = await asyncio.gather(*(worker() for _ in range(8)))
    balances = [await balance(store, each) for each in accounts]
    assert sum(balances) == 400
    assert min(balances) >= 0
    assert 0 < sum(refused) < 200
    assert await ledger_faults(store) == []


async def test_new_accounts_opened_at_once_do_not_block_each_other(store: Database) -> None:
    for _ in range(10):
        keys = [account() for _ in range(4)]
        lines = [(keys[0], 3), (keys[1], -1), (keys[2], -1), (keys[3], -1)]
        await asyncio.gather(*(posted(store, moving(*random.sample(lines, 4))) for _ in range(6)))
        assert await balance(store, keys[0]) == 18


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 50)).filter(lambda m: m[0] != m[1]),
        max_size=12,
    )
)
async def test_balances_are_those_of_a_model(store: Database, moves: list[tuple[int, int, int]]) -> None:
    keys = [account(), *(account(AccountKind.USER_WALLET) for _ in range(3))]
    model = [0, 0, 0, 0]
    async with store.platform() as connection:
        await open_accounts(connection, keys)
    for source, target, amount in moves:
        allowed = source == 0 or model[source] >= amount
        try:
            await posted(store, moving((keys[source], -amount), (keys[target], amount)))
        except AccountFloorError:
            assert not allowed
            continue
        assert allowed
        model[source] -= amount
        model[target] += amount
    assert [await balance(store, key) for key in keys] == model


async def raw(connection: Connection, statement: str, *values: Any) -> None:
    await connection.execute(statement.encode(), values)


FORBIDDEN = [
    "UPDATE ledger_accounts SET balance = balance + 1",
    "UPDATE ledger_accounts SET floor = NULL",
    "DELETE FROM ledger_accounts",
    "INSERT INTO ledger_accounts (id, tenant_id, kind, owner_id, currency, qualifier, balance) "
    "VALUES ('x', 't', 'bank', 't', 'INR', '', 5)",
    "UPDATE ledger_postings SET amount = 1",
    "DELETE FROM ledger_postings",
    "TRUNCATE ledger_postings",
    "UPDATE ledger_transactions SET kind = 'x'",
    "DELETE FROM ledger_transactions",
    "UPDATE receipts SET body = ''",
    "DELETE FROM receipts",
    "TRUNCATE receipts",
    "UPDATE payments SET amount = 1",
    "DELETE FROM payments",
    "DELETE FROM mandates",
    "UPDATE mandates SET body = ''",
    "UPDATE mandates SET expires_at = now()",
    "DELETE FROM settlements",
    "UPDATE settlements SET request_body = ''",
    "UPDATE settlements SET idempotency_key = ''",
    "UPDATE settlements SET amount = 0",
    "DELETE FROM purchase_intents",
    "UPDATE purchase_intents SET amount = 0",
    "DELETE FROM payment_holds",
    "DELETE FROM receipt_chains",
    "DELETE FROM spending_counters",
    "UPDATE payment_policies SET rules = '{}'",
    "SELECT ledger_post()",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_history_cannot_be_rewritten_by_either_role(store: Database, statement: str) -> None:
    for transaction in (store.platform(), store.tenant("t")):
        with pytest.raises(
            (
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.FeatureNotSupported,
                psycopg.ProgrammingError,
            )
        ):
            async with transaction as connection:
                await raw(connection, statement)


@pytest.mark.parametrize(
    "statement", [statement for statement in FORBIDDEN if "ledger_p" in statement or "receipts" in statement]
)
async def test_not_even_the_owner_rewrites_history(database: Settings, shop: Shop, statement: str) -> None:
    await shop.fund(100)
    await shop.settle(await shop.executed(50))
    owner = database.database_owner_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(owner) as connection:
        # The owner is under row-level security too; a policy of its own would be the first thing to add.
        for table in ("ledger_postings", "receipts"):
            await connection.execute(f"CREATE POLICY breach ON {table} TO CURRENT_USER USING (true)".encode())
        with pytest.raises(psycopg.Error, match=r"append-only|permission denied|trigger"):
            await connection.execute(statement.encode())
        await connection.rollback()


async def test_a_program_that_posts_one_side_only_is_stopped_at_the_commit(store: Database) -> None:
    a, b = account(), account()
    await posted(store, moving((a, 5), (b, -5)))
    insert = (
        "INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, purpose, "
        "transaction_kind) VALUES (%s, %s, %s, %s, 'INR', 'funding', 'top_up')"
    )
    begin = (
        "INSERT INTO ledger_transactions (id, tenant_id, kind, reference, description, meta) "
        "VALUES (%s, 't', 'top_up', %s, '', '{}')"
    )
    for lines in ([(a, 5)], [(a, 5), (b, -4)], []):
        identifier = new_identifier("ledger_transaction")
        with pytest.raises(psycopg.errors.CheckViolation, match="sum to zero"):
            async with store.platform() as connection:
                await raw(connection, begin, identifier, identifier)
                for place, (key, amount) in enumerate(lines):
                    await raw(connection, insert, identifier, place, key.id, amount)
    assert await balance(store, a) == 5


async def test_a_posting_in_another_currency_than_its_account_is_refused(store: Database) -> None:
    a = account()
    identifier = new_identifier("ledger_transaction")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with store.platform() as connection:
            await open_accounts(connection, [a])
            await raw(
                connection,
                "INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, "
                "purpose, transaction_kind) VALUES (%s, 1, %s, 5, 'USD', 'funding', 'top_up')",
                identifier,
                a.id,
            )


@pytest.mark.parametrize(
    ("table", "status"),
    [
        ("settlements", "requested"),
        ("mandates", "active"),
        ("payment_holds", "held"),
        ("purchase_intents", "approved"),
        ("wallet_holds", "held"),
    ],
)
async def test_terminal_states_are_sticky_in_the_database(shop: Shop, table: str, status: str) -> None:
    await shop.fund(100)
    await shop.settle(await shop.executed(50))
    with pytest.raises(psycopg.errors.CheckViolation, match="cannot leave"):
        async with shop.store.platform() as connection:
            await raw(
                connection, f"UPDATE {table} SET status = %s WHERE tenant_id = %s", status, shop.tenant_id
            )
