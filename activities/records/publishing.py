"""Agents and their versions in the store: the only writer of ``agents`` and ``agent_versions``.

Locking order: the version's run (`activities.records.runs`), then the agent, then the version.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.publishing import (
    AWAITING_REVIEW,
    Agent,
    AgentNotFoundError,
    AgentStatus,
    AgentVersion,
    Decision,
    PublishRequest,
    SlugTakenError,
    Submission,
    Verb,
    VersionExistsError,
    VersionNotFoundError,
    VersionReference,
    VersionStatus,
    version_order,
)
from models.scanning import ScanReport

_INSERT_AGENT = """
INSERT INTO agents (id, tenant_id, developer_id, slug, name, description, category, status)
VALUES (%(id)s, %(tenant_id)s, %(developer_id)s, %(slug)s, %(name)s, %(description)s, %(category)s, 'draft')
ON CONFLICT (slug) DO NOTHING
"""

_INSERT_VERSION = """
INSERT INTO agent_versions (id, agent_id, tenant_id, developer_id, version, manifest, status, scan_passed,
                            code_hash, code_size)
VALUES (%(id)s, %(agent_id)s, %(tenant_id)s, %(developer_id)s, %(version)s, %(manifest)s, 'scanning', false,
        %(code_hash)s, %(code_size)s)
ON CONFLICT DO NOTHING
"""

_FIND_TAKEN = """
SELECT status FROM agent_versions WHERE agent_id = %s AND version = %s AND status <> 'scan_failed'
"""

_RECORD_SCAN = """
UPDATE agent_versions
SET status = %(status)s, code_s3_key = %(code_s3_key)s, code_hash = %(code_hash)s, code_size = %(code_size)s,
    scan_passed = %(scan_passed)s, scan_report = %(scan_report)s, rule_set_version = %(rule_set_version)s,
    review_reason = %(reason)s
WHERE id = %(id)s
"""

_DECIDE = """
UPDATE agent_versions
SET status = %(status)s, reviewed_by = %(reviewed_by)s, reviewed_at = %(reviewed_at)s::timestamptz,
    review_reason = %(reason)s, published_at = CASE WHEN %(published)s THEN %(reviewed_at)s::timestamptz END
WHERE id = %(id)s
"""

_RESCANNED = """
UPDATE agent_versions
SET status = %(status)s, scan_report = %(scan_report)s, rule_set_version = %(rule_set_version)s,
    review_reason = coalesce(%(reason)s, review_reason)
WHERE id = %(id)s
"""

# Name A, category B, description C: a word in the name weighs most in the ranking.
_UPDATE_AGENT = """
UPDATE agents
SET status = %(status)s, published_version_id = %(published_version_id)s,
    name = %(name)s::text, description = %(description)s::text, category = %(category)s::text,
    search = setweight(to_tsvector('english', %(name)s::text || ' ' || slug), 'A')
             || setweight(to_tsvector('english', %(category)s::text), 'B')
             || setweight(to_tsvector('english', %(description)s::text), 'C'),
    updated_at = now()
WHERE id = %(id)s
"""


async def claim_submission(connection: Connection, request: PublishRequest) -> Submission:
    """Take slug and version number for a submission, in its developer's tenant; safe to repeat.

    Raises:
        SlugTakenError: The slug is another developer's.
        VersionExistsError: The agent has this version, and it did not fail its scan.
    """
    manifest = request.manifest
    agent = {
        "id": request.agent_id,
        "tenant_id": request.tenant_id,
        "developer_id": request.developer_id,
        **{name: manifest[name] for name in ("slug", "name", "description", "category")},
    }
    await connection.execute(_INSERT_AGENT, agent)
    # FOR UPDATE sees rows of the own tenant only, whatever is published elsewhere.
    cursor = await connection.execute(
        "SELECT id, developer_id FROM agents WHERE slug = %s FOR UPDATE", [manifest["slug"]]
    )
    owned = await cursor.fetchone()
    if owned is None or owned["developer_id"] != request.developer_id:
        raise SlugTakenError(manifest["slug"])
    version = {
        "id": request.version_id,
        "agent_id": owned["id"],
        "tenant_id": request.tenant_id,
        "developer_id": request.developer_id,
        "version": manifest["version"],
        "manifest": Jsonb(manifest),
        "code_hash": request.upload_hash,
        "code_size": request.upload_size,
    }
    inserted = await connection.execute(_INSERT_VERSION, version)
    if not inserted.rowcount:
        cursor = await connection.execute(
            "SELECT agent_id FROM agent_versions WHERE id = %s", [request.version_id]
        )
        if await cursor.fetchone() is None:
            cursor = await connection.execute(_FIND_TAKEN, [owned["id"], manifest["version"]])
            taken = await cursor.fetchone() or {"status": "submitted"}
            raise VersionExistsError(manifest["slug"], manifest["version"], taken["status"])
    return Submission(version_id=request.version_id, agent_id=str(owned["id"]), tenant_id=request.tenant_id)


async def find_agent(connection: Connection, agent: str) -> Agent:
    """Read an agent by identifier or slug, as the transaction sees it.

    Raises:
        AgentNotFoundError: There is none, or it is not visible.
    """
    cursor = await connection.execute("SELECT * FROM agents WHERE id = %(a)s OR slug = %(a)s", {"a": agent})
    row = await cursor.fetchone()
    if row is None:
        raise AgentNotFoundError(agent)
    return Agent.model_validate(row)


async def find_version(connection: Connection, version_id: str) -> AgentVersion:
    """Read a version, as the transaction sees it.

    Raises:
        VersionNotFoundError: There is none, or it is not visible.
    """
    cursor = await connection.execute("SELECT * FROM agent_versions WHERE id = %s", [version_id])
    row = await cursor.fetchone()
    if row is None:
        raise VersionNotFoundError(version_id)
    return AgentVersion.model_validate(row)


async def lock_version(connection: Connection, version_id: str) -> AgentVersion:
    """Read a version of the transaction's tenant and hold its agent's and its own row lock.

    Raises:
        VersionNotFoundError: The tenant has none of that identifier.
    """
    await connection.execute(
        "SELECT FROM agents WHERE id = (SELECT agent_id FROM agent_versions WHERE id = %s) FOR UPDATE",
        [version_id],
    )
    cursor = await connection.execute("SELECT * FROM agent_versions WHERE id = %s FOR UPDATE", [version_id])
    row = await cursor.fetchone()
    if row is None:
        raise VersionNotFoundError(version_id)
    return AgentVersion.model_validate(row)


async def record_scan(
    connection: Connection,
    version: AgentVersion,
    *,
    status: VersionStatus,
    report: ScanReport | None,
    code_s3_key: str | None = None,
    code_hash: str | None = None,
    code_size: int | None = None,
    scan_passed: bool = False,
    reason: str | None = None,
) -> None:
    """Write the first scan's result into a locked version and its agent."""
    await connection.execute(
        _RECORD_SCAN,
        {
            "id": version.id,
            "status": status,
            "code_s3_key": code_s3_key,
            "code_hash": code_hash or version.code_hash,
            "code_size": version.code_size if code_size is None else code_size,
            "scan_passed": scan_passed,
            "scan_report": None if report is None else Jsonb(report.model_dump(mode="json")),
            "rule_set_version": None if report is None else report.rule_set_version,
            "reason": reason,
        },
    )
    await settle_agent(connection, version.agent_id)


async def record_decision(
    connection: Connection, version: AgentVersion, decision: Decision, decided_at: datetime
) -> VersionStatus:
    """Write a reviewer's decision into a locked version and its agent."""
    published = decision.verb is Verb.APPROVE
    status = VersionStatus.PUBLISHED if published else VersionStatus.REJECTED
    await connection.execute(
        _DECIDE,
        {
            "id": version.id,
            "status": status,
            "reviewed_by": decision.reviewer_id,
            "reviewed_at": decided_at,
            "reason": decision.reason,
            "published": published,
        },
    )
    await settle_agent(connection, version.agent_id)
    return status


async def record_rescan(
    connection: Connection,
    version: AgentVersion,
    report: ScanReport,
    *,
    status: VersionStatus,
    reason: str | None = None,
) -> None:
    """Write a later scan's report into a locked version; a new status reaches its agent."""
    await connection.execute(
        _RESCANNED,
        {
            "id": version.id,
            "status": status,
            "scan_report": Jsonb(report.model_dump(mode="json")),
            "rule_set_version": report.rule_set_version,
            "reason": reason,
        },
    )
    await settle_agent(connection, version.agent_id)


async def settle_agent(connection: Connection, agent_id: str) -> None:
    """Make a locked agent agree with its versions: status, published version, what the listing shows.

    The published version is the one of highest precedence, releases before pre-releases.
    """
    cursor = await connection.execute(
        "SELECT id, version, status, manifest FROM agent_versions WHERE agent_id = %s "
        "ORDER BY submitted_at DESC",
        [agent_id],
    )
    versions = await cursor.fetchall()
    published = [row for row in versions if row["status"] == VersionStatus.PUBLISHED]
    newest: dict[str, Any] | None = None
    if published:
        newest = max(published, key=lambda row: ("-" not in row["version"], version_order(row["version"])))
    shown: dict[str, Any] = (newest or versions[0])["manifest"]
    await connection.execute(
        _UPDATE_AGENT,
        {
            "id": agent_id,
            "status": _agent_status({row["status"] for row in versions}),
            "published_version_id": newest["id"] if newest else None,
            **{name: shown[name] for name in ("name", "description", "category")},
        },
    )


def _agent_status(statuses: set[str]) -> AgentStatus:
    if VersionStatus.PUBLISHED in statuses:
        return AgentStatus.PUBLISHED
    if VersionStatus.QUARANTINED in statuses:
        return AgentStatus.QUARANTINED
    if statuses & AWAITING_REVIEW:
        return AgentStatus.PENDING
    if VersionStatus.REJECTED in statuses:
        return AgentStatus.REJECTED
    return AgentStatus.DRAFT


async def list_versions(
    connection: Connection,
    *,
    tenant_id: str | None,
    statuses: Collection[VersionStatus] | None,
    agent: str | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Read versions with their agents' slugs, newest submission first.

    Args:
        connection: A tenant's transaction, or the platform's for reviewers.
        tenant_id: Only this tenant's; None for all that the transaction sees.
        statuses: Only those of one of these statuses.
        agent: Only those of this agent, by identifier or slug.
        before: Only those submitted before this time and identifier.
        limit: At most so many.
    """
    conditions, parameters = ["true"], list[Any]()
    if tenant_id is not None:
        conditions.append("v.tenant_id = %s")
        parameters.append(tenant_id)
    if statuses is not None:
        conditions.append("v.status = ANY(%s)")
        parameters.append([status.value for status in statuses])
    if agent is not None:
        conditions.append("(a.id = %s OR a.slug = %s)")
        parameters += [agent, agent]
    if before is not None:
        conditions.append("(v.submitted_at, v.id) < (%s, %s)")
        parameters += before
    cursor = await connection.execute(
        "SELECT v.*, a.slug FROM agent_versions v JOIN agents a ON a.id = v.agent_id "  # pyright: ignore[reportArgumentType]
        f"WHERE {' AND '.join(conditions)} ORDER BY v.submitted_at DESC, v.id DESC LIMIT %s",
        [*parameters, limit],
    )
    return await cursor.fetchall()


async def list_published_versions(connection: Connection, agent_id: str) -> list[AgentVersion]:
    """Read an agent's published versions, highest precedence first."""
    cursor = await connection.execute(
        "SELECT * FROM agent_versions WHERE agent_id = %s AND status = 'published'", [agent_id]
    )
    versions = [AgentVersion.model_validate(row) for row in await cursor.fetchall()]
    return sorted(versions, key=lambda version: version_order(version.version), reverse=True)


async def last_approved_before(connection: Connection, version: AgentVersion) -> AgentVersion | None:
    """Read the version of the same agent that was approved last before ``version`` was submitted or decided.

    What is compared with in a review: the newest approval other than ``version`` itself.
    """
    cursor = await connection.execute(
        "SELECT * FROM agent_versions WHERE agent_id = %s AND id <> %s AND published_at IS NOT NULL "
        "AND (%s::timestamptz IS NULL OR published_at < %s) ORDER BY published_at DESC LIMIT 1",
        [version.agent_id, version.id, version.published_at, version.published_at],
    )
    row = await cursor.fetchone()
    return None if row is None else AgentVersion.model_validate(row)


async def versions_due(
    connection: Connection, rule_set_version: str, *, after: str, limit: int
) -> list[VersionReference]:
    """Read published versions whose last scan used other rules, oldest first (platform transaction)."""
    cursor = await connection.execute(
        "SELECT id, tenant_id FROM agent_versions WHERE status = 'published' "
        "AND rule_set_version IS DISTINCT FROM %s AND id > %s ORDER BY id LIMIT %s",
        [rule_set_version, after, limit],
    )
    return [
        VersionReference(version_id=row["id"], tenant_id=row["tenant_id"]) for row in await cursor.fetchall()
    ]


async def find_addressee(connection: Connection, user_id: str) -> tuple[str | None, str | None]:
    """Read e-mail address and name of a user of the transaction's tenant; None where not known."""
    cursor = await connection.execute("SELECT email, name FROM users WHERE id = %s", [user_id])
    row: dict[str, Any] = await cursor.fetchone() or {"email": None, "name": None}
    return row["email"], row["name"]


async def find_versions(connection: Connection, version_ids: Sequence[str]) -> dict[str, AgentVersion]:
    """Read several versions by identifier, those that the transaction sees."""
    cursor = await connection.execute("SELECT * FROM agent_versions WHERE id = ANY(%s)", [list(version_ids)])
    return {row["id"]: AgentVersion.model_validate(row) for row in await cursor.fetchall()}


async def versions_being_scanned(connection: Connection) -> list[str]:
    """Return the versions, of all tenants, whose submitted bytes are still needed."""
    cursor = await connection.execute(
        "SELECT id FROM agent_versions WHERE status = %s", [VersionStatus.SCANNING]
    )
    return [row["id"] for row in await cursor.fetchall()]
