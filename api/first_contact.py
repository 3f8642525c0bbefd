"""Starting a run and waiting for its first answer, in one call (DESIGN §4: update-with-start)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.workflow import UpdateMethodMultiParam

from models.run import RunKind, RunStatus
from models.search_attributes import run_attributes
from models.task_queues import TaskQueue
from models.timeouts import UPDATE_RPC_TIMEOUT

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

FAIRNESS_KEY_CHARACTERS = 64
"""Temporal takes no longer key."""


async def start_and_ask(
    temporal: Client,
    run: Callable[[Any, RequestT], Awaitable[Any]],
    request: RequestT,
    question: UpdateMethodMultiParam[[Any], AnswerT],
    *,
    question_id: str,
    workflow_id: str,
    kind: RunKind,
    tenant_id: str,
    subject: str,
    correlation_id: str,
    summary: str,
    priority_key: int | None = None,
    fairness_weight: float | None = None,
) -> AnswerT:
    """Start the workflow of a run, unless it was started before, and return its answer to ``question``.

    Doing it twice for one ``workflow_id`` answers the same twice, also after the workflow has ended.

    Args:
        temporal: The client.
        run: The workflow's run method.
        request: What the workflow starts with.
        question: An update of the workflow without arguments.
        question_id: Identifies the update within the workflow.
        workflow_id: Derived from the run's identifier.
        kind: For operators, like the next four.
        tenant_id: Also the fairness key: no tenant starves another.
        subject: What the run is about.
        correlation_id: Of the request.
        summary: One line in the Temporal Web UI.
        priority_key: Lower runs first, 1 to 5.
        fairness_weight: Share among tenants of the same priority.

    Raises:
        WorkflowUpdateFailedError: The workflow refuses; the cause says why.
        WorkflowUpdateRPCTimeoutOrCancelledError, RPCError: No answer in time.
    """
    operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        run,
        request,
        id=workflow_id,
        task_queue=TaskQueue.CORE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        static_summary=summary,
        search_attributes=run_attributes(
            tenant_id=tenant_id,
            kind=kind,
            status=RunStatus.PENDING,
            subject=subject,
            correlation_id=correlation_id,
        ),
        priority=Priority(
            priority_key=priority_key,
            fairness_key=tenant_id[:FAIRNESS_KEY_CHARACTERS],
            fairness_weight=fairness_weight,
        ),
    )
    try:
        return await temporal.execute_update_with_start_workflow(
            question, start_workflow_operation=operation, id=question_id, rpc_timeout=UPDATE_RPC_TIMEOUT
        )
    finally:
        # Not awaited by anybody else; a failure of the start is the update's failure, too.
        await asyncio.gather(operation.workflow_handle(), return_exceptions=True)
