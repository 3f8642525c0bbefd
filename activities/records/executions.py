"""Executions in the store: the only writer of ``agent_executions``."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Json

from activities.records.database import Connection
from models.execution import (
    AgentExecution,
    AgentNotExecutableError,
    AgentRunOutcome,
    ExecutionNotFoundError,
    ExecutionRequest,
    FailureCode,
)
from models.manifest import AgentManifest
from models.run import RunStatus

_INSERT = """
INSERT INTO agent_executions (id, tenant_id, user_id, agent_id, version_id, deployment_id, developer_id,
                              developer_tenant_id, purchase_intent_id, price_amount, price_currency, inputs,
                              attempt)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(agent_id)s, %(version_id)s, %(deployment_id)s, %(developer_id)s,
        %(developer_tenant_id)s, %(purchase_intent_id)s, %(price_amount)s, %(price_currency)s, %(inputs)s, 0)
ON CONFLICT (id) DO NOTHING
"""

_DISPATCH = """
UPDATE agent_executions
SET worker_id = %(worker_id)s, attempt = %(attempt)s, mandate_id = %(mandate_id)s,
    dispatched_at = coalesce(dispatched_at, now())
WHERE id = %(id)s
"""

_EXECUTED = """
UPDATE agent_executions
SET outputs = %(outputs)s, exit_reason = %(exit_reason)s,
    exit_code = %(exit_code)s, stderr = %(stderr)s, duration_ms = %(duration_ms)s, cpu_ms = %(cpu_ms)s,
    memory_peak_bytes = %(memory_peak_bytes)s,
    executed_at = CASE WHEN %(succeeded)s THEN coalesce(executed_at, now()) END
WHERE id = %(id)s
"""

_STATISTICS = """
INSERT INTO agent_statistics (agent_id, tenant_id, executions_succeeded, executions_failed, total_duration_ms)
VALUES (%(agent_id)s, %(tenant_id)s, %(succeeded)s, %(failed)s, %(duration_ms)s)
ON CONFLICT (agent_id) DO UPDATE
SET executions_succeeded = agent_statistics.executions_succeeded + excluded.executions_succeeded,
    executions_failed = agent_statistics.executions_failed + excluded.executions_failed,
    total_duration_ms = agent_statistics.total_duration_ms + excluded.total_duration_ms,
    updated_at = now()
"""

_DEPLOYED = """
SELECT d.id AS deployment_id, d.agent_id, d.version_id, d.config_ciphertext, d.config_key_id,
       v.status, v.manifest, v.code_s3_key, v.code_hash, v.developer_id, v.tenant_id AS developer_tenant_id,
       a.slug
FROM agent_deployments d
LEFT JOIN agent_versions v ON v.id = d.version_id
LEFT JOIN agents a ON a.id = d.agent_id
WHERE d.id = %s
"""


@dataclass(frozen=True)
class DeployedAgent:
    """A deployment with the version it pins, as its user sees them."""

    deployment_id: str
    agent_id: str
    agent_slug: str
    version_id: str
    manifest: AgentManifest
    code_key: str
    code_hash: str
    developer_id: str
    developer_tenant_id: str
    config_ciphertext: bytes
    config_key_id: str


@dataclass
class ExecutionView:
    """An execution with what its run knows."""

    id: str
    created_at: datetime
    execution: AgentExecution
    status: RunStatus
    workflow_id: str


async def find_deployed_agent(connection: Connection, deployment_id: str) -> DeployedAgent | None:
    """Read a deployment of the transaction's tenant together with its version.

    Returns:
        None when the tenant has no such deployment.

    Raises:
        AgentNotExecutableError: The version is not published (any more).
    """
    row = await (await connection.execute(_DEPLOYED, [deployment_id])).fetchone()
    if row is None:
        return None
    if row["status"] != "published":
        # Row-level security hides another tenant's version that is not published.
        raise AgentNotExecutableError(row["version_id"], row["status"] or "withdrawn")
    return DeployedAgent(
        deployment_id=row["deployment_id"],
        agent_id=row["agent_id"],
        agent_slug=row["slug"],
        version_id=row["version_id"],
        manifest=AgentManifest.model_validate(row["manifest"]),
        code_key=row["code_s3_key"],
        code_hash=row["code_hash"],
        developer_id=row["developer_id"],
        developer_tenant_id=row["developer_tenant_id"],
        config_ciphertext=row["config_ciphertext"],
        config_key_id=row["config_key_id"],
    )


async def insert_execution(
    connection: Connection, request: ExecutionRequest, purchase_intent_id: str | None
) -> None:
    """Insert the execution of a request; one that exists already is left as it is."""
    await connection.execute(
        _INSERT,
        {
            "id": request.execution_id,
            "tenant_id": request.tenant_id,
            "user_id": request.user_id,
            "agent_id": request.agent_id,
            "version_id": request.version_id,
            "deployment_id": request.deployment_id,
            "developer_id": request.developer_id,
            "developer_tenant_id": request.developer_tenant_id,
            "purchase_intent_id": purchase_intent_id,
            "price_amount": request.price_amount,
            "price_currency": request.price_currency,
            "inputs": Json(request.inputs),
        },
    )


async def find_execution(connection: Connection, execution_id: str) -> ExecutionView:
    """Read one execution with its run.

    Raises:
        ExecutionNotFoundError: The transaction's tenant has none of that identifier.
    """
    rows = await _views(connection, "e.id = %s", [execution_id])
    if not rows:
        raise ExecutionNotFoundError(execution_id)
    return rows[0]


async def list_executions(
    connection: Connection,
    *,
    agent_id: str | None,
    statuses: list[RunStatus] | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[ExecutionView]:
    """Read the tenant's executions, newest first.

    Args:
        connection: A tenant's transaction.
        agent_id: Only those of this agent.
        statuses: Only those whose run has one of these statuses.
        before: Only those older than this creation time and identifier (keyset pagination).
        limit: At most so many.
    """
    conditions, parameters = ["true"], list[Any]()
    if agent_id is not None:
        conditions.append("e.agent_id = %s")
        parameters.append(agent_id)
    if statuses is not None:
        conditions.append("r.status = ANY(%s)")
        parameters.append([status.value for status in statuses])
    if before is not None:
        conditions.append("(e.created_at, e.id) < (%s, %s)")
        parameters.extend(before)
    return await _views(
        connection,
        " AND ".join(conditions) + " ORDER BY e.created_at DESC, e.id DESC LIMIT %s",
        [*parameters, limit],
    )


async def _views(connection: Connection, condition: str, parameters: list[Any]) -> list[ExecutionView]:
    cursor = await connection.execute(
        "SELECT e.*, r.status AS run_status, r.workflow_id AS run_workflow_id "  # pyright: ignore[reportArgumentType]
        f"FROM agent_executions e JOIN runs r ON r.id = e.id WHERE {condition}",
        parameters,
    )
    return [
        ExecutionView(
            id=row["id"],
            created_at=row["created_at"],
            execution=AgentExecution.model_validate(row),
            status=RunStatus(row["run_status"]),
            workflow_id=row["run_workflow_id"],
        )
        for row in await cursor.fetchall()
    ]


async def lock_execution(connection: Connection, execution_id: str) -> AgentExecution:
    """Read one execution and hold its row lock; taken after the run's and before money's.

    Raises:
        ExecutionNotFoundError: There is none.
    """
    cursor = await connection.execute(
        "SELECT * FROM agent_executions WHERE id = %s FOR UPDATE", [execution_id]
    )
    row = await cursor.fetchone()
    if row is None:
        raise ExecutionNotFoundError(execution_id)
    return AgentExecution.model_validate(row)


async def mark_dispatched(
    connection: Connection, execution_id: str, *, worker_id: str, attempt: int, mandate_id: str | None
) -> None:
    """Note which worker has the execution now and the mandate minted for this attempt."""
    await connection.execute(
        _DISPATCH,
        {"id": execution_id, "worker_id": worker_id, "attempt": attempt, "mandate_id": mandate_id},
    )


async def replace_mandate(connection: Connection, execution_id: str, mandate_id: str) -> None:
    """Note the mandate that took the place of one too short for the run."""
    await connection.execute(
        "UPDATE agent_executions SET mandate_id = %s WHERE id = %s", [mandate_id, execution_id]
    )


async def mark_started(connection: Connection, execution_id: str) -> None:
    """Note that the container is about to start, the first time."""
    await connection.execute(
        "UPDATE agent_executions SET started_at = coalesce(started_at, now()) WHERE id = %s", [execution_id]
    )


async def keep_outcome(connection: Connection, execution_id: str, outcome: AgentRunOutcome) -> None:
    """Keep how the agent ended and its outputs; nobody sees them yet."""
    await connection.execute(
        _EXECUTED,
        {
            "id": execution_id,
            "outputs": Json(outcome.outputs),
            "exit_reason": outcome.exit_reason,
            "exit_code": outcome.exit_code,
            "stderr": outcome.stderr,
            "duration_ms": outcome.duration_ms,
            "cpu_ms": outcome.cpu_ms,
            "memory_peak_bytes": outcome.memory_peak_bytes,
            "succeeded": outcome.succeeded,
        },
    )


async def mark_failed(connection: Connection, execution_id: str, failure: FailureCode, message: str) -> None:
    """Note why the execution ended without success."""
    await connection.execute(
        "UPDATE agent_executions SET error_code = %s, error_message = %s, completed_at = now() WHERE id = %s",
        [failure.value, message, execution_id],
    )


async def mark_succeeded(
    connection: Connection, execution_id: str, *, payment_id: str | None, receipt_id: str | None
) -> None:
    """Note payment and receipt; from here on the outputs are shown."""
    await connection.execute(
        "UPDATE agent_executions SET payment_id = %s, receipt_id = %s, completed_at = now() WHERE id = %s",
        [payment_id, receipt_id, execution_id],
    )


async def count_in_statistics(connection: Connection, execution: AgentExecution, *, succeeded: bool) -> None:
    """Add one ended execution to its agent's counters; call it once, with the end itself."""
    await connection.execute(
        _STATISTICS,
        {
            "agent_id": execution.agent_id,
            "tenant_id": execution.developer_tenant_id,
            "succeeded": int(succeeded),
            "failed": int(not succeeded),
            "duration_ms": (execution.duration_ms or 0) if succeeded else 0,
        },
    )
