"""Executions: how long a start takes beside a bare Temporal workflow start, and how many end per second.

Starts are measured with the sandbox queue unserved, so that containers do not compete for the cores; both
kinds of start alternate in rounds within one run. Throughput is measured on the whole stack.
"""

import argparse
import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable

import httpx
from temporalio import workflow
from temporalio.client import Client

from activities.storage import ObjectStore
from activities.temporal.client import connect
from bench.figures import Figure, percentile, report
from cli.stack.embedded import EmbeddedStack
from cli.stack.memory import resident_bytes
from models.settings import Settings
from tests.builders import Marketplace, Person, manifest, unique

CLIENTS = 50
TRIVIAL = "print('{}')"


@workflow.defn(name="BareStart")
class BareStart:
    """What a start costs by itself; nobody runs it."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


async def timed(clients: int, calls: int, call: Callable[[], Awaitable[None]]) -> list[float]:
    """Make ``calls`` calls from ``clients`` clients at once; returns each one's seconds."""
    taken: list[float] = []
    left = calls

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


async def ready_agent(http: httpx.AsyncClient, **declared: object) -> tuple[Person, str, str]:
    """Publish and deploy a trivial agent; returns the user, the agent's and the deployment's id."""
    market = Marketplace(http)
    developer = await market.person("dev", "developer")
    reviewer = await market.person("rhea", "reviewer")
    user = await market.person("uma", "user")
    await market.fund(user, 900_000)
    agent = await market.publish(
        developer, reviewer, {"main.py": TRIVIAL}, manifest(unique("bench"), **declared)
    )
    return user, agent["agent_id"], await market.deploy(user, agent["agent_id"])


async def measure_starts(settings: Settings, calls: int) -> list[Figure]:
    """Compare ``POST /execute`` to 202 with a bare workflow start."""
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=settings.public_url, timeout=60, limits=limits) as http:
        user, agent_id, deployment_id = await ready_agent(http)
        temporal: Client = await connect(settings, ObjectStore(settings))

        async def execute() -> None:
            answer = await user.call(
                "POST", f"/agents/{agent_id}/execute", {"deployment_id": deployment_id, "inputs": {}}
            )
            assert answer.status_code == 202, answer.text

        async def bare() -> None:
            await temporal.start_workflow(BareStart.run, id=f"bare/{uuid.uuid4()}", task_queue="nobody")

        executes: list[float] = []
        bares: list[float] = []
        await timed(CLIENTS, CLIENTS, execute)
        await timed(CLIENTS, CLIENTS, bare)
        for _ in range(4):
            bares += await timed(CLIENTS, calls // 4, bare)
            executes += await timed(CLIENTS, calls // 4, execute)
    ours, theirs = percentile(executes, 0.5) * 1000, percentile(bares, 0.5) * 1000
    ours99, theirs99 = percentile(executes, 0.99) * 1000, percentile(bares, 0.99) * 1000
    return [
        Figure("POST /execute to 202, 50 clients, p50", ours, "ms"),
        Figure("POST /execute to 202, 50 clients, p99", ours99, "ms"),
        Figure("bare workflow start, 50 clients, p50", theirs, "ms"),
        Figure("bare workflow start, 50 clients, p99", theirs99, "ms"),
        Figure("ratio p50", ours / theirs, "x"),
        Figure("ratio p99", ours99 / theirs99, "x"),
    ]


async def measure_throughput(settings: Settings, executions: int) -> list[Figure]:
    """Run many trivial executions to their end."""
    async with httpx.AsyncClient(base_url=settings.public_url, timeout=120) as http:
        user, agent_id, deployment_id = await ready_agent(http)
        inside: list[int] = []
        whole: list[float] = []

        async def one() -> None:
            begun = time.perf_counter()
            started = await user.done(
                "POST", f"/agents/{agent_id}/execute", {"deployment_id": deployment_id, "inputs": {}}
            )
            while True:
                shown = await user.done("GET", started["poll_url"])
                if shown["status"] == "success":
                    break
                assert shown["status"] in {"queued", "running"}, shown
                await asyncio.sleep(0.05)
            inside.append(shown["duration_ms"])
            whole.append(time.perf_counter() - begun)

        await timed(2, 4, one)
        inside.clear()
        whole.clear()
        begun = time.perf_counter()
        await timed(8, executions, one)
        elapsed = time.perf_counter() - begun
        alone: list[float] = []
        inside_before = len(inside)
        alone = await timed(1, 10, one)
        inside_alone = inside[inside_before:]
    return [
        Figure("executions per second, trivial agent, 8 clients", executions / elapsed, "/s"),
        Figure("one execution alone, start to success, p50", percentile(alone, 0.5) * 1000, "ms"),
        Figure("of it in the agent itself, p50", percentile(inside_alone, 0.5), "ms"),
        Figure("share of time outside the agent", 1 - sum(inside_alone) / (sum(alone) * 1000), ""),
    ]


def measure_memory(stack: EmbeddedStack) -> list[Figure]:
    """Add up the memory of the idle stack's processes."""
    total = sum(resident_bytes(process) for process in stack.state.processes())
    return [Figure("memory of the idle stack, all parts", total / 2**20, "MiB", "under 1024")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--executions", type=int, default=60)
    arguments = parser.parse_args()
    os.environ["TASK_QUEUES"] = "core,money"
    with EmbeddedStack() as settings:
        report("Starting an execution", asyncio.run(measure_starts(settings, arguments.calls)))
    del os.environ["TASK_QUEUES"]
    stack = EmbeddedStack()
    with stack as settings:
        report("The idle stack", measure_memory(stack))
        report("Executions", asyncio.run(measure_throughput(settings, arguments.executions)))


if __name__ == "__main__":
    main()
