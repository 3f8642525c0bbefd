"""The store, a publisher, and the API behind a real server, because streams need a socket."""

from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from activities.records.database import Database
from activities.streams.publisher import publishing
from api.issuer_key import IssuerKey
from models.identity import Role
from models.settings import Settings
from tests.api.calling import serving, with_issuer
from tests.events.log import store_of

Token = Callable[..., str]
"""``token("tenant", Role.ADMIN, lifetime_seconds=60)``."""


@pytest.fixture(scope="session")
async def store(database: Settings) -> AsyncIterator[Database]:
    async with store_of(database) as opened:
        yield opened


@pytest.fixture
async def publisher(store: Database) -> AsyncIterator[None]:
    async with publishing(store):
        yield


@pytest.fixture(scope="session")
def event_settings(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_issuer(services, tmp_path_factory.mktemp("event-secrets"))


@pytest.fixture(scope="session")
def server(event_settings: Settings) -> Iterator[str]:
    with serving(event_settings) as url:
        yield url


@pytest.fixture(scope="session")
def token(event_settings: Settings) -> Token:
    key = IssuerKey.from_settings(event_settings)
    assert key is not None

    def make(tenant_id: str, *roles: Role, lifetime_seconds: int = 600) -> str:
        return key.issue(
            issuer=event_settings.jwt_issuer,
            audience=event_settings.jwt_audience,
            name="ada",
            tenant_id=tenant_id,
            roles=roles or (Role.ADMIN,),
            lifetime_seconds=lifetime_seconds,
        )

    return make


@pytest.fixture(scope="session")
async def web(server: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server, timeout=30, limits=limits, trust_env=False) as client:
        yield client
