"""Everything that channels need running in a worker."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.client import Client

from activities.channels.dispatch import Dispatcher
from activities.channels.email import Mailer
from activities.channels.email_approval import EmailAdapter
from activities.channels.inbox import Inbox
from activities.channels.slack import SlackAdapter
from activities.records.database import Database
from activities.temporal.codec import KeyRing
from models.approval_policy import Channel
from models.settings import Settings


@asynccontextmanager
async def serving_channels(
    settings: Settings, database: Database, key_ring: KeyRing, temporal: Client
) -> AsyncGenerator[None]:
    """Send messages and carry out clicks for as long as the block lasts."""
    slack = SlackAdapter(settings.slack_api_url, settings.public_url)
    email = EmailAdapter(Mailer(settings), key_ring, settings.public_url)
    dispatcher = Dispatcher(database, key_ring, {Channel.SLACK: slack, Channel.EMAIL: email})
    inbox = Inbox(database, key_ring, temporal, slack)
    tasks = [
        asyncio.create_task(dispatcher.run(), name="channel-dispatcher"),
        asyncio.create_task(inbox.run(), name="channel-inbox"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
