"""Executions of agents."""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "agent_executions",
        sa.Column("id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("version_id", sa.String, nullable=False),
        sa.Column("deployment_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("developer_tenant_id", sa.String, nullable=False),
        sa.Column("purchase_intent_id", sa.String),
        sa.Column("mandate_id", sa.String),
        sa.Column("payment_id", sa.String),
        sa.Column("receipt_id", sa.String),
        sa.Column("price_amount", sa.BigInteger, nullable=False),
        sa.Column("price_currency", sa.String, nullable=False),
        sa.Column("inputs", sa.JSON),
        sa.Column("outputs", sa.JSON),
        sa.Column("worker_id", sa.String),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("exit_reason", sa.Text),
        sa.Column("exit_code", sa.Integer),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.String),
        sa.Column("stderr", sa.String),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("cpu_ms", sa.BigInteger),
        sa.Column("memory_peak_bytes", sa.BigInteger),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("dispatched_at", TIME),
        sa.Column("started_at", TIME),
        sa.Column("executed_at", TIME),
        sa.Column("completed_at", TIME),
    )
    op.create_index(
        "ix_agent_executions_tenant_id_created_at", "agent_executions", ["tenant_id", "created_at"]
    )
    op.create_index("ix_agent_executions_agent_id", "agent_executions", ["agent_id"])
    op.create_index("ix_agent_executions_deployment_id", "agent_executions", ["deployment_id"])
    protect("agent_executions")


def downgrade() -> None:
    op.drop_table("agent_executions")
