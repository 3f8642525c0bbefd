"""What developers have earned, re-added from the ledger at every reading."""

from datetime import date

from pydantic import BaseModel

from activities.records.database import Connection


class Earned(BaseModel):
    """Sums of one developer's shares, in minor units of one currency."""

    currency: str
    executions: int
    earned: int
    """All shares, whatever became of them."""
    refunded: int
    """What went back to payers: zero or negative."""
    pending: int
    """Earned and not paid out yet, before refunds."""
    in_transit: int
    paid: int


class AgentEarnings(Earned):
    """One agent's earnings in one currency."""

    agent_id: str | None


class VersionEarnings(Earned):
    """One version's earnings in one currency."""

    agent_id: str | None
    agent_version: str | None


class DayEarnings(Earned):
    """One agent's earnings of one UTC day in one currency."""

    day: date
    agent_id: str | None


class Earnings(Earned):
    """One currency's earnings."""

    payable: int
    """Balance of the account: what the next payout begins with; negative where refunds outweigh."""


class EarningsSummary(BaseModel):
    """A developer's earnings."""

    developer_id: str
    totals: list[Earnings]
    agents: list[AgentEarnings]
    versions: list[VersionEarnings]
    days: list[DayEarnings]
    """The last ones, newest first."""


_SUMS = """
WITH moved AS (
    SELECT agent_id, agent_version, currency, created_at, status, amount FROM developer_revenue
    WHERE developer_id = %(developer)s
    UNION ALL
    SELECT p.agent_id, p.agent_version, p.currency, p.created_at, 'refunded', p.amount
    FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
    WHERE a.kind = 'developer_payable' AND a.owner_id = %(developer)s AND p.purpose = 'refund'
), dated AS (SELECT *, (created_at AT TIME ZONE 'UTC')::date AS day FROM moved)
SELECT m.currency, m.agent_id, m.agent_version, m.day, grouping(m.agent_id) AS all_agents,
       grouping(m.agent_version) AS all_versions, grouping(m.day) AS all_days,
       count(*) FILTER (WHERE status <> 'refunded') AS executions,
       coalesce(sum(amount) FILTER (WHERE status <> 'refunded'), 0)::bigint AS earned,
       coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0)::bigint AS refunded,
       coalesce(sum(amount) FILTER (WHERE status = 'pending'), 0)::bigint AS pending,
       coalesce(sum(amount) FILTER (WHERE status = 'in_transit'), 0)::bigint AS in_transit,
       coalesce(sum(amount) FILTER (WHERE status = 'paid_out'), 0)::bigint AS paid,
       coalesce((SELECT a.balance FROM ledger_accounts a
                 WHERE a.kind = 'developer_payable' AND a.owner_id = %(developer)s
                   AND a.currency = m.currency), 0) AS payable
FROM dated m
GROUP BY GROUPING SETS ((currency), (currency, agent_id), (currency, agent_id, agent_version),
                        (currency, agent_id, day))
HAVING grouping(m.day) = 1 OR m.day > (now() AT TIME ZONE 'UTC')::date - %(days)s::int
ORDER BY m.day DESC NULLS LAST, m.currency, pending DESC, m.agent_id, m.agent_version
"""


async def earnings_of(connection: Connection, developer_id: str, *, days: int = 31) -> EarningsSummary:
    """Sum a developer's shares per currency, agent, version and day, in the developer's tenant's transaction.

    Args:
        connection: The tenant's transaction.
        developer_id: The developer.
        days: How many days back the daily sums go.
    """
    cursor = await connection.execute(_SUMS, {"developer": developer_id, "days": days})
    rows = await cursor.fetchall()
    return EarningsSummary(
        developer_id=developer_id,
        totals=[Earnings.model_validate(row) for row in rows if row["all_agents"]],
        agents=[
            AgentEarnings.model_validate(row)
            for row in rows
            if row["all_days"] and row["all_versions"] and not row["all_agents"]
        ],
        versions=[VersionEarnings.model_validate(row) for row in rows if not row["all_versions"]],
        days=[DayEarnings.model_validate(row) for row in rows if not row["all_days"]],
    )
