"""What the activities of one process share: connections, keys, clients. Made once, at start."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from activities.records.database import Database
from activities.signing import Signer
from activities.storage import ObjectStore
from activities.temporal.codec import KeyRing
from models.settings import Settings


@dataclass(frozen=True)
class Services:
    """The outside world as this process reaches it."""

    settings: Settings
    database: Database
    objects: ObjectStore
    key_ring: KeyRing
    """Encrypts what the store keeps secret (deployment configuration)."""
    signer: Signer
    """Signs mandates and receipts."""


@asynccontextmanager
async def open_services(settings: Settings, *, name: str) -> AsyncGenerator[Services]:
    """Open every connection that activities need and close them at the end.

    Args:
        settings: Where things are.
        name: The process's name, shown in PostgreSQL's list of connections.
    """
    async with Database(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        name=name,
    ) as database:
        yield Services(
            settings=settings,
            database=database,
            objects=ObjectStore(settings),
            key_ring=KeyRing(settings.encryption_key_ring()),
            signer=Signer.from_settings(settings),
        )
