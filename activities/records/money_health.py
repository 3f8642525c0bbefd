"""Money that waits: how old the oldest open question is, and what lies where it must not stay.

The figures behind the alerts of finance (research 5): an answer that is owed for a day, and suspense or
transit that does not empty, are to be looked at by a person.
"""

from pydantic import BaseModel

from activities.records.database import Connection
from models.ledger import PLATFORM_TENANT


class OpenQuestions(BaseModel):
    """Requests to rails whose outcome nobody knows yet."""

    kind: str
    """``settlement``, ``payout`` or ``hold``."""
    count: int
    oldest_seconds: float
    """Age of the oldest since it was asked for; 0 where there is none."""


class WaitingMoney(BaseModel):
    """Money of one currency that is between two owners, in minor units."""

    currency: str
    suspense: int
    """Received or sent, and nobody knows whose: alert where it is not zero for a day."""
    in_transit: int
    """On its way to developers."""
    held: int
    """Set aside for runs that have not ended."""


class MoneyHealth(BaseModel):
    """What finance is alerted by."""

    questions: list[OpenQuestions]
    money: list[WaitingMoney]
    open_cases: int
    """Disagreements of the books that finance has not resolved."""
    oldest_case_seconds: float


_QUESTIONS = """
SELECT kind, count(since) AS count,
       coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float AS oldest_seconds
FROM (VALUES ('settlement'), ('payout'), ('hold')) AS k (kind)
LEFT JOIN (
    SELECT 'settlement' AS kind, requested_at AS since FROM settlements
    WHERE status IN ('requested', 'sent', 'unknown')
    UNION ALL
    SELECT 'payout', coalesce(submitted_at, created_at) FROM payouts
    WHERE status IN ('claimed', 'submitted', 'unknown')
    UNION ALL
    SELECT 'hold', created_at FROM payment_holds WHERE status IN ('authorising', 'releasing')
) o USING (kind)
GROUP BY kind ORDER BY kind
"""

_MONEY = """
SELECT currency, coalesce(sum(balance) FILTER (WHERE kind = 'suspense' AND tenant_id = %s), 0)::bigint
           AS suspense,
       coalesce(sum(balance) FILTER (WHERE kind = 'payout_in_transit'), 0)::bigint AS in_transit,
       coalesce(sum(balance) FILTER (WHERE kind = 'user_hold'), 0)::bigint AS held
FROM ledger_accounts WHERE kind IN ('suspense', 'payout_in_transit', 'user_hold')
GROUP BY currency ORDER BY currency
"""

_CASES = """
SELECT count(*) AS open_cases,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float AS oldest_case_seconds
FROM reconciliation_cases WHERE resolved_at IS NULL
"""


async def money_health(connection: Connection) -> MoneyHealth:
    """Read the figures of all tenants, in a platform transaction; cheap enough for every scrape."""
    questions = await (await connection.execute(_QUESTIONS)).fetchall()
    money = await (await connection.execute(_MONEY, [PLATFORM_TENANT])).fetchall()
    cases = await (await connection.execute(_CASES)).fetchone()
    assert cases is not None, "an aggregate has one row"
    return MoneyHealth(
        questions=[OpenQuestions.model_validate(row) for row in questions],
        money=[WaitingMoney.model_validate(row) for row in money],
        open_cases=cases["open_cases"],
        oldest_case_seconds=cases["oldest_case_seconds"],
    )
