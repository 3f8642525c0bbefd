"""Approvals: requests, decisions, people, calendars; channels: messages out and what comes back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.guards import append_only, sticky
from migrations.tenancy import protect

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.func.now()
JSON = pg.JSONB


def upgrade() -> None:
    _requests()
    _people()
    _channels()


def _requests() -> None:
    op.create_table(
        "approval_requests",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("instance_id", sa.String, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("task_execution_id", sa.String),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("correlation_id", sa.String, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("context", JSON, nullable=False),
        sa.Column("editable_fields", JSON, nullable=False),
        sa.Column("form_schema", JSON),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("payload_hash", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("assignment_rule", JSON, nullable=False),
        sa.Column("policy", JSON, nullable=False),
        sa.Column("assigned_to", sa.String),
        sa.Column("approval_group", sa.String),
        sa.Column("assignees", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("assignee_roles", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("excluded", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("sla", JSON, nullable=False),
        sa.Column("escalation", JSON, nullable=False),
        sa.Column("escalation_level", sa.Integer, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.String),
        sa.Column("information_awaited", sa.Boolean, nullable=False),
        sa.Column("channels", JSON, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("risk", sa.String, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
        sa.Column("acknowledged_at", TIME),
        sa.Column("acknowledged_by", sa.String),
        sa.Column("response_due_at", TIME),
        sa.Column("due_at", TIME),
        sa.Column("proceeds_at", TIME),
        sa.Column("completed_at", TIME),
        sa.Column("completed_by", sa.String),
        sa.Column("close_reason", sa.String),
        sa.Column("response", JSON),
        sa.Column("state_updates", JSON, nullable=False),
        sa.Column("recorded", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_index(
        "ix_approval_requests_open",
        "approval_requests",
        ["assignees"],
        postgresql_using="gin",
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_approval_requests_assigned_to_status", "approval_requests", ["assigned_to", "status"])
    op.create_index("ix_approval_requests_instance_id", "approval_requests", ["instance_id"])
    op.create_index(
        "ix_approval_requests_tenant_id_created_at", "approval_requests", ["tenant_id", "created_at", "id"]
    )
    op.create_index("ix_approval_requests_tenant_id_status", "approval_requests", ["tenant_id", "status"])
    op.create_table(
        "approval_decisions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("approval_id", sa.String, sa.ForeignKey("approval_requests.id"), nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("approver", sa.String, nullable=False),
        sa.Column("on_behalf_of", sa.String),
        sa.Column("via", sa.Text, nullable=False),
        sa.Column("channel_user_id", sa.String),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("edits", JSON, nullable=False),
        sa.Column("evidence", JSON, nullable=False),
        sa.Column("payload_hash", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.String, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.UniqueConstraint("approval_id", "idempotency_key"),
        sa.UniqueConstraint("approval_id", "stage", "approver"),
    )
    op.create_index(
        "ix_approval_decisions_tenant_id_decided_at", "approval_decisions", ["tenant_id", "decided_at", "id"]
    )
    op.create_table(
        "approval_remarks",
        sa.Column("approval_id", sa.String, sa.ForeignKey("approval_requests.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("via", sa.Text, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "approval_evidence",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("approval_id", sa.String, sa.ForeignKey("approval_requests.id"), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("content_type", sa.String, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("object_key", sa.String, nullable=False),
        sa.Column("uploaded_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_index("ix_approval_evidence_approval_id", "approval_evidence", ["approval_id"])
    protect("approval_requests")
    sticky("approval_requests", ["approved", "rejected", "expired", "cancelled"])
    for table in ("approval_decisions", "approval_remarks", "approval_evidence"):
        protect(table, app="SELECT, INSERT", platform="SELECT, INSERT")
        append_only(table)


def _people() -> None:
    op.create_table(
        "approval_groups",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("members", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("updated_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "approval_absences",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("substitute", sa.String, nullable=False),
        sa.Column("starts_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_index(
        "ix_approval_absences_tenant_id_substitute", "approval_absences", ["tenant_id", "substitute"]
    )
    op.create_table(
        "calendars",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("definition", JSON, nullable=False),
        sa.Column("updated_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
    )
    for table in ("approval_groups", "approval_absences", "calendars"):
        protect(table, app="SELECT, INSERT, UPDATE, DELETE")


def _channels() -> None:
    op.create_table(
        "approval_deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("approval_id", sa.String, sa.ForeignKey("approval_requests.id"), nullable=False),
        sa.Column("notice", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recipient", sa.String, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("refresh", sa.Boolean, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("address", sa.String),
        sa.Column("external_id", sa.String),
        sa.Column("error", sa.String),
        sa.Column("sent_at", TIME),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("approval_id", "notice", "recipient", "channel"),
    )
    op.create_index(
        "ix_approval_deliveries_due",
        "approval_deliveries",
        ["due_at"],
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "ix_approval_deliveries_refresh",
        "approval_deliveries",
        ["due_at"],
        postgresql_where=sa.text("refresh"),
    )
    op.create_table(
        "channel_preferences",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("channels", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("quiet_from", sa.String),
        sa.Column("quiet_to", sa.String),
        sa.Column("time_zone", sa.String, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "channel_accounts",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("channel", sa.String, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("secret_ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("secret_key_id", sa.String, nullable=False),
        sa.Column("updated_by", sa.String, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "channel_identities",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("channel", sa.String, primary_key=True),
        sa.Column("external_id", sa.String, primary_key=True),
        sa.Column("user_id", sa.String, nullable=False, index=True),
        sa.Column("looked_up_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "channel_inbox",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("result", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("received_at", TIME, nullable=False, server_default=NOW),
        sa.Column("handled_at", TIME),
        sa.UniqueConstraint("tenant_id", "channel", "key"),
    )
    op.create_index(
        "ix_channel_inbox_due", "channel_inbox", ["due_at"], postgresql_where=sa.text("status = 'received'")
    )
    for table in ("approval_deliveries", "channel_identities", "channel_inbox"):
        protect(table)
    for table in ("channel_preferences", "channel_accounts"):
        protect(table, app="SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    for table in (
        "channel_inbox",
        "channel_identities",
        "channel_accounts",
        "channel_preferences",
        "approval_deliveries",
        "calendars",
        "approval_absences",
        "approval_groups",
        "approval_evidence",
        "approval_remarks",
        "approval_decisions",
        "approval_requests",
    ):
        op.drop_table(table)
