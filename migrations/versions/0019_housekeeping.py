"""The nightly housekeeping may remove answers that were remembered for long enough."""

from alembic import op

from migrations.tenancy import PLATFORM_ROLE

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"GRANT DELETE ON idempotency_records TO {PLATFORM_ROLE}")


def downgrade() -> None:
    op.execute(f"REVOKE DELETE ON idempotency_records FROM {PLATFORM_ROLE}")
