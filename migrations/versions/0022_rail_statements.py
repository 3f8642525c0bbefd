"""Rails' statements, kept as evidence of what they say has moved."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import append_only
from migrations.tenancy import protect

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
MAX_AMOUNT = 2**53 - 1


def upgrade() -> None:
    op.create_table(
        "rail_statement_entries",
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("moved_at", TIME, nullable=False),
        sa.Column("imported_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        sa.PrimaryKeyConstraint("rail", "kind", "reference", "amount"),
    )
    op.create_index("ix_rail_statement_entries_rail_moved_at", "rail_statement_entries", ["rail", "moved_at"])
    protect("rail_statement_entries", app="", platform="SELECT, INSERT")
    append_only("rail_statement_entries")


def downgrade() -> None:
    op.drop_table("rail_statement_entries")
