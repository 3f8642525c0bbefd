"""The spine: runs, events, tenants, users, API keys, idempotency records."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import APP_ROLE, PLATFORM_ROLE, protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # The embedded stack makes the roles with passwords; elsewhere they are made here, unable to log in
    # until the administrator gives them one.
    for role in (APP_ROLE, PLATFORM_ROLE):
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
            f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS; END IF; END $$"
        )
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False, index=True),
        sa.Column("email", sa.String),
        sa.Column("name", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("last_seen_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False, index=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("hint", sa.String, nullable=False),
        sa.Column("roles", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
    )
    op.create_table(
        "idempotency_records",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("response_status", sa.Integer),
        sa.Column("response_body", sa.LargeBinary),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("paused_from", sa.String),
        sa.Column("parent_run_id", sa.String),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("correlation_id", sa.String, nullable=False),
        sa.Column("workflow_id", sa.String, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("published_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
    )
    op.create_index("ix_runs_tenant_id_created_at", "runs", ["tenant_id", "created_at"])
    op.create_index("ix_runs_correlation_id", "runs", ["correlation_id"])
    op.create_index("ix_runs_parent_run_id", "runs", ["parent_run_id"])
    op.create_index(
        "ix_runs_unpublished", "runs", ["id"], postgresql_where=sa.text("published_seq < last_seq")
    )
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("data", pg.JSONB, nullable=False),
        sa.Column("correlation_id", sa.String, nullable=False),
        sa.Column("causation_id", sa.String),
        sa.Column("published_at", TIME),
        sa.Column("position", sa.BigInteger),
        sa.UniqueConstraint("run_id", "key"),
        sa.UniqueConstraint("position"),
    )
    op.create_index("ix_run_events_tenant_id_timestamp", "run_events", ["tenant_id", "timestamp"])
    op.create_index("ix_run_events_type_timestamp", "run_events", ["type", "timestamp"])
    op.create_index("ix_run_events_correlation_id", "run_events", ["correlation_id"])
    for table in ("tenants", "users", "api_keys", "idempotency_records", "runs", "run_events"):
        protect(table)
    # A request that failed for a passing reason frees its key again.
    op.execute(f"GRANT DELETE ON idempotency_records TO {APP_ROLE}")


def downgrade() -> None:
    for table in ("run_events", "runs", "idempotency_records", "api_keys", "users", "tenants"):
        op.drop_table(table)
