"""Waiting containers serve once."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator

import pytest

from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from activities.sandbox.spec import LABEL_WORKER, ContainerClass
from models.manifest import Runtime
from models.sandbox import SandboxLimits
from tests.eventually import eventually
from tests.sandbox.agents import LIMITS, request_of, run_python

KIND = ContainerClass.of(Runtime.PYTHON, LIMITS)


@pytest.fixture
async def pooled(sandbox_settings: SandboxSettings) -> AsyncIterator[SandboxRunner]:
    settings = dataclasses.replace(sandbox_settings, worker="elsewhere:1:1", warm={"python": 2})
    runner = SandboxRunner(settings)
    await runner.start()
    yield runner
    await runner.close()


async def containers(runner: SandboxRunner) -> list[str]:
    label = f"{LABEL_WORKER}={runner.settings.worker}"
    found = await runner.engine.call(lambda client: client.containers(all=True, filters={"label": label}))
    return [str(each["Id"]) for each in found]


async def full(runner: SandboxRunner) -> bool:
    return runner.pool.idle_of(KIND) == 2


async def test_a_waiting_container_serves_once_and_is_replaced(pooled: SandboxRunner) -> None:
    await eventually(lambda: full(pooled))
    waiting = set(await containers(pooled))
    results = [await run_python(pooled, "import json\nprint(json.dumps(1))") for _ in range(2)]
    assert [result.warm for result in results] == [True, True]
    await eventually(lambda: full(pooled))

    async def replaced() -> bool:
        return not waiting & set(await containers(pooled))

    await eventually(replaced)


async def test_without_a_waiting_container_one_is_started(pooled: SandboxRunner) -> None:
    await eventually(lambda: full(pooled))
    results = await asyncio.gather(*(run_python(pooled, "print(1)") for _ in range(4)))
    assert all(result.succeeded for result in results)
    assert sum(result.warm for result in results) >= 2


async def test_a_dead_waiting_container_is_not_handed_out(pooled: SandboxRunner) -> None:
    await eventually(lambda: full(pooled))
    for container in await containers(pooled):
        await pooled.engine.call(lambda client, each=container: client.kill(each))

    async def noticed() -> bool:
        return all(not box.healthy for box in pooled.pool.waiting(KIND))

    await eventually(noticed)
    result = await run_python(pooled, "print(1)")
    assert result.succeeded


async def test_a_container_used_from_the_pool_carries_its_executions_name(pooled: SandboxRunner) -> None:
    await eventually(lambda: full(pooled))
    up = asyncio.Event()
    source = "import sys, time\nprint('up', file=sys.stderr, flush=True)\ntime.sleep(30)"
    running = asyncio.create_task(run_python_listening(pooled, source, execution_id="exec_named", up=up))
    await up.wait()

    async def named() -> bool:
        found = await pooled.engine.call(
            lambda client: client.containers(filters={"name": "agent-exec_named-1"})
        )
        return len(found) == 1

    await eventually(named)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def run_python_listening(
    runner: SandboxRunner, source: str, *, execution_id: str, up: asyncio.Event
) -> None:
    request = request_of(source, execution_id=execution_id)
    await runner.run(request, on_output=lambda _stream, _piece: up.set())


async def test_closing_removes_every_waiting_container(sandbox_settings: SandboxSettings) -> None:
    settings = dataclasses.replace(sandbox_settings, worker="elsewhere:2:2", warm={"python": 2})
    runner = SandboxRunner(settings)
    await runner.start()
    await eventually(lambda: full(runner))
    assert len(await containers(runner)) == 2
    await runner.close()
    other = SandboxRunner(sandbox_settings)
    label = f"{LABEL_WORKER}={settings.worker}"
    left = await other.engine.call(lambda client: client.containers(all=True, filters={"label": label}))
    await other.close()
    assert left == []


async def test_a_waiting_container_leaves_when_its_worker_vanishes(sandbox_settings: SandboxSettings) -> None:
    settings = dataclasses.replace(sandbox_settings, worker="elsewhere:3:3", warm={})
    runner = SandboxRunner(settings)
    box = await runner.starter.waiting(KIND, 600)
    box.abandon()

    async def ended() -> bool:
        state = await runner.engine.call(lambda client: client.inspect_container(box.id)["State"])
        return not state["Running"]

    await eventually(ended)
    await runner.starter.discard(box)
    await runner.close()


def test_memory_is_rounded_up_to_a_class() -> None:
    sizes = [
        ContainerClass.of(Runtime.NODE, SandboxLimits(memory_mb=size)).limits.memory_mb
        for size in (32, 129, 256)
    ]
    assert sizes == [128, 256, 256]
    assert json.loads(KIND.limits.model_dump_json())["timeout_ms"] == SandboxLimits().timeout_ms
