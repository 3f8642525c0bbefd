"""Streams of events: positions per tenant, tickets, consumer groups, webhooks out."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import APP_ROLE, protect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = (
    "webhook_deliveries",
    "webhook_endpoints",
    "event_dead_letters",
    "event_groups",
    "stream_tickets",
)


def upgrade() -> None:
    # Partial: an event enters it when it is published, so appending does not pay for it.
    op.create_index(
        "ix_run_events_tenant_id_position",
        "run_events",
        ["tenant_id", "position"],
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_table(
        "stream_tickets",
        sa.Column("ticket_hash", sa.LargeBinary, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("roles", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("scopes", pg.ARRAY(sa.Text)),
        sa.Column("credential_expires_at", TIME),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "event_groups",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("event_types", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("retry_at", TIME),
        sa.Column("last_error", sa.String),
        sa.Column("lease_owner", sa.String),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "event_dead_letters",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("group_name", sa.String, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("event_type", sa.String, nullable=False),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("redrive_at", TIME),
        sa.Column("resolved_at", TIME),
        sa.UniqueConstraint("tenant_id", "group_name", "position"),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False, index=True),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("event_types", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("secret_ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("secret_key_id", sa.String, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("deleted_at", TIME),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("endpoint_id", sa.String, sa.ForeignKey("webhook_endpoints.id"), nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("event_type", sa.String, nullable=False),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("response_status", sa.Integer),
        sa.Column("error", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("delivered_at", TIME),
        sa.UniqueConstraint("endpoint_id", "event_id"),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint_id_position", "webhook_deliveries", ["endpoint_id", "position"]
    )
    protect("stream_tickets", app="INSERT", platform="SELECT, DELETE")
    protect("event_groups")
    protect("event_dead_letters")
    protect("webhook_endpoints")
    protect("webhook_deliveries", app="SELECT")
    op.execute(f"GRANT UPDATE (status, attempts, next_attempt_at, error) ON webhook_deliveries TO {APP_ROLE}")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    op.drop_index("ix_run_events_tenant_id_position", "run_events")
