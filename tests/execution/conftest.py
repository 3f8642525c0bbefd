"""A world with everything real: servers, containers, a worker in this process, the API in this process."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from activities.services import Services, open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.secrets import SecretStore
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import client_of, running
from tests.builders import Marketplace, Person, manifest, unique
from tests.severable import SeverableEngine
from worker import running_workers


@dataclass
class World:
    """What an execution test needs."""

    settings: Settings
    services: Services
    market: Marketplace
    developer: Person
    reviewer: Person
    user: Person
    engine: SeverableEngine

    async def agent(self, code: str, *, runtime: str = "python", **changes: object) -> str:
        """Publish an agent of one file and deploy it as the user; returns the deployment's id."""
        entry = "main.py" if runtime == "python" else "index.mjs"
        declared = manifest(unique("agent"), runtime=runtime, entry_point=entry, **changes)
        registered = await self.market.publish(self.developer, self.reviewer, {entry: code}, declared)
        return await self.market.deploy(self.user, registered["agent_id"])

    async def code_key(self, deployment_id: str) -> str:
        """Where the deployed version's code lies in S3."""
        async with self.services.database.platform() as connection:
            found = await connection.execute(
                "SELECT v.code_s3_key FROM agent_deployments d JOIN agent_versions v ON v.id = d.version_id "
                "WHERE d.id = %s",
                [deployment_id],
            )
            row = await found.fetchone()
        assert row is not None
        return str(row["code_s3_key"])


@pytest.fixture(scope="session")
def engine(agent_image: Settings) -> Iterator[SeverableEngine]:
    forwarded = SeverableEngine(agent_image.docker_host)
    yield forwarded
    forwarded.close()


@pytest.fixture(scope="session")
def sandbox_settings(
    services: Settings, engine: SeverableEngine, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    secrets = SecretStore(tmp_path_factory.mktemp("execution-secrets"))
    return services.model_copy(
        update={
            "docker_host": engine.docker_host,
            "jwt_signing_key_file": secrets.issuer_key_file(),
            "jwt_jwks_url": "",
        }
    )


# By the module: a worker of these settings must not take the work of other tests' workers.
@pytest.fixture(scope="module")
async def world_services(sandbox_settings: Settings) -> AsyncIterator[Services]:
    async with open_services(sandbox_settings, name="switchyard-test-worker") as services:
        yield services


@pytest.fixture(scope="module")
async def worker(world_services: Services) -> AsyncIterator[None]:
    client = await connect(world_services.settings, world_services.objects)
    async with running_workers(world_services, client, list(TaskQueue)):
        yield


@pytest.fixture(scope="module")
async def api_client(world_services: Services, worker: None) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(world_services.settings)) as app, client_of(app) as client:
        yield client


@pytest.fixture(scope="module")
async def world(world_services: Services, api_client: httpx.AsyncClient, engine: SeverableEngine) -> World:
    market = Marketplace(api_client)
    user = await market.person("uma", "user")
    await market.fund(user, 90_000)
    return World(
        settings=world_services.settings,
        services=world_services,
        market=market,
        developer=await market.person("dev", "developer"),
        reviewer=await market.person("rhea", "reviewer"),
        user=user,
        engine=engine,
    )
