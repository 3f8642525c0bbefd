"""Publishing and the marketplace: agents, versions, deployments, reviews, statistics."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import protect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("slug", sa.String, nullable=False, unique=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("published_version_id", sa.String),
        sa.Column("search", pg.TSVECTOR),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_agents_tenant_id_created_at", "agents", ["tenant_id", "created_at"])
    op.create_index(
        "ix_agents_category", "agents", ["category"], postgresql_where=sa.text("status = 'published'")
    )
    op.create_index("ix_agents_search", "agents", ["search"], postgresql_using="gin")
    op.create_table(
        "agent_versions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("agent_id", sa.String, sa.ForeignKey("agents.id"), nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("manifest", pg.JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("code_s3_key", sa.String),
        sa.Column("code_hash", sa.String),
        sa.Column("code_size", sa.BigInteger),
        sa.Column("scan_passed", sa.Boolean, nullable=False),
        sa.Column("scan_report", pg.JSONB),
        sa.Column("rule_set_version", sa.String),
        sa.Column("submitted_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("reviewed_by", sa.String),
        sa.Column("reviewed_at", TIME),
        sa.Column("review_reason", sa.String),
        sa.Column("published_at", TIME),
    )
    # A version that failed the scan left nothing behind, so its number is free again.
    op.create_index(
        "uq_agent_versions_agent_id_version",
        "agent_versions",
        ["agent_id", "version"],
        unique=True,
        postgresql_where=sa.text("status <> 'scan_failed'"),
    )
    op.create_index(
        "ix_agent_versions_tenant_id_submitted_at", "agent_versions", ["tenant_id", "submitted_at"]
    )
    op.create_index("ix_agent_versions_status_submitted_at", "agent_versions", ["status", "submitted_at"])
    op.create_table(
        "agent_deployments",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("agent_id", sa.String, sa.ForeignKey("agents.id"), nullable=False, index=True),
        sa.Column("version_id", sa.String, sa.ForeignKey("agent_versions.id"), nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("config_ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("config_key_id", sa.String, nullable=False, index=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index(
        "ix_agent_deployments_tenant_id_created_at", "agent_deployments", ["tenant_id", "created_at"]
    )
    op.create_table(
        "agent_reviews",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("agent_id", sa.String, sa.ForeignKey("agents.id"), nullable=False),
        sa.Column("rating", sa.Integer, nullable=False),
        sa.Column("comment", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("agent_id", "user_id"),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
    )
    op.create_index("ix_agent_reviews_agent_id_created_at", "agent_reviews", ["agent_id", "created_at"])
    op.create_table(
        "agent_statistics",
        sa.Column("agent_id", sa.String, sa.ForeignKey("agents.id"), primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("executions_succeeded", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("executions_failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("total_duration_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rating_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rating_sum", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    # A quarantined agent stays visible, so that those who deployed it are told why it does not run.
    protect("agents", visible_to_all="status IN ('published', 'quarantined')")
    protect("agent_versions", visible_to_all="status IN ('published', 'quarantined')")
    protect("agent_deployments")
    protect("agent_reviews", visible_to_all="true")
    # Counting crosses tenants: the platform writes, everybody reads.
    protect("agent_statistics", app="SELECT", visible_to_all="true")


def downgrade() -> None:
    for table in (
        "agent_statistics",
        "agent_reviews",
        "agent_deployments",
        "agent_versions",
        "agents",
    ):
        op.drop_table(table)
