"""Whom approvals ask and when people work: groups, absences, calendars, preferences; and evidence."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from activities.calendar import pin_calendar
from activities.records.approval import evidence_of, insert_evidence
from activities.records.approval_deliveries import put_preference
from activities.records.approval_people import (
    AbsenceNotFoundError,
    ApprovalGroupNotFoundError,
    add_absence,
    delete_absence,
    delete_calendar,
    delete_group,
    find_calendar,
    list_absences,
    list_calendars,
    list_groups,
    put_calendar,
    put_group,
)
from activities.storage import ObjectStoreUnavailableError
from api.approval import MANAGERS, visible
from api.authentication import Caller
from api.envelope import errors
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.state import ServicesDep
from models.approval import ApprovalState, ApprovalType
from models.approval_errors import ActionNotPossibleError, ApprovalClosedError, ApprovalNotFoundError
from models.approval_records import AbsenceRow, ApprovalEvidenceRow, ApprovalGroupRow
from models.approval_views import (
    AbsenceBody,
    AbsenceList,
    AbsenceView,
    EvidenceView,
    GroupBody,
    GroupList,
    GroupView,
    PreferenceBody,
    Standing,
)
from models.calendar import (
    CalendarDefinition,
    CalendarName,
    CalendarNotFoundError,
    CalendarRow,
    CalendarView,
    InvalidCalendarError,
)
from models.channel import ChannelPreference
from models.errors import NotFoundError, PermissionDeniedError
from models.identifiers import Identifier, derived_identifier
from models.identity import Principal
from models.table import utc_now

# Before the requests: their names are no request's identifier.
router = APIRouter(tags=["approvals"])

MAX_EVIDENCE_BYTES = 10 * 1024 * 1024
MAX_EVIDENCE = 20


class NotAManagerError(PermissionDeniedError):
    """Groups, calendars and others' absences are set by administrators and operators."""

    code = "NOT_A_MANAGER"

    def __init__(self) -> None:
        super().__init__("This needs the role admin or operator.")


class EvidenceNotFoundError(NotFoundError):
    """The request has no such attachment."""

    code = "EVIDENCE_NOT_FOUND"

    def __init__(self, evidence_id: str) -> None:
        super().__init__(f"There is no evidence {evidence_id}.", details={"evidence_id": evidence_id})


def _manager(caller: Caller) -> Principal:
    if not caller.roles & MANAGERS:
        raise NotAManagerError
    return caller


Manager = Annotated[Principal, Depends(_manager)]
GroupName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$")]


class CalendarList(BaseModel):
    """The tenant's calendars."""

    calendars: list[CalendarView]


@router.get("/api/approvals/groups", operation_id="list_approval_groups")
async def groups(caller: Caller, services: ServicesDep) -> GroupList:
    """List the groups that can be asked."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return GroupList(groups=[_group(row) for row in await list_groups(connection)])


def _group(row: ApprovalGroupRow) -> GroupView:
    return GroupView.of(row)


@router.put("/api/approvals/groups/{name}", operation_id="put_approval_group")
async def set_group(name: GroupName, body: GroupBody, caller: Manager, services: ServicesDep) -> GroupView:
    """Set who belongs to a group; a group named like a role lists the role's holders who are written to."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await put_group(
            connection,
            tenant_id=caller.tenant_id,
            name=name,
            members=list(dict.fromkeys(body.members)),
            by=caller.user_id,
        )
        return GroupView.of(row)


@router.delete(
    "/api/approvals/groups/{name}",
    operation_id="delete_approval_group",
    responses=errors(ApprovalGroupNotFoundError),
)
async def remove_group(name: GroupName, caller: Manager, services: ServicesDep) -> Standing:
    """Remove a group; requests that are open keep the people they asked."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await delete_group(connection, name)
    return Standing(status="deleted")


@router.get("/api/approvals/absences", operation_id="list_approval_absences")
async def absences(caller: Caller, services: ServicesDep) -> AbsenceList:
    """List absences that are not over: yours and those you stand in for; everybody's for managers."""
    who = None if caller.roles & MANAGERS else caller.user_id
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_absences(connection, user_id=who)
        return AbsenceList(absences=[AbsenceView.of(row) for row in rows])


@router.post(
    "/api/approvals/absences",
    operation_id="add_approval_absence",
    status_code=201,
    response_model=AbsenceView,
    responses=errors(NotAManagerError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def add(body: AbsenceBody, caller: Caller, services: ServicesDep, once: OnceDep) -> Response:
    """Say when you are away and who decides in your place; both names stand in the record."""

    async def work(absence_id: str) -> AbsenceView:
        away = body.user_id or caller.user_id
        if away != caller.user_id and not caller.roles & MANAGERS:
            raise NotAManagerError
        row = AbsenceRow(
            id=absence_id,
            tenant_id=caller.tenant_id,
            user_id=away,
            substitute=body.substitute,
            starts_at=body.starts_at,
            ends_at=body.ends_at,
            created_by=caller.user_id,
        )
        async with services.database.tenant(caller.tenant_id) as connection:
            await add_absence(connection, row)
        return AbsenceView.of(row)

    return await once.answer("absence", work)


@router.delete(
    "/api/approvals/absences/{absenceId}",
    operation_id="delete_approval_absence",
    responses=errors(AbsenceNotFoundError),
)
async def remove_absence(absenceId: Identifier, caller: Caller, services: ServicesDep) -> Standing:  # noqa: N803
    """Remove an absence of yours; managers remove anybody's."""
    who = None if caller.roles & MANAGERS else caller.user_id
    async with services.database.tenant(caller.tenant_id) as connection:
        await delete_absence(connection, absenceId, user_id=who)
    return Standing(status="deleted")


@router.put("/api/approvals/preferences", operation_id="set_approval_preferences")
async def set_preferences(body: PreferenceBody, caller: Caller, services: ServicesDep) -> Standing:
    """Say by which channels you want to be reached, and when not; what is critical comes all the same."""
    preference = ChannelPreference(
        tenant_id=caller.tenant_id,
        user_id=caller.user_id,
        channels=[channel.value for channel in body.channels],
        quiet_from=body.quiet_from,
        quiet_to=body.quiet_to,
        time_zone=body.time_zone,
    )
    async with services.database.tenant(caller.tenant_id) as connection:
        await put_preference(connection, preference)
    return Standing(status="set")


@router.get("/api/calendars", operation_id="list_calendars")
async def calendars(caller: Caller, services: ServicesDep) -> CalendarList:
    """List the tenant's calendars."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return CalendarList(calendars=[_calendar(row) for row in await list_calendars(connection)])


def _calendar(row: CalendarRow) -> CalendarView:
    return CalendarView(
        name=row.name, definition=CalendarDefinition.model_validate(row.definition), updated_at=row.updated_at
    )


@router.get("/api/calendars/{name}", operation_id="get_calendar", responses=errors(CalendarNotFoundError))
async def calendar(name: CalendarName, caller: Caller, services: ServicesDep) -> CalendarView:
    """Read a calendar."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return _calendar(await find_calendar(connection, name))


@router.put("/api/calendars/{name}", operation_id="put_calendar", responses=errors(InvalidCalendarError))
async def set_calendar(
    name: CalendarName, body: CalendarDefinition, caller: Manager, services: ServicesDep
) -> CalendarView:
    """Set a calendar; clocks that run by it keep what was pinned when they started."""
    pin_calendar(name, body, utc_now().year)
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await put_calendar(
            connection, tenant_id=caller.tenant_id, name=name, definition=body, by=caller.user_id
        )
        return _calendar(row)


@router.delete(
    "/api/calendars/{name}", operation_id="delete_calendar", responses=errors(CalendarNotFoundError)
)
async def remove_calendar(name: CalendarName, caller: Manager, services: ServicesDep) -> Standing:
    """Remove a calendar."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await delete_calendar(connection, name)
    return Standing(status="deleted")


@router.post(
    "/api/approvals/{approvalId}/evidence",
    operation_id="add_approval_evidence",
    status_code=201,
    responses=errors(
        ApprovalNotFoundError, ApprovalClosedError, ActionNotPossibleError, ObjectStoreUnavailableError
    ),
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            "required": True,
        }
    },
)
async def add_evidence(
    approvalId: Identifier,  # noqa: N803
    request: Request,
    caller: Caller,
    services: ServicesDep,
    name: Annotated[str, Query(min_length=1, max_length=200, description="Of the file.")],
) -> EvidenceView:
    """Attach a file that proves a manual task; its bytes are the body. The same file twice is one."""
    row = await visible(services, caller, approvalId)
    if row.state is not ApprovalState.OPEN:
        raise ApprovalClosedError(row.id, row.state, row.result, row.completed_by)
    body = await request.body()
    if row.type is not ApprovalType.MANUAL_TASK:
        raise ActionNotPossibleError(row.id, "take evidence", f"its type is {row.type}")
    if not body or len(body) > MAX_EVIDENCE_BYTES:
        raise ActionNotPossibleError(row.id, "take this file", f"it has 1 to {MAX_EVIDENCE_BYTES} bytes")
    digest = hashlib.sha256(body).hexdigest()
    evidence = ApprovalEvidenceRow(
        id=derived_identifier("evidence", row.id, digest),
        tenant_id=row.tenant_id,
        approval_id=row.id,
        name=name,
        content_type=request.headers.get("content-type", "application/octet-stream")[:200],
        size=len(body),
        sha256=digest,
        object_key=f"approvals/{row.id}/{digest}",
        uploaded_by=caller.user_id,
    )
    async with services.database.tenant(caller.tenant_id) as connection:
        if len(await evidence_of(connection, row.id)) >= MAX_EVIDENCE:
            raise ActionNotPossibleError(row.id, "take more evidence", f"it has {MAX_EVIDENCE} attachments")
    await services.object_store.put(evidence.object_key, body)
    async with services.database.tenant(caller.tenant_id) as connection:
        await insert_evidence(connection, evidence)
    return EvidenceView.of(evidence)


@router.get(
    "/api/approvals/{approvalId}/evidence/{evidenceId}",
    operation_id="get_approval_evidence",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **errors(ApprovalNotFoundError, EvidenceNotFoundError, ObjectStoreUnavailableError),
    },
)
async def get_evidence(
    approvalId: Identifier,  # noqa: N803
    evidenceId: Identifier,  # noqa: N803
    caller: Caller,
    services: ServicesDep,
) -> Response:
    """Read an attachment; it is always a download, whatever it says it is."""
    row = await visible(services, caller, approvalId)
    async with services.database.tenant(caller.tenant_id) as connection:
        found = [each for each in await evidence_of(connection, row.id) if each.id == evidenceId]
    if not found:
        raise EvidenceNotFoundError(evidenceId)
    content = await services.object_store.get(found[0].object_key)
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"},
    )
