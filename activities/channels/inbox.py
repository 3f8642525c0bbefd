"""Carrying out what came back from channels: each click once, whoever dies in between."""

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

from activities import approval_commands as commands
from activities.channels.accounts import open_account
from activities.channels.protocol import Account
from activities.channels.slack import SlackAdapter
from activities.records.approval import find_approval
from activities.records.channels import (
    account_of,
    claim_messages,
    finish_message,
    known_user,
    postpone_message,
    remember_identity,
    users_by_email,
)
from activities.records.database import Database, DatabaseUnavailableError
from activities.temporal.codec import KeyRing
from activities.temporal.failures import refusal_of
from models.approval import Action, Actor, Order, Via
from models.approval_records import ApprovalRow
from models.channel import (
    ChannelInbox,
    ChannelNotConfiguredError,
    ChannelRefusedError,
    ChannelUnavailableError,
    InboxStatus,
)
from models.errors import PermissionDeniedError, PlatformError

log: structlog.stdlib.BoundLogger = structlog.get_logger("channels.inbox")

AT_ONCE = 20
LEASE = timedelta(seconds=60)
IDLE_SECONDS = 0.1
LONGEST_PAUSE = timedelta(minutes=1)


class UnknownChannelUserError(PermissionDeniedError):
    """Nobody here has the address of the channel's user."""

    code = "UNKNOWN_CHANNEL_USER"

    def __init__(self) -> None:
        super().__init__("You are not known here by your e-mail address, so you cannot decide; sign in once.")


class Inbox:
    """Takes clicks that were kept and gives them to their requests."""

    def __init__(self, database: Database, key_ring: KeyRing, temporal: Client, slack: SlackAdapter) -> None:
        """Speak to ``temporal``; people are found and answered by ``slack``."""
        self._database, self._ring, self._temporal, self._slack = database, key_ring, temporal, slack

    async def run(self) -> None:
        """Carry out until cancelled."""
        while True:
            try:
                done = await self.pass_once()
            except DatabaseUnavailableError as error:
                log.warning("inbox rests", reason=error.message)
                done = 0
            if not done:
                await asyncio.sleep(IDLE_SECONDS)

    async def pass_once(self) -> int:
        """Carry out what waits; returns how much that was.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self._database.platform() as connection:
            waiting = await claim_messages(connection, limit=AT_ONCE, lease=LEASE)
        await asyncio.gather(*(self._carry_out(message) for message in waiting))
        return len(waiting)

    async def _carry_out(self, message: ChannelInbox) -> None:
        try:
            result = await self._act(message)
        except (
            ChannelUnavailableError,
            RPCError,
            WorkflowUpdateRPCTimeoutOrCancelledError,
            DatabaseUnavailableError,
        ) as error:
            log.warning("click waits", message_id=message.id, reason=type(error).__name__)
            pause = min(timedelta(seconds=2**message.attempts / 4), LONGEST_PAUSE)
            async with self._database.platform() as connection:
                await postpone_message(connection, message.id, pause)
            return
        except (PlatformError, WorkflowUpdateFailedError) as error:
            refusal = error if isinstance(error, PlatformError) else refusal_of(error)
            code = "INTERNAL_ERROR" if refusal is None else refusal.code
            text = "This cannot be decided now." if refusal is None else refusal.message
            async with self._database.platform() as connection:
                await finish_message(connection, message.id, InboxStatus.REFUSED, code)
            await self._whisper(message, text)
            return
        except Exception as error:
            # One click must not stop the others; its lease ends, and it is tried again.
            log.error("click failed", message_id=message.id, exc_info=error)
            return
        async with self._database.platform() as connection:
            await finish_message(connection, message.id, InboxStatus.HANDLED, result)

    async def _act(self, message: ChannelInbox) -> str:
        body = message.body
        async with self._database.platform() as connection:
            account = await account_of(connection, message.tenant_id, message.channel)
        if account is None:
            raise ChannelNotConfiguredError(message.channel)
        actor = await self._actor(message, open_account(self._ring, account))
        async with self._database.tenant(message.tenant_id) as connection:
            row = await find_approval(connection, body["approval_id"])
        if body["action"] == "acknowledge":
            order = Order(actor=actor, key=message.key[:200])
            await commands.order(self._temporal, self._database, row, "acknowledge", order)
            return "acknowledged"
        return await self._decide(message, row, actor)

    async def _decide(self, message: ChannelInbox, row: ApprovalRow, actor: Actor) -> str:
        decided = await commands.decide(
            self._temporal,
            self._database,
            row,
            actor,
            Action(message.body["action"]),
            key=f"{message.channel}:{message.key}"[:200],
            comment=message.body.get("comment"),
            payload_hash=message.body["payload_hash"],
        )
        return str(decided.result or "recorded")

    async def _actor(self, message: ChannelInbox, account: Account) -> Actor:
        """Find out by e-mail address who clicked.

        Raises:
            UnknownChannelUserError: Nobody here, or several people.
        """
        external: str = message.body["user"]
        async with self._database.platform() as connection:
            user_id = await known_user(connection, message.tenant_id, message.channel, external)
        if user_id is None:
            email = await self._slack.email_of(account, external.rpartition(":")[2])
            if email is None:
                raise UnknownChannelUserError
            async with self._database.platform() as connection:
                people = await users_by_email(connection, message.tenant_id, email)
                if len(people) != 1:
                    raise UnknownChannelUserError
                user_id = people[0]
                await remember_identity(connection, message.tenant_id, message.channel, external, user_id)
        return await commands.actor_for(
            self._database, message.tenant_id, user_id, via=Via.SLACK, channel_user_id=external
        )

    async def _whisper(self, message: ChannelInbox, text: str) -> None:
        """Tell the person why not; where that fails, too, the inbox says it."""
        place = message.body.get("channel")
        if not place:
            return
        try:
            async with self._database.platform() as connection:
                account = await account_of(connection, message.tenant_id, message.channel)
            if account is not None:
                opened = open_account(self._ring, account)
                await self._slack.whisper(opened, place, message.body["user"].rpartition(":")[2], text)
        except (ChannelUnavailableError, ChannelRefusedError, DatabaseUnavailableError) as error:
            log.info("refusal not told", message_id=message.id, reason=type(error).__name__)
