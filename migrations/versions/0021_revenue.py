"""Revenue by version and by orchestrator, payouts per payable account, receipts for refusals."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_PAID = """
LEFT JOIN LATERAL (
    SELECT id, status, paid_at FROM payouts
    WHERE account_id = p.account_id AND through_seq >= p.account_seq
      AND status NOT IN ('failed', 'reversed')
    ORDER BY through_seq LIMIT 1
) o ON true
"""

_SHARE = """
       p.agent_id, p.execution_id, p.amount, p.currency,
       CASE WHEN o.id IS NULL THEN 'pending' WHEN o.status = 'paid' THEN 'paid_out' ELSE 'in_transit'
       END AS status,
       p.created_at, p.account_id, p.account_seq, p.transaction_id, o.id AS payout_ref,
       o.paid_at AS paid_out_at
"""

DEVELOPER = f"""
CREATE OR REPLACE VIEW developer_revenue WITH (security_invoker = true) AS
SELECT a.owner_id AS developer_id, a.tenant_id, {_SHARE}, p.agent_version
FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id {_PAID}
WHERE a.kind = 'developer_payable' AND p.purpose = 'developer_share'
"""

DEVELOPER_BEFORE = f"""
CREATE VIEW developer_revenue WITH (security_invoker = true) AS
SELECT a.owner_id AS developer_id, a.tenant_id, {_SHARE}
FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id {_PAID}
WHERE a.kind = 'developer_payable' AND p.purpose = 'developer_share'
"""

ORCHESTRATOR = f"""
CREATE VIEW orchestrator_revenue WITH (security_invoker = true) AS
SELECT a.owner_id AS orchestrator_id, a.tenant_id, {_SHARE}, p.agent_version
FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id {_PAID}
WHERE a.kind = 'orchestrator_payable' AND p.purpose = 'orchestrator_share'
"""


def upgrade() -> None:
    op.add_column("ledger_postings", sa.Column("agent_version", sa.String))
    op.execute("GRANT INSERT (agent_version) ON ledger_postings TO switchyard_platform")
    op.execute(DEVELOPER)
    op.execute(ORCHESTRATOR)
    op.execute("GRANT SELECT ON orchestrator_revenue TO switchyard_app, switchyard_platform")

    op.add_column("payouts", sa.Column("earned_as", sa.Text, nullable=False, server_default="developer"))
    op.alter_column("payouts", "earned_as", server_default=None)
    op.drop_constraint("uq_payouts_tenant_id_developer_id_currency_period_number", "payouts", type_="unique")
    op.create_unique_constraint(
        "uq_payouts_account_id_period_number", "payouts", ["account_id", "period", "number"]
    )
    op.drop_index("uq_payouts_live", "payouts")
    op.create_index(
        "uq_payouts_live",
        "payouts",
        ["account_id", "period"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('failed', 'reversed')"),
    )

    op.add_column("receipts", sa.Column("refused_intent_id", sa.String))
    op.create_unique_constraint("uq_receipts_refused_intent_id", "receipts", ["refused_intent_id"])
    op.create_foreign_key(
        "fk_receipts_refused_intent_id_purchase_intents",
        "receipts",
        "purchase_intents",
        ["refused_intent_id"],
        ["id"],
    )
    op.drop_constraint(op.f("ck_receipts_subject"), "receipts", type_="check")
    op.create_check_constraint(
        "subject", "receipts", "num_nonnulls(settlement_id, refund_id, refused_intent_id) = 1"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_receipts_subject"), "receipts", type_="check")
    op.create_check_constraint("subject", "receipts", "(settlement_id IS NULL) <> (refund_id IS NULL)")
    op.drop_column("receipts", "refused_intent_id")
    op.drop_index("uq_payouts_live", "payouts")
    op.create_index(
        "uq_payouts_live",
        "payouts",
        ["tenant_id", "developer_id", "currency", "period"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('failed', 'reversed')"),
    )
    op.drop_constraint("uq_payouts_account_id_period_number", "payouts", type_="unique")
    op.create_unique_constraint(
        "uq_payouts_tenant_id_developer_id_currency_period_number",
        "payouts",
        ["tenant_id", "developer_id", "currency", "period", "number"],
    )
    op.drop_column("payouts", "earned_as")
    op.execute("DROP VIEW orchestrator_revenue")
    op.execute("DROP VIEW developer_revenue")
    op.drop_column("ledger_postings", "agent_version")
    op.execute(DEVELOPER_BEFORE)
    op.execute("GRANT SELECT ON developer_revenue TO switchyard_app, switchyard_platform")
