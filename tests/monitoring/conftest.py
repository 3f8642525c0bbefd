"""The store, with every event published and measured when a test says so."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import httpx
import pytest
from fastapi import FastAPI

from activities.monitoring import Measurer
from activities.records.database import Database
from activities.records.runs import append_events, create_run
from activities.streams.publisher import Publisher
from api.app import create_app
from api.issuer_key import IssuerKey
from models.event import NewEvent
from models.identifiers import new_identifier
from models.identity import Role
from models.run import Run, RunKind, RunStatus
from models.settings import Settings
from tests.api.calling import TokenFor, client_of, running, with_issuer
from tests.events.log import store_of

Measured = Callable[[], Awaitable[None]]
Story = Callable[..., Awaitable[Run]]


@pytest.fixture(scope="session")
async def store(database: Settings) -> AsyncIterator[Database]:
    async with store_of(database, name="tests-monitoring") as opened:
        yield opened


@pytest.fixture
def measured(store: Database) -> Measured:
    """Publish and measure everything that was written so far."""

    async def everything() -> None:
        publisher, measurer = Publisher(store), Measurer(store)
        while await publisher.pass_once():
            continue
        while await measurer.pass_once():
            continue

    return everything


@pytest.fixture
def story(store: Database) -> Story:
    """Write a run: ``story(tenant, kind, subject, [events], ends=RunStatus.SUCCEEDED)``."""

    async def write(
        tenant_id: str,
        kind: RunKind,
        subject: str,
        events: Sequence[NewEvent] = (),
        *,
        ends: RunStatus | None = None,
        ending: Sequence[NewEvent] = (),
    ) -> Run:
        run_id = new_identifier("process_instance" if kind is RunKind.FLOW else "execution")
        run = Run(
            id=run_id,
            tenant_id=tenant_id,
            kind=kind,
            subject=subject,
            correlation_id=run_id,
            workflow_id=f"{kind}/{run_id}",
        )
        async with store.tenant(tenant_id) as connection:
            await create_run(connection, run)
            for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
                await append_events(connection, run_id, [], status=status)
            await append_events(connection, run_id, events)
            if ends is not None:
                await append_events(connection, run_id, ending, status=ends)
        return run

    return write


@pytest.fixture(scope="session")
def monitoring_settings(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return with_issuer(services, tmp_path_factory.mktemp("monitoring-secrets"))


@pytest.fixture(scope="session")
async def monitoring_app(monitoring_settings: Settings) -> AsyncIterator[FastAPI]:
    async with running(create_app(monitoring_settings)) as started:
        yield started


@pytest.fixture
async def web(monitoring_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(monitoring_app) as client:
        yield client


@pytest.fixture
def token(monitoring_settings: Settings) -> TokenFor:
    key = IssuerKey.from_settings(monitoring_settings)
    assert key is not None

    def make(tenant_id: str, role: Role = Role.OPERATOR) -> str:
        return key.issue(
            issuer=monitoring_settings.jwt_issuer,
            audience=monitoring_settings.jwt_audience,
            name="ola",
            tenant_id=tenant_id,
            roles=[role],
            lifetime_seconds=600,
        )

    return make
