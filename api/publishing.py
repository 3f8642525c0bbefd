"""Publishing and review (frameos-agent-runtime-flows, "Agent Publishing Flow")."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response
from temporalio.client import Client

from activities.publishing import upload_key
from activities.records.database import DatabaseUnavailableError
from activities.records.publishing import find_version, list_versions
from activities.scanning.archive import decode_base64
from activities.scanning.packing import sha256_hex
from activities.storage import ObjectStoreUnavailableError
from activities.temporal.failures import RemoteRefusalError
from api.authentication import Caller, requires
from api.correlation import correlation_id
from api.envelope import Success, errors, success
from api.errors import TemporalUnavailableError, status_of_code
from api.first_contact import start_and_ask
from api.idempotency import (
    IdempotencyInProgressError,
    IdempotencyKeyReusedError,
    RequiredOnceDep,
)
from api.pagination import InvalidCursorError, Page, PageDep, encode_cursor
from api.state import Services, ServicesDep
from models.errors import InvalidRequestError
from models.identifiers import Identifier, new_identifier
from models.identity import MissingPermissionError, Permission, Principal
from models.json_schema import check
from models.manifest import AgentManifest, InvalidManifestError, parse_manifest
from models.publishing import (
    AgentVersion,
    PublishRequest,
    ScanAnswer,
    SlugTakenError,
    VersionExistsError,
    VersionNotFoundError,
    VersionStatus,
)
from models.run import RunKind
from models.scanning import (
    ArchiveTooLargeError,
    InvalidArchiveError,
    InvalidBase64Error,
    ScanFailedError,
    ScanReport,
)
from workflows.publishing import PublishReview

router = APIRouter(tags=["publishing"])

Publisher = Annotated[Principal, Depends(requires(Permission.AGENTS_PUBLISH))]


class RegisterRequest(BaseModel):
    """A version of an agent to be scanned and reviewed."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=120, description="As in the manifest.")
    slug: str = Field(max_length=64, description="As in the manifest.")
    version: str = Field(max_length=64, description="As in the manifest; SemVer.")
    manifest: dict[str, JsonValue] = Field(description="docs/manifest.schema.json")
    code_base64: str = Field(min_length=1, description="The code as tar.gz (at most 10 MB), in base64.")


class Registered(BaseModel):
    """The submission waits for a reviewer."""

    agent_id: str
    version_id: str
    status: VersionStatus
    message: str
    scan_passed: bool
    code_hash: str
    warnings: int = Field(description="What the reviewer will look at; GET /agent-versions/{id} lists it.")


class VersionSummary(BaseModel):
    """A version in a list."""

    version_id: str
    agent_id: str
    slug: str
    name: str
    version: str
    status: VersionStatus
    developer_id: str
    scan_passed: bool
    violations: int
    warnings: int
    code_hash: str | None
    submitted_at: datetime
    reviewed_by: str | None
    reviewed_at: datetime | None


class VersionView(VersionSummary):
    """A version with everything a reviewer and its developer need."""

    manifest: dict[str, JsonValue]
    code_size: int | None
    review_reason: str | None
    rule_set_version: str | None
    scan_report: ScanReport | None = Field(
        description="Findings with file, line, remedy and decoded value; null until the scan has ended."
    )
    workflow_id: str


@router.post(
    "/agents/register",
    operation_id="register_agent",
    status_code=201,
    response_model=Success[Registered],
    responses=errors(
        InvalidManifestError,
        InvalidBase64Error,
        InvalidArchiveError,
        ArchiveTooLargeError,
        ScanFailedError,
        SlugTakenError,
        VersionExistsError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
        DatabaseUnavailableError,
        ObjectStoreUnavailableError,
    ),
)
async def register(
    body: RegisterRequest, caller: Publisher, services: ServicesDep, once: RequiredOnceDep
) -> Response:
    """Scan a version and hand it to the reviewers; `SCAN_FAILED` lists the violations."""
    manifest = _checked_manifest(body)
    upload = await asyncio.to_thread(decode_base64, body.code_base64)

    async def submit(version_id: str) -> Success[Registered]:
        async with services.database.tenant(caller.tenant_id) as connection:
            known = await _find(connection, version_id)
        if known is None:
            # A repetition after the scan must not bring the upload back.
            await services.object_store.put(upload_key(version_id), upload)
        request = PublishRequest(
            version_id=version_id,
            agent_id=new_identifier("agent"),
            tenant_id=caller.tenant_id,
            developer_id=caller.user_id,
            manifest=manifest.model_dump(mode="json"),
            upload_key=upload_key(version_id),
            upload_hash=sha256_hex(upload),
            upload_size=len(upload),
            correlation_id=correlation_id(),
        )
        answer = await start_publish_review(services.temporal, request)
        return success(await _registered(services, caller, answer))

    return await once.answer("agent_version", submit)


def _checked_manifest(body: RegisterRequest) -> AgentManifest:
    """Check the manifest, and that the body says the same as it."""
    try:
        manifest = parse_manifest(body.manifest)
    except InvalidManifestError as error:
        found: list[dict[str, str]] = error.details["fields"]
        raise InvalidManifestError([{"message": entry["rule"], **entry} for entry in found]) from None
    fields = [
        {
            "field": name,
            "rule": "agreement",
            "message": f"must equal manifest.{name}",
            "remedy": "Send the same value in the body and in the manifest.",
        }
        for name in ("name", "slug", "version")
        if getattr(body, name) != getattr(manifest, name)
    ]
    for name in ("input_schema", "output_schema", "config_schema"):
        fields += [each.model_dump() for each in check(getattr(manifest, name), name)]
    if fields:
        raise InvalidManifestError(fields)
    return manifest


async def start_publish_review(temporal: Client, request: PublishRequest) -> ScanAnswer:
    """Start the review of a submission and wait for its scan; doing it twice answers the same twice.

    Raises:
        WorkflowUpdateFailedError: Slug or version are taken; the cause says which.
        WorkflowUpdateRPCTimeoutOrCancelledError, RPCError: No answer in time.
    """
    slug, version = request.manifest["slug"], request.manifest["version"]
    return await start_and_ask(
        temporal,
        PublishReview.run,
        request,
        PublishReview.scanned,
        question_id="scanned",
        workflow_id=workflow_id(request.version_id),
        kind=RunKind.PUBLISH_REVIEW,
        tenant_id=request.tenant_id,
        subject=slug,
        correlation_id=request.correlation_id,
        summary=f"{slug} {version} of {request.tenant_id}",
    )


def workflow_id(version_id: str) -> str:
    """Return the id of a version's review workflow."""
    return f"publish-review/{version_id}"


async def _registered(services: Services, caller: Principal, answer: ScanAnswer) -> Registered:
    if answer.refusal_code is not None:
        refusal = RemoteRefusalError(
            answer.refusal_code, answer.refusal_message or "", answer.refusal_details
        )
        refusal.http_status = status_of_code(answer.refusal_code) or InvalidRequestError.http_status
        raise refusal
    if answer.status is VersionStatus.SCAN_FAILED:
        async with services.database.tenant(caller.tenant_id) as connection:
            version = await find_version(connection, answer.version_id)
        raise ScanFailedError(ScanReport.model_validate(version.scan_report))
    message = "Submitted for review."
    if not answer.scan_passed:
        message = f"Submitted for review; the scan has {answer.warnings} warning(s) for the reviewer."
    return Registered(
        agent_id=answer.agent_id,
        version_id=answer.version_id,
        status=answer.status,
        message=message,
        scan_passed=answer.scan_passed,
        code_hash=answer.code_hash or "",
        warnings=answer.warnings,
    )


async def _find(connection: Any, version_id: str) -> AgentVersion | None:
    try:
        return await find_version(connection, version_id)
    except VersionNotFoundError:
        return None


@router.get(
    "/agent-versions",
    operation_id="list_agent_versions",
    responses=errors(InvalidCursorError),
)
async def versions(
    caller: Caller,
    services: ServicesDep,
    page: PageDep,
    status: Annotated[
        list[VersionStatus] | None, Query(description="Only these statuses; may be repeated.")
    ] = None,
    agent: Annotated[
        str | None, Query(max_length=64, description="Only this agent's, by identifier or slug.")
    ] = None,
    mine: Annotated[bool, Query(description="Reviewers: only those of one's own tenant.")] = False,
) -> Success[Page[VersionSummary]]:
    """List versions, last submitted first: reviewers see all, developers their tenant's."""
    everywhere = sees_everything(caller) and not mine
    opened = services.database.platform() if everywhere else services.database.tenant(caller.tenant_id)
    async with opened as connection:
        rows = await list_versions(
            connection,
            tenant_id=None if everywhere else caller.tenant_id,
            statuses=status,
            agent=agent,
            before=page.before,
            limit=page.fetch,
        )
    shown = rows[: page.limit]
    last = shown[-1] if len(rows) > page.limit else None
    return success(
        Page[VersionSummary](
            items=[
                VersionSummary.model_validate(_summary(AgentVersion.model_validate(row), row["slug"]))
                for row in shown
            ],
            next_cursor=encode_cursor(last["submitted_at"], last["id"]) if last else None,
        )
    )


@router.get(
    "/agent-versions/{version_id}",
    operation_id="get_agent_version",
    responses=errors(VersionNotFoundError),
)
async def version(version_id: Identifier, caller: Caller, services: ServicesDep) -> Success[VersionView]:
    """Show a version with its manifest and scan report."""
    return success(_view(await visible_version(services, caller, version_id)))


def sees_everything(caller: Principal) -> bool:
    """Tell reviewers from developers.

    Raises:
        MissingPermissionError: The caller is neither.
    """
    if caller.may(Permission.AGENTS_REVIEW):
        return True
    if not caller.may(Permission.AGENTS_PUBLISH):
        raise MissingPermissionError(Permission.AGENTS_PUBLISH)
    return False


async def visible_version(services: Services, caller: Principal, version_id: str) -> AgentVersion:
    """Read a version for a reviewer, or for its developer's tenant.

    Raises:
        VersionNotFoundError: There is none that the caller may see so.
    """
    if sees_everything(caller):
        async with services.database.platform() as connection:
            return await find_version(connection, version_id)
    async with services.database.tenant(caller.tenant_id) as connection:
        found = await find_version(connection, version_id)
    # Published versions of others are visible to the marketplace, their code and reports are not.
    if found.tenant_id != caller.tenant_id:
        raise VersionNotFoundError(version_id)
    return found


def _summary(version: AgentVersion, slug: str) -> dict[str, Any]:
    report = version.scan_report or {}
    return {
        **version.model_dump(include=set(VersionSummary.model_fields)),
        "version_id": version.id,
        "slug": slug,
        "name": version.manifest["name"],
        "violations": len(report.get("violations", [])),
        "warnings": len(report.get("warnings", [])),
    }


def _view(version: AgentVersion) -> VersionView:
    return VersionView.model_validate(
        {
            **version.model_dump(include=set(VersionView.model_fields)),
            **_summary(version, version.manifest["slug"]),
            "workflow_id": workflow_id(version.id),
        }
    )
