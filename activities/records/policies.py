"""Tenants' payment policies and the counters that make limits exact."""

from datetime import date

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.errors import ConflictError
from models.identifiers import new_identifier
from models.policy import (
    DEFAULT_RULES,
    CounterPeriod,
    CounterScope,
    DailyLimitExceededError,
    PaymentPolicy,
    PolicyRules,
)


class PolicyRevisionError(ConflictError):
    """Somebody else changed the policy at the same time."""

    code = "POLICY_CHANGED"

    def __init__(self) -> None:
        super().__init__("The policy was changed at the same time; read it again and repeat the change.")


_CURRENT = "SELECT * FROM payment_policies WHERE tenant_id = %s ORDER BY revision DESC LIMIT 1"

_ADD = """
INSERT INTO payment_policies (id, tenant_id, revision, rules, rules_hash, created_by, created_at)
VALUES (%s, %s, %s, %s, %s, %s, now())
ON CONFLICT (tenant_id, revision) DO NOTHING
RETURNING *
"""

# The row lock is held to the end of the transaction: concurrent purchases of one user queue up here.
_COUNT = """
INSERT INTO spending_counters AS c (tenant_id, scope, subject_id, period, starts_on, currency, spent)
VALUES (%(tenant_id)s, %(scope)s, %(subject_id)s, %(period)s, %(day)s, %(currency)s, %(amount)s)
ON CONFLICT (tenant_id, scope, subject_id, period, starts_on, currency)
DO UPDATE SET spent = c.spent + EXCLUDED.spent
RETURNING spent
"""


async def current_policy(connection: Connection, tenant_id: str) -> PaymentPolicy:
    """Return the policy in force; a tenant without one gets the default as its first revision."""
    row = await (await connection.execute(_CURRENT, [tenant_id])).fetchone()
    if row is None:
        await _add(connection, tenant_id, 1, DEFAULT_RULES, None)
        row = await (await connection.execute(_CURRENT, [tenant_id])).fetchone()
        assert row is not None, "this transaction or the one it waited for wrote the first revision"
    return PaymentPolicy.model_validate(row)


async def replace_policy(
    connection: Connection, tenant_id: str, rules: PolicyRules, *, changed_by: str
) -> PaymentPolicy:
    """Put new rules in force from the next purchase on; holds that exist keep theirs until they settle.

    Raises:
        PolicyRevisionError: Another change came first.
    """
    current = await current_policy(connection, tenant_id)
    added = await _add(connection, tenant_id, current.revision + 1, rules, changed_by)
    if added is None:
        raise PolicyRevisionError
    return added


async def _add(
    connection: Connection, tenant_id: str, revision: int, rules: PolicyRules, changed_by: str | None
) -> PaymentPolicy | None:
    values = [
        new_identifier("policy"),
        tenant_id,
        revision,
        Jsonb(rules.model_dump(mode="json")),
        rules.snapshot_hash(),
        changed_by,
    ]
    row = await (await connection.execute(_ADD, values)).fetchone()
    return None if row is None else PaymentPolicy.model_validate(row)


async def count_spending(
    connection: Connection,
    *,
    tenant_id: str,
    user_id: str,
    day: date,
    currency: str,
    amount: int,
    limit: int | None,
) -> None:
    """Add ``amount`` to what the user has held and spent on ``day``, holding the counter's row lock.

    A negative amount gives back; no limit applies to it.

    Raises:
        DailyLimitExceededError: The day would go over ``limit``; the caller's transaction must roll back.
    """
    parameters = {
        "tenant_id": tenant_id,
        "scope": CounterScope.USER,
        "subject_id": user_id,
        "period": CounterPeriod.DAY,
        "day": day,
        "currency": currency,
        "amount": amount,
    }
    if amount < 0:
        await connection.execute(
            "UPDATE spending_counters SET spent = spent + %(amount)s WHERE tenant_id = %(tenant_id)s "
            "AND scope = %(scope)s AND subject_id = %(subject_id)s AND period = %(period)s "
            "AND starts_on = %(day)s AND currency = %(currency)s",
            parameters,
        )
        return
    row = await (await connection.execute(_COUNT, parameters)).fetchone()
    assert row is not None, "the upsert returns its row"
    if limit is not None and row["spent"] > limit:
        raise DailyLimitExceededError(amount, row["spent"] - amount, limit, currency)
