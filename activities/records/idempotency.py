"""First answers to requests that carry an ``Idempotency-Key``: the only writer of their table (DESIGN §4).

A row goes through three states, told by ``response_status``:

- NULL: an attempt is under way. ``created_at`` is its last sign of life; older than the lease, the attempt
  died with its process and the next one takes over, with the same ``subject_id``.
- 429 or 5xx: the attempt failed for a passing reason; the next one takes over in the same way.
- anything else: the final answer, returned to every repetition.
"""

from dataclasses import dataclass
from datetime import timedelta

from activities.records.database import Connection
from models.identity import IdempotencyRecord

LEASE_SECONDS = 10.0
"""An attempt that gave no sign of life for so long is dead."""


@dataclass(frozen=True)
class KeyOwner:
    """Whose key it is: keys of two users never meet."""

    tenant_id: str
    user_id: str
    key: str


_CLAIM = """
INSERT INTO idempotency_records (tenant_id, user_id, key, operation, request_hash, subject_id, created_at)
VALUES (%(tenant_id)s, %(user_id)s, %(key)s, %(operation)s, %(request_hash)s, %(subject_id)s,
        clock_timestamp())
ON CONFLICT (tenant_id, user_id, key) DO UPDATE
SET created_at = clock_timestamp(), response_status = NULL, response_body = NULL
WHERE idempotency_records.operation = excluded.operation
  AND idempotency_records.request_hash = excluded.request_hash
  AND (idempotency_records.response_status >= 500
       OR idempotency_records.response_status = 429
       OR (idempotency_records.response_status IS NULL
           AND idempotency_records.created_at < clock_timestamp() - make_interval(secs => %(lease)s)))
RETURNING *
"""

_FIND = """
SELECT * FROM idempotency_records
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s
"""

_RENEW = """
UPDATE idempotency_records SET created_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s AND response_status IS NULL
"""

_FINISH = """
UPDATE idempotency_records SET response_status = %(status)s, response_body = %(body)s
WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s AND response_status IS NULL
"""


async def claim_key(
    connection: Connection, owner: KeyOwner, *, operation: str, request_hash: bytes, subject_id: str
) -> IdempotencyRecord | None:
    """Take the key for an attempt, if it is free: new, failed for a passing reason, or its owner died.

    Args:
        connection: A transaction of the owner's tenant.
        owner: Whose key.
        operation: Method and path template.
        request_hash: SHA-256 of all that makes the request what it is.
        subject_id: Reserved for what the request creates, unless an earlier attempt reserved one.

    Returns:
        The record with the reserved ``subject_id``, or None when the key is not free: see `find_key`.
    """
    parameters = {
        **_owned(owner),
        "operation": operation,
        "request_hash": request_hash,
        "subject_id": subject_id,
        "lease": LEASE_SECONDS,
    }
    row = await (await connection.execute(_CLAIM, parameters)).fetchone()
    return None if row is None else IdempotencyRecord.model_validate(row)


async def find_key(connection: Connection, owner: KeyOwner) -> IdempotencyRecord | None:
    """Read the key's record."""
    row = await (await connection.execute(_FIND, _owned(owner))).fetchone()
    return None if row is None else IdempotencyRecord.model_validate(row)


async def renew_key(connection: Connection, owner: KeyOwner) -> None:
    """Give a sign of life for the attempt under way."""
    await connection.execute(_RENEW, _owned(owner))


async def finish_key(connection: Connection, owner: KeyOwner, *, status: int, body: bytes) -> bool:
    """Record how the attempt ended, unless another one that took over was first.

    Returns:
        Whether this answer is the recorded one.
    """
    cursor = await connection.execute(_FINISH, {**_owned(owner), "status": status, "body": body})
    return cursor.rowcount == 1


def _owned(owner: KeyOwner) -> dict[str, object]:
    return {"tenant_id": owner.tenant_id, "user_id": owner.user_id, "key": owner.key}


async def forget_keys(connection: Connection, *, older_than: timedelta, limit: int) -> int:
    """Remove up to ``limit`` answers, of all tenants, that are older; returns how many."""
    cursor = await connection.execute(
        "DELETE FROM idempotency_records WHERE ctid IN "
        "(SELECT ctid FROM idempotency_records WHERE created_at < now() - %s LIMIT %s)",
        [older_than, limit],
    )
    return cursor.rowcount
