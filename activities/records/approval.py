"""Approval requests and what belongs to them: the only writer of their tables (flowgrid-level3 §10.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.approval import ApprovalRequest, ApprovalStatus, Changes, DecisionRecord, Facts, Remark
from models.approval_errors import ApprovalNotFoundError
from models.approval_policy import AssignmentType
from models.approval_records import (
    ApprovalDecisionRow,
    ApprovalEvidenceRow,
    ApprovalRemarkRow,
    ApprovalRow,
)
from models.identifiers import derived_identifier

_GROUPS = (AssignmentType.GROUP, AssignmentType.ROUND_ROBIN, AssignmentType.LEAST_BUSY)

_INSERT = """
INSERT INTO approval_requests (
    id, tenant_id, instance_id, task_execution_id, task_id, correlation_id, requested_by, type, title,
    description, context, editable_fields, form_schema, payload, payload_hash, revision, assignment_rule,
    policy, approval_group, assignees, assignee_roles, excluded, sla, escalation, escalation_level, stage,
    information_awaited, channels, priority, risk, state, status, state_updates, recorded, created_at
) VALUES (
    %(id)s, %(tenant_id)s, %(instance_id)s, %(task_execution_id)s, %(task_id)s, %(correlation_id)s,
    %(requested_by)s, %(type)s, %(title)s, %(description)s, %(context)s, %(editable_fields)s,
    %(form_schema)s, %(payload)s, %(payload_hash)s, 1, %(assignment_rule)s, %(policy)s, %(approval_group)s,
    '{}', '{}', %(excluded)s, %(sla)s, %(escalation)s, 0, 0, false, %(channels)s, %(priority)s, %(risk)s,
    'open', 'pending', '[]', 0, %(created_at)s
) ON CONFLICT (id) DO NOTHING
"""

# Nothing is written where the changes were recorded before: their number says so.
_UPDATE = """
UPDATE approval_requests SET
    state = %(state)s, status = %(status)s, result = %(result)s, stage = %(stage)s,
    assignees = %(assignees)s, assignee_roles = %(assignee_roles)s, assigned_to = %(assigned_to)s,
    claimed_by = %(claimed_by)s, escalation_level = %(escalation_level)s,
    acknowledged_at = %(acknowledged_at)s, acknowledged_by = %(acknowledged_by)s,
    information_awaited = %(information_awaited)s, response_due_at = %(response_due_at)s,
    due_at = %(due_at)s, proceeds_at = %(proceeds_at)s, completed_at = %(completed_at)s,
    completed_by = %(completed_by)s, close_reason = %(close_reason)s, revision = %(revision)s,
    payload = %(payload)s, payload_hash = %(payload_hash)s, state_updates = %(state_updates)s,
    response = coalesce(%(response)s, response), recorded = %(number)s, updated_at = now()
WHERE id = %(id)s AND recorded < %(number)s
RETURNING *
"""

_INSERT_DECISION = """
INSERT INTO approval_decisions (
    id, tenant_id, approval_id, stage, approver, on_behalf_of, via, channel_user_id, action, reason, edits,
    evidence, payload_hash, revision, idempotency_key, decided_at
) VALUES (
    %(id)s, %(tenant_id)s, %(approval_id)s, %(stage)s, %(approver)s, %(on_behalf_of)s, %(via)s,
    %(channel_user_id)s, %(action)s, %(reason)s, %(edits)s, %(evidence)s, %(payload_hash)s, %(revision)s,
    %(key)s, %(decided_at)s
)
"""

_INSERT_REMARK = """
INSERT INTO approval_remarks (approval_id, number, tenant_id, kind, author, via, text, created_at)
VALUES (%(approval_id)s, %(number)s, %(tenant_id)s, %(kind)s, %(author)s, %(via)s, %(text)s, %(at)s)
"""


async def insert_request(connection: Connection, request: ApprovalRequest, now: datetime) -> None:
    """Insert a request; one that is there already is left as it is."""
    spec = request.spec
    rule = spec.assignment_rule
    await connection.execute(
        _INSERT,
        {
            **request.model_dump(exclude={"spec", "approval_id", "run_id", "own_run"}),
            "id": request.approval_id,
            "instance_id": request.run_id,
            "type": spec.type,
            "title": spec.title,
            "description": spec.description,
            "context": Jsonb(spec.context),
            "editable_fields": Jsonb(spec.editable_fields),
            "form_schema": None if spec.form_schema is None else Jsonb(spec.form_schema),
            "payload": Jsonb(spec.payload),
            "payload_hash": spec.content_hash(),
            "assignment_rule": Jsonb(rule.model_dump(mode="json", by_alias=True)),
            "policy": Jsonb(spec.policy.model_dump(mode="json", by_alias=True)),
            "approval_group": rule.value if rule.type in _GROUPS else None,
            "excluded": sorted({*request.excluded, *spec.policy.exclude}),
            "sla": Jsonb(spec.sla.model_dump(mode="json", by_alias=True)),
            "escalation": Jsonb(spec.escalation.model_dump(mode="json", by_alias=True)),
            "channels": Jsonb([channel.value for channel in spec.channels]),
            "priority": spec.priority,
            "risk": spec.risk,
            "created_at": now,
        },
    )


async def apply_changes(connection: Connection, changes: Changes) -> ApprovalRow | None:
    """Write changes down; returns the row after them, or None where they were recorded before.

    Locks the request's row; its run's row is locked before it (the events are appended first).
    """
    facts = changes.facts
    parameters = {
        **facts.model_dump(),
        "payload": Jsonb(facts.payload),
        "state_updates": Jsonb(facts.state_updates),
        "response": _response(changes),
        "id": changes.approval_id,
        "number": changes.number,
    }
    row = await (await connection.execute(_UPDATE, parameters)).fetchone()
    if row is None:
        return None
    for decision in changes.decisions:
        await _insert_decision(connection, changes, decision)
    for place, remark in enumerate(changes.remarks):
        await _insert_remark(connection, changes, place, remark)
    return ApprovalRow.model_validate(row)


def _response(changes: Changes) -> Jsonb | None:
    facts: Facts = changes.facts
    if facts.result is None:
        return None
    last = changes.decisions[-1] if changes.decisions else None
    return Jsonb(
        {
            "result": facts.result,
            "action": None if last is None else last.action,
            "comment": None if last is None else last.reason,
            "via": None if last is None else last.via,
            "onBehalfOf": None if last is None else last.on_behalf_of,
            "reason": facts.close_reason,
        }
    )


async def _insert_decision(connection: Connection, changes: Changes, decision: DecisionRecord) -> None:
    await connection.execute(
        _INSERT_DECISION,
        {
            **decision.model_dump(),
            "id": derived_identifier("approval_decision", changes.approval_id, decision.key),
            "tenant_id": changes.tenant_id,
            "approval_id": changes.approval_id,
            "edits": Jsonb(decision.edits),
            "evidence": Jsonb([each.model_dump() for each in decision.evidence]),
        },
    )


async def _insert_remark(connection: Connection, changes: Changes, place: int, remark: Remark) -> None:
    await connection.execute(
        _INSERT_REMARK,
        {
            **remark.model_dump(),
            "approval_id": changes.approval_id,
            "tenant_id": changes.tenant_id,
            # Changes count up and hold far fewer remarks than this.
            "number": changes.number * 1000 + place,
        },
    )


async def find_approval(connection: Connection, approval_id: str) -> ApprovalRow:
    """Read one request.

    Raises:
        ApprovalNotFoundError: It does not exist in the transaction's tenant.
    """
    row = await (
        await connection.execute("SELECT * FROM approval_requests WHERE id = %s", [approval_id])
    ).fetchone()
    if row is None:
        raise ApprovalNotFoundError(approval_id)
    return ApprovalRow.model_validate(row)


@dataclass(frozen=True)
class ApprovalFilter:
    """Which requests are wanted; what is None does not matter.

    Attributes:
        statuses: Any of these.
        people: Their decision is awaited from one of these.
        roles: Or from a holder of one of these roles; goes with ``people``.
        instance_id: Of this run.
        visible_to: Only what this person asked for, decides or decided; None: the tenant's.
    """

    statuses: Sequence[ApprovalStatus] | None = None
    people: Sequence[str] | None = None
    roles: Sequence[str] = ()
    instance_id: str | None = None
    visible_to: str | None = None


_WHERE = """
WHERE (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
  AND (%(people)s::text[] IS NULL
       OR (state = 'open' AND (assignees && %(people)s OR assignee_roles && %(roles)s)
           AND NOT excluded && %(people)s)
       OR (state <> 'open' AND completed_by = ANY (%(people)s)))
  AND (%(instance_id)s::text IS NULL OR instance_id = %(instance_id)s)
  AND (%(visible_to)s::text IS NULL OR requested_by = %(visible_to)s OR completed_by = %(visible_to)s
       OR assignees @> ARRAY[%(visible_to)s] OR assignee_roles && %(roles)s)
"""

_LIST = f"""
SELECT * FROM approval_requests {_WHERE}
  AND (%(before_time)s::timestamptz IS NULL
       OR (created_at, id) < (%(before_time)s::timestamptz, %(before_id)s::text))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""

_COUNT = f"SELECT count(*) AS total FROM approval_requests {_WHERE}"


async def list_approvals(
    connection: Connection,
    wanted: ApprovalFilter,
    *,
    before: tuple[datetime, str] | None,
    limit: int,
) -> tuple[list[ApprovalRow], int]:
    """Read requests, newest first, and how many there are in all."""
    time, identifier = before if before is not None else (None, None)
    parameters: dict[str, Any] = {
        "statuses": None if wanted.statuses is None else list(wanted.statuses),
        "people": None if wanted.people is None else list(wanted.people),
        "roles": list(wanted.roles),
        "instance_id": wanted.instance_id,
        "visible_to": wanted.visible_to,
        "before_time": time,
        "before_id": identifier,
        "limit": limit,
    }
    rows = await (await connection.execute(_LIST, parameters)).fetchall()
    counted = await (await connection.execute(_COUNT, parameters)).fetchone()
    assert counted is not None, "an aggregate always has a row"
    return [ApprovalRow.model_validate(row) for row in rows], int(counted["total"])


async def decisions_of(connection: Connection, approval_id: str) -> list[ApprovalDecisionRow]:
    """Read a request's decisions, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM approval_decisions WHERE approval_id = %s ORDER BY decided_at, id", [approval_id]
    )
    return [ApprovalDecisionRow.model_validate(row) for row in await cursor.fetchall()]


async def find_decision(connection: Connection, approval_id: str, key: str) -> ApprovalDecisionRow | None:
    """Read the decision of one click, if it counted."""
    cursor = await connection.execute(
        "SELECT * FROM approval_decisions WHERE approval_id = %s AND idempotency_key = %s", [approval_id, key]
    )
    row = await cursor.fetchone()
    return None if row is None else ApprovalDecisionRow.model_validate(row)


async def decisions_between(
    connection: Connection,
    since: datetime,
    until: datetime,
    *,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[ApprovalDecisionRow]:
    """Read the tenant's decisions of a period, oldest first, for the audit's export."""
    time, identifier = after if after is not None else (since, "")
    cursor = await connection.execute(
        """
        SELECT * FROM approval_decisions
        WHERE decided_at >= %s AND decided_at < %s AND (decided_at, id) > (%s, %s)
        ORDER BY decided_at, id LIMIT %s
        """,
        [since, until, time, identifier, limit],
    )
    return [ApprovalDecisionRow.model_validate(row) for row in await cursor.fetchall()]


async def remarks_of(connection: Connection, approval_id: str) -> list[ApprovalRemarkRow]:
    """Read the conversation about a request, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM approval_remarks WHERE approval_id = %s ORDER BY number LIMIT 1000", [approval_id]
    )
    return [ApprovalRemarkRow.model_validate(row) for row in await cursor.fetchall()]


async def insert_evidence(connection: Connection, evidence: ApprovalEvidenceRow) -> None:
    """Record an attachment whose bytes are stored; the same one again changes nothing."""
    await connection.execute(
        """
        INSERT INTO approval_evidence
            (id, tenant_id, approval_id, name, content_type, size, sha256, object_key, uploaded_by)
        VALUES (%(id)s, %(tenant_id)s, %(approval_id)s, %(name)s, %(content_type)s, %(size)s, %(sha256)s,
                %(object_key)s, %(uploaded_by)s)
        ON CONFLICT (id) DO NOTHING
        """,
        evidence.model_dump(exclude={"created_at"}),
    )


async def evidence_of(connection: Connection, approval_id: str) -> list[ApprovalEvidenceRow]:
    """Read a request's attachments, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM approval_evidence WHERE approval_id = %s ORDER BY created_at, id LIMIT 100",
        [approval_id],
    )
    return [ApprovalEvidenceRow.model_validate(row) for row in await cursor.fetchall()]
