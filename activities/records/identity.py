"""Tenants, users and API keys: the only writer of their tables."""

from collections.abc import Sequence
from datetime import datetime

from activities.records.database import Connection
from models.errors import NotFoundError
from models.identity import ApiKey, User


class ApiKeyNotFoundError(NotFoundError):
    """The caller has no such API key."""

    code = "API_KEY_NOT_FOUND"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"You have no API key {key_id}. GET /api-keys lists yours.", details={"api_key_id": key_id}
        )


_REMEMBER_TENANT = """
INSERT INTO tenants (tenant_id, name) VALUES (%(tenant_id)s, %(tenant_id)s) ON CONFLICT DO NOTHING
"""

_REMEMBER_USER = """
INSERT INTO users (id, tenant_id, email, name) VALUES (%(user_id)s, %(tenant_id)s, %(email)s, %(name)s)
ON CONFLICT (id) DO UPDATE
SET email = coalesce(excluded.email, users.email), name = coalesce(excluded.name, users.name),
    last_seen_at = now()
"""


async def remember_user(
    connection: Connection, *, tenant_id: str, user_id: str, email: str | None, name: str | None
) -> None:
    """Record that a user was here, with the address and name that the token gave, in a tenant transaction."""
    facts = {"tenant_id": tenant_id, "user_id": user_id, "email": email, "name": name}
    await connection.execute(_REMEMBER_TENANT, facts)
    await connection.execute(_REMEMBER_USER, facts)


async def find_user(connection: Connection, user_id: str) -> User | None:
    """Read one user visible to the transaction."""
    cursor = await connection.execute("SELECT * FROM users WHERE id = %s", [user_id])
    row = await cursor.fetchone()
    return None if row is None else User.model_validate(row)


_LIST_USERS = """
SELECT * FROM users
WHERE %(before_time)s::timestamptz IS NULL
   OR (created_at, id) < (%(before_time)s::timestamptz, %(before_id)s::text)
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""


async def list_users(
    connection: Connection, *, before: tuple[datetime, str] | None, limit: int
) -> list[User]:
    """Read the tenant's users, newest first, those after the cursor ``before`` only."""
    cursor = await connection.execute(_LIST_USERS, _page(before, limit))
    return [User.model_validate(row) for row in await cursor.fetchall()]


async def create_api_key(connection: Connection, key: ApiKey) -> None:
    """Insert a key; the same id again changes its hash, for a retry whose first answer was lost.

    The first answer showed a key that nobody received, so the new one takes its place.
    """
    await connection.execute(
        """
        INSERT INTO api_keys (id, tenant_id, user_id, name, key_hash, hint, roles, scopes,
                              created_at, expires_at)
        VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(name)s, %(key_hash)s, %(hint)s, %(roles)s, %(scopes)s,
                %(created_at)s, %(expires_at)s)
        ON CONFLICT (id) DO UPDATE SET key_hash = excluded.key_hash, hint = excluded.hint
        """,
        key.model_dump(),
    )


_FIND_KEY = """
WITH used AS (
    UPDATE api_keys SET last_used_at = now()
    WHERE key_hash = %(hash)s AND revoked_at IS NULL
      AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
)
SELECT * FROM api_keys WHERE key_hash = %(hash)s
"""


async def find_api_key(connection: Connection, key_hash: bytes) -> ApiKey | None:
    """Find a key by its SHA-256 in a platform transaction, and note its use once a minute."""
    cursor = await connection.execute(_FIND_KEY, {"hash": key_hash})
    row = await cursor.fetchone()
    return None if row is None else ApiKey.model_validate(row)


_LIST_KEYS = """
SELECT * FROM api_keys
WHERE user_id = %(user_id)s
  AND (%(before_time)s::timestamptz IS NULL
       OR (created_at, id) < (%(before_time)s::timestamptz, %(before_id)s::text))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""


async def list_api_keys(
    connection: Connection, user_id: str, *, before: tuple[datetime, str] | None, limit: int
) -> Sequence[ApiKey]:
    """Read a user's keys, newest first, revoked ones too, those after the cursor ``before`` only."""
    cursor = await connection.execute(_LIST_KEYS, {"user_id": user_id, **_page(before, limit)})
    return [ApiKey.model_validate(row) for row in await cursor.fetchall()]


async def revoke_api_key(connection: Connection, key_id: str, user_id: str) -> ApiKey:
    """Revoke one of a user's keys for good; revoking it again changes nothing.

    Raises:
        ApiKeyNotFoundError: The user has no such key.
    """
    cursor = await connection.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) "
        "WHERE id = %s AND user_id = %s RETURNING *",
        [key_id, user_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise ApiKeyNotFoundError(key_id)
    return ApiKey.model_validate(row)


def _page(before: tuple[datetime, str] | None, limit: int) -> dict[str, object]:
    time, identifier = before if before is not None else (None, None)
    return {"before_time": time, "before_id": identifier, "limit": limit}
