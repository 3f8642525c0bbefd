"""The installation's routing: its revisions."""

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.identifiers import new_identifier
from models.ledger import PLATFORM_TENANT
from models.routing import DEFAULT_ROUTING, PaymentRouting, RoutingChangedError, RoutingRules, RoutingView

_CURRENT = "SELECT * FROM payment_routings WHERE tenant_id = %s ORDER BY revision DESC LIMIT 1"

_ADD = """
INSERT INTO payment_routings (id, tenant_id, revision, rules, created_by, created_at)
VALUES (%s, %s, %s, %s, %s, now())
ON CONFLICT (tenant_id, revision) DO NOTHING
RETURNING *
"""


async def current_routing(connection: Connection) -> RoutingView:
    """Return the routing in force, in a platform transaction; revision 0 is the default."""
    row = await (await connection.execute(_CURRENT, [PLATFORM_TENANT])).fetchone()
    if row is None:
        return RoutingView(revision=0, rules=DEFAULT_ROUTING)
    found = PaymentRouting.model_validate(row)
    return RoutingView(revision=found.revision, rules=RoutingRules.model_validate(found.rules))


async def replace_routing(connection: Connection, rules: RoutingRules, *, changed_by: str) -> RoutingView:
    """Put a routing in force from the next purchase on, in a platform transaction.

    Raises:
        RoutingChangedError: Another change came first.
    """
    revision = (await current_routing(connection)).revision + 1
    values = [
        new_identifier("routing"),
        PLATFORM_TENANT,
        revision,
        Jsonb(rules.model_dump(mode="json")),
        changed_by,
    ]
    if await (await connection.execute(_ADD, values)).fetchone() is None:
        raise RoutingChangedError
    return RoutingView(revision=revision, rules=rules)
