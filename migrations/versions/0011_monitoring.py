"""Measurements of runs, spans that are open, what workers say of their parts, shares of rate limits."""

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import PLATFORM_ROLE, protect

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = ("rate_limit_buckets", "part_reports", "open_spans", "measurements")


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("resolution", sa.Text, primary_key=True),
        sa.Column("measure", sa.Text, primary_key=True),
        sa.Column("scope", sa.String, primary_key=True),
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("bucket", TIME, primary_key=True),
        sa.Column("detail", sa.String, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
    )
    # Rows are added to again and again: room in their page keeps an update out of the index.
    op.execute("ALTER TABLE measurements SET (fillfactor = 70)")
    # Everything that was published so far is measured at the first start, from the log's beginning.
    op.execute(
        "INSERT INTO measurements "
        "(tenant_id, resolution, measure, scope, subject, bucket, detail, count, total) "
        "VALUES ('*', 'all', 'position', '', '', 'epoch', '', 0, 0)"
    )
    op.create_table(
        "open_spans",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False, index=True),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
    )
    op.create_table(
        "part_reports",
        sa.Column("part", sa.String, primary_key=True),
        sa.Column("instance", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("healthy", sa.Boolean, nullable=False),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("detail", sa.String, nullable=False),
        sa.Column("reported_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    # Unlogged: what is lost with a crash of the server is that buckets are full again.
    op.create_table(
        "rate_limit_buckets",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("tokens", sa.Double, nullable=False),
        sa.Column("refilled_at", TIME, nullable=False),
        prefixes=["UNLOGGED"],
    )
    protect("measurements", app="SELECT", platform="SELECT, INSERT, UPDATE, DELETE")
    protect("open_spans", app="SELECT", platform="SELECT, INSERT, UPDATE, DELETE")
    protect("part_reports", app="", platform="SELECT, INSERT, UPDATE, DELETE")
    protect("rate_limit_buckets", app="SELECT, INSERT, UPDATE")
    op.execute(f"GRANT DELETE ON rate_limit_buckets TO {PLATFORM_ROLE}")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
