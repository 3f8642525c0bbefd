"""Spending is counted per agent and tenant and per month, too: what was bought so far is added up once."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = ("spending_counters", "purchase_intents", "payments")

# What is held, and what was collected of what was held, as the daily counters of users have it already.
BACKFILL = """
INSERT INTO spending_counters (tenant_id, scope, subject_id, period, starts_on, currency, spent)
SELECT b.tenant_id, s.scope, s.subject_id, p.period,
       CASE p.period WHEN 'day' THEN b.spent_on ELSE date_trunc('month', b.spent_on)::date END AS starts_on,
       b.currency, sum(b.amount)
FROM (
    SELECT i.tenant_id, i.user_id, i.agent_id, i.spent_on, i.currency,
           CASE i.status WHEN 'approved' THEN i.amount ELSE y.amount END AS amount
    FROM purchase_intents i LEFT JOIN payments y ON y.intent_id = i.id
    WHERE i.spent_on IS NOT NULL AND (i.status = 'approved' OR y.id IS NOT NULL)
) b
CROSS JOIN LATERAL (VALUES ('agent', b.agent_id), ('tenant', b.tenant_id), ('user', b.user_id))
    AS s (scope, subject_id)
CROSS JOIN (VALUES ('day'), ('month')) AS p (period)
WHERE b.amount > 0 AND (s.scope, p.period) <> ('user', 'day')
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    # The schema's owner is bound by row-level security, too; here it has to see every tenant.
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(BACKFILL)
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.execute("ALTER TABLE spending_counters NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM spending_counters WHERE (scope, period) <> ('user', 'day')")
    op.execute("ALTER TABLE spending_counters FORCE ROW LEVEL SECURITY")
