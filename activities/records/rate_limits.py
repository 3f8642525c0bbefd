"""Token buckets that all API processes share: the only writer of ``rate_limit_buckets``."""

from datetime import timedelta

from activities.records.database import Connection
from models.rate_limit import RateLimitPolicy

# Filling locks the row, so that two processes never hand out the same token.
_FILL = """
INSERT INTO rate_limit_buckets AS b (tenant_id, key, tokens, refilled_at)
VALUES (%(tenant_id)s, %(key)s, %(quota)s, clock_timestamp())
ON CONFLICT (tenant_id, key) DO UPDATE
SET tokens = least(%(quota)s, b.tokens + %(returned)s + %(rate)s
                   * greatest(0, extract(epoch FROM clock_timestamp() - b.refilled_at)::float)),
    refilled_at = greatest(b.refilled_at, clock_timestamp())
RETURNING tokens
"""

_TAKE = "UPDATE rate_limit_buckets SET tokens = tokens - %s WHERE tenant_id = %s AND key = %s"


async def take_tokens(
    connection: Connection,
    policy: RateLimitPolicy,
    *,
    tenant_id: str,
    key: str,
    wanted: int,
    returned: float = 0,
) -> tuple[int, float]:
    """Take up to ``wanted`` tokens out of a bucket, giving back what was taken before and not spent.

    Returns:
        How many were there, and what the bucket still holds.
    """
    parameters = {
        "tenant_id": tenant_id,
        "key": key,
        "quota": float(policy.quota),
        "rate": policy.per_second,
        "returned": returned,
    }
    row = await (await connection.execute(_FILL, parameters)).fetchone()
    assert row is not None, "an upsert always returns its row"
    tokens = float(row["tokens"])
    granted = min(wanted, int(tokens))
    if granted:
        await connection.execute(_TAKE, [granted, tenant_id, key])
    return granted, tokens - granted


async def drop_idle_buckets(connection: Connection, *, keep: timedelta) -> int:
    """Remove buckets that nobody used for so long that they are full again; the platform's transaction."""
    cursor = await connection.execute("DELETE FROM rate_limit_buckets WHERE refilled_at < now() - %s", [keep])
    return cursor.rowcount
