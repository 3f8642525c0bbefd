"""Reviewing versions: files, differences, test runs, decisions, re-scans."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.records.publishing import last_approved_before
from activities.scanning.rulebook import RULE_SET_VERSION
from activities.storage import ObjectStoreUnavailableError
from api.authentication import Caller, requires
from api.envelope import Success, errors, success
from api.errors import TemporalUnavailableError
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.publishing import visible_version, workflow_id
from api.review_files import FileContent, VersionDiff, compare, show_file, unpacked
from api.state import Services, ServicesDep
from models.execution import CodeTamperedError
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.manifest import AgentManifest, secret_config_keys
from models.publishing import (
    AWAITING_REVIEW,
    AgentVersion,
    CodeHashMismatchError,
    CodeNotKeptError,
    Decision,
    DecisionResult,
    FourEyesError,
    ReasonRequiredError,
    RescanRequest,
    ReviewTest,
    ReviewTestResult,
    TestRunSecretError,
    TooManyTestRunsError,
    Verb,
    VersionFileNotFoundError,
    VersionNotFoundError,
    VersionNotPendingError,
    VersionStatus,
)
from models.task_queues import TaskQueue
from models.timeouts import UPDATE_RPC_TIMEOUT
from workflows.publishing import PublishReview, RescanPublished

router = APIRouter(tags=["review"])

Reviewer = Annotated[Principal, Depends(requires(Permission.AGENTS_REVIEW))]


class DecideRequest(BaseModel):
    """A decision on the code that the reviewer saw."""

    model_config = ConfigDict(extra="forbid")

    code_hash: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="`code_hash` of the version as it was reviewed."
    )
    reason: str | None = Field(
        default=None, max_length=4_000, description="A remark; required for a rejection."
    )


class TestRunRequest(BaseModel):
    """What to run the version with."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    config: dict[str, JsonValue] = Field(
        default_factory=dict, description="Stands for a deployment's configuration. Never put secrets here."
    )


class RescanStarted(BaseModel):
    """Published versions are being scanned by the present rules."""

    workflow_id: str
    rule_set_version: str


@router.get(
    "/agent-versions/{version_id}/files/{path:path}",
    operation_id="get_agent_version_file",
    responses=errors(
        VersionNotFoundError,
        VersionFileNotFoundError,
        CodeNotKeptError,
        CodeTamperedError,
        ObjectStoreUnavailableError,
    ),
)
async def file(
    version_id: Identifier, path: str, caller: Caller, services: ServicesDep
) -> Success[FileContent]:
    """Show one file of a version with the scanner's findings at their lines."""
    found = await visible_version(services, caller, version_id)
    files = await unpacked(services.object_store, found)
    return success(show_file(found, files, path))


@router.get(
    "/agent-versions/{version_id}/diff",
    operation_id="diff_agent_version",
    responses=errors(VersionNotFoundError, CodeNotKeptError, CodeTamperedError, ObjectStoreUnavailableError),
)
async def diff(version_id: Identifier, caller: Caller, services: ServicesDep) -> Success[VersionDiff]:
    """Show what differs from the last approved version: files, and what the manifest declares."""
    found = await visible_version(services, caller, version_id)
    async with services.database.tenant(found.tenant_id) as connection:
        former = await last_approved_before(connection, found)
    files = await unpacked(services.object_store, found)
    old = await unpacked(services.object_store, former) if former is not None else {}
    return success(await asyncio.to_thread(compare, former, old, found, files))


@router.post(
    "/agent-versions/{version_id}/approve",
    operation_id="approve_agent_version",
    response_model=Success[DecisionResult],
    responses=errors(
        VersionNotFoundError,
        VersionNotPendingError,
        FourEyesError,
        CodeHashMismatchError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def approve(
    version_id: Identifier, body: DecideRequest, caller: Reviewer, services: ServicesDep, once: OnceDep
) -> Response:
    """Publish the version: the marketplace shows it at once, and its developer gets a letter."""

    async def work(_: str) -> Success[DecisionResult]:
        return success(await _decide(services, caller, version_id, Verb.APPROVE, body))

    return await once.answer("review", work)


@router.post(
    "/agent-versions/{version_id}/reject",
    operation_id="reject_agent_version",
    response_model=Success[DecisionResult],
    responses=errors(
        VersionNotFoundError,
        VersionNotPendingError,
        FourEyesError,
        ReasonRequiredError,
        CodeHashMismatchError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def reject(
    version_id: Identifier, body: DecideRequest, caller: Reviewer, services: ServicesDep, once: OnceDep
) -> Response:
    """Refuse the version for a reason, which its developer gets by letter."""

    async def work(_: str) -> Success[DecisionResult]:
        return success(await _decide(services, caller, version_id, Verb.REJECT, body))

    return await once.answer("review", work)


async def _decide(
    services: Services, caller: Principal, version_id: str, verb: Verb, body: DecideRequest
) -> DecisionResult:
    """Ask the workflow; the same reviewer's same decision gets the same answer again."""
    version = await visible_version(services, caller, version_id)
    decided = _decision_of(version, caller, verb)
    if decided is not None:
        return decided
    decision = Decision(verb=verb, reviewer_id=caller.user_id, reason=body.reason, code_hash=body.code_hash)
    handle = services.temporal.get_workflow_handle_for(PublishReview.run, workflow_id(version_id))
    try:
        return await handle.execute_update(
            PublishReview.decide,
            decision,
            id=f"{verb}:{caller.user_id}:{body.code_hash[:16]}"[:200],
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    # The review ended between our look and our update: somebody else was first.
    version = await visible_version(services, caller, version_id)
    raise VersionNotPendingError(version_id, version.status, version.reviewed_by)


def _decision_of(version: AgentVersion, caller: Principal, verb: Verb) -> DecisionResult | None:
    """Return a decision that this reviewer made already.

    Raises:
        VersionNotPendingError: It cannot be decided, or was decided otherwise.
    """
    if version.status in AWAITING_REVIEW:
        return None
    wanted = VersionStatus.PUBLISHED if verb is Verb.APPROVE else VersionStatus.REJECTED
    if version.status is not wanted or version.reviewed_by != caller.user_id or version.reviewed_at is None:
        raise VersionNotPendingError(version.id, version.status, version.reviewed_by)
    return DecisionResult(
        agent_id=version.agent_id,
        version_id=version.id,
        status=version.status,
        reviewed_by=caller.user_id,
        reviewed_at=version.reviewed_at,
        review_reason=version.review_reason,
    )


@router.post(
    "/agent-versions/{version_id}/test-runs",
    operation_id="test_agent_version",
    response_model=Success[ReviewTestResult],
    responses=errors(
        VersionNotFoundError,
        VersionNotPendingError,
        FourEyesError,
        TestRunSecretError,
        TooManyTestRunsError,
        CodeTamperedError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def test_run(
    version_id: Identifier, body: TestRunRequest, caller: Reviewer, services: ServicesDep, once: OnceDep
) -> Response:
    """Run a version that awaits review in the sandbox; answers when it has ended.

    The declared hosts can be reached, but no credential is injected: a reviewer's secrets never meet code
    that nobody has reviewed.
    """

    async def work(test_id: str) -> Success[ReviewTestResult]:
        found = await visible_version(services, caller, version_id)
        if found.status not in AWAITING_REVIEW:
            raise VersionNotPendingError(version_id, found.status, found.reviewed_by)
        secrets = secret_config_keys(AgentManifest.model_validate(found.manifest)) & body.config.keys()
        if secrets:
            raise TestRunSecretError(secrets)
        handle = services.temporal.get_workflow_handle_for(PublishReview.run, workflow_id(version_id))
        return success(
            await handle.execute_update(
                PublishReview.test,
                ReviewTest(requested_by=caller.user_id, inputs=body.inputs, config=dict(body.config)),
                id=test_id,
            )
        )

    return await once.answer("task", work)


@router.post(
    "/rescans",
    operation_id="rescan_published",
    status_code=202,
    response_model=Success[RescanStarted],
    responses=errors(TemporalUnavailableError),
)
async def rescan(_: Reviewer, services: ServicesDep) -> Success[RescanStarted]:
    """Scan published versions that were last scanned by other rules; new violations quarantine them."""
    return success(
        RescanStarted(workflow_id=await start_rescan(services.temporal), rule_set_version=RULE_SET_VERSION)
    )


async def start_rescan(temporal: Client) -> str:
    """Start the re-scan for the present rules, unless it runs already; returns the workflow's id."""
    handle = await temporal.start_workflow(
        RescanPublished.run,
        RescanRequest(rule_set_version=RULE_SET_VERSION),
        id=f"rescan-published/{RULE_SET_VERSION}",
        task_queue=TaskQueue.CORE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"Re-scan by rules {RULE_SET_VERSION}",
    )
    return handle.id
