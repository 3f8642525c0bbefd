from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.services import open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.embedded import EmbeddedStack
from cli.stack.secrets import SecretStore
from models.settings import Settings
from tests.api.calling import client_of, running
from tests.builders import Marketplace, unique
from tests.conformance.temporal import CorpusScripts
from tests.process.world import ProcessWorld, RestartableWorker, Works


@pytest.fixture(scope="session")
def process_temporal(stack_directory: Path) -> Iterator[Settings]:
    """A Temporal server of its own: tests stop the worker, and others' workers would go on."""
    options = {"limit.historyCount.suggestContinueAsNew": "400"}
    with EmbeddedStack(
        stack_directory / "process-temporal", parts=["temporal"], durable=False, temporal_options=options
    ) as settings:
        yield settings


@pytest.fixture(scope="session")
def process_settings(
    database: Settings,
    object_store: Settings,
    process_temporal: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    secrets = SecretStore(tmp_path_factory.mktemp("process-secrets"))
    return database.model_copy(
        update={
            "temporal_address": process_temporal.temporal_address,
            **{
                name: getattr(object_store, name)
                for name in object_store.model_fields_set
                if name.startswith("s3")
            },
            "jwt_signing_key_file": secrets.issuer_key_file(),
            "jwt_jwks_url": "",
        }
    )


@pytest.fixture(scope="session")
async def processes(process_settings: Settings) -> AsyncIterator[ProcessWorld]:
    async with open_services(process_settings, name="switchyard-process-test") as services:
        temporal = await connect(process_settings, services.objects)
        works = Works()
        scripts = CorpusScripts()
        worker = RestartableWorker(services, temporal, works, scripts)
        await worker.start()
        async with running(create_app(process_settings)) as app, client_of(app) as client:
            market = Marketplace(client)
            tenant = unique("tenant")
            yield ProcessWorld(
                services=services,
                temporal=temporal,
                worker=worker,
                works=works,
                scripts=scripts,
                client=client,
                user=await market.person("uma", "user", "operator", tenant=tenant),
                operator=await market.person("otto", "operator", tenant=tenant),
            )
        await worker.stop()


@pytest.fixture(autouse=True)
def _fresh_works(processes: ProcessWorld) -> None:
    processes.works.calls.clear()
    processes.works.broken.clear()
    processes.works.held.clear()
