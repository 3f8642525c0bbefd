"""Refunds over outside rails: requested, sent, and answered."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import append_only, sticky
from migrations.tenancy import PLATFORM_ROLE

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

ADDED = (
    ("idempotency_key", sa.String()),
    ("request_body", sa.LargeBinary()),
    ("provider_ref", sa.String()),
    ("decline_code", sa.String()),
    ("decline_message", sa.String()),
    ("unknown_reason", sa.String()),
    ("first_sent_at", TIME),
    ("completed_at", TIME),
)


def upgrade() -> None:
    for name, kind in ADDED:
        op.add_column("refunds", sa.Column(name, kind))
    op.add_column("refunds", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    # Those that are there moved money in our own books, in the transaction that wrote them.
    op.add_column("refunds", sa.Column("status", sa.Text, nullable=False, server_default="settled"))
    op.alter_column("refunds", "status", server_default=None)
    op.create_unique_constraint("uq_refunds_idempotency_key", "refunds", ["idempotency_key"])
    op.create_unique_constraint("uq_refunds_rail", "refunds", ["rail", "provider_ref"])
    op.create_index(
        "ix_refunds_open",
        "refunds",
        ["created_at"],
        postgresql_where=sa.text("status IN ('requested', 'sent', 'unknown')"),
    )
    # Only the state moves on. What is asked has no privilege to change, and nothing is ever deleted.
    op.execute("DROP TRIGGER append_only ON refunds")
    op.execute(
        "CREATE TRIGGER append_only BEFORE DELETE ON refunds FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    sticky("refunds", ("settled", "declined"))
    op.execute(
        "GRANT UPDATE (status, attempts, provider_ref, decline_code, decline_message, unknown_reason, "
        f"first_sent_at, completed_at) ON refunds TO {PLATFORM_ROLE}"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER terminal_status ON refunds")
    op.execute("DROP TRIGGER append_only ON refunds")
    op.execute("DROP TRIGGER never_emptied ON refunds")
    op.drop_index("ix_refunds_open", "refunds")
    for name in (*(name for name, _ in ADDED), "attempts", "status"):
        op.drop_column("refunds", name)
    append_only("refunds")
