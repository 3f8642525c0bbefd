"""How every part does: whether it answers, how fast, what waits in its queues (flowgrid-level3 §11.3)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue as TaskQueueMessage
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError

from activities.records.database import Database
from activities.records.monitoring import read_reports
from activities.records.monitoring_platform import (
    DatabaseState,
    LogState,
    read_database_state,
    read_log_state,
)
from activities.storage import ObjectStore
from models.errors import PlatformError
from models.monitoring import PartReport
from models.monitoring_views import (
    Condition,
    Connections,
    EventHealth,
    QueueHealth,
    SystemHealth,
    WorkerHealth,
)
from models.task_queues import TaskQueue

CHECK_SECONDS = 3.0
"""How long a part may take to answer before it counts as down."""

REPORTS_FOR = timedelta(seconds=45)
"""Workers report every ten seconds or so; who has been silent for longer is gone."""

LAG_SECONDS = 5.0
"""Publishing takes milliseconds; from here on something holds it up."""

MEASURING_LAG = 50_000
QUEUE_SECONDS = 60.0
"""Work that waits longer wants more workers."""

SANDBOX_PART = "sandbox"


@dataclass
class Health:
    """Collects what parts answer.

    Attributes:
        services: Part → how it does.
        latencies: Part → milliseconds until it answered.
    """

    services: dict[str, Condition] = field(default_factory=dict[str, Condition])
    latencies: dict[str, float] = field(default_factory=dict[str, float])

    async def ask(self, part: str, question: Callable[[], Awaitable[None]]) -> None:
        """Ask one part and note whether and how fast it answered."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await question()
            self.services.setdefault(part, Condition.HEALTHY)
        except (PlatformError, RPCError, TimeoutError, RuntimeError):
            self.services[part] = Condition.DOWN
        self.latencies[part] = round((time.perf_counter() - started) * 1000, 2)


@dataclass
class _Database:
    log: LogState | None = None
    connections: DatabaseState | None = None
    reports: list[PartReport] = field(default_factory=list[PartReport])


async def check_health(
    database: Database, temporal: Client, objects: ObjectStore, *, streams: int
) -> SystemHealth:
    """Ask every part at once; the answer comes after at most three seconds.

    Args:
        database: PostgreSQL.
        temporal: The workflow server.
        objects: S3.
        streams: Streams that this process serves.
    """
    health = Health()
    stored = _Database()
    queues: dict[str, QueueHealth] = {}

    async def ask_database() -> None:
        async with database.platform() as connection:
            await connection.execute("SELECT 1")

    async def read_state() -> None:
        async with database.platform() as connection:
            stored.log = await read_log_state(connection)
            stored.connections = await read_database_state(connection)
            stored.reports = await read_reports(connection, newer_than=REPORTS_FOR)

    async def ask_temporal() -> None:
        if not await temporal.service_client.check_health(timeout=timedelta(seconds=CHECK_SECONDS)):
            health.services["orchestrator"] = Condition.DOWN

    async def ask_objects() -> None:
        if not await objects.reachable():
            health.services["objectStore"] = Condition.DOWN

    async def ask_queues() -> None:
        found = await asyncio.gather(*(describe_queue(temporal, each) for each in TaskQueue))
        queues.update({queue.value: each for queue, each in zip(TaskQueue, found, strict=True)})

    await asyncio.gather(
        health.ask("stateStore", ask_database),
        health.ask("eventBus", read_state),
        health.ask("orchestrator", ask_temporal),
        health.ask("objectStore", ask_objects),
        health.ask("taskQueue", ask_queues),
    )
    now = datetime.now(UTC)
    workers = [_worker(report, now) for report in stored.reports]
    _judge(health, stored.log, queues, workers)
    return SystemHealth(
        status=_overall(health.services),
        services=dict(sorted(health.services.items())),
        latencies=health.latencies,
        queues=queues,
        connections=stored.connections
        and Connections(database_used=stored.connections.used, database_limit=stored.connections.limit),
        events=stored.log
        and EventHealth(
            unpublished_runs=stored.log.unpublished_runs,
            publisher_lag_seconds=round(stored.log.publisher_lag_seconds, 3),
            measuring_lag=stored.log.measuring_lag,
            open_dead_letters=stored.log.open_dead_letters,
            streams=streams,
        ),
        workers=workers,
        checked_at=now,
    )


def _judge(
    health: Health, log: LogState | None, queues: Mapping[str, QueueHealth], workers: list[WorkerHealth]
) -> None:
    """Judge what was answered: a part that works, but late, is degraded."""
    if log is not None and (log.publisher_lag_seconds > LAG_SECONDS or log.measuring_lag > MEASURING_LAG):
        health.services["eventBus"] = Condition.DEGRADED
    for name, queue in queues.items():
        part = f"worker.{name}"
        if queue.pollers == 0:
            # A queue that nobody serves and nobody needs is a choice; one with work in it is a failure.
            if queue.depth > 0 or name == TaskQueue.CORE:
                health.services[part] = Condition.DOWN
            continue
        late = queue.oldest_seconds > QUEUE_SECONDS
        health.services[part] = Condition.DEGRADED if late else Condition.HEALTHY
    engines = [worker.healthy for worker in workers if worker.part == SANDBOX_PART]
    if engines:
        some = Condition.DEGRADED if any(engines) else Condition.DOWN
        health.services[SANDBOX_PART] = Condition.HEALTHY if all(engines) else some


def _overall(services: Mapping[str, Condition]) -> Condition:
    if Condition.DOWN in services.values():
        return Condition.DOWN
    return Condition.DEGRADED if Condition.DEGRADED in services.values() else Condition.HEALTHY


def _worker(report: PartReport, now: datetime) -> WorkerHealth:
    return WorkerHealth(
        part=report.part,
        instance=report.instance,
        healthy=report.healthy,
        latency_ms=report.latency_ms,
        detail=report.detail,
        age_seconds=round(max(0.0, (now - report.reported_at).total_seconds()), 1),
    )


async def describe_queue(temporal: Client, queue: TaskQueue) -> QueueHealth:
    """Ask Temporal about a task queue: workflow and activity tasks together.

    Raises:
        RPCError: Temporal does not answer.
    """
    kinds = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    answers: list[DescribeTaskQueueResponse] = await asyncio.gather(
        *(
            temporal.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=temporal.namespace,
                    task_queue=TaskQueueMessage(name=queue.value),
                    task_queue_type=kind,
                    report_stats=True,
                ),
                timeout=timedelta(seconds=CHECK_SECONDS),
            )
            for kind in kinds
        )
    )
    return QueueHealth(
        depth=sum(answer.stats.approximate_backlog_count for answer in answers),
        oldest_seconds=round(
            max(answer.stats.approximate_backlog_age.ToTimedelta().total_seconds() for answer in answers), 3
        ),
        pollers=len({poller.identity for answer in answers for poller in answer.pollers}),
        add_rate=round(sum(answer.stats.tasks_add_rate for answer in answers), 3),
        dispatch_rate=round(sum(answer.stats.tasks_dispatch_rate for answer in answers), 3),
    )
