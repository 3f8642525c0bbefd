"""Row-level security of every payment table, through the application's own role."""

import psycopg
import pytest

from activities.purchase import record_denied_intent
from activities.records.database import Database
from models.identifiers import new_identifier
from models.policy import VendorRefusedError
from tests.payment.shop import Shop

READABLE = [
    "ledger_accounts",
    "ledger_transactions",
    "ledger_postings",
    "payment_policies",
    "spending_counters",
    "purchase_intents",
    "mandates",
    "payment_holds",
    "settlements",
    "payments",
    "wallet_holds",
    "wallet_top_ups",
    "receipts",
    "receipt_chains",
]


@pytest.fixture
async def bought(shop: Shop) -> Shop:
    """A tenant with a row in every table."""
    from activities.records.wallets import open_wallet, top_up

    async with shop.store.platform() as connection:
        wallet = await open_wallet(connection, shop.tenant_id, shop.user_id, "INR")
        await top_up(connection, new_identifier("top_up"), wallet, shop.tenant_id, 200)
    await shop.settle(await shop.executed(50))
    async with shop.store.platform() as connection:
        await record_denied_intent(connection, shop.request(50), VendorRefusedError("x"))
    return shop


async def test_a_tenant_sees_its_own_rows_and_no_other_tenant_does(bought: Shop) -> None:
    for table in READABLE:
        query = f"SELECT count(*) AS n FROM {table} WHERE tenant_id = %s"
        counts: list[int] = []
        for tenant_id in (bought.tenant_id, new_identifier("tenant"), bought.developer.tenant_id):
            async with bought.store.tenant(tenant_id) as connection:
                cursor = await connection.execute(query.encode(), [bought.tenant_id])
                row = await cursor.fetchone()
            assert row is not None
            counts.append(row["n"])
        assert counts[0] > 0, table
        assert counts[1:] == [0, 0], table


async def test_without_a_tenant_nothing_is_seen(bought: Shop) -> None:
    for table in READABLE:
        async with bought.store.tenant("") as connection:
            cursor = await connection.execute(f"SELECT count(*) AS n FROM {table}".encode())
            row = await cursor.fetchone()
        assert row is not None
        assert row["n"] == 0, table


async def test_every_payment_table_is_tried(store: Database) -> None:
    async with store.platform() as connection:
        cursor = await connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
            "AND relrowsecurity AND relforcerowsecurity"
        )
        protected = {row["relname"] for row in await cursor.fetchall()}
    assert set(READABLE) | {"payment_outbox"} <= protected


@pytest.mark.parametrize("table", [name for name in READABLE if name != "payment_policies"])
async def test_the_application_role_writes_no_money_record(bought: Shop, table: str) -> None:
    for statement in (f"INSERT INTO {table} DEFAULT VALUES", f"UPDATE {table} SET tenant_id = tenant_id"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with bought.store.tenant(bought.tenant_id) as connection:
                await connection.execute(statement.encode())


async def test_the_outbox_is_the_platforms_alone(bought: Shop) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with bought.store.tenant(bought.tenant_id) as connection:
            await connection.execute("SELECT * FROM payment_outbox")


async def test_a_tenant_cannot_write_another_tenants_policy(bought: Shop) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        async with bought.store.tenant(new_identifier("tenant")) as connection:
            await connection.execute(
                "INSERT INTO payment_policies (id, tenant_id, revision, rules, rules_hash) "
                "VALUES ('x', %s, 99, '{}', '')",
                [bought.tenant_id],
            )


async def test_the_developer_sees_only_the_developers_line(bought: Shop) -> None:
    async with bought.store.tenant(bought.developer.tenant_id) as connection:
        cursor = await connection.execute("SELECT purpose, amount FROM ledger_postings")
        lines = [(row["purpose"], row["amount"]) for row in await cursor.fetchall()]
    assert lines == [("developer_share", 35)]
    async with bought.store.tenant(bought.tenant_id) as connection:
        cursor = await connection.execute("SELECT * FROM platform_revenue")
        assert await cursor.fetchall() == []
