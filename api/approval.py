"""Human approvals (flowgrid-level3 §11.2): camelCase, no envelope."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities import approval_commands as commands
from activities.approval import find_people, pinned
from activities.records.approval import (
    ApprovalFilter,
    decisions_between,
    decisions_of,
    evidence_of,
    find_approval,
    list_approvals,
    remarks_of,
)
from activities.records.approval_deliveries import deliveries_of
from activities.records.approval_people import stands_in_for
from activities.records.runs import RunNotFoundError, find_run
from api.authentication import Caller
from api.envelope import errors
from api.errors import InvalidFieldsError, TemporalUnavailableError, platform_error
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import InvalidCursorError, PageDep, decode_cursor, encode_cursor
from api.state import Services, ServicesDep
from models.approval import (
    OPEN_STATUSES,
    Action,
    Actor,
    ApprovalRequest,
    ApprovalSpec,
    ApprovalStatus,
    ApprovalType,
    Decided,
    Via,
    approval_workflow_id,
)
from models.approval_errors import (
    ActionNotPossibleError,
    AlreadyDecidedError,
    ApprovalClosedError,
    ApprovalFourEyesError,
    ApprovalNotFoundError,
    ClaimedByOtherError,
    DecisionReasonRequiredError,
    EditRefusedError,
    EvidenceMissingError,
    NotAnApproverError,
    PayloadChangedError,
    UnknownAssigneeError,
)
from models.approval_records import ApprovalRow
from models.approval_views import (
    ApprovalDetails,
    ApprovalPage,
    ApprovalSummary,
    AskBody,
    Asked,
    BulkAnswer,
    BulkBody,
    BulkResult,
    DecideAnswer,
    DecideBody,
    DecisionPage,
    DecisionView,
    EvidenceView,
    FlowContext,
    ReceiptView,
    RemarkView,
)
from models.calendar import CalendarNotFoundError
from models.identifiers import Identifier
from models.identity import MissingPermissionError, Permission, Principal, Role
from models.json_schema import check, violations
from models.run import RunKind, RunStatus
from models.search_attributes import run_attributes
from models.table import utc_now
from models.task_queues import TaskQueue
from workflows.approval import Approval
from workflows.approvals.edits import apply_edits

router = APIRouter(prefix="/api/approvals", tags=["approvals"])

MANAGERS = frozenset({Role.ADMIN, Role.OPERATOR})
"""They may act on requests that do not ask them: reassign, extend, cancel."""

OPENING_SECONDS = 10.0
BULK_AT_ONCE = 10

REFUSALS = (
    ApprovalNotFoundError,
    ApprovalClosedError,
    NotAnApproverError,
    ApprovalFourEyesError,
    ClaimedByOtherError,
    ActionNotPossibleError,
    AlreadyDecidedError,
    TemporalUnavailableError,
)

Client = Annotated[
    str | None,
    Header(
        alias="X-Switchyard-Client", max_length=20, description="`web` where a person clicked in the console."
    ),
]


async def actor_of(services: Services, caller: Principal, client: str | None) -> Actor:
    """Return who acts, by whatever they came."""
    if caller.scopes is not None and Permission.APPROVALS_DECIDE not in caller.scopes:
        raise MissingPermissionError(Permission.APPROVALS_DECIDE)
    return await commands.actor_for(
        services.database,
        caller.tenant_id,
        caller.user_id,
        via=Via.WEB if client == "web" else Via.API,
        roles=sorted(caller.roles),
        manages=bool(caller.roles & MANAGERS),
    )


async def visible(services: Services, caller: Principal, approval_id: str) -> ApprovalRow:
    """Read a request that the caller may see.

    Raises:
        ApprovalNotFoundError: It is not there, or not theirs to see.
    """
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_approval(connection, approval_id)
        if sees_all(caller) or caller.user_id in (
            row.requested_by,
            row.completed_by,
            *row.assignees,
            *row.excluded,
        ):
            return row
        if set(row.assignee_roles) & caller.roles:
            return row
        if set(await stands_in_for(connection, caller.user_id, utc_now())) & set(row.assignees):
            return row
        if any(each.approver == caller.user_id for each in await decisions_of(connection, row.id)):
            return row
    raise ApprovalNotFoundError(approval_id)


def sees_all(caller: Principal) -> bool:
    """Tell whether the caller may read every request of the tenant."""
    return caller.may(Permission.APPROVALS_DECIDE) or caller.may(Permission.RUNS_OPERATE)


@router.get("", operation_id="list_approvals", responses=errors(InvalidCursorError))
async def list_(
    caller: Caller,
    services: ServicesDep,
    page: PageDep,
    status: Annotated[
        ApprovalStatus | None,
        Query(description="`pending` means everything that is not decided yet; other words mean themselves."),
    ] = None,
    assigned_to: Annotated[
        str | None,
        Query(alias="assignedTo", max_length=200, description="Whose decision is awaited; `me` is you."),
    ] = None,
    instance_id: Annotated[Identifier | None, Query(alias="instanceId")] = None,
) -> ApprovalPage:
    """List requests, newest first; those that await your decision with `status=pending&assignedTo=me`."""
    async with services.database.tenant(caller.tenant_id) as connection:
        people: list[str] | None = None
        if assigned_to == "me":
            absent = await stands_in_for(connection, caller.user_id, utc_now())
            people = [caller.user_id, *absent]
        elif assigned_to is not None:
            people = [assigned_to]
        statuses = None if status is None else [status]
        rows, total = await list_approvals(
            connection,
            ApprovalFilter(
                statuses=sorted(OPEN_STATUSES) if status is ApprovalStatus.PENDING else statuses,
                people=people,
                roles=sorted(caller.roles),
                instance_id=instance_id,
                visible_to=None if assigned_to == "me" or sees_all(caller) else caller.user_id,
            ),
            before=page.before,
            limit=page.fetch,
        )
    shown = rows[: page.limit]
    last = shown[-1] if len(rows) > page.limit else None
    return ApprovalPage(
        approvals=[ApprovalSummary.model_validate(row) for row in shown],
        total=total,
        next_cursor=None if last is None else encode_cursor(last.created_at, last.id),
    )


@router.post(
    "",
    operation_id="ask_for_approval",
    status_code=201,
    response_model=Asked,
    responses=errors(
        UnknownAssigneeError,
        CalendarNotFoundError,
        RunNotFoundError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
        TemporalUnavailableError,
    ),
)
async def ask(body: AskBody, caller: Caller, services: ServicesDep, once: OnceDep) -> Response:
    """Ask for an approval that no flow waits for; whoever needs the answer reads it or gets its webhook."""
    caller.require(Permission.FLOWS_RUN)

    async def work(approval_id: str) -> Asked:
        spec = ApprovalSpec.model_validate(body.model_dump(exclude={"instance_id"}))
        request = ApprovalRequest(
            approval_id=approval_id,
            tenant_id=caller.tenant_id,
            run_id=body.instance_id or approval_id,
            task_id="approval",
            own_run=body.instance_id is None,
            requested_by=caller.user_id,
            correlation_id=approval_id,
            spec=spec,
        )
        return await start(services, request)

    return await once.answer("approval", work)


async def start(services: Services, request: ApprovalRequest) -> Asked:
    """Start a request and wait until it can be read; starting it twice starts it once.

    Raises:
        UnknownAssigneeError, CalendarNotFoundError: It asks nobody, or by no calendar.
        TemporalUnavailableError: No worker has taken it on yet; it will be.
    """
    spec = request.spec
    if spec.form_schema is not None and (broken := check(spec.form_schema, "body.formSchema")):
        raise InvalidFieldsError([each.model_dump() for each in broken])
    async with services.database.tenant(request.tenant_id) as connection:
        if not request.own_run:
            await find_run(connection, request.run_id)
        # A refusal now is better than a workflow that fails a moment later.
        if not _takes_turns(request):
            await find_people(connection, request)
        else:
            await pinned(connection, spec.sla)
    with suppress(WorkflowAlreadyStartedError):
        await services.temporal.start_workflow(
            Approval.run,
            request,
            id=approval_workflow_id(request.approval_id),
            task_queue=TaskQueue.CORE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=spec.title[:200],
            search_attributes=run_attributes(
                tenant_id=request.tenant_id,
                kind=RunKind.APPROVAL,
                status=RunStatus.RUNNING,
                subject=spec.title[:200],
                correlation_id=request.correlation_id,
            ),
        )
    row = await _opened(services, request)
    return Asked(approval_id=row.id, status=row.status, payload_hash=row.payload_hash)


def _takes_turns(request: ApprovalRequest) -> bool:
    rules = [request.spec.assignment_rule, *(g.members for s in request.spec.policy.stages for g in s.groups)]
    return any(rule.type == "round_robin" for rule in rules)


async def _opened(services: Services, request: ApprovalRequest) -> ApprovalRow:
    """Read the row as soon as the workflow has written it: asking the workflow would grow its history."""
    deadline, pause = asyncio.get_running_loop().time() + OPENING_SECONDS, 0.02
    while True:
        try:
            async with services.database.tenant(request.tenant_id) as connection:
                row = await find_approval(connection, request.approval_id)
            if row.recorded:
                return row
        except ApprovalNotFoundError:
            pass
        if asyncio.get_running_loop().time() > deadline:
            raise TemporalUnavailableError
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)


@router.get("/decisions", operation_id="export_approval_decisions", responses=errors(InvalidCursorError))
async def export(
    caller: Caller,
    services: ServicesDep,
    since: Annotated[datetime, Query(description="From when on, with its zone.")],
    until: Annotated[datetime, Query(description="Before when, with its zone.")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> DecisionPage:
    """Export the audit: every counted decision of a period, oldest first."""
    if not caller.may(Permission.RUNS_OPERATE):
        raise MissingPermissionError(Permission.RUNS_OPERATE)
    if since.tzinfo is None or until.tzinfo is None:
        problem = {
            "rule": "zone",
            "message": "a time without its zone",
            "remedy": "Write 2026-01-31T00:00:00Z.",
        }
        raise InvalidFieldsError([{"field": "query.since", **problem}])
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await decisions_between(
            connection, since, until, after=decode_cursor(cursor) if cursor else None, limit=limit + 1
        )
    last = rows[limit - 1] if len(rows) > limit else None
    return DecisionPage(
        decisions=[DecisionView.of(row) for row in rows[:limit]],
        next_cursor=None if last is None else encode_cursor(last.decided_at, last.id),
    )


@router.post(
    "/bulk-decide",
    operation_id="decide_approvals",
    response_model=BulkAnswer,
    responses=errors(IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def bulk_decide(
    body: BulkBody, caller: Caller, services: ServicesDep, once: OnceDep, client: Client = None
) -> Response:
    """Give one verdict on many requests; each has a result of its own, and one refusal stops no other."""

    async def work(key: str) -> BulkAnswer:
        actor = await actor_of(services, caller, client)
        places = asyncio.Semaphore(BULK_AT_ONCE)

        async def one(approval_id: str) -> BulkResult:
            async with places:
                try:
                    row = await visible(services, caller, approval_id)
                    decided = await commands.decide(
                        services.temporal,
                        services.database,
                        row,
                        actor,
                        body.action,
                        key=_key(caller, body.action, row, once.key and key),
                        comment=body.comment,
                    )
                except Exception as failure:
                    refusal = platform_error(failure)
                    told = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
                    return BulkResult(approval_id=approval_id, status="refused", error=told)
            return BulkResult(approval_id=approval_id, status=_status(decided), result=decided.result)

        wanted = dict.fromkeys(body.approval_ids)
        return BulkAnswer(results=await asyncio.gather(*(one(approval_id) for approval_id in wanted)))

    return await once.answer("approval_decision", work)


@router.get("/{approvalId}", operation_id="get_approval", responses=errors(ApprovalNotFoundError))
async def get(approvalId: Identifier, caller: Caller, services: ServicesDep) -> ApprovalDetails:  # noqa: N803 - the document's own spelling
    """Read a request with its context, its decisions, its conversation and its messages."""
    row = await visible(services, caller, approvalId)
    details = ApprovalDetails.of(row)
    async with services.database.tenant(caller.tenant_id) as connection:
        run = await find_run(connection, row.instance_id)
        return details.model_copy(
            update={
                "flow_context": FlowContext(
                    instance_id=run.id, kind=run.kind, status=run.status, subject=run.subject
                ),
                "decisions": [DecisionView.of(each) for each in await decisions_of(connection, row.id)],
                "remarks": [RemarkView.of(each) for each in await remarks_of(connection, row.id)],
                "evidence": [EvidenceView.of(each) for each in await evidence_of(connection, row.id)],
                "delivery_receipts": [
                    ReceiptView.of(each) for each in await deliveries_of(connection, row.id)
                ],
            }
        )


@router.post(
    "/{approvalId}/decide",
    operation_id="decide_approval",
    response_model=DecideAnswer,
    responses=errors(
        *REFUSALS,
        PayloadChangedError,
        DecisionReasonRequiredError,
        EditRefusedError,
        EvidenceMissingError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def decide(
    approvalId: Identifier,  # noqa: N803
    body: DecideBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Decide. The same decision again gets the first answer, also after the request has ended."""

    async def work(key: str) -> DecideAnswer:
        row = await visible(services, caller, approvalId)
        edits = body.state_updates or {}
        if edits:
            _check_form(row, edits)
        decided = await commands.decide(
            services.temporal,
            services.database,
            row,
            await actor_of(services, caller, client),
            body.action,
            key=_key(caller, body.action, row, once.key and key),
            comment=body.comment,
            edits=edits,
            payload_hash=body.payload_hash,
        )
        return DecideAnswer(
            status=_status(decided),
            flow_resumed=decided.closed,
            result=decided.result,
            approver=decided.approver,
            on_behalf_of=decided.on_behalf_of,
            decided_at=decided.decided_at,
        )

    return await once.answer("approval_decision", work)


def _status(decided: Decided) -> str:
    return "completed" if decided.closed else "recorded"


def _key(caller: Principal, action: Action, row: ApprovalRow, given: str | None) -> str:
    """Name the click: by the Idempotency-Key's own identifier, else by who decides what on which content."""
    return given or f"{caller.user_id[:100]}:{action}:{row.stage}:{row.revision}"


def _check_form(row: ApprovalRow, edits: dict[str, Any]) -> None:
    """Refuse edits that leave what the form allows.

    Raises:
        EditRefusedError: Names the fields.
    """
    if row.type is not ApprovalType.REVIEW_EDIT:
        return
    edited, _ = apply_edits(row.payload, edits, row.editable_fields)
    if row.form_schema is not None and (broken := violations(edited, row.form_schema)):
        raise EditRefusedError([(each.field, each.message) for each in broken])
