"""The marketplace: deployments, ratings and the figures that a listing shows.

Source: frameos-agent-runtime-flows, "Agent Execution Flow", step 1.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field

from models.errors import NotFoundError
from models.table import Record, time_field


class DeploymentStatus(StrEnum):
    """Where a deployment stands."""

    CONFIGURED = "configured"


class DeploymentNotFoundError(NotFoundError):
    """There is no such deployment, or it is another tenant's."""

    code = "DEPLOYMENT_NOT_FOUND"

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"There is no deployment {deployment_id}; list yours with GET /deployments, or make one with "
            "POST /agents/{id}/deploy.",
            details={"deployment_id": deployment_id},
        )


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
