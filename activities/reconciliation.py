"""Making sure that nothing is left lying: owed settlements are finished, the books are compared daily."""

from collections import Counter
from typing import cast

import structlog
from temporalio import activity

from activities.checkpoint import keep_checkpoints
from activities.payout import PayoutRail, reverse_payout
from activities.rails.registry import Rails
from activities.records.database import Database
from activities.records.payment import owed_settlements
from activities.records.payout import paid_lately
from activities.records.rail_statements import compare_statement, keep_statement
from activities.records.reconciliation import compare, keep_findings
from activities.refusal import attest_denials
from activities.settlement import reconcile_settlement
from activities.signing import Signer
from activities.storage import ObjectStore
from models.errors import PlatformError
from models.rail import Declined, RailName
from models.reconciliation import (
    SWEEP_AFTER_SECONDS,
    RailStatement,
    ReconciliationSummary,
    SweepSummary,
)

logger = structlog.get_logger(__name__)

RECHECK_DAYS = 14
"""For so long after it was paid a payout is asked about once a day."""

RECHECKED_AT_ONCE = 5_000


async def sweep_settlements(
    database: Database, rails: Rails, signer: Signer, *, older_than_seconds: int = SWEEP_AFTER_SECONDS
) -> SweepSummary:
    """Finish settlements that were recorded and never answered: their workflow is gone, or was reset.

    Doing it beside a workflow that is alive is harmless: the second outcome finds the first.
    """
    async with database.platform() as connection:
        owed = await owed_settlements(connection, older_than_seconds=older_than_seconds)
    finished = 0
    for settlement_id in owed:
        try:
            await reconcile_settlement(database, rails, signer, settlement_id)
            finished += 1
        except PlatformError as error:
            # It stays owed and is asked for again; the others do not wait for it.
            logger.warning("settlement_not_reconciled", settlement_id=settlement_id, code=error.code)
    return SweepSummary(finished=finished, unknown=len(owed) - finished)


async def reconcile_books(database: Database) -> ReconciliationSummary:
    """Compare our records, the ledger and the wallet rail's books, and open a case per disagreement."""
    async with database.platform() as connection:
        findings = await compare(connection)
        opened = await keep_findings(connection, findings)
    if findings:
        logger.error("books_disagree", found=len(findings), opened=opened)
    return ReconciliationSummary(
        found=len(findings), opened=opened, by_kind=dict(Counter(each.kind.value for each in findings))
    )


async def reconcile_statement(database: Database, statement: RailStatement) -> ReconciliationSummary:
    """Keep a rail's statement and compare it with our records and the ledger; safe to repeat."""
    async with database.platform() as connection:
        await keep_statement(connection, statement)
        findings = await compare_statement(connection, statement)
        opened = await keep_findings(connection, findings)
    if findings:
        logger.error("statement_disagrees", rail=statement.rail, found=len(findings), opened=opened)
    return ReconciliationSummary(
        found=len(findings), opened=opened, by_kind=dict(Counter(each.kind.value for each in findings))
    )


async def recheck_paid_payouts(database: Database, rails: Rails) -> int:
    """Ask the outside rails about payouts that were paid lately; returns how many had been sent back.

    A bank may return money days after it was paid, and the payout's workflow has ended by then. A webhook
    that tells of it may be lost; asking is not.
    """
    async with database.platform() as connection:
        paid = await paid_lately(connection, days=RECHECK_DAYS, limit=RECHECKED_AT_ONCE)
    reversed_ = 0
    for row in paid:
        try:
            # It has paid this one out, so it is a rail that does.
            rail = cast("PayoutRail", rails.outside(RailName(row.rail)))
            answer = await rail.look_up_payout(row.reference)
        except Exception as error:
            # One rail that is away, or is not configured any more, does not keep the others from being asked.
            logger.warning("payout_not_rechecked", run_id=row.id, error=type(error).__name__)
            continue
        if isinstance(answer, Declined):
            async with database.platform() as connection:
                await reverse_payout(connection, row.id, answer.message or answer.code)
            reversed_ += 1
    return reversed_


class ReconciliationActivities:
    """Sweeps and compares."""

    def __init__(self, database: Database, objects: ObjectStore, rails: Rails, signer: Signer) -> None:
        """Keep records in ``database``, checkpoints in ``objects``; ask ``rails``; sign with ``signer``."""
        self._objects = objects
        self._database = database
        self._rails = rails
        self._signer = signer

    @activity.defn(name="sweep_settlements")
    async def sweep_settlements(self) -> SweepSummary:
        """Finish what is owed for longer than a quarter of an hour, and attest purchases that were denied.

        Raises:
            DatabaseUnavailableError: Retryable.
        """
        summary = await sweep_settlements(self._database, self._rails, self._signer)
        await attest_denials(self._database, self._signer)
        return summary

    @activity.defn(name="reconcile_books")
    async def reconcile_books(self) -> ReconciliationSummary:
        """Ask for payouts that banks sent back, then compare the books; what disagrees becomes a case.

        Raises:
            DatabaseUnavailableError: Retryable.
        """
        await recheck_paid_payouts(self._database, self._rails)
        return await reconcile_books(self._database)

    @activity.defn(name="keep_checkpoints")
    async def keep_checkpoints(self) -> int:
        """Keep a signed checkpoint of every tenant's receipts in S3; returns how many are new.

        Raises:
            UnavailableError: Database or S3 are away; retryable.
        """
        return await keep_checkpoints(self._database, self._objects, self._signer)
