"""A whole payout run through Temporal: claim, a workflow per payout, the rail, the letter.

``python -m bench.payout_run [--developers 20000]``. Every developer is due; the rail is the local one whose
books are our own. Reported: the time until the last payout is paid, the worker's memory, and the size of the
run's history, which continues as new. PostgreSQL, Temporal and S3 are started for it and thrown away.
"""

import argparse
import asyncio
import logging
import resource
import tempfile
import time
from pathlib import Path

import psycopg
import structlog

from activities.records.migrate import upgrade
from activities.services import Services, open_services
from activities.temporal.client import connect
from bench.figures import Figure, report
from bench.payouts import fill
from cli.stack.embedded import EmbeddedStack
from models.payout import PayoutRunRequest, period_of
from models.settings import Settings
from models.table import utc_now
from models.task_queues import TaskQueue
from worker import running_workers
from workflows.payout import PayoutRun


async def paid(services: Services) -> int:
    """How many payouts have been paid."""
    async with services.database.platform() as connection:
        cursor = await connection.execute("SELECT count(*) AS paid FROM payouts WHERE status = 'paid'")
        row = await cursor.fetchone()
    assert row is not None
    return int(row["paid"])


async def measure(settings: Settings) -> list[Figure]:
    """Start one run and wait for its last payout."""
    async with open_services(settings, name="bench-payout-run") as services:
        temporal = await connect(settings, services.objects)
        async with running_workers(services, temporal, [TaskQueue.CORE, TaskQueue.MONEY]):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            period = period_of(utc_now())
            begun = time.perf_counter()
            handle = await temporal.start_workflow(
                PayoutRun.run,
                PayoutRunRequest(period=period),
                id=f"payout-run/{period}",
                task_queue=TaskQueue.CORE,
            )
            summary = await handle.result()
            started = time.perf_counter() - begun
            while (done := await paid(services)) < summary.payouts:
                print(f"  {done} of {summary.payouts} paid", flush=True)
                await asyncio.sleep(2)
            seconds = time.perf_counter() - begun
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            longest, largest, runs = 0, 0, 0
            async for run in temporal.list_workflows(f"WorkflowId = 'payout-run/{period}'"):
                described = await temporal.get_workflow_handle(run.id, run_id=run.run_id).describe()
                info = described.raw_description.workflow_execution_info
                longest, largest = max(longest, info.history_length), max(largest, info.history_size_bytes)
                runs += 1
    return [
        Figure("payouts", summary.payouts, ""),
        Figure("all claimed and started after", started, "s"),
        Figure("all paid after", seconds, "s"),
        Figure("payouts per second", summary.payouts / seconds, "/s"),
        Figure("worker's memory at its most", after / 1024, "MiB"),
        Figure("of it for the run", (after - before) / 1024, "MiB"),
        Figure("runs of the workflow, each continuing the one before", runs, ""),
        Figure("events of its longest history", longest, "", "51 200 is the server's limit"),
        Figure("size of its largest history", largest / 2**20, "MiB", "50 is the server's limit"),
    ]


def make_all_due(owner_url: str) -> None:
    """Give those who fell short by chance what they lack."""
    with psycopg.connect(owner_url) as connection:
        for table in ("ledger_accounts", "ledger_postings"):
            connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY".encode())
        connection.execute("ALTER TABLE ledger_postings DISABLE TRIGGER USER")
        connection.execute(
            "INSERT INTO ledger_postings (transaction_id, position, account_id, tenant_id, amount, currency, "
            "purpose, transaction_kind, account_seq, balance_after, created_at) "
            "SELECT 'txn_bench', 100000000 + row_number() OVER (), id, tenant_id, 50000, 'INR', "
            "'developer_share', 'settlement', last_seq + 1, balance + 50000, now() - interval '14 days' "
            "FROM ledger_accounts WHERE balance < 50000"
        )
        connection.execute(
            "UPDATE ledger_accounts SET balance = balance + 50000, last_seq = last_seq + 1 "
            "WHERE balance < 50000"
        )
        connection.execute("ALTER TABLE ledger_postings ENABLE TRIGGER USER")
        for table in ("ledger_accounts", "ledger_postings"):
            connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY".encode())


def main() -> None:
    """Start the servers, fill the ledger, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--developers", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with (
        tempfile.TemporaryDirectory(prefix="bench-payout-run-") as directory,
        EmbeddedStack(Path(directory), parts=["postgres", "temporal", "s3"], durable=False) as settings,
    ):
        owner_url = settings.database_owner_url.get_secret_value()
        upgrade(owner_url)
        fill(owner_url, options.developers * 10, options.developers)
        make_all_due(owner_url)
        figures = asyncio.run(measure(settings))
    report(f"A payout run of {options.developers} developers over the local rail", figures, options.json)


if __name__ == "__main__":
    main()
