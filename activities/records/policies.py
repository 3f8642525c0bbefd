"""Tenants' payment policies and the counters that make limits exact."""

from dataclasses import dataclass
from datetime import date

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.errors import ConflictError
from models.identifiers import new_identifier
from models.policy import (
    DEFAULT_RULES,
    CounterPeriod,
    CounterScope,
    CurrencyLimits,
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

# Row locks are held to the end of the transaction: concurrent purchases against one limit queue up here.
# Every writer takes the rows in the same order.
_COUNT = """
INSERT INTO spending_counters AS c (tenant_id, scope, subject_id, period, starts_on, currency, spent)
SELECT %(tenant_id)s, t.scope, t.subject_id, t.period, t.starts_on, %(currency)s, %(amount)s
FROM unnest(%(scopes)s::text[], %(subjects)s::text[], %(periods)s::text[], %(starts)s::date[])
     WITH ORDINALITY AS t (scope, subject_id, period, starts_on, place)
ORDER BY t.place
ON CONFLICT (tenant_id, scope, subject_id, period, starts_on, currency)
DO UPDATE SET spent = c.spent + EXCLUDED.spent
RETURNING scope, period, spent
"""

_OF_PURCHASE = """
    FROM unnest(%(scopes)s::text[], %(subjects)s::text[], %(periods)s::text[], %(starts)s::date[])
         WITH ORDINALITY AS t (scope, subject_id, period, starts_on, place)
    JOIN spending_counters c ON c.tenant_id = %(tenant_id)s AND c.scope = t.scope
         AND c.subject_id = t.subject_id AND c.period = t.period AND c.starts_on = t.starts_on
         AND c.currency = %(currency)s
"""

_LOCK = f"SELECT {_OF_PURCHASE} ORDER BY t.place FOR UPDATE OF c"

# A statement of its own, so that it sees what those wrote for whom the locks had to wait.
_GIVE_BACK = """
UPDATE spending_counters c SET spent = c.spent - %(amount)s
FROM unnest(%(scopes)s::text[], %(subjects)s::text[], %(periods)s::text[], %(starts)s::date[])
     AS t (scope, subject_id, period, starts_on)
WHERE c.tenant_id = %(tenant_id)s AND c.scope = t.scope AND c.subject_id = t.subject_id
  AND c.period = t.period AND c.starts_on = t.starts_on AND c.currency = %(currency)s
"""

_SPENT = f"SELECT t.scope, t.period, c.spent {_OF_PURCHASE} ORDER BY t.place"


@dataclass(frozen=True)
class Spending:
    """A purchase as its counters see it.

    Attributes:
        tenant_id: The payer's tenant.
        user_id: Who buys.
        agent_id: What is bought.
        day: The UTC day on which it counts.
        currency: ISO 4217 code.
        amount: Minor units, positive.
    """

    tenant_id: str
    user_id: str
    agent_id: str
    day: date
    currency: str
    amount: int

    def parameters(self) -> dict[str, object]:
        """Name the six counters: of agent, tenant and user, for the day and the month, in locking order."""
        subjects = {
            CounterScope.AGENT: self.agent_id,
            CounterScope.TENANT: self.tenant_id,
            CounterScope.USER: self.user_id,
        }
        counters = [(scope, period) for scope in CounterScope for period in CounterPeriod]
        return {
            "tenant_id": self.tenant_id,
            "currency": self.currency,
            "amount": self.amount,
            "scopes": [scope.value for scope, _ in counters],
            "subjects": [subjects[scope] for scope, _ in counters],
            "periods": [period.value for _, period in counters],
            "starts": [period.starts(self.day) for _, period in counters],
        }


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


async def count_spending(connection: Connection, spending: Spending, limits: CurrencyLimits) -> None:
    """Add a purchase to what user, agent and tenant have held and spent, holding the counters' row locks.

    Raises:
        DailyLimitExceededError, MonthlyLimitExceededError: A sum would go over its limit; the caller's
            transaction must roll back.
    """
    cursor = await connection.execute(_COUNT, spending.parameters())
    _judge(await cursor.fetchall(), spending, limits)


async def give_back_spending(connection: Connection, spending: Spending) -> None:
    """Take an amount off the counters it was added to: it was not spent after all."""
    if spending.amount:
        await connection.execute(_LOCK.encode(), spending.parameters())
        await connection.execute(_GIVE_BACK, spending.parameters())


async def check_spending(connection: Connection, spending: Spending, limits: CurrencyLimits) -> None:
    """Judge a purchase that is counted already by other limits than it was counted under.

    Raises:
        DailyLimitExceededError, MonthlyLimitExceededError: A sum is over its limit now.
    """
    cursor = await connection.execute(_SPENT.encode(), spending.parameters())
    _judge(await cursor.fetchall(), spending, limits)


def _judge(rows: list[DictRow], spending: Spending, limits: CurrencyLimits) -> None:
    for row in rows:
        limits.check_sum(
            CounterScope(row["scope"]),
            CounterPeriod(row["period"]),
            spent=row["spent"],
            amount=spending.amount,
            currency=spending.currency,
        )
