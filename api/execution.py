"""Running agents: start, follow, list, cancel (frameos-agent-runtime-flows, "Agent Execution Flow")."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response
from temporalio.client import Client

from activities.records.database import DatabaseUnavailableError
from activities.records.executions import (
    DeployedAgent,
    ExecutionView,
    find_deployed_agent,
    find_execution,
    list_executions,
)
from api.authentication import requires
from api.correlation import correlation_id
from api.envelope import Success, errors, success
from api.errors import TemporalUnavailableError
from api.first_contact import start_and_ask
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import InvalidCursorError, Page, PageDep
from api.state import ServicesDep
from api.x402 import PaymentSignature, x402_offer
from models.errors import InsufficientFundsError
from models.execution import (
    AgentNotExecutableError,
    CancelExecution,
    DeploymentMismatchError,
    ExecutionAccepted,
    ExecutionEndedError,
    ExecutionNotFoundError,
    ExecutionRequest,
    InvalidInputsError,
)
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.json_schema import SchemaTooComplexError, violations
from models.marketplace import DeploymentNotFoundError
from models.money import MinorUnits
from models.payment import AuthorisationDeclinedError
from models.policy import PurchaseRefusedError
from models.run import EXECUTION_STATUS, RunKind
from models.table import utc_now
from models.timeouts import UPDATE_RPC_TIMEOUT
from models.x402 import PaymentRequiredError, X402PaymentInvalidError
from workflows.execution import AgentExecution

router = APIRouter(tags=["executions"])

ExecutionStatus = Literal["queued", "running", "success", "failed", "cancelled"]

PAID_PRIORITY, FREE_PRIORITY = 2, 4
"""Temporal runs lower keys first: paid executions never wait behind free ones."""

PAID_WEIGHT, FREE_WEIGHT = 10.0, 1.0
"""Shares of a tenant within one priority (frameos-agent-runtime-flows, "Queue Execution": 10 : 1)."""


class ExecuteRequest(BaseModel):
    """What to run, and with what."""

    model_config = ConfigDict(extra="forbid")

    deployment_id: Identifier
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    cost_cap: MinorUnits | None = Field(
        default=None, description="Refuse when the price is above this, in minor units of its currency."
    )


class QueuedExecution(BaseModel):
    """The answer to a start."""

    execution_id: str
    status: ExecutionStatus
    poll_url: str


class ExecutionPayment(BaseModel):
    """What was paid."""

    amount: int
    currency: str
    receipt_id: str | None
    payment_id: str | None


class ExecutionError(BaseModel):
    """Why an execution ended without success. Nobody was charged."""

    code: str
    message: str
    exit_code: int | None
    stderr: str | None


class Execution(BaseModel):
    """One execution. Which fields are present depends on its status."""

    execution_id: str
    agent_id: str
    deployment_id: str
    status: ExecutionStatus
    created_at: datetime
    workflow_id: str
    attempt: int | None = None
    worker_id: str | None = None
    started_at: datetime | None = None
    elapsed_ms: int | None = Field(default=None, description="While it runs: time since it started.")
    completed_at: datetime | None = None
    duration_ms: int | None = Field(default=None, description="Time the agent itself took.")
    outputs: JsonValue = Field(default=None, description="Released once the payment is settled.")
    payment: ExecutionPayment | None = None
    error: ExecutionError | None = None


class CancelRequest(BaseModel):
    """Why an execution is cancelled."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


Starter = Annotated[Principal, Depends(requires(Permission.EXECUTIONS_START))]
Reader = Annotated[Principal, Depends(requires(Permission.EXECUTIONS_READ))]


def show(view: ExecutionView) -> Execution:
    """Present an execution in the three documented shapes: queued, running, ended."""
    row, status = view.execution, EXECUTION_STATUS[view.status]
    shown: dict[str, Any] = {
        "execution_id": row.id,
        "agent_id": row.agent_id,
        "deployment_id": row.deployment_id,
        "status": status,
        "created_at": row.created_at,
        "workflow_id": view.workflow_id,
    }
    if status == "running":
        assert row.started_at is not None, "a running execution has started"
        elapsed = utc_now() - row.started_at
        shown |= {
            "started_at": row.started_at,
            "elapsed_ms": max(0, round(elapsed.total_seconds() * 1000)),
            "attempt": row.attempt,
            "worker_id": row.worker_id,
        }
    elif status == "success":
        shown |= {
            "started_at": row.started_at,
            "completed_at": row.completed_at,
            "duration_ms": row.duration_ms,
            "outputs": row.outputs,
            "payment": ExecutionPayment(
                amount=row.price_amount,
                currency=row.price_currency,
                receipt_id=row.receipt_id,
                payment_id=row.payment_id,
            ),
        }
    elif status in {"failed", "cancelled"}:
        shown |= {
            "started_at": row.started_at,
            "completed_at": row.completed_at,
            "duration_ms": row.duration_ms,
            "error": ExecutionError(
                code=row.error_code or "",
                message=row.error_message or "",
                exit_code=row.exit_code,
                stderr=row.stderr,
            ),
        }
    return Execution.model_validate(shown)


@router.post(
    "/agents/{agent_id}/execute",
    status_code=202,
    response_model=Success[QueuedExecution],
    responses=errors(
        InvalidInputsError,
        SchemaTooComplexError,
        InsufficientFundsError,
        PaymentRequiredError,
        X402PaymentInvalidError,
        AuthorisationDeclinedError,
        PurchaseRefusedError,
        DeploymentNotFoundError,
        AgentNotExecutableError,
        DeploymentMismatchError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
        DatabaseUnavailableError,
    ),
)
async def execute(
    agent_id: Identifier,
    body: ExecuteRequest,
    caller: Starter,
    services: ServicesDep,
    once: OnceDep,
    payment_signature: PaymentSignature = None,
) -> Response:
    """Check the inputs, hold the price and queue the run; poll ``poll_url`` for its end.

    Where x402 is configured and nothing else of the caller's covers a micro-price, the answer is 402 with the
    offer in ``PAYMENT-REQUIRED``; repeat the request with the signed payment in ``PAYMENT-SIGNATURE``.
    """
    async with services.database.tenant(caller.tenant_id) as connection:
        agent = await find_deployed_agent(connection, body.deployment_id)
    if agent is None:
        raise DeploymentNotFoundError(body.deployment_id)
    if agent.agent_id != agent_id:
        raise DeploymentMismatchError(body.deployment_id, agent_id)
    # Within its budget a check may take a second; other requests go on meanwhile.
    problems = await asyncio.to_thread(violations, body.inputs, agent.manifest.input_schema)
    if problems:
        raise InvalidInputsError([problem.model_dump() for problem in problems])

    # Before the key is claimed: an offer is no answer to remember.
    pricing = agent.manifest.pricing
    offered = await x402_offer(services, caller, pricing.amount, pricing.currency, payment_signature)
    if offered is not None:
        return offered

    async def start(execution_id: str) -> Success[QueuedExecution]:
        request = _request(execution_id, caller, agent, body, payment_signature)
        accepted = await start_execution(services.temporal, request)
        return success(
            QueuedExecution(
                execution_id=accepted.execution_id,
                status="queued",
                poll_url=f"/executions/{accepted.execution_id}",
            )
        )

    return await once.answer("execution", start)


def _request(
    execution_id: str,
    caller: Principal,
    agent: DeployedAgent,
    body: ExecuteRequest,
    payment_signature: str | None,
) -> ExecutionRequest:
    manifest = agent.manifest
    return ExecutionRequest(
        execution_id=execution_id,
        tenant_id=caller.tenant_id,
        user_id=caller.user_id,
        deployment_id=agent.deployment_id,
        agent_id=agent.agent_id,
        agent_slug=agent.agent_slug,
        version_id=agent.version_id,
        developer_id=agent.developer_id,
        developer_tenant_id=agent.developer_tenant_id,
        code_hash=agent.code_hash,
        timeout_ms=manifest.timeout_ms,
        attempts=3 if manifest.retry_on_failure else 1,
        repeatable=not manifest.network or manifest.retry_on_failure,
        price_amount=manifest.pricing.amount,
        price_currency=manifest.pricing.currency,
        cost_cap=body.cost_cap,
        x402_payment=payment_signature,
        correlation_id=correlation_id(),
        inputs=body.inputs,
    )


async def start_execution(temporal: Client, request: ExecutionRequest) -> ExecutionAccepted:
    """Start the workflow of an execution and wait until its price is held.

    Doing it twice for one execution answers the same twice.

    Raises:
        WorkflowUpdateFailedError: The purchase is refused; the cause says why.
        WorkflowUpdateRPCTimeoutOrCancelledError, RPCError: No answer in time.
    """
    paid = request.price_amount > 0
    return await start_and_ask(
        temporal,
        AgentExecution.run,
        request,
        AgentExecution.accepted,
        question_id="accepted",
        workflow_id=f"agent-execution/{request.execution_id}",
        kind=RunKind.AGENT_EXECUTION,
        tenant_id=request.tenant_id,
        subject=request.agent_slug,
        correlation_id=request.correlation_id,
        summary=f"{request.agent_slug} for {request.tenant_id}",
        priority_key=PAID_PRIORITY if paid else FREE_PRIORITY,
        fairness_weight=PAID_WEIGHT if paid else FREE_WEIGHT,
    )


@router.get(
    "/executions/{execution_id}",
    response_model=Success[Execution],
    response_model_exclude_none=True,
    responses=errors(ExecutionNotFoundError),
)
async def get_execution(
    execution_id: Identifier, caller: Reader, services: ServicesDep
) -> Success[Execution]:
    """Show one execution: queued, running, or how it ended."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(show(await find_execution(connection, execution_id)))


@router.get(
    "/executions",
    response_model=Success[Page[Execution]],
    response_model_exclude_none=True,
    responses=errors(InvalidCursorError),
)
async def get_executions(
    caller: Reader,
    services: ServicesDep,
    page: PageDep,
    agent_id: Annotated[Identifier | None, Query(description="Only executions of this agent.")] = None,
    status: Annotated[ExecutionStatus | None, Query(description="Only those with this status.")] = None,
) -> Success[Page[Execution]]:
    """List the tenant's executions, newest first."""
    wanted = None if status is None else [run for run, word in EXECUTION_STATUS.items() if word == status]
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_executions(
            connection, agent_id=agent_id, statuses=wanted, before=page.before, limit=page.fetch
        )
    return success(page.page(rows, show))


@router.post(
    "/executions/{execution_id}/cancel",
    response_model=Success[Execution],
    response_model_exclude_none=True,
    responses=errors(
        ExecutionNotFoundError,
        ExecutionEndedError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def cancel_execution(
    execution_id: Identifier, body: CancelRequest, caller: Starter, services: ServicesDep, once: OnceDep
) -> Response:
    """End an execution whose agent has not finished: its container is killed, its hold released."""

    async def cancel(_: str) -> Success[Execution]:
        async with services.database.tenant(caller.tenant_id) as connection:
            view = await find_execution(connection, execution_id)
        if view.execution.completed_at is not None:
            raise ExecutionEndedError(execution_id, EXECUTION_STATUS[view.status])
        handle = services.temporal.get_workflow_handle_for(AgentExecution.run, view.workflow_id)
        await handle.execute_update(
            AgentExecution.cancel,
            CancelExecution(requested_by=caller.user_id, reason=body.reason),
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
        async with services.database.tenant(caller.tenant_id) as connection:
            return success(show(await find_execution(connection, execution_id)))

    return await once.answer("execution", cancel, status=200)
