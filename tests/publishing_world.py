"""A world for publishing: the real servers, a Temporal server of its own, worker and API in this process.

The Temporal server is not shared because a test stops the worker, and other tests' workers would go on.
"""

import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client

from activities.channels.email import mailbox_directory
from activities.services import Services, open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.embedded import EmbeddedStack
from cli.stack.secrets import SecretStore
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import client_of, running
from tests.builders import Marketplace, Person
from worker import running_workers


class RestartableWorker:
    """The worker of the core queue, which a test may stop and start again."""

    def __init__(self, services: Services, temporal: Client) -> None:
        self._services, self._temporal = services, temporal
        self._running = AsyncExitStack()

    async def start(self) -> None:
        await self._running.enter_async_context(
            running_workers(self._services, self._temporal, [TaskQueue.CORE])
        )

    async def stop(self) -> None:
        await self._running.aclose()


@dataclass
class World:
    """What a publishing test needs."""

    settings: Settings
    services: Services
    temporal: Client
    worker: RestartableWorker
    market: Marketplace
    developer: Person
    reviewer: Person

    def letters(self, to: str) -> list[EmailMessage]:
        """The letters in the local mailbox to an address."""
        found: list[EmailMessage] = []
        for path in mailbox_directory(self.settings).glob("*.eml"):
            letter = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            assert isinstance(letter, EmailMessage)
            if letter["To"] == to:
                found.append(letter)
        return found


@pytest.fixture(scope="session")
def publishing_settings(
    database: Settings,
    object_store: Settings,
    stack_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("publishing")
    with EmbeddedStack(
        stack_directory / "publishing", parts=["temporal"], durable=False, ports="auto"
    ) as temporal:
        yield database.model_copy(
            update={
                **{
                    name: getattr(object_store, name)
                    for name in type(database).model_fields
                    if name[:3] == "s3_"
                },
                "temporal_address": temporal.temporal_address,
                "jwt_signing_key_file": SecretStore(home).issuer_key_file(),
                "jwt_jwks_url": "",
                "data_dir": home,
            }
        )


@pytest.fixture(scope="session")
async def publishing_services(publishing_settings: Settings) -> AsyncIterator[Services]:
    async with open_services(publishing_settings, name="switchyard-test-publishing") as services:
        yield services


@pytest.fixture(scope="session")
async def publishing_temporal(publishing_services: Services) -> Client:
    return await connect(publishing_services.settings, publishing_services.objects)


@pytest.fixture(scope="session")
async def publishing_api(publishing_services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(publishing_services.settings)) as app, client_of(app) as client:
        yield client


@pytest.fixture(scope="session")
async def publishing_worker(
    publishing_services: Services, publishing_temporal: Client
) -> AsyncIterator[RestartableWorker]:
    worker = RestartableWorker(publishing_services, publishing_temporal)
    await worker.start()
    yield worker
    await worker.stop()


@pytest.fixture(scope="session")
async def publishing_world(
    publishing_services: Services,
    publishing_temporal: Client,
    publishing_worker: RestartableWorker,
    publishing_api: httpx.AsyncClient,
) -> World:
    market = Marketplace(publishing_api)
    return World(
        settings=publishing_services.settings,
        services=publishing_services,
        temporal=publishing_temporal,
        worker=publishing_worker,
        market=market,
        developer=await market.person("dora", "developer"),
        reviewer=await market.person("rhea", "reviewer"),
    )
