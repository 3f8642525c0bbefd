"""Servers for the tests: real ones, each started once per run and only if a test asks for it.

Fixtures (all session-scoped, all yield `models.settings.Settings`):

- ``postgres``         PostgreSQL with its roles and an empty database
- ``database``         the same after the migrations
- ``temporal_server``  Temporal, with time skipping allowed per workflow
- ``object_store``     S3 with its bucket
- ``services``         database + Temporal + S3 in one `Settings`: what most tests want
- ``docker_engine``    a Docker Engine
- ``agent_image``      a Docker Engine with the image agents run in
- ``stack``            everything, with the worker and the API running; ``embedded_stack`` is the same as an
  `EmbeddedStack`, for tests that kill parts of it

Tests share these servers, so each makes its own tenants, ids and task queues.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cli.stack.embedded import EmbeddedStack
from cli.stack.state import settings_of_stack
from models.settings import Settings, environment_variable

pytest_plugins = ["tests.publishing_world"]

TIME_SKIPPING = {"frontend.WorkflowTimeSkippingEnabled": "true"}

# Logs of workers and servers in this process go past `sys.stdout`, which tests of commands read.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

# A developer's own settings must not redirect the tests to a real system.
for field in Settings.model_fields:
    os.environ.pop(environment_variable(field), None)


def _merged(*settings: Settings) -> Settings:
    """One `Settings` with the addresses that each of ``settings`` was given; the first one's keys."""
    values: dict[str, object] = {}
    for each in settings:
        for name in each.model_fields_set:
            values.setdefault(name, getattr(each, name))
    return Settings.model_validate(values)


@pytest.fixture(scope="session")
def stack_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this run keep their data."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres(stack_directory: Path) -> Iterator[Settings]:
    with EmbeddedStack(stack_directory / "postgres", parts=["postgres"], durable=False) as settings:
        yield settings


@pytest.fixture(scope="session")
def database(postgres: Settings) -> Settings:
    from activities.records.migrate import upgrade

    upgrade(postgres.database_owner_url.get_secret_value())
    return postgres


@pytest.fixture(scope="session")
def temporal_server(stack_directory: Path) -> Iterator[Settings]:
    with EmbeddedStack(
        stack_directory / "temporal", parts=["temporal"], durable=False, temporal_options=TIME_SKIPPING
    ) as settings:
        yield settings


@pytest.fixture(scope="session")
def object_store(stack_directory: Path) -> Iterator[Settings]:
    with EmbeddedStack(stack_directory / "s3", parts=["s3"], durable=False) as settings:
        yield settings


@pytest.fixture(scope="session")
def services(database: Settings, temporal_server: Settings, object_store: Settings) -> Settings:
    return _merged(database, temporal_server, object_store)


@pytest.fixture(scope="session")
def docker_engine(stack_directory: Path) -> Iterator[Settings]:
    with EmbeddedStack(stack_directory / "docker", parts=["docker"]) as settings:
        yield settings


@pytest.fixture(scope="session")
def agent_image(stack_directory: Path, docker_engine: Settings) -> Settings:
    # The step ends once the image is there; the engine is kept by the other fixture.
    with EmbeddedStack(stack_directory / "image", parts=["docker", "image"]):
        return docker_engine


@pytest.fixture(scope="session")
def embedded_stack(stack_directory: Path) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(stack_directory / "stack", durable=False, temporal_options=TIME_SKIPPING)
    with stack:
        yield stack


@pytest.fixture(scope="session")
def stack(embedded_stack: EmbeddedStack) -> Settings:
    return settings_of_stack(embedded_stack.directory)
