"""A real engine and one runner for all tests of the sandbox."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.sandbox.engine import Engine
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from models.settings import Settings

ENGINE_VARIABLE = "SANDBOX_TEST_DOCKER_HOST"


@pytest.fixture(scope="session")
def docker_host(request: pytest.FixtureRequest) -> str:
    """An engine that has the agent image: the given one, else that of the embedded stack."""
    given = os.environ.get(ENGINE_VARIABLE)
    if given:
        return given
    settings: Settings = request.getfixturevalue("agent_image")
    return settings.docker_host


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A short path, for the sockets' sake."""
    folder = Path(tempfile.mkdtemp(prefix="sbx-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sandbox_settings(docker_host: str, state_folder: Path) -> SandboxSettings:
    return SandboxSettings(docker_host=docker_host, state_folder=state_folder, warm={"python": 2, "node": 1})


@pytest.fixture(scope="session")
async def runner(sandbox_settings: SandboxSettings) -> AsyncIterator[SandboxRunner]:
    runner = SandboxRunner(sandbox_settings)
    await runner.start()
    yield runner
    await runner.close()


@pytest.fixture(scope="session")
def engine(runner: SandboxRunner) -> Engine:
    return runner.engine
