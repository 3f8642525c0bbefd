"""Deployments, ratings and listings in the store.

The only writer of ``agent_deployments`` and ``agent_reviews``; ratings also count in ``agent_statistics``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from activities.records.database import Connection
from models.identifiers import new_identifier
from models.marketplace import AgentDeployment, AgentReview, DeploymentNotFoundError, Sort

# Everything a listing shows of one published agent; RLS lets any tenant see these rows.
_LISTING = """
SELECT a.id, a.slug, a.name, a.description, a.category, a.created_at, v.version, v.published_at,
       v.manifest->'pricing' AS pricing, v.manifest->>'author' AS author,
       coalesce(s.executions_succeeded, 0) AS executions_succeeded,
       coalesce(s.executions_failed, 0) AS executions_failed,
       coalesce(s.total_duration_ms, 0) AS total_duration_ms,
       coalesce(s.rating_count, 0) AS rating_count, coalesce(s.rating_sum, 0) AS rating_sum,
       {key} AS sort_key
FROM agents a
JOIN agent_versions v ON v.id = a.published_version_id
LEFT JOIN agent_statistics s ON s.agent_id = a.id
WHERE a.status = 'published'
"""

_KEYS: dict[Sort, tuple[str, str]] = {
    Sort.NEWEST: ("(extract(epoch FROM v.published_at) * 1000000)::bigint", "DESC"),
    Sort.POPULAR: ("coalesce(s.executions_succeeded, 0)", "DESC"),
    Sort.RATING: (
        "((coalesce(s.rating_sum, 0) + 15) * 1000 / (coalesce(s.rating_count, 0) + 5))::bigint",
        "DESC",
    ),
    Sort.PRICE: ("coalesce((v.manifest->'pricing'->>'amount')::bigint, 0)", "ASC"),
    Sort.NAME: ("lower(a.name)", "ASC"),
}

_INSERT_DEPLOYMENT = """
INSERT INTO agent_deployments (id, tenant_id, user_id, agent_id, version_id, version, config_ciphertext,
                               config_key_id, status)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(agent_id)s, %(version_id)s, %(version)s, %(config_ciphertext)s,
        %(config_key_id)s, %(status)s)
ON CONFLICT (id) DO NOTHING
"""

_OPEN_STATISTICS = """
INSERT INTO agent_statistics (agent_id, tenant_id) SELECT id, tenant_id FROM agents WHERE id = %s
ON CONFLICT (agent_id) DO NOTHING
"""

_UPSERT_REVIEW = """
INSERT INTO agent_reviews (id, tenant_id, user_id, agent_id, rating, comment)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(agent_id)s, %(rating)s, %(comment)s)
ON CONFLICT (agent_id, user_id) DO UPDATE
SET rating = excluded.rating, comment = excluded.comment, updated_at = now()
RETURNING *
"""

_COUNT_RATING = """
UPDATE agent_statistics
SET rating_count = rating_count + %(count)s, rating_sum = rating_sum + %(sum)s, updated_at = now()
WHERE agent_id = %(agent_id)s
"""

_HAS_RUN = """
SELECT EXISTS (
    SELECT FROM agent_executions e JOIN runs r ON r.id = e.id
    WHERE e.agent_id = %s AND e.user_id = %s AND e.tenant_id = %s AND r.status IN ('SUCCEEDED', 'FAILED')
) AS has_run
"""

# Rows that another process re-encrypts at this moment are skipped, so several may work at once.
_OUTDATED = """
SELECT id, config_ciphertext, config_key_id FROM agent_deployments
WHERE config_key_id <> %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""


async def list_agents(
    connection: Connection,
    *,
    category: str | None,
    words: str | None,
    sort: Sort,
    after: tuple[int | str, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Read published agents for a listing.

    Args:
        connection: Any tenant's transaction.
        category: Only those of this category.
        words: Only those whose name, category or description has these words (English stems), or whose
            name or slug contains the text.
        sort: The order; ties by identifier.
        after: Only those after this sort key and identifier (keyset pagination).
        limit: At most so many.

    Returns:
        Rows with ``sort_key`` besides what a listing shows.
    """
    key, direction = _KEYS[sort]
    query = _LISTING.format(key=key)
    parameters: list[Any] = []
    if category is not None:
        query += " AND a.category = %s"
        parameters.append(category)
    if words is not None:
        query += (
            " AND (a.search @@ websearch_to_tsquery('english', %s)"
            " OR strpos(lower(a.name), lower(%s)) > 0 OR strpos(a.slug, lower(%s)) > 0)"
        )
        parameters += [words, words, words]
    if after is not None:
        query += f" AND ({key}, a.id) {'<' if direction == 'DESC' else '>'} (%s, %s)"
        parameters += after
    query += f" ORDER BY {key} {direction}, a.id {direction} LIMIT %s"
    cursor = await connection.execute(query, [*parameters, limit])  # pyright: ignore[reportArgumentType]
    return await cursor.fetchall()


async def find_listing(connection: Connection, agent_id: str) -> dict[str, Any] | None:
    """Read what a listing shows of one agent; None when it is not published."""
    query = _LISTING.format(key="0") + " AND a.id = %s"
    cursor = await connection.execute(query, [agent_id])  # pyright: ignore[reportArgumentType]
    return await cursor.fetchone()


async def create_deployment(connection: Connection, deployment: AgentDeployment) -> None:
    """Insert a deployment; one that exists already is left as it is."""
    await connection.execute(_INSERT_DEPLOYMENT, deployment.model_dump())


async def find_deployment(connection: Connection, deployment_id: str) -> dict[str, Any]:
    """Read one deployment of the transaction's tenant, with its agent's slug, without its configuration.

    Raises:
        DeploymentNotFoundError: The tenant has none of that identifier.
    """
    rows = await _deployments(connection, "d.id = %s", [deployment_id])
    if not rows:
        raise DeploymentNotFoundError(deployment_id)
    return rows[0]


async def list_deployments(
    connection: Connection, *, agent: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[dict[str, Any]]:
    """Read the tenant's deployments, newest first, without their configurations."""
    conditions, parameters = ["true"], list[Any]()
    if agent is not None:
        conditions.append("(d.agent_id = %s OR a.slug = %s)")
        parameters += [agent, agent]
    if before is not None:
        conditions.append("(d.created_at, d.id) < (%s, %s)")
        parameters += before
    condition = " AND ".join(conditions) + " ORDER BY d.created_at DESC, d.id DESC LIMIT %s"
    return await _deployments(connection, condition, [*parameters, limit])


async def _deployments(
    connection: Connection, condition: str, parameters: Sequence[Any]
) -> list[dict[str, Any]]:
    cursor = await connection.execute(
        "SELECT d.id, d.user_id, d.agent_id, d.version_id, d.version, d.status, d.created_at, a.slug, "  # pyright: ignore[reportArgumentType]
        "v.status AS version_status FROM agent_deployments d LEFT JOIN agents a ON a.id = d.agent_id "
        f"LEFT JOIN agent_versions v ON v.id = d.version_id WHERE {condition}",
        parameters,
    )
    return await cursor.fetchall()


async def lock_outdated_deployments(
    connection: Connection, current_key_id: str, limit: int
) -> list[dict[str, Any]]:
    """Lock deployments whose configuration is encrypted under another key (platform transaction)."""
    cursor = await connection.execute(_OUTDATED, [current_key_id, limit])
    return await cursor.fetchall()


async def replace_ciphertext(
    connection: Connection, deployment_id: str, *, ciphertext: bytes, key_id: str
) -> None:
    """Write a locked deployment's configuration under another key."""
    await connection.execute(
        "UPDATE agent_deployments SET config_ciphertext = %s, config_key_id = %s, updated_at = now() "
        "WHERE id = %s",
        [ciphertext, key_id, deployment_id],
    )


async def has_run(connection: Connection, agent_id: str, *, user_id: str, tenant_id: str) -> bool:
    """Tell whether the user had an execution of the agent that ran to its end."""
    row = await (await connection.execute(_HAS_RUN, [agent_id, user_id, tenant_id])).fetchone()
    return bool(row and row["has_run"])


async def rate_agent(
    connection: Connection, agent_id: str, *, user_id: str, tenant_id: str, rating: int, comment: str | None
) -> AgentReview:
    """Write or replace a user's review and count it (platform transaction).

    The agent's counters are locked first, so that two reviews cannot both count the same change.
    """
    await connection.execute(_OPEN_STATISTICS, [agent_id])
    await connection.execute("SELECT FROM agent_statistics WHERE agent_id = %s FOR UPDATE", [agent_id])
    cursor = await connection.execute(
        "SELECT rating FROM agent_reviews WHERE agent_id = %s AND user_id = %s", [agent_id, user_id]
    )
    former = await cursor.fetchone()
    review = {
        "id": new_identifier("review"),
        "tenant_id": tenant_id,
        "user_id": user_id,
        "agent_id": agent_id,
        "rating": rating,
        "comment": comment,
    }
    row = await (await connection.execute(_UPSERT_REVIEW, review)).fetchone()
    assert row is not None, "an upsert returns its row"
    change = {
        "agent_id": agent_id,
        "count": 0 if former else 1,
        "sum": rating - (former["rating"] if former else 0),
    }
    await connection.execute(_COUNT_RATING, change)
    return AgentReview.model_validate(row)


async def list_reviews(
    connection: Connection, agent_id: str, *, before: tuple[datetime, str] | None, limit: int
) -> list[AgentReview]:
    """Read an agent's reviews, newest first."""
    query = "SELECT * FROM agent_reviews WHERE agent_id = %s"
    parameters: list[Any] = [agent_id]
    if before is not None:
        query += " AND (created_at, id) < (%s, %s)"
        parameters += before
    cursor = await connection.execute(
        query + " ORDER BY created_at DESC, id DESC LIMIT %s", [*parameters, limit]
    )
    return [AgentReview.model_validate(row) for row in await cursor.fetchall()]
