"""Telling an approval's workflow what somebody wants, the same way from every channel."""

from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.records.approval import evidence_of, find_approval, find_decision
from activities.records.approval_people import stands_in_for
from activities.records.database import Database
from models.approval import (
    Action,
    Actor,
    ApprovalType,
    Decide,
    Decided,
    Evidence,
    Order,
    Via,
    approval_workflow_id,
)
from models.approval_errors import ApprovalClosedError
from models.approval_records import ApprovalDecisionRow, ApprovalRow
from models.table import utc_now
from models.timeouts import UPDATE_RPC_TIMEOUT


async def actor_for(
    database: Database,
    tenant_id: str,
    user_id: str,
    *,
    via: Via,
    roles: list[str] | None = None,
    manages: bool = False,
    channel_user_id: str | None = None,
) -> Actor:
    """Return who acts, with those they stand in for today."""
    async with database.tenant(tenant_id) as connection:
        absent = await stands_in_for(connection, user_id, utc_now())
    return Actor(
        user_id=user_id,
        roles=roles or [],
        stands_in_for=absent,
        manages=manages,
        via=via,
        channel_user_id=channel_user_id,
    )


async def decide(
    temporal: Client,
    database: Database,
    row: ApprovalRow,
    actor: Actor,
    action: Action,
    *,
    key: str,
    comment: str | None = None,
    edits: dict[str, Any] | None = None,
    payload_hash: str | None = None,
) -> Decided:
    """Give a verdict; the same ``key`` gets the first answer, also after the end.

    Raises:
        ApprovalClosedError: Others were first.
        WorkflowUpdateFailedError: The workflow refuses; its cause says why.
        RPCError, WorkflowUpdateRPCTimeoutOrCancelledError: No answer in time.
    """
    async with database.tenant(row.tenant_id) as connection:
        known = await find_decision(connection, row.id, key)
        if known is not None:
            row = await find_approval(connection, row.id)
            return answer_of(known, row)
        attached = await evidence_of(connection, row.id) if row.type is ApprovalType.MANUAL_TASK else []
    evidence = [
        Evidence(evidence_id=each.id, name=each.name, sha256=each.sha256, size=each.size) for each in attached
    ]
    command = Decide(
        actor=actor,
        action=action,
        key=key,
        payload_hash=payload_hash or row.payload_hash,
        comment=comment,
        edits=edits or {},
        evidence=evidence if action is Action.APPROVE else [],
    )
    handle = temporal.get_workflow_handle(approval_workflow_id(row.id))
    try:
        # The key is the update's id, too: a repeated click is answered by the server where it still runs.
        return await handle.execute_update(
            "decide",
            command,
            id=f"decide:{key}",
            result_type=Decided,
            rpc_timeout=UPDATE_RPC_TIMEOUT,
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    async with database.tenant(row.tenant_id) as connection:
        known = await find_decision(connection, row.id, key)
        row = await find_approval(connection, row.id)
    if known is not None:
        return answer_of(known, row)
    raise ApprovalClosedError(row.id, row.state, row.result, row.completed_by)


def answer_of(decision: ApprovalDecisionRow, row: ApprovalRow) -> Decided:
    """Return the answer that a decision got."""
    return Decided(
        approval_id=row.id,
        action=decision.action,
        approver=decision.approver,
        on_behalf_of=decision.on_behalf_of,
        closed=row.result is not None,
        result=row.result,
        decided_at=decision.decided_at,
        decided_by=row.completed_by,
    )


async def order(temporal: Client, database: Database, row: ApprovalRow, update: str, command: Order) -> None:
    """Give any other command to a request.

    Raises:
        ApprovalClosedError: It has ended.
        WorkflowUpdateFailedError: The workflow refuses; its cause says why.
        RPCError, WorkflowUpdateRPCTimeoutOrCancelledError: No answer in time.
    """
    handle = temporal.get_workflow_handle(approval_workflow_id(row.id))
    name = f"{update}:{command.key}" if command.key else None
    try:
        await handle.execute_update(update, command, id=name, rpc_timeout=UPDATE_RPC_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        async with database.tenant(row.tenant_id) as connection:
            row = await find_approval(connection, row.id)
        raise ApprovalClosedError(row.id, row.state, row.result, row.completed_by) from None
