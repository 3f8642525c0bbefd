"""Accounts, identities and the inbox of channels: the only writer of their tables."""

from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.channel import ChannelAccount, ChannelInbox, InboxStatus
from models.identity import User


async def put_account(connection: Connection, account: ChannelAccount) -> ChannelAccount:
    """Set a tenant's access to a channel; its identifier stays, because callbacks name it."""
    row = await (
        await connection.execute(
            """
            INSERT INTO channel_accounts
                (tenant_id, channel, id, settings, secret_ciphertext, secret_key_id, updated_by)
            VALUES (%(tenant_id)s, %(channel)s, %(id)s, %(settings)s, %(secret_ciphertext)s,
                    %(secret_key_id)s, %(updated_by)s)
            ON CONFLICT (tenant_id, channel) DO UPDATE
            SET settings = excluded.settings, secret_ciphertext = excluded.secret_ciphertext,
                secret_key_id = excluded.secret_key_id, updated_by = excluded.updated_by, updated_at = now()
            RETURNING *
            """,
            {**account.model_dump(exclude={"updated_at"}), "settings": Jsonb(account.settings)},
        )
    ).fetchone()
    return ChannelAccount.model_validate(row)


async def find_account(connection: Connection, channel: str) -> ChannelAccount | None:
    """Read the tenant's access to a channel."""
    cursor = await connection.execute("SELECT * FROM channel_accounts WHERE channel = %s", [channel])
    row = await cursor.fetchone()
    return None if row is None else ChannelAccount.model_validate(row)


async def account_of(connection: Connection, tenant_id: str, channel: str) -> ChannelAccount | None:
    """Read one tenant's access in a transaction of the platform."""
    cursor = await connection.execute(
        "SELECT * FROM channel_accounts WHERE tenant_id = %s AND channel = %s", [tenant_id, channel]
    )
    row = await cursor.fetchone()
    return None if row is None else ChannelAccount.model_validate(row)


async def account_by_id(connection: Connection, account_id: str) -> ChannelAccount | None:
    """Read the account that a callback names, in a transaction of the platform."""
    cursor = await connection.execute("SELECT * FROM channel_accounts WHERE id = %s", [account_id])
    row = await cursor.fetchone()
    return None if row is None else ChannelAccount.model_validate(row)


async def external_user(connection: Connection, tenant_id: str, channel: str, user_id: str) -> str | None:
    """Return who a person is in a channel, as far as it was found out."""
    cursor = await connection.execute(
        """
        SELECT external_id FROM channel_identities
        WHERE tenant_id = %s AND channel = %s AND user_id = %s AND looked_up_at > now() - interval '7 days'
        ORDER BY looked_up_at DESC LIMIT 1
        """,
        [tenant_id, channel, user_id],
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["external_id"])


async def known_user(connection: Connection, tenant_id: str, channel: str, external_id: str) -> str | None:
    """Return who a channel's user is here, as far as it was found out."""
    cursor = await connection.execute(
        """
        SELECT user_id FROM channel_identities
        WHERE tenant_id = %s AND channel = %s AND external_id = %s
          AND looked_up_at > now() - interval '7 days'
        """,
        [tenant_id, channel, external_id],
    )
    row = await cursor.fetchone()
    return None if row is None else str(row["user_id"])


async def remember_identity(
    connection: Connection, tenant_id: str, channel: str, external_id: str, user_id: str
) -> None:
    """Keep who a channel's user is here."""
    await connection.execute(
        """
        INSERT INTO channel_identities (tenant_id, channel, external_id, user_id) VALUES (%s, %s, %s, %s)
        ON CONFLICT (tenant_id, channel, external_id) DO UPDATE
        SET user_id = excluded.user_id, looked_up_at = now()
        """,
        [tenant_id, channel, external_id, user_id],
    )


async def users_by_email(connection: Connection, tenant_id: str, email: str) -> list[str]:
    """List the tenant's people who have an address; more than one means that it names nobody."""
    cursor = await connection.execute(
        "SELECT id FROM users WHERE tenant_id = %s AND lower(email) = lower(%s) LIMIT 2", [tenant_id, email]
    )
    return [str(row["id"]) for row in await cursor.fetchall()]


async def user_of(connection: Connection, user_id: str) -> User | None:
    """Read a person in a transaction of the platform."""
    cursor = await connection.execute("SELECT * FROM users WHERE id = %s", [user_id])
    row = await cursor.fetchone()
    return None if row is None else User.model_validate(row)


async def keep_message(connection: Connection, message: ChannelInbox) -> bool:
    """Keep what came back from a channel; False where it was kept before."""
    cursor = await connection.execute(
        """
        INSERT INTO channel_inbox (id, tenant_id, channel, key, body, status, attempts, due_at)
        VALUES (%(id)s, %(tenant_id)s, %(channel)s, %(key)s, %(body)s, 'received', 0, now())
        ON CONFLICT (tenant_id, channel, key) DO NOTHING
        """,
        {**message.model_dump(include={"id", "tenant_id", "channel", "key"}), "body": Jsonb(message.body)},
    )
    return cursor.rowcount > 0


async def claim_messages(connection: Connection, *, limit: int, lease: timedelta) -> list[ChannelInbox]:
    """Take what waits to be carried out, of all tenants; a lease ends with whoever dies."""
    cursor = await connection.execute(
        """
        UPDATE channel_inbox i SET due_at = now() + %(lease)s, attempts = attempts + 1
        FROM (
            SELECT id FROM channel_inbox WHERE status = 'received' AND due_at <= now()
            ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) due
        WHERE i.id = due.id RETURNING i.*
        """,
        {"limit": limit, "lease": lease},
    )
    return [ChannelInbox.model_validate(row) for row in await cursor.fetchall()]


async def finish_message(connection: Connection, message_id: str, status: InboxStatus, result: str) -> None:
    """Report what became of it."""
    await connection.execute(
        "UPDATE channel_inbox SET status = %s, result = %s, handled_at = now() WHERE id = %s",
        [status, result[:500], message_id],
    )


async def postpone_message(connection: Connection, message_id: str, pause: timedelta) -> None:
    """Carry it out later."""
    parameters: list[Any] = [pause, message_id]
    await connection.execute("UPDATE channel_inbox SET due_at = now() + %s WHERE id = %s", parameters)
