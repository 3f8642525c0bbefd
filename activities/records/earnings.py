"""What developers have earned, re-added from the ledger at every reading."""

from pydantic import BaseModel

from activities.records.database import Connection


class AgentEarnings(BaseModel):
    """One agent's earnings in one currency, in minor units."""

    agent_id: str | None
    currency: str
    executions: int
    pending: int


class Earnings(BaseModel):
    """One currency's earnings, in minor units."""

    currency: str
    executions: int
    pending: int
    """Earned and not paid out yet."""


class EarningsSummary(BaseModel):
    """A developer's earnings."""

    developer_id: str
    totals: list[Earnings]
    agents: list[AgentEarnings]


async def earnings_of(connection: Connection, developer_id: str) -> EarningsSummary:
    """Sum a developer's revenue per currency and agent (the view ``developer_revenue``)."""
    cursor = await connection.execute(
        "SELECT agent_id, currency, count(*) AS executions, sum(amount)::bigint AS pending, "
        "grouping(agent_id) AS total FROM developer_revenue WHERE developer_id = %s "
        "GROUP BY GROUPING SETS ((currency), (currency, agent_id)) ORDER BY currency, pending DESC",
        [developer_id],
    )
    rows = await cursor.fetchall()
    return EarningsSummary(
        developer_id=developer_id,
        totals=[Earnings.model_validate(row) for row in rows if row["total"]],
        agents=[AgentEarnings.model_validate(row) for row in rows if not row["total"]],
    )
