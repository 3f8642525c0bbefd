"""Cases: what the daily reconciliation found, until finance resolves it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import protect

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "reconciliation_cases",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("evidence", pg.JSONB, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("last_seen_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("resolved_at", TIME),
        sa.Column("resolved_by", sa.String),
        sa.Column("resolution", sa.String),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_reconciliation_cases_tenant_id", "reconciliation_cases", ["tenant_id"])
    op.create_index(
        "uq_reconciliation_cases_open",
        "reconciliation_cases",
        ["kind", "subject_id"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    protect(
        "reconciliation_cases",
        app="",
        platform="SELECT, INSERT, UPDATE (evidence, last_seen_at, resolved_at, resolved_by, resolution)",
    )


def downgrade() -> None:
    op.drop_table("reconciliation_cases")
