"""BPMN processes: definitions, instances, tasks, jobs, incidents, messages, state."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.tenancy import protect

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.func.now()
TABLES = (
    "global_states",
    "agent_states",
    "flow_state_history",
    "flow_states",
    "process_messages",
    "process_subscriptions",
    "process_incidents",
    "process_jobs",
    "task_executions",
    "process_instances",
    "process_definitions",
    "process_designs",
)


def upgrade() -> None:
    _definitions()
    _instances()
    _tasks_and_jobs()
    _events()
    _states()
    for table in TABLES:
        protect(table)
    # A new subscription takes the place of one that is over.
    op.execute("GRANT DELETE ON process_subscriptions TO switchyard_app, switchyard_platform")


def _definitions() -> None:
    op.create_table(
        "process_designs",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("design_id", sa.String, primary_key=True),
        sa.Column("design_version", sa.Integer, primary_key=True),
        sa.Column("bpmn_xml", sa.String, nullable=False),
        sa.Column("dmn_xml", pg.JSONB, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "process_definitions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("design_id", sa.String, nullable=False),
        sa.Column("design_version", sa.Integer, nullable=False),
        sa.Column("process_key", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version_tag", sa.String),
        sa.Column("bpmn_xml", sa.String, nullable=False),
        sa.Column("dmn_xml", pg.JSONB, nullable=False),
        sa.Column("parsed_model", pg.JSONB, nullable=False),
        sa.Column("content_hash", sa.String, nullable=False, index=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("diagnostics", pg.JSONB, nullable=False),
        sa.Column("deployed_by", sa.String, nullable=False),
        sa.Column("deployed_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("tenant_id", "design_id", "design_version"),
    )
    op.create_index(
        "ix_process_definitions_tenant_id_process_key",
        "process_definitions",
        ["tenant_id", "process_key", "design_version"],
    )


def _instances() -> None:
    op.create_table(
        "process_instances",
        sa.Column("id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("definition_id", sa.String, sa.ForeignKey("process_definitions.id"), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("started_by", sa.String),
        sa.Column("started_at", TIME, nullable=False, server_default=NOW),
        sa.Column("completed_at", TIME),
        sa.Column("error_message", sa.String),
        sa.Column("current_tasks", pg.JSONB, nullable=False),
        sa.Column("variables", pg.JSONB, nullable=False),
        sa.Column("correlation_id", sa.String, nullable=False, index=True),
        sa.Column("business_key", sa.String),
        sa.Column("parent_instance_id", sa.String, index=True),
        sa.Column("open_incidents", sa.Integer, nullable=False),
        sa.Column("recorded", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "ix_process_instances_tenant_id_status", "process_instances", ["tenant_id", "status", "started_at"]
    )
    op.create_index(
        "ix_process_instances_tenant_id_started_at", "process_instances", ["tenant_id", "started_at", "id"]
    )
    op.create_index("ix_process_instances_definition_id", "process_instances", ["definition_id"])


def _instance_column(*, index: bool | None = None, unique: bool | None = None) -> sa.Column[str]:
    return sa.Column(
        "instance_id",
        sa.String,
        sa.ForeignKey("process_instances.id"),
        nullable=False,
        index=index,
        unique=unique,
    )


def _tasks_and_jobs() -> None:
    op.create_table(
        "task_executions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(index=True),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("task_name", sa.String),
        sa.Column("task_type", sa.String, nullable=False),
        sa.Column("agent_slug", sa.String),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("input_variables", pg.JSONB),
        sa.Column("output_variables", pg.JSONB),
        sa.Column("error_message", sa.String),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("completed_at", TIME),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("element_key", sa.BigInteger, nullable=False),
        sa.Column("job_type", sa.String),
        sa.Column("assignee", sa.String),
        sa.Column("candidate_groups", pg.JSONB),
        sa.Column("candidate_users", pg.JSONB),
        sa.Column("form", sa.String),
        sa.Column("due_at", TIME),
        sa.Column("claimed_at", TIME),
        sa.Column("completed_by", sa.String),
    )
    op.create_index("ix_task_executions_tenant_id_status", "task_executions", ["tenant_id", "status"])
    op.create_index(
        "ix_task_executions_waiting",
        "task_executions",
        ["tenant_id", "assignee"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_table(
        "process_jobs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(index=True),
        sa.Column("element_key", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("variables", pg.JSONB, nullable=False),
        sa.Column("details", pg.JSONB, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("available_at", TIME, nullable=False, server_default=NOW),
        sa.Column("locked_by", sa.String),
        sa.Column("locked_until", TIME),
        sa.Column("error_message", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("ended_at", TIME),
    )
    # Partial: what workers ask for all day is small however many jobs have ended.
    op.create_index(
        "ix_process_jobs_open",
        "process_jobs",
        ["tenant_id", "type", "available_at"],
        postgresql_where=sa.text("status IN ('available', 'locked')"),
    )
    op.create_table(
        "process_incidents",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(index=True),
        sa.Column("element_key", sa.BigInteger, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("resolved_at", TIME),
    )
    op.create_index(
        "ix_process_incidents_tenant_id_status", "process_incidents", ["tenant_id", "status", "created_at"]
    )


def _events() -> None:
    op.create_table(
        "process_subscriptions",
        sa.Column("instance_id", sa.String, sa.ForeignKey("process_instances.id"), primary_key=True),
        sa.Column("subscription_key", sa.BigInteger, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("correlation", sa.String),
        sa.Column("once", sa.Boolean, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_index(
        "ix_process_subscriptions_name", "process_subscriptions", ["tenant_id", "kind", "name", "correlation"]
    )
    op.create_table(
        "process_messages",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("message_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("correlation", sa.String),
        sa.Column("variables", pg.JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("expires_at", TIME, nullable=False, server_default=NOW),
        sa.Column("instance_id", sa.String),
        sa.Column("subscription_key", sa.BigInteger),
        sa.Column("claimed_at", TIME),
        sa.UniqueConstraint("tenant_id", "message_id"),
    )
    op.create_index(
        "ix_process_messages_open",
        "process_messages",
        ["tenant_id", "name", "correlation"],
        postgresql_where=sa.text("status = 'buffered'"),
    )
    op.create_index(
        "ix_process_messages_claimed",
        "process_messages",
        ["claimed_at"],
        postgresql_where=sa.text("status = 'claimed'"),
    )


def _states() -> None:
    op.create_table(
        "flow_states",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(unique=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", pg.JSONB, nullable=False),
        sa.Column("checksum", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("instance_id", "version"),
    )
    op.create_table(
        "flow_state_history",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", pg.JSONB, nullable=False),
        sa.Column("checksum", sa.String, nullable=False),
        sa.Column("changed_by", sa.String, nullable=False),
        sa.Column("change_reason", sa.String),
        sa.Column("changed_at", TIME, nullable=False, server_default=NOW),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("instance_id", "version"),
    )
    op.create_index("ix_flow_state_history_instance_id_seq", "flow_state_history", ["instance_id", "seq"])
    op.create_table(
        "agent_states",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        _instance_column(),
        sa.Column("agent_slug", sa.String, nullable=False),
        sa.Column("state", pg.JSONB, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("instance_id", "agent_slug"),
    )
    op.create_table(
        "global_states",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("namespace", sa.String, nullable=False),
        sa.Column("state", pg.JSONB, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.UniqueConstraint("tenant_id", "namespace"),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
