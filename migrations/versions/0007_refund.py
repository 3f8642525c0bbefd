"""Refunds, and receipts that attest them."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import append_only
from migrations.tenancy import protect

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MAX_AMOUNT = 2**53 - 1


def upgrade() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("payment_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_refunds_payment_id", "refunds", ["payment_id"])
    op.create_index("ix_refunds_tenant_id_created_at", "refunds", ["tenant_id", "created_at"])
    protect("refunds", app="SELECT", platform="SELECT, INSERT")
    append_only("refunds")
    op.alter_column("receipts", "settlement_id", nullable=True)
    op.add_column("receipts", sa.Column("refund_id", sa.String))
    op.create_unique_constraint("uq_receipts_refund_id", "receipts", ["refund_id"])
    op.create_foreign_key("fk_receipts_refund_id_refunds", "receipts", "refunds", ["refund_id"], ["id"])
    op.create_check_constraint("subject", "receipts", "(settlement_id IS NULL) <> (refund_id IS NULL)")


def downgrade() -> None:
    op.drop_column("receipts", "refund_id")
    op.alter_column("receipts", "settlement_id", nullable=False)
    op.drop_table("refunds")
