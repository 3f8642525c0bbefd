"""Payments enclosed with requests (x402), kept from their verification to their settlement."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import never_emptied, sticky
from migrations.tenancy import protect

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "x402_payments",
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("transaction", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("settled_at", TIME),
        sa.PrimaryKeyConstraint("reference"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_x402_payments_tenant_id", "x402_payments", ["tenant_id"])
    # A signed transfer is nobody's to read; what is asked has no privilege to change.
    protect(
        "x402_payments",
        app="",
        platform="SELECT, INSERT, UPDATE (status, attempts, transaction, settled_at)",
    )
    sticky("x402_payments", ("settled", "void"))
    never_emptied("x402_payments")
    # As the models name it.
    op.execute("ALTER TABLE refunds RENAME CONSTRAINT uq_refunds_rail TO uq_refunds_rail_provider_ref")


def downgrade() -> None:
    op.execute("ALTER TABLE refunds RENAME CONSTRAINT uq_refunds_rail_provider_ref TO uq_refunds_rail")
    op.drop_table("x402_payments")
