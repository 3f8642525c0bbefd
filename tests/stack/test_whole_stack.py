"""Everything together: the API answers, Switchyard's own processes come back when they are killed."""

import os
import signal

import docker
import httpx
import pytest

from cli.stack.embedded import EmbeddedStack
from cli.stack.process import wait_until
from models.settings import Settings


def ready(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.public_url}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_api_is_ready(stack: Settings) -> None:
    assert ready(stack)


def test_the_engine_has_the_agent_image(stack: Settings) -> None:
    client = docker.DockerClient(base_url=stack.docker_host)
    try:
        assert client.images.get(stack.sandbox_image)
    finally:
        client.close()


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_killed_process_of_ours_is_replaced(
    embedded_stack: EmbeddedStack, stack: Settings, part: str
) -> None:
    process = embedded_stack.state.parts[part].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)

    def replaced() -> bool:
        state = embedded_stack.state.parts[part]
        return state.process not in (None, process) and state.phase == "healthy"

    assert wait_until(replaced, 60, 0.1)
    assert ready(stack)


def test_only_the_loopback_address_is_listened_on(embedded_stack: EmbeddedStack) -> None:
    ports = {f"{port:04X}" for port in embedded_stack.state.ports.values()}
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    listening = {tuple(row[1].split(":")) for row in rows if row[3] == "0A"}
    ours = {address for address, port in listening if port in ports}
    assert ours == {"0100007F"}
    with open("/proc/net/tcp6") as table:
        open_to_all = {line.split()[1].split(":")[1] for line in table.readlines()[1:]}
    assert not ports & open_to_all
