"""Everything else one may do to an approval: see to it, hand it on, talk about it, move its time, end it."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from activities import approval_commands as commands
from activities.approval import members_of, pinned
from api.approval import REFUSALS, Client, actor_of, visible
from api.authentication import Caller
from api.envelope import errors
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.state import Services, ServicesDep
from models.approval import Cancel, Comment, Delegate, Extend, Order, Reassign, SetCalendar
from models.approval_errors import UnknownAssigneeError
from models.approval_policy import Sla
from models.approval_views import (
    CalendarBody,
    CancelBody,
    CommentBody,
    DelegateBody,
    ExtendBody,
    ReassignBody,
    Standing,
)
from models.calendar import CalendarNotFoundError
from models.identifiers import Identifier
from models.identity import Principal

router = APIRouter(prefix="/api/approvals", tags=["approvals"])


async def _order(
    services: Services, caller: Principal, client: str | None, approval_id: str, update: str, make: Any
) -> None:
    row = await visible(services, caller, approval_id)
    actor = await actor_of(services, caller, client)
    await commands.order(services.temporal, services.database, row, update, make(actor))


def _operation(path: str, update: str, done: str, summary: str) -> None:
    """Add an operation that needs no body: its name is the update's."""

    async def run(
        approvalId: Identifier,  # noqa: N803
        caller: Caller,
        services: ServicesDep,
        once: OnceDep,
        client: Client = None,
    ) -> Response:
        async def work(_: str) -> Standing:
            await _order(services, caller, client, approvalId, update, lambda actor: Order(actor=actor))
            return Standing(status=done)

        return await once.answer("approval_decision", work)

    run.__doc__ = summary
    router.add_api_route(
        path,
        run,
        methods=["POST"],
        operation_id=f"{update}_approval",
        response_model=Standing,
        responses=errors(*REFUSALS, IdempotencyKeyReusedError, IdempotencyInProgressError),
    )


_operation(
    "/{approvalId}/acknowledge",
    "acknowledge",
    "in_progress",
    "Say that you have seen it: the response clock stops, and a veto's window begins.",
)
_operation("/{approvalId}/claim", "claim", "in_progress", "Claim it, so that nobody else decides meanwhile.")
_operation("/{approvalId}/release", "release", "released", "Give a claim back.")


@router.post(
    "/{approvalId}/reassign",
    operation_id="reassign_approval",
    response_model=Standing,
    responses=errors(*REFUSALS, UnknownAssigneeError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def reassign(
    approvalId: Identifier,  # noqa: N803
    body: ReassignBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Let another person or group decide; the clocks go on."""

    async def work(_: str) -> Standing:
        async with services.database.tenant(caller.tenant_id) as connection:
            members = await members_of(connection, body.assign_to)
        if not members:
            raise UnknownAssigneeError(body.assign_to)
        await _order(
            services,
            caller,
            client,
            approvalId,
            "reassign",
            lambda actor: Reassign(
                actor=actor, assign_to=body.assign_to, members=members, reason=body.reason
            ),
        )
        return Standing(status="reassigned")

    return await once.answer("approval_decision", work)


@router.post(
    "/{approvalId}/delegate",
    operation_id="delegate_approval",
    response_model=Standing,
    responses=errors(*REFUSALS, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def delegate(
    approvalId: Identifier,  # noqa: N803
    body: DelegateBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Let one more person decide this request in your place; both names are recorded."""

    async def work(_: str) -> Standing:
        await _order(
            services,
            caller,
            client,
            approvalId,
            "delegate",
            lambda actor: Delegate(
                actor=actor, delegate=body.delegate, principal=body.principal, reason=body.reason
            ),
        )
        return Standing(status="delegated")

    return await once.answer("approval_decision", work)


@router.post(
    "/{approvalId}/comments",
    operation_id="comment_on_approval",
    response_model=Standing,
    responses=errors(*REFUSALS, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def comment(
    approvalId: Identifier,  # noqa: N803
    body: CommentBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Add a remark, ask for information (the clocks stand still), or answer what was asked."""

    async def work(_: str) -> Standing:
        await _order(
            services,
            caller,
            client,
            approvalId,
            "comment",
            lambda actor: Comment(actor=actor, **body.model_dump()),
        )
        return Standing(status="commented")

    return await once.answer("approval_decision", work)


@router.post(
    "/{approvalId}/extend",
    operation_id="extend_approval",
    response_model=Standing,
    responses=errors(*REFUSALS, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def extend(
    approvalId: Identifier,  # noqa: N803
    body: ExtendBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Give more time to decide, or to veto."""

    async def work(_: str) -> Standing:
        await _order(
            services,
            caller,
            client,
            approvalId,
            "extend",
            lambda actor: Extend(actor=actor, **body.model_dump()),
        )
        return Standing(status="extended")

    return await once.answer("approval_decision", work)


@router.post(
    "/{approvalId}/cancel",
    operation_id="cancel_approval",
    response_model=Standing,
    responses=errors(*REFUSALS, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def cancel(
    approvalId: Identifier,  # noqa: N803
    body: CancelBody,
    caller: Caller,
    services: ServicesDep,
    once: OnceDep,
    client: Client = None,
) -> Response:
    """Withdraw a request that you asked, or that you manage."""

    async def work(_: str) -> Standing:
        await _order(
            services,
            caller,
            client,
            approvalId,
            "cancel",
            lambda actor: Cancel(actor=actor, reason=body.reason),
        )
        return Standing(status="cancelled")

    return await once.answer("approval_decision", work)


@router.put(
    "/{approvalId}/calendar",
    operation_id="set_approval_calendar",
    responses=errors(*REFUSALS, CalendarNotFoundError),
)
async def set_calendar(
    approvalId: Identifier,  # noqa: N803
    body: CalendarBody,
    caller: Caller,
    services: ServicesDep,
    client: Client = None,
) -> Standing:
    """Let the clocks run by another calendar from now on; what is used up stays used up."""
    async with services.database.tenant(caller.tenant_id) as connection:
        calendar = await pinned(connection, Sla(calendar=body.calendar))
    await _order(
        services,
        caller,
        client,
        approvalId,
        "set_calendar",
        lambda actor: SetCalendar(actor=actor, calendar=calendar),
    )
    return Standing(status="calendar_set")
