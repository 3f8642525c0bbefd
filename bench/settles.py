"""Settling: how fast, beside a bare Temporal workflow with as many activities; a policy's limit in a crowd.

``python -m bench.settles [--orders N]``. The workflow is the money's half of an execution over the wallet
rail (`bench.kill_workflows.PaidOrder`: dispatch, settle); the bare one has two activities that do nothing, on
the same queues of the same workers. Both take turns within one run, so that the machine's other load meets
both. Without Temporal, settles are measured once with the crowded accounts striped and once without.
"""

import argparse
import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import structlog
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import models.ledger
from activities.payment import PaymentActivities
from activities.rails.registry import open_rails
from activities.records.migrate import upgrade
from activities.services import Services, open_services
from activities.temporal.client import connect
from bench.figures import Figure, percentile, report
from bench.kill_workflows import Agents, PaidOrder
from bench.kill_world import KillWorld
from cli.stack.embedded import EmbeddedStack
from models.identifiers import new_identifier
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.payment.shop import Shop

ROUNDS = 4
CROWD = 8


@activity.defn(name="do_nothing")
async def do_nothing() -> None:
    """What an activity costs by itself."""


@workflow.defn(name="BarePair")
class BarePair:
    """Two activities and nothing else."""

    @workflow.run
    async def run(self) -> None:
        """One on each queue, as a paid order has."""
        for queue in (TaskQueue.CORE, TaskQueue.MONEY):
            await workflow.execute_activity(
                do_nothing, task_queue=queue, start_to_close_timeout=timedelta(seconds=30)
            )


async def many(count: int, at_once: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Do it ``count`` times, so many at once; returns each one's seconds."""
    taken: list[float] = []
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            begun = time.perf_counter()
            await work()
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(at_once)))
    return taken


async def through_workflow(services: Services, temporal: Client, orders: int, at_once: int) -> list[Figure]:
    """Settle through the workflow and run bare pairs, in turns."""
    world = KillWorld(services.database, services.signer, random.Random(1))
    await world.open()

    async def paid() -> None:
        order = (await world.wallet_order()).model_copy(update={"succeeds": True})
        await temporal.execute_workflow(
            PaidOrder.run, order, id=f"order/{order.execution_id}", task_queue=TaskQueue.CORE
        )

    async def bare() -> None:
        await temporal.execute_workflow(
            BarePair.run, id=f"bare/{new_identifier('execution')}", task_queue=TaskQueue.CORE
        )

    settled: list[float] = []
    pairs: list[float] = []
    seconds = {"settled": 0.0, "bare": 0.0}
    await many(at_once, at_once, bare)
    await many(at_once, at_once, paid)
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        pairs += await many(orders // ROUNDS, at_once, bare)
        seconds["bare"] += time.perf_counter() - begun
        begun = time.perf_counter()
        settled += await many(orders // ROUNDS, at_once, paid)
        seconds["settled"] += time.perf_counter() - begun
    ours, theirs = len(settled) / seconds["settled"], len(pairs) / seconds["bare"]
    ours99, theirs99 = percentile(settled, 0.99) * 1000, percentile(pairs, 0.99) * 1000
    return [
        Figure(f"paid orders per second, wallet, {at_once} at once", ours, "/s"),
        Figure("bare workflows of two activities per second", theirs, "/s"),
        Figure("ratio of the rates, ours to bare", ours / theirs, "x"),
        Figure("paid order, p50", percentile(settled, 0.5) * 1000, "ms"),
        Figure("bare, p50", percentile(pairs, 0.5) * 1000, "ms"),
        Figure("paid order, p99", ours99, "ms"),
        Figure("bare, p99", theirs99, "ms"),
        Figure("ratio of p99, ours to bare", ours99 / theirs99, "x"),
    ]


async def direct(services: Services, count: int, at_once: int) -> tuple[float, float]:
    """Settle without Temporal, one tenant per client; returns settles per second and the p99 in ms."""
    shops = [Shop(services.database, services.signer, open_rails(services.database)) for _ in range(at_once)]
    runs: list[tuple[Shop, str]] = []
    for shop in shops:
        await shop.fund(10**9)
        runs += [(shop, await shop.executed(50)) for _ in range(count // at_once)]
    random.Random(1).shuffle(runs)
    left = iter(runs)

    async def one() -> None:
        shop, execution_id = next(left)
        await shop.settle(execution_id)

    begun = time.perf_counter()
    taken = await many(len(runs), at_once, one)
    return len(taken) / (time.perf_counter() - begun), percentile(taken, 0.99) * 1000


async def striping(services: Services, count: int, at_once: int) -> list[Figure]:
    """Measure with stripes and with one row per account."""
    await direct(services, at_once, at_once)
    striped, striped99 = await direct(services, count, at_once)
    kinds = models.ledger.STRIPED
    models.ledger.STRIPED = frozenset()
    try:
        plain, plain99 = await direct(services, count, at_once)
    finally:
        models.ledger.STRIPED = kinds
    return [
        Figure(f"settles per second without Temporal, {at_once} at once", striped, "/s"),
        Figure("the same with one row per crowded account", plain, "/s"),
        Figure("p99 of a settle", striped99, "ms"),
        Figure("the same with one row per crowded account", plain99, "ms"),
    ]


async def policy(services: Services, each: int) -> list[Figure]:
    """Let users of one tenant buy at once under one limit of the tenant's."""
    shop = Shop(services.database, services.signer, open_rails(services.database))
    await shop.rules(cap_per_transaction=10**6, daily_limit_per_tenant=10**12)
    users = [
        Shop(
            services.database,
            services.signer,
            shop.rails,
            shop.tenant_id,
            developer=shop.developer,
            agent_id=shop.agent_id,
        )
        for _ in range(CROWD)
    ]
    taken: list[float] = []

    async def one(user: Shop) -> None:
        await user.fund(10**9)
        for _ in range(each):
            request = user.request(50)
            begun = time.perf_counter()
            await user.reserve(request)
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(one(user) for user in users))
    return [
        Figure(
            f"policy check and hold, {CROWD} users on one limit, p50", percentile(taken, 0.5) * 1000, "ms"
        ),
        Figure(
            f"policy check and hold, {CROWD} users on one limit, p99", percentile(taken, 0.99) * 1000, "ms"
        ),
    ]


async def measure(settings: Settings, orders: int, at_once: int) -> list[Figure]:
    """Take all figures."""
    async with open_services(settings, name="bench-settles") as services:
        figures = await policy(services, 40)
        figures += await striping(services, orders, at_once)
        temporal = await connect(settings, services.objects)
        agents = Agents(services.database, services.signer)
        payment = PaymentActivities(services.database, services.signer, open_rails(services.database))
        core = Worker(
            temporal,
            task_queue=TaskQueue.CORE.value,
            workflows=[PaidOrder, BarePair],
            activities=[agents.run_order, do_nothing],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        money = Worker(
            temporal,
            task_queue=TaskQueue.MONEY.value,
            activities=[payment.settle, payment.release, do_nothing],
        )
        async with core, money:
            return figures + await through_workflow(services, temporal, orders, at_once)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with (
        tempfile.TemporaryDirectory(prefix="bench-settles-") as directory,
        EmbeddedStack(Path(directory), parts=["postgres", "temporal", "s3"], durable=True) as settings,
    ):
        upgrade(settings.database_owner_url.get_secret_value())
        figures = asyncio.run(measure(settings, options.orders, options.at_once))
    report("Settling", figures, options.json)


if __name__ == "__main__":
    main()
