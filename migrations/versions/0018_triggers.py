"""Triggers: what starts processes by itself, and every start."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import protect

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "scheduled_triggers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("definition_id", sa.String, sa.ForeignKey("process_definitions.id"), nullable=False),
        sa.Column("process_key", sa.String, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("cron_expression", sa.String),
        sa.Column("time_zone", sa.String, nullable=False),
        sa.Column("anchor", TIME, nullable=False, server_default=NOW),
        sa.Column("overlap_policy", sa.Text, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("match", pg.JSONB, nullable=False),
        sa.Column("variables", pg.JSONB, nullable=False),
        sa.Column("start_node", sa.String),
        sa.Column("start_part", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("last_triggered_at", TIME),
        sa.Column("next_trigger_at", TIME),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.Column("deleted_at", TIME),
        sa.Column("synced_at", TIME),
    )
    op.create_index(
        "ix_scheduled_triggers_tenant_id_process_key", "scheduled_triggers", ["tenant_id", "process_key"]
    )
    op.create_index(
        "ix_scheduled_triggers_waiting",
        "scheduled_triggers",
        ["tenant_id", "kind", "name"],
        postgresql_where=sa.text("enabled AND deleted_at IS NULL"),
    )
    op.create_index(
        "ix_scheduled_triggers_unsynced",
        "scheduled_triggers",
        ["updated_at"],
        postgresql_where=sa.text("synced_at IS NULL"),
    )
    op.create_table(
        "trigger_runs",
        sa.Column("trigger_id", sa.String, primary_key=True),
        sa.Column("period_key", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("instance_id", sa.String, nullable=False, index=True),
        sa.Column("definition_id", sa.String, nullable=False),
        sa.Column("variables", pg.JSONB, nullable=False),
        sa.Column("business_key", sa.String),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_index(
        "ix_trigger_runs_pending",
        "trigger_runs",
        ["created_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    for table in ("scheduled_triggers", "trigger_runs"):
        protect(table)


def downgrade() -> None:
    op.drop_table("trigger_runs")
    op.drop_table("scheduled_triggers")
