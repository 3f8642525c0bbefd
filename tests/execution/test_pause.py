"""Pausing an execution: held before its container starts, let go on, refused once its agent runs."""

import asyncio
from typing import Any

from tests.eventually import eventually
from tests.execution.conftest import World
from tests.execution.test_execution import ECHO, balance, ended, replays, start

SLEEPER = "import time; time.sleep(60)"


async def run_of(world: World, execution_id: str) -> dict[str, Any]:
    return await world.user.done("GET", f"/runs/{execution_id}")


async def until(world: World, execution_id: str, status: str) -> None:
    async def reached() -> bool:
        return (await run_of(world, execution_id))["status"] == status

    await eventually(reached, timeout=40)


async def order(world: World, execution_id: str, command: str, **body: Any) -> tuple[int, str]:
    answer = await world.user.call("POST", f"/runs/{execution_id}/{command}", body)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


async def test_a_paused_execution_waits_until_it_is_resumed_and_one_that_runs_cannot_be_paused(
    world: World,
) -> None:
    sleeper, echo = await world.agent(SLEEPER), await world.agent(ECHO)
    places = world.settings.sandbox_concurrency
    before = await balance(world)
    busy = [await start(world, sleeper) for _ in range(places)]
    await asyncio.gather(*(until(world, each, "RUNNING") for each in busy))
    assert await order(world, busy[0], "pause") == (409, "RUN_NOT_PAUSABLE")

    resumed, dropped = await start(world, echo, {"n": 1}), await start(world, echo, {"n": 2})
    assert await order(world, resumed, "resume") == (409, "RUN_NOT_PAUSED")
    for each in (resumed, dropped):
        paused = await world.user.done("POST", f"/runs/{each}/pause", {"reason": "wait for me"})
        assert paused["status"] == "PAUSED"
    # Their turn comes while they are held: places are free, and they take none.
    await asyncio.gather(*(world.user.done("POST", f"/executions/{each}/cancel", {}) for each in busy))
    assert (await ended(world, await start(world, echo)))["status"] == "success"
    assert (await run_of(world, resumed))["status"] == "PAUSED"
    assert (await order(world, resumed, "resume"))[0] == 200
    assert await order(world, resumed, "resume") == (409, "RUN_NOT_PAUSED")
    shown = await ended(world, resumed)
    assert (shown["status"], shown["outputs"]) == ("success", {"echo": {"n": 1}})

    await world.user.done("POST", f"/runs/{dropped}/cancel", {"reason": "no longer wanted"})
    assert (await ended(world, dropped))["status"] == "cancelled"
    assert (await balance(world))[1] == before[1]
    events = await world.user.done("GET", f"/runs/{resumed}/events")
    told = [event["type"] for event in events["items"] if event["type"].startswith("run.")]
    assert told[:3] == ["run.queued", "run.paused", "run.resumed"]
    (paused,) = [event for event in events["items"] if event["type"] == "run.paused"]
    assert (paused["data"]["reason"], paused["data"]["paused_from"]) == ("wait for me", "QUEUED")
    await replays(world, resumed, "paused_and_resumed")
    await replays(world, dropped, "cancelled_while_paused")
