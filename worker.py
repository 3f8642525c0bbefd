"""The worker: one factory for every Temporal worker of Switchyard, and the process that runs them.

``python -m worker`` serves the task queues named by ``TASK_QUEUES`` until SIGTERM or SIGINT.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.agent_call import AgentCallActivities
from activities.approval import ApprovalActivities
from activities.channels.serving import serving_channels
from activities.commerce import CommerceActivities
from activities.execution import ExecutionActivities
from activities.housekeeping import HousekeepingActivities
from activities.monitoring import measuring
from activities.payment import PaymentActivities
from activities.payout import PayoutActivities, PayoutRails, open_payout_rails
from activities.process import ProcessActivities, serving_processes
from activities.publishing import PublishingActivities
from activities.rails.protocol import OutsideRail
from activities.rails.registry import open_rails, outside_rails, x402_rails
from activities.reconciliation import ReconciliationActivities
from activities.refund import RefundActivities
from activities.run_control import RunControlActivities
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from activities.services import Services, open_services
from activities.streams.publisher import publishing
from activities.streams.webhooks import delivering
from activities.telemetry.exporter import exporting
from activities.telemetry.health import SANDBOX_PART
from activities.telemetry.logs import configure_logging
from activities.telemetry.metrics import observe_measurements
from activities.telemetry.sampler import Check, sampling
from activities.telemetry.tracing import tracing
from activities.temporal.client import connect
from activities.trigger import TriggerActivities, serving_triggers
from models.errors import PlatformError
from models.settings import Settings, load_settings
from models.task_queues import TaskQueue
from models.timeouts import SANDBOX_HEARTBEAT_THROTTLE
from workflows.agent_call import AgentCall
from workflows.approval import Approval
from workflows.commerce import Purchase
from workflows.execution import AgentExecution
from workflows.housekeeping import Housekeeping
from workflows.payout import Payout, PayoutRun
from workflows.process import ProcessInstance
from workflows.publishing import PublishReview, RescanPublished
from workflows.reconciliation import Reconciliation, SettlementSweep
from workflows.refund import RefundPayment
from workflows.schedules import ensure_schedules
from workflows.trigger import TriggeredStart

OUR_PACKAGES = (
    "models",
    "activities",
    "workflows.bpmn",
    "workflows.feel",
    "workflows.nodes",
    "workflows.approvals",
)
"""Pure or never called from workflow code: reloading them for each run would cost 280 ms and 15 MB."""

LIBRARIES = (
    "sqlmodel",
    "sqlalchemy",
    "psycopg",
    "psycopg_pool",
    "cryptography",
    "boto3",
    "botocore",
    "docker",
    "structlog",
    "rfc8785",
    "jsonschema",
    "httpx",
    "tree_sitter",
    "tree_sitter_javascript",
    "tree_sitter_typescript",
    "yara",
    "aiosmtplib",
    "holidays",
    "slack_sdk",
    "aiohttp",
    "orjson",
    "pydantic_settings",
    "opentelemetry",
    "prometheus_client",
    "google",
)
"""What our packages import. Workflow code uses none of it, but imports modules that do."""

GRACEFUL_SHUTDOWN = timedelta(seconds=10)
"""How long activities may finish after SIGTERM before they are cancelled and retried elsewhere."""


@dataclass
class QueueWork:
    """What the worker of one task queue runs."""

    workflows: list[type] = field(default_factory=list[type])
    activities: list[Callable[..., Any]] = field(default_factory=list[Callable[..., Any]])
    concurrent_activities: int = 100


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the workflow sandbox: our packages passed through, any other import refused at start."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        *OUR_PACKAGES, *LIBRARIES
    ).with_import_notification_policy(
        workflow.SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)


def create_worker(client: Client, queue: TaskQueue, work: QueueWork) -> Worker:
    """Make the worker of one task queue, set up the one way all of ours are.

    A ``PlatformError`` fails a workflow; any other exception is a bug, which suspends the workflow until
    fixed code is deployed.
    """
    return Worker(
        client,
        task_queue=queue.value,
        workflows=work.workflows,
        activities=work.activities,
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[PlatformError],
        max_concurrent_activities=work.concurrent_activities,
        max_heartbeat_throttle_interval=SANDBOX_HEARTBEAT_THROTTLE,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
    )


def work_of(
    services: Services,
    sandbox: SandboxRunner | None,
    payout_rails: PayoutRails,
    outside: Iterable[OutsideRail] = (),
) -> dict[TaskQueue, QueueWork]:
    """Say which workflows and activities each task queue has."""
    publishing = PublishingActivities(services, sandbox)
    execution = ExecutionActivities(services, sandbox)
    process = ProcessActivities(services)
    agent_call = AgentCallActivities(services)
    housekeeping = HousekeepingActivities(services)
    run_control = RunControlActivities(services.database)
    rails = open_rails(services.database, outside)
    payment = PaymentActivities(services.database, services.signer, rails)
    reconciliation = ReconciliationActivities(services.database, services.objects, rails, services.signer)
    payout = PayoutActivities(services, payout_rails)
    commerce = CommerceActivities(services)
    approval = ApprovalActivities(services.database)
    refund = RefundActivities(services.database, services.signer, rails)
    return {
        TaskQueue.CORE: QueueWork(
            workflows=[
                PublishReview,
                RescanPublished,
                AgentExecution,
                Approval,
                AgentCall,
                ProcessInstance,
                TriggeredStart,
                Payout,
                PayoutRun,
                RefundPayment,
                Purchase,
                SettlementSweep,
                Reconciliation,
                Housekeeping,
            ],
            activities=[
                publishing.open_submission,
                publishing.discard_upload,
                publishing.scan_submission,
                publishing.record_decision,
                publishing.send_letter,
                publishing.list_versions_due,
                publishing.rescan_version,
                process.open_instance,
                process.record_changes,
                process.work_on_task,
                TriggerActivities(services).claim_period,
                agent_call.prepare_execution,
                agent_call.answer_of_execution,
                execution.accept_execution,
                execution.queue_execution,
                execution.keep_outcome,
                execution.complete_execution,
                execution.fail_execution,
                housekeeping.prepare_event_months,
                housekeeping.archive_event_month,
                housekeeping.forget_requests,
                housekeeping.sweep_uploads,
                run_control.pause_run,
                run_control.resume_run,
                approval.open_approval,
                approval.create_approval,
                approval.record_approval,
                payout.open_payout,
                refund.request_refund,
                commerce.open_purchase,
                commerce.begin_purchase,
                commerce.declare_executed,
                commerce.end_purchase,
                payout.tell_developer,
            ],
        ),
        TaskQueue.SANDBOX: QueueWork(
            activities=[execution.run_agent, publishing.run_review_test],
            concurrent_activities=services.settings.sandbox_concurrency,
        ),
        TaskQueue.MONEY: QueueWork(
            activities=[
                payment.authorise,
                payment.settle,
                payment.release,
                reconciliation.sweep_settlements,
                reconciliation.reconcile_books,
                reconciliation.keep_checkpoints,
                payout.claim_payouts,
                payout.send_payout,
                refund.send_refund,
            ],
            concurrent_activities=20,
        ),
    }


def sandbox_settings(settings: Settings) -> SandboxSettings:
    """Return how the settings want agents' containers."""
    return SandboxSettings(
        docker_host=settings.docker_host,
        image=settings.sandbox_image,
        runtime=settings.sandbox_runtime,
        warm={"python": settings.sandbox_warm_python, "node": settings.sandbox_warm_node},
    )


@asynccontextmanager
async def running_workers(
    services: Services, client: Client, queues: Sequence[TaskQueue]
) -> AsyncGenerator[list[Worker]]:
    """Run the workers of ``queues`` for as long as the block lasts, then shut them down gracefully.

    Raises:
        SandboxUnavailableError: The sandbox queue is to be served and no Docker Engine answers.
        SandboxImageError: The engine has no agent image.
    """
    async with AsyncExitStack() as stack:
        sandbox = None
        if TaskQueue.SANDBOX in queues:
            sandbox = SandboxRunner(sandbox_settings(services.settings))
            stack.push_async_callback(sandbox.close)
            await sandbox.start()
        if TaskQueue.CORE in queues:
            await stack.enter_async_context(publishing(services.database))
            await stack.enter_async_context(measuring(services.database, observe_measurements))
            await stack.enter_async_context(delivering(services.database, services.key_ring))
            await stack.enter_async_context(
                serving_channels(services.settings, services.database, services.key_ring, client)
            )
            await stack.enter_async_context(serving_processes(services.database, client))
            await stack.enter_async_context(serving_triggers(services.database, client))
        outside = await stack.enter_async_context(outside_rails(services.settings))
        payout_rails: PayoutRails = {**open_payout_rails(services.database), **outside}
        x402 = await stack.enter_async_context(x402_rails(services.settings, services.database))
        work = work_of(services, sandbox, payout_rails, [*outside.values(), *x402])
        parts: dict[str, Check] = {} if sandbox is None else {SANDBOX_PART: sandbox.reachable}
        await stack.enter_async_context(sampling(services.database, client, parts))
        workers = [create_worker(client, queue, work[queue]) for queue in queues if queue in work]
        for worker in workers:
            await stack.enter_async_context(worker)
        yield workers


async def serve(settings: Settings) -> None:
    """Serve the settings' task queues until the process is asked to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    queues = [TaskQueue(name.strip()) for name in settings.task_queues.split(",")]
    async with open_services(settings, name="switchyard-worker") as services:
        client = await connect(settings, services.objects)
        async with running_workers(services, client, queues):
            if TaskQueue.CORE in queues:
                await ensure_schedules(client)
            await stop.wait()


def main() -> None:
    """Run the worker process."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, service="worker")
    with (
        contextlib.suppress(KeyboardInterrupt),
        tracing(settings, service="switchyard-worker"),
        exporting(settings.metrics_host, settings.worker_metrics_port),
    ):
        asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
