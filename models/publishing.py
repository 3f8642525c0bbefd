"""Agents and their versions: what a developer registers and a reviewer decides on.

Source: frameos-agent-runtime-flows, "Agent Publishing Flow". Approval belongs to one version and the
SHA-256 of its code, never to the agent: a new version never ships unreviewed.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import Field

from models.table import Record, json_field, time_field


class AgentStatus(StrEnum):
    """Where an agent stands in the marketplace."""

    DRAFT = "draft"
    """Its owner has the slug; no version passed the scan yet."""
    PENDING = "pending"
    """A version waits for its first review."""
    PUBLISHED = "published"
    """At least one version is published: the marketplace shows it."""
    REJECTED = "rejected"
    """Nothing is published and the last decision was no."""
    QUARANTINED = "quarantined"
    """Everything that was published failed a later scan."""


class VersionStatus(StrEnum):
    """Where one version of an agent stands."""

    SCANNING = "scanning"
    PENDING = "pending"
    """Scanned without remarks; waits for a reviewer."""
    PENDING_REVIEW = "pending_review"
    """Scanned with warnings; waits for a reviewer, who sees them."""
    PUBLISHED = "published"
    """Approved: can be deployed and executed, also after a newer version is published."""
    REJECTED = "rejected"
    SCAN_FAILED = "scan_failed"
    """Refused by the scanner. Only report and hash are kept, and the version may be uploaded again."""
    QUARANTINED = "quarantined"
    """Was published, then a newer rule set blocked it: cannot be deployed or executed."""


AWAITING_REVIEW = frozenset({VersionStatus.PENDING, VersionStatus.PENDING_REVIEW})


class Agent(Record, table=True):
    """One agent of the marketplace. Name, description and category are those of the published version."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("ix_agents_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_agents_category", "category", postgresql_where=text("status = 'published'")),
        Index("ix_agents_search", "search", postgresql_using="gin"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    """The developer's tenant."""
    developer_id: str
    """The user who registered it; the payee of its executions."""
    slug: str = Field(unique=True)
    name: str
    description: str
    category: str
    status: AgentStatus = Field(default=AgentStatus.DRAFT, sa_type=Text)
    published_version_id: str | None = None
    """The newest published version: what a deployment without a version gets."""
    search: str | None = Field(default=None, sa_type=TSVECTOR)
    """Words of name, category and description, for the marketplace's text search."""
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class AgentVersion(Record, table=True):
    """One uploaded version. Manifest and code never change once it awaits review."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        Index(
            "uq_agent_versions_agent_id_version",
            "agent_id",
            "version",
            unique=True,
            postgresql_where=text("status <> 'scan_failed'"),
        ),
        Index("ix_agent_versions_tenant_id_submitted_at", "tenant_id", "submitted_at"),
        Index("ix_agent_versions_status_submitted_at", "status", "submitted_at"),
    )

    id: str = Field(primary_key=True)
    """Also the identifier of its ``publish_review`` run."""
    agent_id: str = Field(foreign_key="agents.id")
    tenant_id: str
    developer_id: str
    version: str
    """SemVer 2.0, unique within the agent; only a version that failed the scan may be uploaded again."""
    manifest: dict[str, Any] = json_field()
    status: VersionStatus = Field(default=VersionStatus.SCANNING, sa_type=Text)
    code_s3_key: str | None = None
    """Object key of the canonical archive; None until the scan let it through."""
    code_hash: str | None = None
    """SHA-256 (hex) of the canonical archive, or of the refused upload."""
    code_size: int | None = Field(default=None, sa_type=BigInteger)
    """Bytes of the canonical archive."""
    scan_passed: bool = False
    """No violation and nothing that needs a reviewer's attention."""
    scan_report: dict[str, Any] | None = json_field(nullable=True)
    """`models.scanning.ScanReport` of the latest scan, as JSON."""
    rule_set_version: str | None = None
    """Rules of the latest scan; a published version with an older one is due for a re-scan."""
    submitted_at: datetime = time_field()
    reviewed_by: str | None = None
    reviewed_at: datetime | None = time_field(nullable=True)
    review_reason: str | None = None
    """Why it was rejected or quarantined, or the reviewer's remark."""
    published_at: datetime | None = time_field(nullable=True)
