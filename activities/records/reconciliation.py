"""Comparing our records, the ledger and the wallet rail's books, and keeping what disagrees."""

from collections.abc import Sequence
from typing import LiteralString

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from activities.records.ledger import sums_by_currency, unsound_accounts
from models.identifiers import new_identifier
from models.ledger import PLATFORM_TENANT
from models.reconciliation import CaseKind, CaseNotFoundError, CaseView, Finding

_COMPARISONS: dict[CaseKind, LiteralString] = {
    CaseKind.SETTLEMENT_WITHOUT_POSTING: """
        SELECT s.id AS subject, s.amount AS ours, coalesce(-sum(p.amount), 0)::bigint AS ledger
        FROM settlements s
        LEFT JOIN ledger_transactions t ON t.reference = 'settlement:' || s.id
        LEFT JOIN ledger_postings p ON p.transaction_id = t.id AND p.purpose = 'clearing'
        WHERE s.status = 'settled' AND s.amount > 0 GROUP BY s.id
        HAVING s.amount <> coalesce(-sum(p.amount), 0)
    """,
    CaseKind.SETTLEMENT_WITHOUT_CAPTURE: """
        SELECT s.id AS subject, s.amount AS ours, w.captured_amount AS rail
        FROM settlements s JOIN payment_holds h ON h.intent_id = s.intent_id
        LEFT JOIN wallet_holds w ON w.reference = h.id AND w.status = 'captured'
        WHERE s.status = 'settled' AND s.rail = 'wallet' AND w.captured_amount IS DISTINCT FROM s.amount
    """,
    # One that is still to be recorded is not late yet: its workflow or the sweep will do it.
    CaseKind.CAPTURE_WITHOUT_SETTLEMENT: """
        SELECT w.reference AS subject, s.status AS ours, w.captured_amount AS rail
        FROM wallet_holds w
        LEFT JOIN payment_holds h ON h.id = w.reference
        LEFT JOIN settlements s ON s.intent_id = h.intent_id
        WHERE w.status = 'captured' AND w.resolved_at < now() - interval '1 hour'
          AND s.status IS DISTINCT FROM 'settled'
    """,
    CaseKind.PAYOUT_WITHOUT_TRANSFER: """
        SELECT o.id AS subject, o.amount AS ours, b.amount AS rail
        FROM payouts o LEFT JOIN bank_transfers b ON b.reference = o.reference
        WHERE o.rail = 'wallet' AND o.status IN ('paid', 'reversed') AND b.amount IS DISTINCT FROM o.amount
    """,
    CaseKind.TRANSFER_WITHOUT_PAYOUT: """
        SELECT b.reference AS subject, o.status AS ours, b.amount AS rail
        FROM bank_transfers b LEFT JOIN payouts o ON o.reference = b.reference
        WHERE b.created_at < now() - interval '1 hour'
          AND coalesce(o.status, '') NOT IN ('paid', 'reversed')
    """,
    CaseKind.PAYOUT_WITHOUT_POSTING: """
        SELECT o.id AS subject, o.amount AS ours, coalesce(-sum(p.amount), 0)::bigint AS ledger
        FROM payouts o
        LEFT JOIN ledger_transactions t ON t.reference = 'payout:' || o.id
        LEFT JOIN ledger_postings p ON p.transaction_id = t.id AND p.amount < 0
        WHERE o.status IN ('paid', 'reversed') GROUP BY o.id
        HAVING o.amount <> coalesce(-sum(p.amount), 0)
    """,
    CaseKind.UNKNOWN_TOO_LONG: """
        SELECT subject, ours, since::text FROM (
            SELECT id AS subject, unknown_reason AS ours, first_sent_at AS since FROM settlements
            WHERE status = 'unknown'
            UNION ALL
            SELECT id, unknown_reason, submitted_at FROM payouts WHERE status = 'unknown'
        ) u WHERE since < now() - interval '24 hours'
    """,
}
"""What is compared: each query gives the subjects that disagree, with both sides' figures."""

_OPEN = """
INSERT INTO reconciliation_cases (id, tenant_id, kind, subject_id, evidence)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (kind, subject_id) WHERE resolved_at IS NULL
DO UPDATE SET last_seen_at = now(), evidence = excluded.evidence
RETURNING (xmax = 0) AS fresh
"""

_VIEW = """
SELECT id AS case_id, kind, subject_id, evidence, created_at, last_seen_at, resolved_at, resolved_by,
       resolution
FROM reconciliation_cases
"""


async def compare(connection: Connection) -> list[Finding]:
    """Compare everything, in a platform transaction; nothing is found where all books agree."""
    findings = [
        Finding(kind=CaseKind.LEDGER_UNBALANCED, subject_id=currency, evidence={"sum": total})
        for currency, total in (await sums_by_currency(connection)).items()
        if total
    ]
    findings += [
        Finding(kind=CaseKind.ACCOUNT_UNSOUND, subject_id=account, evidence={})
        for account in await unsound_accounts(connection)
    ]
    for kind, query in _COMPARISONS.items():
        cursor = await connection.execute(query)
        findings += [
            Finding(
                kind=kind,
                subject_id=row["subject"],
                evidence={name: value for name, value in row.items() if name != "subject"},
            )
            for row in await cursor.fetchall()
        ]
    return findings


async def keep_findings(connection: Connection, findings: Sequence[Finding]) -> int:
    """Open a case per finding; one that is open already is seen again. Returns how many are new."""
    opened = 0
    for finding in findings:
        cursor = await connection.execute(
            _OPEN,
            [
                new_identifier("reconciliation_case"),
                PLATFORM_TENANT,
                finding.kind,
                finding.subject_id,
                Jsonb(finding.evidence),
            ],
        )
        row = await cursor.fetchone()
        opened += row is not None and bool(row["fresh"])
    return opened


async def list_cases(connection: Connection, *, resolved: bool) -> list[CaseView]:
    """Read the cases that are open, oldest first, or the last 1 000 that were resolved."""
    order: LiteralString = (
        " WHERE resolved_at IS NOT NULL ORDER BY resolved_at DESC LIMIT 1000"
        if resolved
        else " WHERE resolved_at IS NULL ORDER BY created_at, id LIMIT 1000"
    )
    cursor = await connection.execute(_VIEW + order)
    return [CaseView.model_validate(row) for row in await cursor.fetchall()]


async def resolve_case(connection: Connection, case_id: str, resolution: str, resolved_by: str) -> CaseView:
    """Close a case with what finance found; a disagreement that goes on opens another one.

    Raises:
        CaseNotFoundError: It does not exist, or is closed.
    """
    changed = await connection.execute(
        "UPDATE reconciliation_cases SET resolved_at = now(), resolved_by = %s, resolution = %s "
        "WHERE id = %s AND resolved_at IS NULL",
        [resolved_by, resolution, case_id],
    )
    if not changed.rowcount:
        raise CaseNotFoundError(case_id)
    cursor = await connection.execute(_VIEW + " WHERE id = %s", [case_id])
    return CaseView.model_validate(await cursor.fetchone())
