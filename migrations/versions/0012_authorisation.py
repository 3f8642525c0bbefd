"""Holding prices at outside rails: payers' methods, routing, and what a hold asked and was answered."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.guards import append_only, never_emptied, sticky
from migrations.tenancy import PLATFORM_ROLE, protect

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

TERMINAL_HOLDS = ("captured", "released", "declined")


def upgrade() -> None:
    op.create_table(
        "payment_methods",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("customer", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("phone", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("verified_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("removed_at", TIME),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_payment_methods_active",
        "payment_methods",
        ["rail", "customer", "method"],
        unique=True,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index("ix_payment_methods_tenant_id_user_id", "payment_methods", ["tenant_id", "user_id"])
    # Written once the rail has confirmed it, by the platform; its owner reads and removes it.
    protect(
        "payment_methods",
        app="SELECT, UPDATE (status, removed_at)",
        platform="SELECT, INSERT, UPDATE (status, removed_at)",
    )
    sticky("payment_methods", ("removed",))
    op.create_table(
        "payment_routings",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("rules", pg.JSONB, nullable=False),
        sa.Column("created_by", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "revision"),
    )
    protect("payment_routings", app="", platform="SELECT, INSERT")
    append_only("payment_routings")
    for name, kind in (
        ("payment_method_id", sa.String()),
        ("authorise_key", sa.String()),
        ("authorise_body", sa.LargeBinary()),
        ("provider_ref", sa.String()),
        ("decline_code", sa.String()),
        ("decline_message", sa.String()),
        ("unknown_reason", sa.String()),
        ("first_sent_at", TIME),
    ):
        op.add_column("payment_holds", sa.Column(name, kind))
    op.add_column("payment_holds", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    op.create_unique_constraint("uq_payment_holds_authorise_key", "payment_holds", ["authorise_key"])
    # What is asked is stored once: its key and bytes have no privilege to change.
    op.execute(
        "GRANT UPDATE (attempts, first_sent_at, provider_ref, decline_code, decline_message, unknown_reason) "
        f"ON payment_holds TO {PLATFORM_ROLE}"
    )
    op.execute(f"GRANT UPDATE (denial_code, denial_message) ON purchase_intents TO {PLATFORM_ROLE}")
    op.execute("DROP TRIGGER terminal_status ON payment_holds")
    sticky("payment_holds", TERMINAL_HOLDS)
    never_emptied("payment_holds")


def downgrade() -> None:
    op.execute("DROP TRIGGER never_emptied ON payment_holds")
    op.execute("DROP TRIGGER terminal_status ON payment_holds")
    sticky("payment_holds", ("captured", "released"))
    op.drop_constraint("uq_payment_holds_authorise_key", "payment_holds")
    for name in (
        "payment_method_id",
        "authorise_key",
        "authorise_body",
        "provider_ref",
        "decline_code",
        "decline_message",
        "unknown_reason",
        "first_sent_at",
        "attempts",
    ):
        op.drop_column("payment_holds", name)
    op.drop_table("payment_routings")
    op.drop_table("payment_methods")
