"""Real servers under one supervisor: killed, stopped, started again; data and service come back."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cli.stack.embedded import EmbeddedStack
from cli.stack.postgres import as_system_user, installed_programs
from cli.stack.probe import ask
from cli.stack.process import wait_until
from models.settings import Settings

SERVERS = ["postgres", "temporal", "s3"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedStack:
    # Durable: what is written must survive.
    return EmbeddedStack(tmp_path_factory.mktemp("recovery"), parts=SERVERS)


@pytest.fixture(scope="module")
def running(servers: EmbeddedStack) -> Iterator[Settings]:
    with servers as settings:
        with psycopg.connect(settings.database_owner_url.get_secret_value()) as connection:
            connection.execute("CREATE TABLE kept (value int)")
            connection.execute("INSERT INTO kept VALUES (42)")
        object_store(settings).put_object(Bucket=settings.s3_bucket, Key="kept", Body=b"42")
        yield settings


def object_store(settings: Settings):  # pyright: ignore[reportUnknownParameterType]
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=Config(retries={"total_max_attempts": 1}),
    )


def database_has_its_row(settings: Settings) -> bool:
    try:
        with psycopg.connect(settings.database_owner_url.get_secret_value()) as connection:
            return connection.execute("SELECT value FROM kept").fetchall() == [(42,)]
    except psycopg.OperationalError:
        return False


def object_is_there(settings: Settings) -> bool:
    try:
        answer = object_store(settings).get_object(Bucket=settings.s3_bucket, Key="kept")
        return answer["Body"].read() == b"42"
    except (BotoCoreError, ClientError):
        return False


async def namespace_is_served(servers: EmbeddedStack) -> bool:
    answer = await ask(servers.state.ports["temporal_http"], "/api/v1/namespaces/default")
    return answer is not None and answer.status == 200


def kill(servers: EmbeddedStack, part: str) -> Callable[[], bool]:
    """Kill the part; the result says whether another process has taken its place."""
    process = servers.state.parts[part].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)

    def replaced() -> bool:
        state = servers.state.parts[part]
        return state.process not in (None, process) and state.phase == "healthy"

    return replaced


def test_postgres_killed_comes_back_with_its_data(servers: EmbeddedStack, running: Settings) -> None:
    replaced = kill(servers, "postgres")
    assert wait_until(replaced, 20)
    assert wait_until(lambda: database_has_its_row(running), 5)


def test_the_object_store_killed_comes_back_with_its_data(servers: EmbeddedStack, running: Settings) -> None:
    replaced = kill(servers, "s3")
    assert wait_until(replaced, 20)
    assert wait_until(lambda: object_is_there(running), 10)


async def test_temporal_killed_comes_back(servers: EmbeddedStack, running: Settings) -> None:
    del running
    replaced = kill(servers, "temporal")
    assert wait_until(replaced, 20)
    assert await namespace_is_served(servers)


async def test_histories_are_kept_longer_than_a_day(servers: EmbeddedStack, running: Settings) -> None:
    del running
    answer = await ask(servers.state.ports["temporal_http"], "/api/v1/namespaces/default")
    assert answer is not None
    assert answer.json()["config"]["workflowExecutionRetentionTtl"] == "2592000s"


def test_a_stop_leaves_no_process_and_a_second_start_finds_the_data(
    servers: EmbeddedStack, running: Settings
) -> None:
    del running
    family = psutil.Process(servers.supervisor_pid).children(recursive=True)
    assert len(family) >= len(SERVERS)
    servers.stop()
    assert not [process for process in family if process.is_running()]
    settings = servers.start()
    assert database_has_its_row(settings)
    assert wait_until(lambda: object_is_there(settings), 10)


def test_servers_do_not_outlive_a_killed_supervisor(servers: EmbeddedStack, running: Settings) -> None:
    del running
    family = psutil.Process(servers.supervisor_pid).children(recursive=True)
    os.kill(servers.supervisor_pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    servers.stop()
    settings = servers.start()
    assert database_has_its_row(settings)


def test_a_data_directory_that_only_root_may_enter_is_no_obstacle(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedStack(closed / "data", parts=["postgres"], durable=False) as settings:
        with psycopg.connect(settings.database_url.get_secret_value()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give PostgreSQL another user")
def test_binaries_below_a_directory_that_only_root_may_enter_are_no_obstacle(
    tmp_path: Path,
) -> None:
    binaries = tmp_path / "bin"
    shutil.copytree(installed_programs(), binaries)
    tmp_path.chmod(0o700)
    command = as_system_user(binaries / "postgres", tmp_path, ("--version",))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("postgres (PostgreSQL) 18")
    assert done.stderr == ""
