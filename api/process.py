"""Operations on running instances: hold, change, move, migrate; their state now and as of any event."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field, JsonValue
from starlette.responses import Response
from temporalio.workflow import UpdateMethodMultiParam

from activities.process import process_workflow_id
from activities.records.process_definitions import find_definition
from activities.records.process_instances import find_instance
from activities.records.process_state import (
    find_agent_state,
    find_global_state,
    list_state_history,
    state_as_of,
    write_agent_state,
    write_global_state,
)
from activities.records.process_trace import tokens_as_of
from activities.temporal.failures import RemoteRefusalError
from api.authentication import requires
from api.camel import CamelAnswer, CamelBody
from api.envelope import errors
from api.errors import TemporalUnavailableError, status_of_code
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, Once, OnceDep
from api.orchestrator import Reader, Runner, StatusAnswer, Variables, live_instance
from api.state import Services, ServicesDep
from models.execution import CancelExecution
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.process import InstanceStatus
from models.process_errors import (
    ProcessDefinitionNotFoundError,
    ProcessEndedError,
    ProcessInstanceNotFoundError,
    SeqNotReachedError,
    StateVersionConflictError,
)
from models.process_operation import (
    OPERATIONS,
    ActivateTools,
    DryRun,
    MigrateInstance,
    ModifyTokens,
    Operation,
    OperationOutcome,
    RestartFrom,
    SetVariables,
    TokenChange,
)
from models.timeouts import UPDATE_RPC_TIMEOUT
from workflows.bpmn.migration import MigrationRefusedError
from workflows.bpmn.refusals import StepRefusedError
from workflows.process import ProcessInstance

router = APIRouter(prefix="/api/orchestrator", tags=["processes"])

Operator = Annotated[Principal, Depends(requires(Permission.RUNS_OPERATE))]

OPERATION_ERRORS = errors(
    ProcessInstanceNotFoundError,
    ProcessEndedError,
    StepRefusedError,
    IdempotencyKeyReusedError,
    IdempotencyInProgressError,
    TemporalUnavailableError,
)


class ReasonRequest(CamelBody):
    """Why an operation is wanted."""

    reason: str = Field(default="", max_length=500)


class TriedRequest(ReasonRequest):
    """An operation that can be tried without being done."""

    dry_run: bool = Field(default=False, strict=True, description="Tell what would happen; nothing does.")


class VariablesRequest(TriedRequest):
    """New values of variables."""

    variables: Variables
    scope: int | None = Field(
        default=None, strict=True, description="Key of an element instance; else the top."
    )
    expected_version: int | None = Field(
        default=None, strict=True, description="Refuse if the state has another one."
    )


class TokenChangeRequest(CamelBody):
    """One change: ``start_before`` an element, ``cancel`` or ``move`` an element instance."""

    action: str = Field(pattern="^(start_before|cancel|move)$")
    element: str | None = Field(default=None, max_length=200)
    key: int | None = Field(default=None, strict=True)
    scope: int | None = Field(default=None, strict=True)


class ModifyRequest(TriedRequest):
    """Changes of the token distribution; all or none."""

    changes: list[TokenChangeRequest] = Field(min_length=1, max_length=100)
    variables: Variables = Field(default_factory=dict[str, JsonValue])


class RestartRequest(TriedRequest):
    """Where to begin again."""

    element: str = Field(min_length=1, max_length=200)
    variables: Variables = Field(default_factory=dict[str, JsonValue])


class MigrateRequest(TriedRequest):
    """Another version, and what maps to what beside equal identifiers."""

    definition_id: Identifier
    elements: dict[str, str] = Field(default_factory=dict[str, str], max_length=1000)
    flows: dict[str, str] = Field(default_factory=dict[str, str], max_length=1000)
    drop: list[str] = Field(default_factory=list[str], max_length=1000)


class ActivateRequest(TriedRequest):
    """Elements of an ad-hoc sub-process to activate, or its end."""

    elements: list[str] = Field(default_factory=list[str], max_length=100)
    complete: bool = Field(default=False, strict=True)
    variables: Variables = Field(default_factory=dict[str, JsonValue])


class Done(CamelAnswer):
    """What an operation did, or would do."""

    status: str
    trace: list[str]
    state_version: int
    dry_run: bool


class Element(CamelAnswer):
    """A living element instance."""

    key: int
    element: str
    parent: int
    role: str
    variables: dict[str, Any] | None
    waiting: list[str]
    incident: str | None


class Elements(CamelAnswer):
    """What lives in an instance."""

    status: str
    variables: dict[str, Any]
    state_version: int
    elements: list[Element]
    joins: dict[str, dict[str, int]]


class Token(CamelAnswer):
    """An element instance that was active."""

    key: int
    element: str
    kind: str
    since_seq: int


class StateAsOf(CamelAnswer):
    """Variables and active elements of an instance when an event had happened."""

    instance_id: str
    seq: int
    version: int
    checksum: str
    variables: dict[str, Any]
    tokens: list[Token]


class StateVersion(CamelAnswer):
    """One version of an instance's variables."""

    version: int
    checksum: str
    changed_by: str
    change_reason: str | None
    changed_at: str
    seq: int
    state: dict[str, Any]


class StateHistory(CamelAnswer):
    """Versions, newest first."""

    versions: list[StateVersion]


class KeptState(CamelAnswer):
    """State with the version that guards it; version 0 where nothing is kept yet."""

    state: dict[str, Any]
    version: int


class KeepRequest(CamelBody):
    """New state, if it still has the version that was read."""

    state: Variables
    expected_version: int = Field(ge=0, le=2**31 - 1, strict=True)


# --- holding ------------------------------------------------------------------------------------------


@router.post("/instances/{instance_id}/suspend", response_model=StatusAnswer, responses=OPERATION_ERRORS)
async def suspend_instance(
    instance_id: Identifier, body: ReasonRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Hold an instance: what happens meanwhile is kept and handled on resume."""
    return await _enter(
        ProcessInstance.pause, InstanceStatus.SUSPENDED, instance_id, body, caller, services, once
    )


@router.post("/instances/{instance_id}/resume", response_model=StatusAnswer, responses=OPERATION_ERRORS)
async def resume_instance(
    instance_id: Identifier, body: ReasonRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Let a held instance go on."""
    return await _enter(
        ProcessInstance.resume, InstanceStatus.RUNNING, instance_id, body, caller, services, once
    )


async def _enter(
    update: UpdateMethodMultiParam[[Any, CancelExecution], None],
    status: InstanceStatus,
    instance_id: str,
    body: ReasonRequest,
    caller: Principal,
    services: Services,
    once: Once,
) -> Response:
    async def enter(_: str) -> StatusAnswer:
        await live_instance(services, caller.tenant_id, instance_id)
        await services.temporal.get_workflow_handle(process_workflow_id(instance_id)).execute_update(
            update,
            CancelExecution(requested_by=caller.user_id, reason=body.reason),
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
        return StatusAnswer(status=status)

    return await once.answer("event", enter, status=200)


# --- changing -----------------------------------------------------------------------------------------


@router.put(
    "/instances/{instance_id}/variables",
    response_model=Done,
    responses=OPERATION_ERRORS | errors(StateVersionConflictError),
)
async def set_variables(
    instance_id: Identifier, body: VariablesRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Set variables of a running instance, at the top or in the scope of an element."""
    wish = SetVariables(
        requested_by=caller.user_id,
        reason=body.reason,
        variables=body.variables,
        scope=body.scope,
        expected_version=body.expected_version,
    )
    return await operate(instance_id, wish, caller, services, once, dry_run=body.dry_run)


@router.post("/instances/{instance_id}/modify", response_model=Done, responses=OPERATION_ERRORS)
async def modify_instance(
    instance_id: Identifier, body: ModifyRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Place, cancel and move tokens; all changes or none."""
    wish = ModifyTokens(
        requested_by=caller.user_id,
        reason=body.reason,
        changes=[TokenChange.model_validate(change.model_dump()) for change in body.changes],
        variables=body.variables,
    )
    return await operate(instance_id, wish, caller, services, once, dry_run=body.dry_run)


@router.post("/instances/{instance_id}/restart", response_model=Done, responses=OPERATION_ERRORS)
async def restart_instance(
    instance_id: Identifier, body: RestartRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Cancel everything that is active and begin again before an element."""
    wish = RestartFrom(
        requested_by=caller.user_id, reason=body.reason, element=body.element, variables=body.variables
    )
    return await operate(instance_id, wish, caller, services, once, dry_run=body.dry_run)


@router.post(
    "/instances/{instance_id}/migrate",
    response_model=Done,
    responses=OPERATION_ERRORS | errors(MigrationRefusedError, ProcessDefinitionNotFoundError),
)
async def migrate_instance(
    instance_id: Identifier, body: MigrateRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Move an instance to another version by a mapping plan; every reason against it is listed."""
    async with services.database.tenant(caller.tenant_id) as connection:
        definition = await find_definition(connection, body.definition_id)
    wish = MigrateInstance(
        requested_by=caller.user_id,
        reason=body.reason,
        definition_id=definition.id,
        content_hash=definition.content_hash,
        elements=body.elements,
        flows=body.flows,
        drop=body.drop,
    )
    return await operate(instance_id, wish, caller, services, once, dry_run=body.dry_run)


@router.post(
    "/instances/{instance_id}/elements/{element_key}/activate",
    response_model=Done,
    responses=OPERATION_ERRORS,
)
async def activate_elements(
    instance_id: Identifier,
    element_key: int,
    body: ActivateRequest,
    caller: Runner,
    services: ServicesDep,
    once: OnceDep,
) -> Response:
    """Activate elements of an ad-hoc sub-process, or end it."""
    wish = ActivateTools(
        requested_by=caller.user_id,
        reason=body.reason,
        key=element_key,
        elements=body.elements,
        complete=body.complete,
        variables=body.variables,
    )
    return await operate(instance_id, wish, caller, services, once, dry_run=body.dry_run)


async def operate(
    instance_id: str, wish: Operation, caller: Principal, services: Services, once: Once, *, dry_run: bool
) -> Response:
    """Do an operation, or try it, and answer what it did.

    Raises:
        PlatformError: It is refused, in a dry run as well.
    """
    name = next(name for name, kind in OPERATIONS.items() if isinstance(wish, kind))

    async def work(_: str) -> Done:
        await live_instance(services, caller.tenant_id, instance_id)
        handle = services.temporal.get_workflow_handle(process_workflow_id(instance_id))
        if dry_run:
            tried = await handle.query(
                ProcessInstance.try_operation,
                DryRun(name=name, arguments=wish.model_dump()),
                rpc_timeout=UPDATE_RPC_TIMEOUT,
            )
            return _done(tried, dry_run=True)
        outcome = await handle.execute_update(
            name, wish, result_type=OperationOutcome, rpc_timeout=UPDATE_RPC_TIMEOUT
        )
        return _done(outcome, dry_run=False)

    return await once.answer("event", work, status=200)


def _done(outcome: OperationOutcome, *, dry_run: bool) -> Done:
    if outcome.refused is not None:
        refusal = RemoteRefusalError(outcome.refused.code, outcome.refused.message, outcome.refused.details)
        refusal.http_status = status_of_code(refusal.code) or 409
        raise refusal
    return Done(
        status=outcome.status, trace=outcome.trace, state_version=outcome.state_version, dry_run=dry_run
    )


# --- looking ------------------------------------------------------------------------------------------


@router.get(
    "/instances/{instance_id}/elements",
    response_model=Elements,
    responses=errors(ProcessInstanceNotFoundError, ProcessEndedError, TemporalUnavailableError),
)
async def get_elements(instance_id: Identifier, caller: Reader, services: ServicesDep) -> Elements:
    """Show the living element instances with their keys, and tokens that wait before joins."""
    await live_instance(services, caller.tenant_id, instance_id)
    seen = await services.temporal.get_workflow_handle(process_workflow_id(instance_id)).query(
        ProcessInstance.look, rpc_timeout=UPDATE_RPC_TIMEOUT
    )
    return Elements.model_validate(seen.model_dump())


@router.get(
    "/instances/{instance_id}/state",
    response_model=StateAsOf,
    responses=errors(ProcessInstanceNotFoundError, SeqNotReachedError),
)
async def get_state(
    instance_id: Identifier,
    caller: Reader,
    services: ServicesDep,
    seq: Annotated[int | None, Query(ge=1, le=2**53, description="As of this event, else the last.")] = None,
) -> StateAsOf:
    """Show variables and active elements as they were when an event had happened."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_instance(connection, instance_id)
        last, tokens = await tokens_as_of(connection, instance_id, seq)
        kept = await state_as_of(connection, instance_id, last)
    return StateAsOf(
        instance_id=instance_id,
        seq=last,
        version=kept.version,
        checksum=kept.checksum,
        variables=kept.state,
        tokens=[
            Token(key=token.key, element=token.element, kind=token.kind, since_seq=token.since)
            for token in tokens
        ],
    )


@router.get(
    "/instances/{instance_id}/state/history",
    response_model=StateHistory,
    responses=errors(ProcessInstanceNotFoundError),
)
async def get_state_history(
    instance_id: Identifier,
    caller: Reader,
    services: ServicesDep,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only versions below.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> StateHistory:
    """List every version of an instance's variables with who changed them and why."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_instance(connection, instance_id)
        rows = await list_state_history(connection, instance_id, before=before, limit=limit)
    return StateHistory(
        versions=[
            StateVersion(
                version=row.version,
                checksum=row.checksum,
                changed_by=row.changed_by,
                change_reason=row.change_reason,
                changed_at=row.changed_at.isoformat(),
                seq=row.seq,
                state=row.state,
            )
            for row in rows
        ]
    )


# --- state of agents and tenants -----------------------------------------------------------------------


@router.get(
    "/instances/{instance_id}/agents/{slug}/state",
    response_model=KeptState,
    responses=errors(ProcessInstanceNotFoundError),
)
async def get_agent_state(
    instance_id: Identifier, slug: str, caller: Reader, services: ServicesDep
) -> KeptState:
    """Show what an agent keeps between its invocations within an instance."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_instance(connection, instance_id)
        row = await find_agent_state(connection, instance_id, slug)
    return KeptState(state=row.state if row else {}, version=row.version if row else 0)


@router.put(
    "/instances/{instance_id}/agents/{slug}/state",
    response_model=KeptState,
    responses=errors(ProcessInstanceNotFoundError, StateVersionConflictError),
)
async def put_agent_state(
    instance_id: Identifier, slug: str, body: KeepRequest, caller: Runner, services: ServicesDep
) -> KeptState:
    """Write what an agent keeps within an instance, unless somebody else did."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_instance(connection, instance_id)
        row = await write_agent_state(
            connection, caller.tenant_id, instance_id, slug, dict(body.state), body.expected_version
        )
    return KeptState(state=row.state, version=row.version)


@router.get("/state/{namespace}", response_model=KeptState)
async def get_global_state(namespace: str, caller: Reader, services: ServicesDep) -> KeptState:
    """Show what all flows of the tenant share under a namespace."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_global_state(connection, namespace)
    return KeptState(state=row.state if row else {}, version=row.version if row else 0)


@router.put("/state/{namespace}", response_model=KeptState, responses=errors(StateVersionConflictError))
async def put_global_state(
    namespace: str, body: KeepRequest, caller: Runner, services: ServicesDep
) -> KeptState:
    """Write what all flows of the tenant share under a namespace, unless somebody else did."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await write_global_state(
            connection, caller.tenant_id, namespace, dict(body.state), body.expected_version
        )
    return KeptState(state=row.state, version=row.version)
