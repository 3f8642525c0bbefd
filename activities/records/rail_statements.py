"""Rails' statements: kept as evidence, and compared with our records and the ledger, three ways."""

from typing import LiteralString

from activities.records.database import Connection
from models.ledger import PLATFORM_TENANT
from models.reconciliation import CaseKind, Finding, RailStatement

_KEEP = """
INSERT INTO rail_statement_entries (rail, kind, reference, amount, tenant_id, currency, moved_at, imported_at)
SELECT %(rail)s, e.kind, e.reference, e.amount, %(tenant)s, e.currency, e.moved_at, now()
FROM unnest(%(kinds)s::text[], %(references)s::text[], %(amounts)s::bigint[], %(currencies)s::text[],
            %(moments)s::timestamptz[]) AS e (kind, reference, amount, currency, moved_at)
ON CONFLICT DO NOTHING
"""

# Ours: what we say has moved at the rail, with what the ledger has of it.
_OURS: LiteralString = """
SELECT 'capture' AS kind, h.id AS reference, s.amount, s.currency, s.completed_at AS moved_at,
       (SELECT coalesce(-sum(p.amount), 0) FROM ledger_transactions t
        JOIN ledger_postings p ON p.transaction_id = t.id AND p.purpose = 'clearing'
        WHERE t.reference = 'settlement:' || s.id) AS posted
FROM settlements s JOIN payment_holds h ON h.intent_id = s.intent_id
WHERE s.rail = %(rail)s AND s.status = 'settled' AND s.amount > 0
UNION ALL
SELECT 'refund', f.id, f.amount, f.currency, coalesce(f.completed_at, f.created_at),
       (SELECT coalesce(-sum(p.amount) FILTER (WHERE p.amount < 0), 0) FROM ledger_transactions t
        JOIN ledger_postings p ON p.transaction_id = t.id
        WHERE t.reference = 'refund:' || f.id)
FROM refunds f WHERE f.rail = %(rail)s AND f.status = 'settled'
UNION ALL
SELECT 'payout', o.reference, o.amount, o.currency, o.paid_at,
       (SELECT coalesce(-sum(p.amount) FILTER (WHERE p.amount < 0), 0) FROM ledger_transactions t
        JOIN ledger_postings p ON p.transaction_id = t.id WHERE t.reference = 'payout:' || o.id)
FROM payouts o WHERE o.rail = %(rail)s AND o.status IN ('paid', 'reversed')
"""

_UNKNOWN_HERE: LiteralString = (
    "WITH ours AS (" + _OURS + ") "
    "SELECT e.kind || ':' || e.reference AS subject, e.amount AS rail, e.currency, e.moved_at::text "
    "FROM rail_statement_entries e LEFT JOIN ours o ON o.kind = e.kind AND o.reference = e.reference "
    "WHERE e.rail = %(rail)s AND e.moved_at >= %(start)s AND e.moved_at < %(end)s AND o.reference IS NULL"
)

_UNKNOWN_THERE: LiteralString = (
    "WITH ours AS (" + _OURS + ") "
    "SELECT o.kind || ':' || o.reference AS subject, o.amount AS ours, o.moved_at::text "
    "FROM ours o LEFT JOIN rail_statement_entries e "
    "ON e.rail = %(rail)s AND e.kind = o.kind AND e.reference = o.reference "
    # What was recorded near the statement's edges may stand on the one before or after it.
    "WHERE o.moved_at >= %(start)s + interval '1 hour' AND o.moved_at < %(end)s - interval '1 hour' "
    "AND e.reference IS NULL"
)

_DIFFERENT: LiteralString = (
    "WITH ours AS (" + _OURS + ") "
    "SELECT o.kind || ':' || o.reference AS subject, o.amount AS ours, o.posted::bigint AS ledger, "
    "sum(e.amount)::bigint AS rail, o.currency, min(e.currency) AS rail_currency "
    "FROM ours o JOIN rail_statement_entries e "
    "ON e.rail = %(rail)s AND e.kind = o.kind AND e.reference = o.reference "
    "WHERE EXISTS (SELECT FROM rail_statement_entries w WHERE w.rail = %(rail)s AND w.kind = o.kind "
    "AND w.reference = o.reference AND w.moved_at >= %(start)s AND w.moved_at < %(end)s) "
    "GROUP BY o.kind, o.reference, o.amount, o.posted, o.currency "
    "HAVING sum(e.amount) <> o.amount OR o.posted <> o.amount OR min(e.currency) <> o.currency"
)

_COMPARISONS: dict[CaseKind, LiteralString] = {
    CaseKind.STATEMENT_WITHOUT_RECORD: _UNKNOWN_HERE,
    CaseKind.RECORD_WITHOUT_STATEMENT: _UNKNOWN_THERE,
    CaseKind.STATEMENT_AMOUNT: _DIFFERENT,
}


async def keep_statement(connection: Connection, statement: RailStatement) -> None:
    """Keep a statement's movements, in a platform transaction; the same ones again change nothing."""
    entries = statement.entries
    await connection.execute(
        _KEEP,
        {
            "rail": statement.rail,
            "tenant": PLATFORM_TENANT,
            "kinds": [each.kind for each in entries],
            "references": [each.reference for each in entries],
            "amounts": [each.amount for each in entries],
            "currencies": [each.currency for each in entries],
            "moments": [each.moved_at for each in entries],
        },
    )


async def compare_statement(connection: Connection, statement: RailStatement) -> list[Finding]:
    """Compare what the rail states of a time with our records and the ledger, in a platform transaction."""
    parameters = {"rail": statement.rail, "start": statement.start, "end": statement.end}
    findings: list[Finding] = []
    for kind, query in _COMPARISONS.items():
        cursor = await connection.execute(query, parameters)
        findings += [
            Finding(
                kind=kind,
                subject_id=f"{statement.rail}:{row['subject']}",
                evidence={name: value for name, value in row.items() if name != "subject"},
            )
            for row in await cursor.fetchall()
        ]
    return findings
