"""An office for approvals: a database and a Temporal server of its own, a worker and the API in this process.

Neither is shared: the workers of other tests would serve this one's queue and send its messages.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from activities.records.migrate import upgrade
from activities.services import Services, open_services
from activities.temporal.client import connect
from api.app import create_app
from cli.stack.embedded import EmbeddedStack
from cli.stack.ports import free_ports
from cli.stack.secrets import SecretStore
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import client_of, running
from tests.approval.fake_slack import FakeSlack
from tests.approval.office import Office
from worker import running_workers

NAME = "approvals"
TIME_SKIPPING = {"frontend.WorkflowTimeSkippingEnabled": "true"}


def _in_database(url: str) -> str:
    return urlsplit(url)._replace(path=f"/{NAME}").geturl()


@pytest.fixture(scope="session")
def approval_settings(
    postgres: Settings,
    object_store: Settings,
    stack_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    owner = postgres.database_owner_url.get_secret_value()
    password = SecretStore(stack_directory / "postgres" / "secrets").password("postgres_admin")
    address = urlsplit(owner)
    admin = address._replace(netloc=f"postgres:{password}@{address.hostname}:{address.port}").geturl()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE approvals OWNER switchyard_owner")
    upgrade(_in_database(owner))
    home = tmp_path_factory.mktemp("approvals")
    with EmbeddedStack(
        stack_directory / "approvals",
        parts=["temporal"],
        durable=False,
        ports="auto",
        temporal_options=TIME_SKIPPING,
    ) as temporal:
        s3 = {name: getattr(object_store, name) for name in Settings.model_fields if name.startswith("s3_")}
        values = {
            **postgres.model_dump(exclude_unset=True),
            **s3,
            "database_url": _in_database(postgres.database_url.get_secret_value()),
            "database_platform_url": _in_database(postgres.database_platform_url.get_secret_value()),
            "database_owner_url": _in_database(owner),
            "temporal_address": temporal.temporal_address,
            "jwt_signing_key_file": SecretStore(home).issuer_key_file(),
            "jwt_jwks_url": "",
            "data_dir": home,
            "slack_api_url": f"http://127.0.0.1:{free_ports(1)[0]}/api/",
        }
        yield Settings.model_validate(values)


@pytest.fixture(scope="session")
async def approval_services(approval_settings: Settings) -> AsyncIterator[Services]:
    async with open_services(approval_settings, name="switchyard-test-approvals") as services:
        yield services


@pytest.fixture(scope="session")
async def slack(approval_settings: Settings) -> AsyncIterator[FakeSlack]:
    async with FakeSlack(approval_settings.slack_api_url) as server:
        yield server


@pytest.fixture(scope="session")
async def office(approval_services: Services, slack: FakeSlack) -> AsyncIterator[Office]:
    settings = approval_services.settings
    temporal = await connect(settings, approval_services.objects)
    async with (
        running_workers(approval_services, temporal, [TaskQueue.CORE]),
        running(create_app(settings)) as app,
        client_of(app) as client,
    ):
        yield await Office.open(approval_services, temporal, client)
