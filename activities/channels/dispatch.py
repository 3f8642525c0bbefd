"""Sending what is due and finishing what was sent; several workers may do it at once (research §2.5)."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from activities.channels.accounts import open_account
from activities.channels.protocol import Account, ChannelAdapter, Message
from activities.records.approval import find_approval
from activities.records.approval_deliveries import (
    claim_due,
    record_failed,
    record_refreshed,
    record_sent,
    supersede,
)
from activities.records.channels import account_of, external_user, remember_identity, user_of
from activities.records.database import Database, DatabaseUnavailableError
from activities.temporal.codec import DecryptionError, KeyRing
from models.approval import ApprovalState, NoticeKind, Priority
from models.approval_policy import Channel
from models.channel import (
    ChannelNotConfiguredError,
    ChannelRefusedError,
    ChannelUnavailableError,
    DeliveryRow,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("channels.dispatch")

AT_ONCE = 20
LEASE = timedelta(seconds=60)
IDLE_SECONDS = 0.25
MAX_ATTEMPTS = 10
LONGEST_PAUSE = timedelta(minutes=5)

WITHOUT_ACCOUNT = frozenset({Channel.EMAIL})
"""Channels that the process's settings reach."""


class Dispatcher:
    """Takes messages that are due and hands them to their channel."""

    def __init__(
        self, database: Database, key_ring: KeyRing, adapters: Mapping[Channel, ChannelAdapter]
    ) -> None:
        """Send by ``adapters``; a channel without one is not configured."""
        self._database, self._ring, self._adapters = database, key_ring, adapters

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            try:
                done = await self.pass_once()
            except DatabaseUnavailableError as error:
                log.warning("channels rest", reason=error.message)
                done = 0
            if not done:
                await asyncio.sleep(IDLE_SECONDS)

    async def pass_once(self) -> int:
        """Try what is due now; returns how much that was.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            due = await claim_due(connection, limit=AT_ONCE, lease=LEASE)
        await asyncio.gather(*(self._deliver(delivery) for delivery in due))
        return len(due)

    async def _deliver(self, delivery: DeliveryRow) -> None:
        try:
            await self._try(delivery)
        except ChannelUnavailableError as error:
            await self._fail(delivery, error.message, _pause(delivery, error))
        except (ChannelRefusedError, ChannelNotConfiguredError, DecryptionError) as error:
            await self._fail(delivery, error.message, None)
        except DatabaseUnavailableError:
            raise
        except Exception as error:
            # One message must not stop the others; its lease ends, and it is tried again.
            log.error("message failed", delivery_id=delivery.id, exc_info=error)

    async def _try(self, delivery: DeliveryRow) -> None:
        async with self._database.platform() as connection:
            row = await find_approval(connection, delivery.approval_id)
            closed = row.state is not ApprovalState.OPEN
            # Later channels are for those who have not answered; an answer makes them needless.
            answered = (
                delivery.place > 0
                and row.acknowledged_at is not None
                and row.priority is not Priority.CRITICAL
                and delivery.kind is NoticeKind.APPROVAL
            )
            if not delivery.refresh and (closed or answered):
                await supersede(connection, [delivery.id])
                return
            account = await account_of(connection, delivery.tenant_id, delivery.channel)
            user = await user_of(connection, delivery.recipient)
            known = await external_user(connection, delivery.tenant_id, delivery.channel, delivery.recipient)
        adapter = self._adapters.get(delivery.channel)
        if adapter is None or (account is None and delivery.channel not in WITHOUT_ACCOUNT):
            raise ChannelNotConfiguredError(delivery.channel)
        message = Message(
            delivery_id=delivery.id,
            kind=delivery.kind,
            approval=row,
            user_id=delivery.recipient,
            email=user.email if user is not None and user.tenant_id == delivery.tenant_id else None,
            account=Account() if account is None else open_account(self._ring, account),
            external_user=known,
        )
        if delivery.refresh:
            await adapter.finish(message, delivery.external_id or "")
            async with self._database.platform() as connection:
                await record_refreshed(connection, delivery.id)
            return
        receipt = await adapter.send(message)
        async with self._database.platform() as connection:
            await record_sent(
                connection, delivery.id, address=receipt.address, external_id=receipt.external_id
            )
            if receipt.external_user is not None and receipt.external_user != known:
                await remember_identity(
                    connection,
                    delivery.tenant_id,
                    delivery.channel,
                    receipt.external_user,
                    delivery.recipient,
                )

    async def _fail(self, delivery: DeliveryRow, error: str, retry_in: timedelta | None) -> None:
        log.warning("message not delivered", delivery_id=delivery.id, channel=delivery.channel, reason=error)
        async with self._database.platform() as connection:
            await record_failed(connection, delivery, error, retry_in=retry_in)


def _pause(delivery: DeliveryRow, error: ChannelUnavailableError) -> timedelta | None:
    if delivery.attempts >= MAX_ATTEMPTS:
        return None
    if error.retry_after_seconds is not None:
        return min(timedelta(seconds=error.retry_after_seconds), LONGEST_PAUSE)
    return min(timedelta(seconds=2**delivery.attempts / 2), LONGEST_PAUSE)
