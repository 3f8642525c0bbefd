"""How fast receipts are issued: on one tenant's chain and over many, by writers at once.

``python -m bench.receipt_appends [--receipts N]``. What is measured is the product's own append (lock of the
chain's head, hash, signature, insert). The receipts attest no settlements, so in this database, which is
thrown away, they need not refer to any. Several receipts per commit are what a burst of settles costs.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import psycopg

from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.records.receipts import append_receipt
from activities.signing import Signer, generate_key
from bench.figures import Figure, percentile, report
from cli.stack.embedded import EmbeddedStack
from models.identifiers import new_identifier
from models.receipt import ReceiptBody, ReceiptOutcome
from models.settings import Settings

WRITERS = 8
CHAINS = 100
BURST = 10


def draft(tenant_id: str) -> ReceiptBody:
    """A receipt of a usual size."""
    return ReceiptBody(
        receipt_id="",
        tenant_id=tenant_id,
        user_id="usr_bench",
        outcome=ReceiptOutcome.REFUSED,
        intent_id=new_identifier("purchase_intent"),
        mandate_id=new_identifier("mandate"),
        mandate_hash="0" * 64,
        settlement_id=None,
        payment_id=None,
        execution_id=new_identifier("execution"),
        agent_id="agt_bench",
        vendor="frameos",
        payee="usr_developer",
        amount=0,
        currency="INR",
        exponent=2,
        rail="wallet",
        provider_ref=None,
        decline_code="POLICY_CAP_EXCEEDED",
        split=[],
        issued_at=0,
    )


async def appended(
    database: Database, signer: Signer, receipts: int, chains: int, per_commit: int
) -> tuple[float, float]:
    """Append with several writers; returns receipts per second and the p95 of a commit in ms."""
    run = new_identifier("tenant")
    left = iter(range(receipts // per_commit))
    taken: list[float] = []

    async def writer() -> None:
        for number in left:
            tenant = f"{run}-{number % chains}"
            begun = time.perf_counter()
            async with database.platform() as connection:
                for _ in range(per_commit):
                    await append_receipt(connection, signer, draft(tenant))
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    seconds = time.perf_counter() - begun
    return len(taken) * per_commit / seconds, percentile(taken, 0.95) * 1000


async def measure(settings: Settings, signer: Signer, receipts: int) -> list[Figure]:
    """Take the four figures."""
    figures: list[Figure] = []
    async with Database(
        settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value()
    ) as database:
        await appended(database, signer, 200, 1, 1)
        for chains, goal in ((1, "1 000"), (CHAINS, "5 000")):
            for per_commit in (1, BURST):
                rate, p95 = await appended(database, signer, receipts, chains, per_commit)
                name = f"{chains} chain{'s' if chains > 1 else ''}, {per_commit} per commit"
                figures.append(Figure(f"receipts issued, {name}", rate, "/s", goal))
                figures.append(Figure("p95 of a commit", p95, "ms"))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=4_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-receipts-") as directory,
        EmbeddedStack(Path(directory) / "stack", parts=["postgres"], durable=True) as settings,
    ):
        owner_url = settings.database_owner_url.get_secret_value()
        upgrade(owner_url)
        with psycopg.connect(owner_url) as connection:
            connection.execute(
                "ALTER TABLE receipts DROP CONSTRAINT fk_receipts_refused_intent_id_purchase_intents"
            )
        generate_key(Path(directory) / "keys", "bench")
        signer = Signer.from_directory(Path(directory) / "keys")
        figures = asyncio.run(measure(settings, signer, options.receipts))
    report(f"Receipts issued by {WRITERS} writers", figures, options.json)


if __name__ == "__main__":
    main()
