"""The marketplace: deployments, ratings and the figures that a listing shows.

Source: frameos-agent-runtime-flows, "Agent Execution Flow", step 1.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field

from models.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError
from models.json_schema import Violation
from models.table import Record, time_field


class Sort(StrEnum):
    """Orders of the marketplace's list."""

    NEWEST = "newest"
    """Last published first."""
    POPULAR = "popular"
    """Most successful executions first."""
    RATING = "rating"
    """Best rated first; few ratings count as if three stars had been given five times besides."""
    PRICE = "price"
    """Cheapest first, by the number of minor units."""
    NAME = "name"


class DeploymentStatus(StrEnum):
    """Where a deployment stands."""

    CONFIGURED = "configured"


class AgentDeployment(Record, table=True):
    """One user's set-up of one version of an agent. Its configuration is stored encrypted only."""

    __tablename__ = "agent_deployments"
    __table_args__ = (Index("ix_agent_deployments_tenant_id_created_at", "tenant_id", "created_at"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    agent_id: str = Field(foreign_key="agents.id", index=True)
    version_id: str = Field(foreign_key="agent_versions.id")
    """Pins version and code hash: another version needs another deployment."""
    version: str
    config_ciphertext: bytes = Field(sa_type=LargeBinary)
    """AES-256-GCM over the configuration's JSON; the deployment's id is the authenticated context."""
    config_key_id: str = Field(index=True)
    """Which key of the ring encrypted it."""
    status: DeploymentStatus = Field(default=DeploymentStatus.CONFIGURED, sa_type=Text)
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class AgentReview(Record, table=True):
    """What one user who ran an agent says about it; a second review replaces the first."""

    __tablename__ = "agent_reviews"
    __table_args__ = (
        UniqueConstraint("agent_id", "user_id"),
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        Index("ix_agent_reviews_agent_id_created_at", "agent_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    user_id: str
    agent_id: str = Field(foreign_key="agents.id")
    rating: int
    comment: str | None = None
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class AgentStatistics(Record, table=True):
    """Counters of one agent, for listings; everything in it can be counted again from its sources."""

    __tablename__ = "agent_statistics"

    agent_id: str = Field(primary_key=True, foreign_key="agents.id")
    tenant_id: str
    """The developer's tenant, as on the agent."""
    executions_succeeded: int = Field(default=0, sa_type=BigInteger)
    executions_failed: int = Field(default=0, sa_type=BigInteger)
    total_duration_ms: int = Field(default=0, sa_type=BigInteger)
    """Time that successful executions took, together."""
    rating_count: int = Field(default=0, sa_type=BigInteger)
    rating_sum: int = Field(default=0, sa_type=BigInteger)
    updated_at: datetime = time_field()


class DeploymentNotFoundError(NotFoundError):
    """There is no such deployment, or it is another tenant's."""

    code = "DEPLOYMENT_NOT_FOUND"

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"There is no deployment {deployment_id}; list yours with GET /deployments.",
            details={"deployment_id": deployment_id},
        )


class InvalidConfigError(InvalidRequestError):
    """The configuration does not fit the agent's config schema; every failing field is named."""

    code = "INVALID_CONFIG"

    def __init__(self, broken: Sequence[Violation]) -> None:
        names = ", ".join(violation.field for violation in broken[:5])
        super().__init__(
            f"The configuration does not fit the agent's config schema: {names}. "
            "Correct the named fields; GET /agents/{slug} shows the schema.",
            details={"fields": [violation.model_dump() for violation in broken]},
        )


class VersionNotDeployableError(ConflictError):
    """The version, or the agent as a whole, is not published."""

    code = "VERSION_NOT_PUBLISHED"

    def __init__(self, agent: str, version: str | None, published: Sequence[str]) -> None:
        what = f"Version {version} of '{agent}'" if version else f"'{agent}'"
        choice = (
            f"Deploy one of {', '.join(published[:10])}." if published else "No version of it is published."
        )
        super().__init__(
            f"{what} is not published, so it cannot be deployed. {choice}",
            details={"agent": agent, "version": version, "published": list(published)},
        )


class ReviewNotAllowedError(PermissionDeniedError):
    """Only users who ran the agent may rate it, and never its own developer."""

    code = "REVIEW_NOT_ALLOWED"

    def __init__(self, agent: str, reason: str) -> None:
        super().__init__(
            f"You cannot rate '{agent}': {reason}.",
            details={"agent": agent, "reason": reason},
        )
