"""What every request may use: one of each per process, made when the application starts."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection
from temporalio.client import Client

from activities.records.database import Database
from activities.storage import ObjectStore
from activities.temporal.client import connect
from activities.temporal.codec import KeyRing
from api.issuer_key import IssuerKey
from api.token import TokenVerifier, token_verifier
from models.settings import Settings


@dataclass
class Services:
    """The servers and keys behind the API.

    Attributes:
        settings: What the process was started with.
        database: PostgreSQL; open.
        object_store: S3.
        temporal: Client that connects at its first call.
        key_ring: Encrypts stored configuration.
        tokens: Verifies bearer tokens.
        issuer_key: Key of the embedded issuer; None where an identity provider issues tokens.
        users_seen: User id → (facts last written, monotonic time), so that a user's row is written
            once per process and again only when it changed or a while has passed.
    """

    settings: Settings
    database: Database
    object_store: ObjectStore
    temporal: Client
    key_ring: KeyRing
    tokens: TokenVerifier
    issuer_key: IssuerKey | None = None
    users_seen: dict[str, tuple[tuple[str | None, ...], float]] = field(
        default_factory=dict[str, tuple[tuple[str | None, ...], float]]
    )


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services]:
    """Make the services of the settings; nothing has to answer yet, readiness is `/health/ready`.

    Raises:
        InvalidSettingsError: A setting is missing or malformed.
    """
    issuer_key = IssuerKey.from_settings(settings)
    ring = KeyRing(settings.encryption_key_ring())
    object_store = ObjectStore(settings)
    temporal = await connect(settings, object_store, lazy=True)
    database = Database(
        settings.database_url.get_secret_value(),
        settings.database_platform_url.get_secret_value(),
        name="switchyard-api",
    )
    async with database, token_verifier(settings, issuer_key) as tokens:
        yield Services(
            settings=settings,
            database=database,
            object_store=object_store,
            temporal=temporal,
            key_ring=ring,
            tokens=tokens,
            issuer_key=issuer_key,
        )


def services_of(connection: HTTPConnection) -> Services:
    """Return the application's services; works for requests and WebSockets."""
    services: Services = connection.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
"""Declare a parameter of this type to get the services."""
