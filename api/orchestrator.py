"""Deploying and running processes (flowgrid-level3 §11.1)."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue, ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import Response
from temporalio.client import Client

from activities.process import process_workflow_id
from activities.records.process_definitions import (
    find_definition,
    find_design,
    find_process,
    insert_definition,
    insert_design,
    list_definitions,
    set_definition_status,
)
from activities.records.process_instances import find_instance, list_instances
from activities.records.process_state import find_state
from api.authentication import requires
from api.camel import CamelAnswer, CamelBody
from api.correlation import correlation_id
from api.envelope import errors
from api.errors import InvalidFieldsError, TemporalUnavailableError
from api.first_contact import start_and_ask
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.process_deployment import CheckedProcess, InvalidUploadError, check_deployment, text_of_file
from api.start_events import bind_starts
from api.state import Services, ServicesDep
from models.execution import CancelExecution
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.process import ENDED, DefinitionStatus, InstanceStatus, ProcessDefinition, ProcessDesign
from models.process import ProcessInstance as InstanceRow
from models.process_errors import (
    DefinitionNotActiveError,
    DesignNotFoundError,
    DesignVersionTakenError,
    ProcessDefinitionNotFoundError,
    ProcessEndedError,
    ProcessInstanceNotFoundError,
    TaskNotWaitingError,
)
from models.process_operation import CompleteTask
from models.process_run import StartProcess
from models.run import RunKind
from models.timeouts import UPDATE_RPC_TIMEOUT
from workflows.bpmn.diagnostics import DefinitionRefusedError
from workflows.bpmn.refusals import StepRefusedError
from workflows.dmn import DecisionModelError
from workflows.process import ProcessInstance

router = APIRouter(prefix="/api/orchestrator", tags=["processes"])

Deployer = Annotated[Principal, Depends(requires(Permission.FLOWS_DEPLOY))]
Runner = Annotated[Principal, Depends(requires(Permission.FLOWS_RUN))]
Reader = Annotated[Principal, Depends(requires(Permission.RUNS_READ))]


def _moment(value: object) -> object:
    # Numbers would be taken for seconds since 1970, which the document does not say.
    return datetime.fromisoformat(value) if isinstance(value, str) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""RFC 3339 date and time."""

MAX_VARIABLES = 1000
MAX_VERSION = 1_000_000_000
Variables = Annotated[dict[str, JsonValue], Field(max_length=MAX_VARIABLES)]


class DeployRequest(CamelBody):
    """A stored design, or a BPMN file itself (also as multipart: files ``bpmn`` and ``dmn``)."""

    design_id: str | None = Field(default=None, min_length=1, max_length=200)
    version: int | None = Field(default=None, ge=1, le=MAX_VERSION)
    bpmn_xml: str | None = None
    dmn_xml: list[str] = Field(default_factory=list[str], max_length=20)


class DesignRequest(CamelBody):
    """A version of a design, to be deployed later."""

    bpmn_xml: str
    dmn_xml: list[str] = Field(default_factory=list[str], max_length=20)


class Design(CamelAnswer):
    """A stored design."""

    design_id: str
    version: int
    created_by: str
    created_at: datetime


class DiagnosticView(CamelAnswer):
    """A finding about a definition."""

    rule: str
    severity: str
    element: str
    line: int
    message: str
    remedy: str


class Definition(CamelAnswer):
    """A deployed version of a process."""

    definition_id: str
    design_id: str
    version: int
    process_key: str
    name: str
    version_tag: str | None
    status: DefinitionStatus
    sha256: str
    deployed_by: str
    deployed_at: datetime
    diagnostics: list[DiagnosticView]


class DefinitionWithSources(Definition):
    """A deployed version with its files."""

    bpmn_xml: str
    dmn_xml: list[str]


class DefinitionList(CamelAnswer):
    """Deployed versions, newest first."""

    definitions: list[Definition]
    total: int
    has_more: bool


class Deployed(CamelAnswer):
    """The answer to a deployment: the first process of the file, and all of them."""

    definition_id: str
    status: Literal["deployed"] = "deployed"
    definitions: list[Definition]


class StartRequest(CamelBody):
    """What to start, by its definition or, the latest version, by its process key."""

    definition_id: Identifier | None = None
    process_key: str | None = Field(default=None, min_length=1, max_length=200)
    variables: Variables = Field(default_factory=dict[str, JsonValue])
    correlation_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}$")
    business_key: str | None = Field(default=None, max_length=200)
    start_event: str | None = Field(default=None, max_length=200)


class Started(CamelAnswer):
    """The answer to a start."""

    instance_id: str
    status: InstanceStatus = InstanceStatus.RUNNING
    definition_id: str


class Instance(CamelAnswer):
    """A process instance."""

    instance_id: str
    definition_id: str
    status: InstanceStatus
    current_tasks: list[str]
    started_at: datetime
    completed_at: datetime | None
    started_by: str | None
    correlation_id: str
    business_key: str | None
    parent_instance_id: str | None
    error_message: str | None
    open_incidents: int


class InstanceDetails(Instance):
    """A process instance with its variables."""

    variables: dict[str, Any]
    state_version: int


class InstanceList(CamelAnswer):
    """Instances, newest first."""

    instances: list[Instance]
    total: int
    has_more: bool


class CancelRequest(CamelBody):
    """Why an instance is cancelled."""

    reason: str = Field(default="", max_length=500)


class StatusAnswer(CamelAnswer):
    """What became of it."""

    status: str


class SignalRequest(CamelBody):
    """What a waiting task gets."""

    task_id: str = Field(min_length=1, max_length=200)
    payload: Variables | None = None


def show_definition(row: ProcessDefinition) -> Definition:
    """Present a deployed version."""
    return Definition.model_validate(_definition_fields(row))


def _definition_fields(row: ProcessDefinition) -> dict[str, Any]:
    return {
        "definition_id": row.id,
        "design_id": row.design_id,
        "version": row.design_version,
        "process_key": row.process_key,
        "name": row.name,
        "version_tag": row.version_tag,
        "status": row.status,
        "sha256": row.content_hash,
        "deployed_by": row.deployed_by,
        "deployed_at": row.deployed_at,
        "diagnostics": row.diagnostics,
    }


def _instance_fields(row: InstanceRow) -> dict[str, Any]:
    fields = row.model_dump(exclude={"id", "tenant_id", "variables", "recorded"})
    return {"instance_id": row.id, **fields}


# --- deploying ----------------------------------------------------------------------------------------


@router.post(
    "/deploy",
    status_code=201,
    response_model=Deployed,
    responses=errors(
        DefinitionRefusedError,
        DecisionModelError,
        DesignNotFoundError,
        DesignVersionTakenError,
        InvalidUploadError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": DeployRequest.model_json_schema()},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["bpmn"],
                        "properties": {
                            "bpmn": {"type": "string", "format": "binary"},
                            "dmn": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            "designId": {"type": "string"},
                            "version": {"type": "integer"},
                        },
                    }
                },
            },
        }
    },
)
async def deploy_process(
    request: Request, caller: Deployer, services: ServicesDep, once: OnceDep
) -> Response:
    """Deploy every executable process of a file; the same content again is the same version."""
    wanted = await _read_deployment(request)

    async def deploy(_: str) -> Deployed:
        return await deploy_files(services, caller, wanted)

    return await once.answer("process_definition", deploy)


async def deploy_files(services: Services, caller: Principal, wanted: DeployRequest) -> Deployed:
    """Check and store a deployment.

    Raises:
        DefinitionRefusedError: The BPMN file breaks a rule; all diagnostics are listed.
        DecisionModelError: A DMN file is not executable.
        DesignNotFoundError: No file was sent, and no such design is stored.
        DesignVersionTakenError: The version exists with other content.
    """
    bpmn_xml, dmn_xml, version = wanted.bpmn_xml, wanted.dmn_xml, wanted.version
    if bpmn_xml is None:
        async with services.database.tenant(caller.tenant_id) as connection:
            design = await find_design(connection, wanted.design_id or "", version)
        bpmn_xml, dmn_xml, version = design.bpmn_xml, design.dmn_xml, design.design_version
    # Compiling a large file takes a while; other requests go on meanwhile.
    checked = await asyncio.to_thread(check_deployment, bpmn_xml, dmn_xml)
    rows: list[ProcessDefinition] = []
    async with services.database.tenant(caller.tenant_id) as connection:
        for process in checked:
            row = await insert_definition(
                connection,
                tenant_id=caller.tenant_id,
                design_id=_design_of(wanted.design_id, process, first=process is checked[0]),
                version=version,
                process_key=process.definition.id,
                name=process.definition.name or process.definition.id,
                version_tag=process.definition.version_tag,
                bpmn_xml=bpmn_xml,
                dmn_xml=dmn_xml,
                parsed_model=process.definition.to_json(),
                content_hash=process.content_hash,
                diagnostics=process.diagnostics,
                deployed_by=caller.user_id,
            )
            await bind_starts(connection, row, process.starts)
            rows.append(row)
    return Deployed(definition_id=rows[0].id, definitions=[show_definition(row) for row in rows])


def _design_of(design_id: str | None, process: CheckedProcess, *, first: bool) -> str:
    """Return what versions are counted under: the design, or the process where none is named."""
    if design_id is None:
        return process.definition.id
    return design_id if first else f"{design_id}/{process.definition.id}"


async def _read_deployment(request: Request) -> DeployRequest:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields: dict[str, Any]
    if media_type == "multipart/form-data":
        async with request.form(max_files=21, max_fields=10, max_part_size=6 * 1024 * 1024) as form:
            fields = {name: form[name] for name in ("designId", "version") if name in form}
            files = [item for item in form.getlist("bpmn") if isinstance(item, UploadFile)]
            if len(files) != 1:
                raise InvalidUploadError("bpmn", "one BPMN file is needed")
            fields["bpmnXml"] = text_of_file(await files[0].read(), "bpmn")
            tables = [item for item in form.getlist("dmn") if isinstance(item, UploadFile)]
            fields["dmnXml"] = [text_of_file(await item.read(), "dmn") for item in tables]
    else:
        body = await request.json() if await request.body() else {}
        fields = body if isinstance(body, dict) else {"": body}
    try:
        wanted = DeployRequest.model_validate(fields)
    except ValidationError as failure:
        raise InvalidFieldsError(
            [
                {
                    "field": ".".join(("body", *map(str, entry["loc"])))[:200],
                    "rule": entry["type"],
                    "message": entry["msg"],
                    "remedy": "Correct the value.",
                }
                for entry in failure.errors(include_input=False, include_url=False)
            ]
        ) from None
    if wanted.bpmn_xml is None and wanted.design_id is None:
        raise InvalidUploadError("bpmnXml", "neither a designId nor a bpmnXml was sent")
    return wanted


@router.put(
    "/designs/{design_id}/versions/{version}",
    response_model=Design,
    responses=errors(DesignVersionTakenError),
)
async def put_design(
    design_id: Annotated[str, Path(min_length=1, max_length=200)],
    version: Annotated[int, Path(ge=1, le=MAX_VERSION)],
    body: DesignRequest,
    caller: Deployer,
    services: ServicesDep,
) -> Design:
    """Store a version of a design, to be deployed by its name later. Versions never change."""
    row = ProcessDesign(
        tenant_id=caller.tenant_id,
        design_id=design_id,
        design_version=version,
        bpmn_xml=body.bpmn_xml,
        dmn_xml=body.dmn_xml,
        created_by=caller.user_id,
    )
    async with services.database.tenant(caller.tenant_id) as connection:
        kept = await insert_design(connection, row)
    return Design(
        design_id=kept.design_id,
        version=kept.design_version,
        created_by=kept.created_by,
        created_at=kept.created_at,
    )


@router.get("/definitions", response_model=DefinitionList)
async def get_definitions(
    caller: Reader,
    services: ServicesDep,
    process_key: Annotated[str | None, Query(alias="processKey", max_length=200)] = None,
    latest: Annotated[bool, Query(description="Only the newest version of each.")] = False,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> DefinitionList:
    """List deployed processes and their versions."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows, total = await list_definitions(
            connection, process_key=process_key, latest_only=latest, limit=limit, offset=offset
        )
    return DefinitionList(
        definitions=[show_definition(row) for row in rows], total=total, has_more=offset + len(rows) < total
    )


@router.get(
    "/definitions/{definition_id}",
    response_model=DefinitionWithSources,
    responses=errors(ProcessDefinitionNotFoundError),
)
async def get_definition(
    definition_id: Identifier, caller: Reader, services: ServicesDep
) -> DefinitionWithSources:
    """Show a deployed version with its files."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_definition(connection, definition_id, sources=True)
    return DefinitionWithSources.model_validate(
        {**_definition_fields(row), "bpmn_xml": row.bpmn_xml, "dmn_xml": row.dmn_xml}
    )


class DefinitionStatusRequest(CamelBody):
    """Whether a version may be started."""

    status: DefinitionStatus


@router.patch(
    "/definitions/{definition_id}",
    response_model=Definition,
    responses=errors(ProcessDefinitionNotFoundError),
)
async def patch_definition(
    definition_id: Identifier, body: DefinitionStatusRequest, caller: Deployer, services: ServicesDep
) -> Definition:
    """Activate, suspend or retire a version; running instances are not touched."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return show_definition(await set_definition_status(connection, definition_id, body.status))


# --- running ------------------------------------------------------------------------------------------


@router.post(
    "/instances",
    status_code=201,
    response_model=Started,
    responses=errors(
        ProcessDefinitionNotFoundError,
        DefinitionNotActiveError,
        StepRefusedError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def start_instance(
    body: StartRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Start an instance of a deployed process."""
    if (body.definition_id is None) == (body.process_key is None):
        raise InvalidUploadError("definitionId", "exactly one of definitionId and processKey is needed")
    async with services.database.tenant(caller.tenant_id) as connection:
        if body.definition_id is not None:
            definition = await find_definition(connection, body.definition_id)
        else:
            definition = await find_process(connection, body.process_key or "", None)
    if definition.status != DefinitionStatus.ACTIVE:
        raise DefinitionNotActiveError(definition.id, definition.status)

    async def start(instance_id: str) -> Started:
        request = StartProcess(
            instance_id=instance_id,
            tenant_id=caller.tenant_id,
            definition_id=definition.id,
            started_by=caller.user_id,
            correlation_id=body.correlation_id or correlation_id(),
            business_key=body.business_key,
            variables=body.variables,
            start_node=body.start_event,
        )
        await start_process(services.temporal, request, definition.process_key)
        return Started(instance_id=instance_id, definition_id=definition.id)

    return await once.answer("process_instance", start)


async def start_process(temporal: Client, request: StartProcess, process_key: str) -> None:
    """Start the workflow of an instance and wait until it has begun; doing it twice starts one.

    Raises:
        WorkflowUpdateFailedError: It cannot start; the cause says why.
        WorkflowUpdateRPCTimeoutOrCancelledError, RPCError: No answer in time.
    """
    await start_and_ask(
        temporal,
        ProcessInstance.run,
        request,
        ProcessInstance.started,
        question_id="started",
        workflow_id=process_workflow_id(request.instance_id),
        kind=RunKind.FLOW,
        tenant_id=request.tenant_id,
        subject=process_key,
        correlation_id=request.correlation_id,
        summary=f"{process_key} for {request.tenant_id}",
    )


@router.get("/instances", response_model=InstanceList)
async def get_instances(
    caller: Reader,
    services: ServicesDep,
    status: InstanceStatus | None = None,
    definition_id: Annotated[Identifier | None, Query(alias="definitionId")] = None,
    process_key: Annotated[str | None, Query(alias="processKey", max_length=200)] = None,
    correlation: Annotated[str | None, Query(alias="correlationId", max_length=200)] = None,
    business_key: Annotated[str | None, Query(alias="businessKey", max_length=200)] = None,
    parent: Annotated[Identifier | None, Query(alias="parentInstanceId")] = None,
    started_after: Annotated[Moment | None, Query(alias="startedAfter")] = None,
    started_before: Annotated[Moment | None, Query(alias="startedBefore")] = None,
    with_incidents: Annotated[bool, Query(alias="withIncidents")] = False,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> InstanceList:
    """List process instances, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows, total = await list_instances(
            connection,
            status=status,
            definition_id=definition_id,
            process_key=process_key,
            correlation_id=correlation,
            business_key=business_key,
            parent=parent,
            started_after=started_after,
            started_before=started_before,
            with_incidents=with_incidents,
            limit=limit,
            offset=offset,
        )
    return InstanceList(
        instances=[Instance.model_validate(_instance_fields(row)) for row in rows],
        total=total,
        has_more=offset + len(rows) < total,
    )


@router.get(
    "/instances/{instance_id}",
    response_model=InstanceDetails,
    responses=errors(ProcessInstanceNotFoundError),
)
async def get_instance(instance_id: Identifier, caller: Reader, services: ServicesDep) -> InstanceDetails:
    """Show an instance: status, active tasks, variables."""
    return await _details(services, caller, instance_id)


async def _details(services: Services, caller: Principal, instance_id: str) -> InstanceDetails:
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_instance(connection, instance_id)
        state = await find_state(connection, instance_id)
    fields = {**_instance_fields(row), "variables": state.state, "state_version": state.version}
    return InstanceDetails.model_validate(fields)


OPERATION_ERRORS = errors(
    ProcessInstanceNotFoundError,
    ProcessEndedError,
    StepRefusedError,
    TaskNotWaitingError,
    IdempotencyKeyReusedError,
    IdempotencyInProgressError,
    TemporalUnavailableError,
)


async def live_instance(services: Services, tenant_id: str, instance_id: str) -> InstanceRow:
    """Read an instance that still runs.

    Raises:
        ProcessInstanceNotFoundError: The tenant has none.
        ProcessEndedError: It has ended.
    """
    async with services.database.tenant(tenant_id) as connection:
        row = await find_instance(connection, instance_id)
    if row.status in ENDED:
        raise ProcessEndedError(instance_id, row.status)
    return row


@router.post("/instances/{instance_id}/cancel", response_model=StatusAnswer, responses=OPERATION_ERRORS)
async def cancel_instance(
    instance_id: Identifier, body: CancelRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """End an instance now; everything that is under way for it is stopped."""

    async def cancel(_: str) -> StatusAnswer:
        await live_instance(services, caller.tenant_id, instance_id)
        await services.temporal.get_workflow_handle(process_workflow_id(instance_id)).execute_update(
            ProcessInstance.cancel,
            CancelExecution(requested_by=caller.user_id, reason=body.reason),
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
        return StatusAnswer(status=InstanceStatus.CANCELLED)

    return await once.answer("event", cancel, status=200)


@router.post("/instances/{instance_id}/signal", response_model=StatusAnswer, responses=OPERATION_ERRORS)
async def signal_instance(
    instance_id: Identifier, body: SignalRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Let a waiting task, message or signal event of an instance go on with a payload."""

    async def signal(_: str) -> StatusAnswer:
        await live_instance(services, caller.tenant_id, instance_id)
        await services.temporal.get_workflow_handle(process_workflow_id(instance_id)).execute_update(
            ProcessInstance.complete_task,
            CompleteTask(requested_by=caller.user_id, task_id=body.task_id, variables=body.payload or {}),
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
        return StatusAnswer(status="resumed")

    return await once.answer("event", signal, status=200)
