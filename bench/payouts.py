"""How long a payout run claims: 2 000 000 revenue rows of 20 000 developers.

``python -m bench.payouts [--rows N] [--developers N]``. The rows are written in bulk, with balances and
numbers as the posting trigger would give them; what is measured is the product's own claim, slice by slice,
and the reading of the source document's query beside it. PostgreSQL is started for it and thrown away.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import psycopg

from activities.payout import claim_shard
from activities.records.database import Database
from activities.records.migrate import upgrade
from bench.figures import Figure, report
from cli.stack.embedded import EmbeddedStack
from models.ledger import AccountKind
from models.payout import ShardRequest, payable_account, period_of
from models.settings import Settings
from models.table import utc_now

GOAL_SECONDS = 10

# A fifth of the developers earn four fifths of the revenue.
REVENUE = """
WITH shares AS (
    SELECT n, CASE WHEN random() < 0.8 THEN floor(random() * %(few)s) ELSE floor(random() * %(many)s) END::int
              AS developer, 1 + (random() * 700)::bigint AS amount
    FROM generate_series(1, %(rows)s) AS n
), numbered AS (
    SELECT n, a.id AS account_id, a.tenant_id, s.amount, row_number() OVER w AS seq,
           sum(s.amount) OVER w AS balance
    FROM shares s JOIN bench_accounts b ON b.number = s.developer JOIN ledger_accounts a ON a.id = b.id
    WINDOW w AS (PARTITION BY a.id ORDER BY n)
)
INSERT INTO ledger_postings (transaction_id, position, account_id, tenant_id, amount, currency, purpose,
                             transaction_kind, execution_id, agent_id, account_seq, balance_after, created_at)
SELECT 'txn_bench', n, account_id, tenant_id, amount, 'INR', 'developer_share', 'settlement', 'exec_' || n,
       'agt_bench', seq, balance, now() - interval '14 days'
FROM numbered
"""

NAIVE = """
SELECT developer_id, currency, sum(amount) FROM developer_revenue WHERE status = 'pending'
GROUP BY developer_id, currency HAVING sum(amount) >= 50000
"""


def fill(owner_url: str, rows: int, developers: int) -> None:
    """Write the accounts, the revenue and what makes developers eligible."""
    with psycopg.connect(owner_url) as connection:
        for table in ("ledger_accounts", "ledger_transactions", "ledger_postings", "payees", "beneficiaries"):
            connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY".encode())
        for table in ("ledger_transactions", "ledger_postings"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        connection.execute("CREATE TEMP TABLE bench_accounts (number int PRIMARY KEY, id text)")
        keys = [payable_account("bench", f"usr_{number}", "INR") for number in range(developers)]
        with connection.cursor() as cursor:
            with cursor.copy(
                "COPY ledger_accounts (id, tenant_id, kind, owner_id, currency, qualifier) FROM STDIN"
            ) as copy:
                for key in keys:
                    copy.write_row(
                        (key.id, key.tenant_id, AccountKind.DEVELOPER_PAYABLE, key.owner_id, "INR", "")
                    )
            with cursor.copy("COPY bench_accounts FROM STDIN") as copy:
                for number, key in enumerate(keys):
                    copy.write_row((number, key.id))
        connection.execute(
            "INSERT INTO ledger_transactions (id, tenant_id, kind, reference, description, meta) "
            "VALUES ('txn_bench', 'bench', 'settlement', 'bench', '', '{}')"
        )
        connection.execute(REVENUE, {"rows": rows, "few": developers // 5, "many": developers})
        connection.execute(
            "UPDATE ledger_accounts a SET balance = p.balance, last_seq = p.seq FROM "
            "(SELECT account_id, sum(amount) AS balance, max(account_seq) AS seq FROM ledger_postings "
            "GROUP BY account_id) p WHERE p.account_id = a.id"
        )
        connection.execute(
            "INSERT INTO payees (tenant_id, user_id, kyc_status, held, updated_by) "
            "SELECT tenant_id, owner_id, 'verified', false, 'bench' FROM ledger_accounts"
        )
        connection.execute(
            "INSERT INTO beneficiaries (id, tenant_id, user_id, currency, rail, destination, name, status) "
            "SELECT 'ben_' || owner_id, tenant_id, owner_id, 'INR', 'wallet', owner_id, owner_id, 'verified' "
            "FROM ledger_accounts"
        )
        for table in ("ledger_transactions", "ledger_postings"):
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())
        for table in ("ledger_accounts", "ledger_transactions", "ledger_postings", "payees", "beneficiaries"):
            connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY".encode())
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("ANALYZE")


async def measure(settings: Settings) -> list[Figure]:
    """Claim everything once, then once more."""
    async with Database(
        settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value()
    ) as database:
        started = time.perf_counter()
        async with database.platform() as connection:
            eligible = len(await (await connection.execute(NAIVE)).fetchall())
        naive = time.perf_counter() - started
        claimed, seconds, longest = await _run(database)
        again, repeated, _ = await _run(database)
    return [
        Figure("the source document's sum over pending revenue, read only", naive, "s"),
        Figure("developers with 50 000 or more", eligible, ""),
        Figure("payouts claimed", claimed, ""),
        Figure("claiming them", seconds, "s", f"< {GOAL_SECONDS}"),
        Figure("longest slice of 500 developers, which is what locks last", longest, "s"),
        Figure("payouts still to be sent, found by a second run", again, ""),
        Figure("the second run, which claims nothing", repeated, "s"),
    ]


async def _run(database: Database) -> tuple[int, float, float]:
    claimed, longest = 0, 0.0
    started = time.perf_counter()
    after: str | None = ""
    while after is not None:
        begun = time.perf_counter()
        shard = await claim_shard(database, ShardRequest(period=period_of(utc_now()), after=after), 0)
        longest = max(longest, time.perf_counter() - begun)
        claimed += len(shard.payouts)
        after = shard.last
    return claimed, time.perf_counter() - started, longest


def main() -> None:
    """Start PostgreSQL, fill it, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--developers", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-payouts-") as directory,
        EmbeddedStack(Path(directory), parts=["postgres"], durable=False, ports="auto") as settings,
    ):
        owner_url = settings.database_owner_url.get_secret_value()
        upgrade(owner_url)
        started = time.perf_counter()
        fill(owner_url, options.rows, options.developers)
        filled = time.perf_counter() - started
        figures = [
            Figure("writing the revenue (not the product's way)", filled, "s"),
            *asyncio.run(measure(settings)),
        ]
    report(f"{options.rows} revenue rows of {options.developers} developers", figures, options.json)


if __name__ == "__main__":
    main()
