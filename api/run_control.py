"""Commands to runs: pause, resume, cancel. Each is an update of the run's workflow, which may refuse it."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from activities.records.runs import RunNotFoundError, find_run
from api.authentication import Caller
from api.envelope import Responses, Success, errors, success
from api.errors import TemporalUnavailableError
from api.event import RunView, show_run
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, Once, OnceDep
from api.state import Services, ServicesDep
from models.execution import ExecutionEndedError
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.run import TERMINAL_STATUSES
from models.run_control import (
    COMMANDS,
    RunCommand,
    RunCommandRefusedError,
    RunNotPausableError,
    RunNotPausedError,
    RunOrder,
)
from models.timeouts import UPDATE_RPC_TIMEOUT

router = APIRouter(tags=["runs"])


class CommandRequest(BaseModel):
    """Why a run is told to do something."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


async def _operator(caller: Caller) -> Principal:
    # Who may start executions may also end the tenant's; operators may command every run.
    if not caller.may(Permission.EXECUTIONS_START):
        caller.require(Permission.RUNS_OPERATE)
    return caller


Operator = Annotated[Principal, Depends(_operator)]

REFUSALS: Responses = errors(
    RunNotFoundError,
    RunCommandRefusedError,
    ExecutionEndedError,
    RunNotPausableError,
    RunNotPausedError,
    IdempotencyKeyReusedError,
    IdempotencyInProgressError,
    TemporalUnavailableError,
)


@router.post("/runs/{run_id}/cancel", response_model=Success[RunView], responses=REFUSALS)
async def cancel_run(
    run_id: Identifier, body: CommandRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """End a run; an execution whose agent has not finished is killed and nobody is charged."""
    return await _command(RunCommand.CANCEL, run_id, body, caller, services, once)


@router.post("/runs/{run_id}/pause", response_model=Success[RunView], responses=REFUSALS)
async def pause_run(
    run_id: Identifier, body: CommandRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Hold a run where it stands; an execution can be held until its container starts."""
    return await _command(RunCommand.PAUSE, run_id, body, caller, services, once)


@router.post("/runs/{run_id}/resume", response_model=Success[RunView], responses=REFUSALS)
async def resume_run(
    run_id: Identifier, body: CommandRequest, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Let a paused run go on."""
    return await _command(RunCommand.RESUME, run_id, body, caller, services, once)


async def _command(
    command: RunCommand,
    run_id: str,
    body: CommandRequest,
    caller: Principal,
    services: Services,
    once: Once,
) -> Response:
    async def send(_: str) -> Success[RunView]:
        async with services.database.tenant(caller.tenant_id) as connection:
            run = await find_run(connection, run_id)
        if run.status in TERMINAL_STATUSES or command not in COMMANDS.get(run.kind, frozenset()):
            raise RunCommandRefusedError(run_id, run.kind, run.status, command)
        await services.temporal.get_workflow_handle(run.workflow_id).execute_update(
            command.value,
            RunOrder(requested_by=caller.user_id, reason=body.reason),
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
        async with services.database.tenant(caller.tenant_id) as connection:
            return success(show_run(await find_run(connection, run_id), services))

    return await once.answer("execution", send, status=200)
