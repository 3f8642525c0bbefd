"""Stream tickets: the only writer of ``stream_tickets``."""

from activities.records.database import Connection
from models.stream import StreamTicket

_INSERT = """
INSERT INTO stream_tickets (ticket_hash, tenant_id, user_id, roles, scopes, credential_expires_at,
                            expires_at, created_at)
VALUES (%(ticket_hash)s, %(tenant_id)s, %(user_id)s, %(roles)s, %(scopes)s, %(credential_expires_at)s,
        %(expires_at)s, %(created_at)s)
"""

_REDEEM = "DELETE FROM stream_tickets WHERE ticket_hash = %s AND expires_at > now() RETURNING *"


async def add_ticket(connection: Connection, ticket: StreamTicket) -> None:
    """Store a ticket of the transaction's tenant."""
    await connection.execute(_INSERT, ticket.model_dump())


async def redeem_ticket(connection: Connection, ticket_hash: bytes) -> StreamTicket | None:
    """Use a ticket up: of two who try, one gets it. Tickets that expired unused go with it.

    Returns:
        None where it is unknown, used or expired.
    """
    row = await (await connection.execute(_REDEEM, [ticket_hash])).fetchone()
    await connection.execute("DELETE FROM stream_tickets WHERE expires_at < now() - interval '1 minute'")
    return None if row is None else StreamTicket.model_validate(row)
