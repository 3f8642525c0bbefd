"""A tenant may forget a consumer group of its own, with its dead letters."""

from alembic import op

from migrations.tenancy import APP_ROLE

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"GRANT DELETE ON event_groups, event_dead_letters TO {APP_ROLE}")


def downgrade() -> None:
    op.execute(f"REVOKE DELETE ON event_groups, event_dead_letters FROM {APP_ROLE}")
