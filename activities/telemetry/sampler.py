"""What a worker looks at every few seconds: the state of the store, and the parts that only it reaches."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.monitoring import drop_old_reports, report_part
from activities.records.monitoring_platform import read_all_standing, read_log_state, read_money_state
from activities.records.rate_limits import drop_idle_buckets
from activities.telemetry import metrics
from activities.telemetry.health import describe_queue
from models.monitoring import PartReport
from models.task_queues import TaskQueue

log: structlog.stdlib.BoundLogger = structlog.get_logger("telemetry")

SAMPLE_SECONDS = 10.0
RARELY = 6
"""Every so many samples: what costs more and changes less."""

CHECK_SECONDS = 3.0
KEEP_REPORTS = timedelta(hours=1)
KEEP_BUCKETS = timedelta(hours=2)

PROBLEMS = "TemporalReportedProblems IS NOT NULL AND ExecutionStatus = 'Running'"
"""Workflows that the server flags: their tasks fail again and again, which is always a fault of ours."""

Check = Callable[[], Awaitable[object]]
"""Asks a part; raises where it does not work."""


def instance_name() -> str:
    """Name this process among the workers."""
    return f"{os.getpid()}@{socket.gethostname()}"


class Sampler:
    """Sets the gauges of the store and reports this worker's parts."""

    def __init__(self, database: Database, temporal: Client, parts: Mapping[str, Check]) -> None:
        """Sample ``database`` and ``temporal``; ``parts`` are what only this process reaches, by name."""
        self._database = database
        self._temporal = temporal
        self._parts = dict(parts)
        self._count = 0

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                await self.sample()
            except (DatabaseUnavailableError, RPCError) as error:
                log.warning("nothing is sampled for now", reason=str(error))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self) -> None:
        """Look once.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
            RPCError: Temporal is away.
        """
        reports = [await self._report(part, check) for part, check in self._parts.items()]
        async with self._database.platform() as connection:
            log_state = await read_log_state(connection)
            standing = await read_all_standing(connection)
            for report in reports:
                await report_part(connection, report)
        metrics.PUBLISHER_LAG.set(log_state.publisher_lag_seconds)
        metrics.UNPUBLISHED_RUNS.set(log_state.unpublished_runs)
        metrics.MEASURING_LAG.set(log_state.measuring_lag)
        metrics.OPEN_DEAD_LETTERS.set(log_state.open_dead_letters)
        for kind, count in standing.active_runs.items():
            metrics.ACTIVE_FLOWS.labels(kind).set(count)
        metrics.PENDING_APPROVALS.set(standing.pending_approvals)
        if self._count % RARELY == 0:
            await self._sample_rarely()
        self._count += 1
        metrics.LAST_SAMPLE.set_to_current_time()

    async def _sample_rarely(self) -> None:
        async with self._database.platform() as connection:
            money = await read_money_state(connection)
            await drop_old_reports(connection, keep=KEEP_REPORTS)
            await drop_idle_buckets(connection, keep=KEEP_BUCKETS)
        metrics.OPEN_SETTLEMENTS.set(money.open_settlements)
        metrics.OLDEST_UNKNOWN_SETTLEMENT.set(money.oldest_unknown_seconds)
        metrics.MONEY_IN_SUSPENSE.clear()
        for currency, amount in money.suspense.items():
            metrics.MONEY_IN_SUSPENSE.labels(currency).set(amount)
        problems = await self._temporal.count_workflows(
            PROBLEMS, rpc_timeout=timedelta(seconds=CHECK_SECONDS)
        )
        metrics.REPORTED_PROBLEMS.set(problems.count)
        for queue in TaskQueue:
            found = await describe_queue(self._temporal, queue)
            metrics.TASK_QUEUE_DEPTH.labels(queue.value).set(found.depth)
            metrics.TASK_QUEUE_OLDEST.labels(queue.value).set(found.oldest_seconds)

    async def _report(self, part: str, check: Check) -> PartReport:
        started = time.perf_counter()
        detail = ""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:
            # Whatever a part raises is its failure. The class says enough; the text may name addresses.
            detail = type(error).__name__
        metrics.PART_HEALTHY.labels(part).set(0 if detail else 1)
        return PartReport(
            part=part,
            instance=instance_name(),
            healthy=not detail,
            latency_ms=round((time.perf_counter() - started) * 1000),
            detail=detail,
        )


@asynccontextmanager
async def sampling(database: Database, temporal: Client, parts: Mapping[str, Check]) -> AsyncGenerator[None]:
    """Keep a sampler running for as long as the block lasts."""
    task = asyncio.create_task(Sampler(database, temporal, parts).run(), name="sampler")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
