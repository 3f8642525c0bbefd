"""The inbox of payment rails' webhooks."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import never_emptied
from migrations.tenancy import protect

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "rail_webhooks",
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("reference", sa.String),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("received_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("handled_at", TIME),
        sa.PrimaryKeyConstraint("rail", "event_id"),
    )
    # The platform's alone: the application's role reads nothing here.
    protect("rail_webhooks", app="", platform="SELECT, INSERT, UPDATE (handled_at)")
    never_emptied("rail_webhooks")


def downgrade() -> None:
    op.drop_table("rail_webhooks")
