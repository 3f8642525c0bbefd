"""The real application on the real servers, called in process."""

from collections.abc import AsyncIterator, Iterable
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.issuer_key import IssuerKey
from api.state import Services
from models.identity import Role
from models.settings import Settings
from tests.api.calling import TokenFor, client_of, running, with_issuer


@pytest.fixture(scope="session")
def api_settings(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_issuer(services, tmp_path_factory.mktemp("api-secrets"))


@pytest.fixture(scope="session")
def issuer_key(api_settings: Settings) -> IssuerKey:
    key = IssuerKey.from_settings(api_settings)
    assert key is not None
    return key


@pytest.fixture(scope="session")
async def app(api_settings: Settings) -> AsyncIterator[FastAPI]:
    async with running(create_app(api_settings)) as started:
        yield started


@pytest.fixture(scope="session")
def app_services(app: FastAPI) -> Services:
    services: Services = app.state.services
    return services


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as made:
        yield made


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid4().hex[:12]}"


@pytest.fixture
def token_for(issuer_key: IssuerKey, api_settings: Settings, tenant: str) -> TokenFor:
    """Make a token: ``token_for("ada", Role.DEVELOPER, tenant_id=...)``."""

    def make(name: str = "ada", *roles: Role, tenant_id: str = tenant, lifetime_seconds: int = 600) -> str:
        chosen: Iterable[Role] = roles or (Role.ADMIN,)
        return issuer_key.issue(
            issuer=api_settings.jwt_issuer,
            audience=api_settings.jwt_audience,
            name=name,
            tenant_id=tenant_id,
            roles=chosen,
            lifetime_seconds=lifetime_seconds,
        )

    return make
