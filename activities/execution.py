"""What an execution does to the world: reserve, run in the sandbox, keep, complete or fail."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import rfc8785
import structlog
from temporalio import activity

from activities.execution_log import ExecutionLog
from activities.payment import check_mandate, mint_mandate, record_denied_intent, reserve
from activities.rails.registry import configured_rails
from activities.records.database import Connection
from activities.records.executions import (
    DeployedAgent,
    count_in_statistics,
    find_deployed_agent,
    find_execution,
    insert_execution,
    keep_outcome,
    lock_execution,
    mark_dispatched,
    mark_failed,
    mark_started,
    mark_succeeded,
    replace_mandate,
)
from activities.records.runs import append_events, create_run, lock_run
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import worker_identity
from activities.services import Services
from activities.temporal.failures import cut
from models.errors import PlatformError
from models.event import EventType, NewEvent
from models.execution import (
    EXIT_FAILURES,
    AgentNotExecutableError,
    AgentRun,
    AgentRunOutcome,
    CodeTamperedError,
    ExecutionAccepted,
    ExecutionEnd,
    ExecutionPaid,
    ExecutionRequest,
    ExecutionResult,
    FailureCode,
)
from models.json_schema import violations
from models.mandate import MandateTooShortError
from models.manifest import AgentManifest, secret_config_keys
from models.payment import MintRequest, Party, ReserveRequest
from models.policy import PLATFORM_VENDOR
from models.run import EXECUTION_STATUS, TERMINAL_STATUSES, Run, RunKind, RunStatus
from models.sandbox import ExitReason, SandboxLimits, SandboxRequest, SandboxResult, SandboxUnavailableError

logger = structlog.get_logger()


def inputs_hash(inputs: Any) -> str:
    """SHA-256 (hex) of the inputs' RFC 8785 canonical JSON, for the mandate.

    Numbers that canonical JSON cannot hold exactly are hashed as Python writes them.
    """
    try:
        canonical = rfc8785.dumps(inputs)
    except rfc8785.CanonicalizationError:
        canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()


class ExecutionActivities:
    """The activities of ``AgentExecution``."""

    def __init__(self, services: Services, sandbox: SandboxRunner | None) -> None:
        """Work on ``services``; a worker without a sandbox serves every queue but that one."""
        self._database = services.database
        self._objects = services.objects
        self._ring = services.key_ring
        self._services = services
        self._sandbox = sandbox

    @activity.defn(name="accept_execution")
    async def accept_execution(self, request: ExecutionRequest) -> ExecutionAccepted:
        """Create run and execution and hold the price, in one transaction; safe to repeat.

        Where an outside rail has to hold the price, the execution is not queued yet.

        Raises:
            PlatformError: The purchase is refused; the denied intent is recorded, nothing else is.
        """
        purchase = ReserveRequest(
            execution_id=request.execution_id,
            tenant_id=request.tenant_id,
            user_id=request.user_id,
            agent_id=request.agent_id,
            developer=Party(user_id=request.developer_id, tenant_id=request.developer_tenant_id),
            vendor=PLATFORM_VENDOR,
            amount=request.price_amount,
            currency=request.price_currency,
            cost_cap=request.cost_cap,
            x402_payment=request.x402_payment,
            description=f"Execution of {request.agent_slug}",
            metadata={"execution_id": request.execution_id},
        )
        run = Run(
            id=request.execution_id,
            tenant_id=request.tenant_id,
            kind=RunKind.AGENT_EXECUTION,
            status=RunStatus.PENDING,
            subject=request.agent_slug,
            correlation_id=request.correlation_id,
            workflow_id=activity.info().workflow_id or "",
        )
        try:
            async with self._database.platform() as connection:
                await create_run(connection, run)
                stored = await lock_run(connection, request.execution_id)
                if stored.status is not RunStatus.PENDING:
                    view = await find_execution(connection, request.execution_id)
                    return ExecutionAccepted(
                        execution_id=request.execution_id,
                        purchase_intent_id=view.execution.purchase_intent_id,
                    )
                reservation = await reserve(
                    connection, purchase, configured=configured_rails(self._services.settings)
                )
                await insert_execution(connection, request, reservation.intent_id)
                if not reservation.authorising:
                    await _queue(connection, request)
                return ExecutionAccepted(
                    execution_id=request.execution_id,
                    purchase_intent_id=reservation.intent_id,
                    authorising=reservation.authorising,
                )
        except PlatformError as error:
            if not error.retryable:
                async with self._database.platform() as connection:
                    await record_denied_intent(connection, purchase, error)
            raise

    @activity.defn(name="queue_execution")
    async def queue_execution(self, request: ExecutionRequest) -> None:
        """Queue an execution whose price an outside rail holds by now; safe to repeat."""
        async with self._database.platform() as connection:
            if (await lock_run(connection, request.execution_id)).status is RunStatus.PENDING:
                await _queue(connection, request)

    @activity.defn(name="run_agent")
    async def run_agent(self, run: AgentRun) -> AgentRunOutcome:
        """Dispatch the execution to this worker, run its agent in a container, and report its end.

        The mandate is minted here, when a place in the sandbox is free, so that its ten minutes always
        cover run and settlement. Cancelling kills the container.

        Raises:
            CodeTamperedError: The stored code is not the reviewed code.
            MandateMissingError: The hold was given back before the container started.
            AgentNotExecutableError: The version was withdrawn while the execution was queued.
            UnavailableError: Engine, store or database are away; the next attempt may succeed.
        """
        if self._sandbox is None:
            raise SandboxUnavailableError("this worker", "it serves the queue without a sandbox")
        attempt = activity.info().attempt
        dispatched = await self._dispatch(run, attempt)
        if dispatched is RunStatus.PAUSED:
            return AgentRunOutcome(succeeded=False, paused=True, message="Paused before its start.")
        if dispatched is None:
            return AgentRunOutcome(
                succeeded=False,
                failure=FailureCode.INFRASTRUCTURE_LOST,
                message="The worker was lost while the agent ran; an agent that reaches hosts outside is not "
                "run twice.",
            )
        code = await self._objects.get(dispatched.agent.code_key)
        if hashlib.sha256(code).hexdigest() != run.code_hash:
            raise await self._tampered(run)
        await self._require_mandate(run, dispatched)
        request = _sandbox_request(run, attempt, dispatched, code)
        async with ExecutionLog(self._database, run.tenant_id, run.execution_id, attempt) as log:
            result = await self._sandbox.run(
                request,
                secrets=injected_secrets(dispatched.agent.manifest, dispatched.config),
                on_output=log.write,
                heartbeat=activity.heartbeat,
            )
        if result.exit_reason is ExitReason.INFRA_LOST and not (result.started and not run.repeatable):
            raise SandboxUnavailableError(self._services.settings.docker_host, result.detail)
        return _outcome(result, dispatched.agent.manifest)

    async def _dispatch(
        self, run: AgentRun, attempt: int
    ) -> "_Dispatched | Literal[RunStatus.PAUSED] | None":
        """Mint the mandate and mark the run as this worker's, unless it is paused.

        Returns:
            None when it may not be run once more.
        """
        async with self._database.tenant(run.tenant_id) as connection:
            agent = await find_deployed_agent(connection, run.deployment_id)
            if agent is None:
                raise AgentNotExecutableError(run.version_id, "withdrawn")
        async with self._database.platform() as connection:
            stored = await lock_run(connection, run.execution_id)
            if stored.status is RunStatus.PAUSED:
                return RunStatus.PAUSED
            execution = await lock_execution(connection, run.execution_id)
            again = execution.started_at is not None
            if again and attempt > 1 and not run.repeatable:
                return None
            if stored.status is RunStatus.QUEUED:
                await append_events(
                    connection,
                    run.execution_id,
                    [
                        NewEvent(
                            type=EventType.RUN_DISPATCHED,
                            key="dispatched",
                            data={"worker": worker_identity()},
                        )
                    ],
                    status=RunStatus.DISPATCHED,
                )
            mandate = await mint_mandate(
                connection, self._services.signer, _mint_request(run, agent, execution.inputs)
            )
            await mark_dispatched(
                connection,
                run.execution_id,
                worker_id=worker_identity(),
                attempt=execution.attempt + 1,
                mandate_id=mandate.mandate_id,
            )
            await mark_started(connection, run.execution_id)
            event = EventType.RUN_RETRIED if again else EventType.RUN_STARTED
            await append_events(
                connection,
                run.execution_id,
                [
                    NewEvent(
                        type=event,
                        key=f"started:{execution.attempt + 1}",
                        data={"worker": worker_identity(), "attempt": execution.attempt + 1},
                    ),
                    NewEvent(
                        type=EventType.AGENT_INVOKED,
                        key=f"invoked:{execution.attempt + 1}",
                        data={
                            "agent": agent.manifest.slug,
                            "version_id": run.version_id,
                            "attempt": execution.attempt + 1,
                        },
                    ),
                ],
                status=RunStatus.RUNNING,
            )
        config: dict[str, Any] = orjson.loads(
            self._ring.decrypt(agent.config_key_id, agent.config_ciphertext, agent.deployment_id.encode())
        )
        return _Dispatched(agent=agent, inputs=execution.inputs, config=config)

    async def _require_mandate(self, run: AgentRun, dispatched: "_Dispatched") -> None:
        """Make sure, last of all before the container starts, that the run can be settled when it ends.

        Fetching the code may have taken long: a mandate that would no longer outlive the run is replaced.

        Raises:
            MandateMissingError: The hold was given back meanwhile.
        """
        async with self._database.platform() as connection:
            try:
                await check_mandate(connection, run.execution_id, run.timeout_ms)
            except MandateTooShortError:
                await lock_run(connection, run.execution_id)
                await lock_execution(connection, run.execution_id)
                request = _mint_request(run, dispatched.agent, dispatched.inputs)
                minted = await mint_mandate(connection, self._services.signer, request)
                await replace_mandate(connection, run.execution_id, minted.mandate_id)

    async def _tampered(self, run: AgentRun) -> CodeTamperedError:
        error = CodeTamperedError(run.version_id)
        logger.error("code_tampered", run_id=run.execution_id, version_id=run.version_id, alert=True)
        async with self._database.platform() as connection:
            await append_events(
                connection,
                run.execution_id,
                [
                    NewEvent(
                        type=EventType.AGENT_TAMPERED, key="tampered", data={"version_id": run.version_id}
                    )
                ],
            )
        return error

    @activity.defn(name="keep_outcome")
    async def keep_outcome(self, end: ExecutionEnd) -> None:
        """Keep the outputs of an agent that finished well; they are shown once they are paid for."""
        async with self._database.platform() as connection:
            await append_events(
                connection,
                end.execution_id,
                [
                    *_egress_events(end.outcome),
                    NewEvent(
                        type=EventType.AGENT_COMPLETED,
                        key="agent",
                        data={"duration_ms": end.outcome.duration_ms},
                    ),
                    NewEvent(
                        type=EventType.RUN_EXECUTED,
                        key="executed",
                        data={"duration_ms": end.outcome.duration_ms, "exit_code": end.outcome.exit_code},
                    ),
                ],
            )
            await keep_outcome(connection, end.execution_id, end.outcome)

    @activity.defn(name="complete_execution")
    async def complete_execution(self, paid: ExecutionPaid) -> ExecutionResult:
        """Release the outputs of a settled execution; safe to repeat."""
        async with self._database.platform() as connection:
            run = await lock_run(connection, paid.execution_id)
            execution = await lock_execution(connection, paid.execution_id)
            if run.status not in TERMINAL_STATUSES:
                await mark_succeeded(
                    connection, execution.id, payment_id=paid.payment_id, receipt_id=paid.receipt_id
                )
                ended = NewEvent(
                    type=EventType.RUN_SUCCEEDED,
                    key="ended",
                    data={
                        "duration_ms": execution.duration_ms,
                        "payment_id": paid.payment_id,
                        "receipt_id": paid.receipt_id,
                    },
                )
                await append_events(connection, execution.id, [ended], status=RunStatus.SUCCEEDED)
                await count_in_statistics(connection, execution, succeeded=True)
        return ExecutionResult(
            execution_id=paid.execution_id,
            status=EXECUTION_STATUS[RunStatus.SUCCEEDED],
            payment_id=paid.payment_id,
            receipt_id=paid.receipt_id,
        )

    @activity.defn(name="fail_execution")
    async def fail_execution(self, end: ExecutionEnd) -> ExecutionResult:
        """Record an end without success; the hold is released by then. Safe to repeat."""
        failure = end.outcome.failure or FailureCode.INFRASTRUCTURE_LOST
        status = RunStatus.CANCELED if failure is FailureCode.CANCELLED else RunStatus.FAILED
        event = EventType.RUN_CANCELED if status is RunStatus.CANCELED else EventType.RUN_FAILED
        message = cut(end.outcome.message)
        async with self._database.platform() as connection:
            run = await lock_run(connection, end.execution_id)
            execution = await lock_execution(connection, end.execution_id)
            if run.status not in TERMINAL_STATUSES:
                if end.outcome.exit_reason is not None:
                    await keep_outcome(connection, end.execution_id, end.outcome)
                await mark_failed(connection, end.execution_id, failure, message)
                await append_events(
                    connection,
                    end.execution_id,
                    [
                        *_egress_events(end.outcome),
                        *_agent_error(end.outcome, failure, message),
                        NewEvent(
                            type=event,
                            key="ended",
                            data={
                                "code": failure.value,
                                "message": message,
                                "exit_code": end.outcome.exit_code,
                            },
                        ),
                    ],
                    status=status,
                )
                await count_in_statistics(connection, execution, succeeded=False)
        return ExecutionResult(
            execution_id=end.execution_id, status=EXECUTION_STATUS[status], failure=failure.value
        )


async def _queue(connection: Connection, request: ExecutionRequest) -> None:
    queued = NewEvent(
        type=EventType.RUN_QUEUED,
        key="queued",
        data={"agent": request.agent_slug, "version_id": request.version_id},
    )
    await append_events(connection, request.execution_id, [queued], status=RunStatus.QUEUED)


@dataclass(frozen=True)
class _Dispatched:
    """What the worker needs to run the agent, read and decrypted here and never sent through Temporal."""

    agent: DeployedAgent
    inputs: Any
    config: dict[str, Any]


def _mint_request(run: AgentRun, agent: DeployedAgent, inputs: Any) -> MintRequest:
    return MintRequest(
        execution_id=run.execution_id,
        code_hash=run.code_hash,
        code_version=agent.manifest.version,
        inputs_hash=inputs_hash(inputs),
        timeout_ms=run.timeout_ms,
    )


def _sandbox_request(run: AgentRun, attempt: int, dispatched: _Dispatched, code: bytes) -> SandboxRequest:
    manifest = dispatched.agent.manifest
    return SandboxRequest.model_validate(
        {
            "execution_id": run.execution_id,
            "attempt": attempt,
            "runtime": manifest.runtime.value,
            "entry_point": manifest.entry_point,
            "code": code,
            "inputs": dispatched.inputs,
            "config": public_config(manifest, dispatched.config),
            "limits": SandboxLimits(memory_mb=manifest.memory_mb, timeout_ms=run.timeout_ms),
            "network": manifest.network,
        }
    )


def public_config(manifest: AgentManifest, config: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a deployment's configuration what must never enter a container."""
    secret = secret_config_keys(manifest)
    return {name: value for name, value in config.items() if name not in secret}


def injected_secrets(manifest: AgentManifest, config: dict[str, Any]) -> dict[str, str]:
    """Pick the values that the egress broker adds to requests, by the configuration key that holds them."""
    keys = {host.credential.config_key for host in manifest.network if host.credential is not None}
    return {key: str(config[key]) for key in keys if key in config}


def _agent_error(outcome: AgentRunOutcome, failure: FailureCode, message: str) -> list[NewEvent]:
    """Report that the agent itself failed, where it ran at all."""
    if outcome.exit_reason is None or outcome.succeeded:
        return []
    data = {"code": failure.value, "message": message}
    return [NewEvent(type=EventType.AGENT_ERROR, key="agent", data=data)]


def _egress_events(outcome: AgentRunOutcome) -> list[NewEvent]:
    """Report what the agent tried to reach, where it tried."""
    if not outcome.egress and not outcome.egress_refused:
        return []
    decisions = [decision.model_dump(mode="json") for decision in outcome.egress]
    data = {"decisions": decisions, "refused": outcome.egress_refused}
    return [NewEvent(type=EventType.RUN_EGRESS, key="egress", data=data, source="sandbox")]


def _outcome(result: SandboxResult, manifest: AgentManifest) -> AgentRunOutcome:
    """Judge a container's end: only exit 0 with a document that fits the output schema succeeds."""
    outcome = AgentRunOutcome(
        succeeded=False,
        exit_reason=result.exit_reason,
        exit_code=result.exit_code,
        message=result.detail,
        stderr=result.stderr_tail.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        duration_ms=result.duration_ms,
        cpu_ms=result.cpu_ms,
        memory_peak_bytes=result.memory_peak_bytes,
        egress=result.egress,
        egress_refused=result.egress_refused,
    )
    if not result.succeeded:
        return outcome.model_copy(update={"failure": EXIT_FAILURES[result.exit_reason]})
    outputs = orjson.loads(result.stdout)
    broken = violations(outputs, manifest.output_schema)
    if broken:
        named = "; ".join(f"{each.field}: {each.message}" for each in broken[:5])
        return outcome.model_copy(
            update={
                "failure": FailureCode.OUTPUT_INVALID,
                "exit_reason": ExitReason.OUTPUT_INVALID,
                "message": f"The outputs do not fit the agent's output schema: {named}",
            }
        )
    return outcome.model_copy(update={"succeeded": True, "outputs": outputs, "message": ""})
