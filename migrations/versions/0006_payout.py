"""Payouts: payees, beneficiaries, payouts, roll-overs, own bank transfers; revenue tells when it was paid."""

import sqlalchemy as sa
from alembic import op

from migrations.guards import append_only, never_emptied
from migrations.tenancy import protect

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
MAX_AMOUNT = 2**53 - 1

# A payout that was paid may still be reversed; failed and reversed are final.
KEEP_STATUS = """
CREATE FUNCTION keep_payout_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status AND (
        OLD.status IN ('failed', 'reversed')
        OR (OLD.status = 'paid' AND NEW.status <> 'reversed')
        OR (NEW.status = 'reversed' AND OLD.status <> 'paid')
    ) THEN
        RAISE check_violation USING CONSTRAINT = 'terminal_status', TABLE = TG_TABLE_NAME,
            MESSAGE = TG_TABLE_NAME || ' cannot go from ' || OLD.status || ' to ' || NEW.status;
    END IF;
    RETURN NEW;
END $$
"""

# Nobody may update an account, so nobody may lock one either, but in the one order that is free of deadlocks.
LOCK = """
CREATE FUNCTION lock_ledger_accounts(ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM ledger_accounts WHERE id = ANY(ids) ORDER BY id FOR UPDATE
$$
"""

# A share is paid by the first payout that reaches to it and was not returned.
REVENUE = """
CREATE OR REPLACE VIEW developer_revenue WITH (security_invoker = true) AS
SELECT a.owner_id AS developer_id, a.tenant_id, p.agent_id, p.execution_id, p.amount, p.currency,
       CASE WHEN o.id IS NULL THEN 'pending' WHEN o.status = 'paid' THEN 'paid_out' ELSE 'in_transit'
       END AS status,
       p.created_at, p.account_id, p.account_seq, p.transaction_id, o.id AS payout_ref,
       o.paid_at AS paid_out_at
FROM ledger_postings p
JOIN ledger_accounts a ON a.id = p.account_id
LEFT JOIN LATERAL (
    SELECT id, status, paid_at FROM payouts
    WHERE account_id = p.account_id AND through_seq >= p.account_seq
      AND status NOT IN ('failed', 'reversed')
    ORDER BY through_seq LIMIT 1
) o ON true
WHERE a.kind = 'developer_payable' AND p.purpose = 'developer_share'
"""

REVENUE_BEFORE = """
CREATE VIEW developer_revenue WITH (security_invoker = true) AS
SELECT a.owner_id AS developer_id, a.tenant_id, p.agent_id, p.execution_id, p.amount, p.currency,
       'pending'::text AS status, p.created_at, p.account_id, p.account_seq, p.transaction_id
FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
WHERE a.kind = 'developer_payable' AND p.purpose = 'developer_share'
"""


def upgrade() -> None:
    op.create_table(
        "payees",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("kyc_status", sa.Text, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("hold_reason", sa.String),
        sa.Column("updated_by", sa.String, nullable=False),
        sa.Column("updated_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("tenant_id", "user_id"),
    )
    op.create_table(
        "beneficiaries",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("rail", sa.String, nullable=False),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("verified_at", TIME),
        sa.Column("verified_by", sa.String),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_beneficiaries_current",
        "beneficiaries",
        ["tenant_id", "user_id", "currency"],
        unique=True,
        postgresql_where=sa.text("status <> 'retired'"),
    )
    _create_payouts()
    op.create_table(
        "payout_roll_overs",
        sa.Column("period", sa.String, nullable=False),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"]),
        sa.PrimaryKeyConstraint("period", "account_id"),
    )
    op.create_index("ix_payout_roll_overs_tenant_id", "payout_roll_overs", ["tenant_id"])
    op.create_table(
        "bank_transfers",
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("reference"),
    )
    op.create_index("ix_bank_transfers_tenant_id", "bank_transfers", ["tenant_id"])
    _protect()
    op.execute(LOCK)
    op.execute("REVOKE EXECUTE ON FUNCTION lock_ledger_accounts(text[]) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION lock_ledger_accounts(text[]) TO switchyard_platform")
    op.execute(REVENUE)


def _create_payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("period", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("through_seq", sa.BigInteger, nullable=False),
        sa.Column("beneficiary_id", sa.String, nullable=False),
        sa.Column("rail", sa.String, nullable=False),
        sa.Column("request_body", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("provider_ref", sa.String),
        sa.Column("failure_code", sa.String),
        sa.Column("failure_message", sa.String),
        sa.Column("unknown_reason", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("submitted_at", TIME),
        sa.Column("paid_at", TIME),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint(f"amount BETWEEN 50000 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"]),
        sa.ForeignKeyConstraint(["beneficiary_id"], ["beneficiaries.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("reference"),
        sa.UniqueConstraint("tenant_id", "developer_id", "currency", "period", "number"),
    )
    op.create_index(
        "uq_payouts_live",
        "payouts",
        ["tenant_id", "developer_id", "currency", "period"],
        unique=True,
        postgresql_where=sa.text("status NOT IN ('failed', 'reversed')"),
    )
    op.create_index("ix_payouts_account_id_through_seq", "payouts", ["account_id", "through_seq"])
    op.create_index("ix_payouts_tenant_id_created_at", "payouts", ["tenant_id", "created_at"])
    op.create_index("ix_payouts_period", "payouts", ["period"])


def _protect() -> None:
    protect("payees", app="SELECT", platform="SELECT, INSERT, UPDATE")
    protect(
        "beneficiaries",
        app="SELECT, INSERT (id, tenant_id, user_id, currency, rail, destination, name, status), "
        "UPDATE (status)",
        platform="SELECT, INSERT, UPDATE (status, verified_at, verified_by)",
    )
    # The application may register and retire; only the platform verifies.
    op.execute(
        "CREATE POLICY unverified ON beneficiaries AS RESTRICTIVE FOR ALL TO switchyard_app "
        "USING (true) WITH CHECK (status IN ('unverified', 'retired'))"
    )
    protect(
        "payouts",
        app="SELECT",
        platform="SELECT, INSERT, UPDATE (status, attempts, provider_ref, failure_code, failure_message, "
        "unknown_reason, submitted_at, paid_at, ended_at)",
    )
    protect(
        "payout_roll_overs",
        app="SELECT",
        platform="SELECT, INSERT, UPDATE (amount, reason, created_at)",
    )
    protect("bank_transfers", app="SELECT", platform="SELECT, INSERT")
    append_only("bank_transfers")
    never_emptied("payouts")
    op.execute(KEEP_STATUS)
    op.execute(
        "CREATE TRIGGER terminal_status BEFORE UPDATE ON payouts "
        "FOR EACH ROW EXECUTE FUNCTION keep_payout_status()"
    )


def downgrade() -> None:
    op.execute("DROP VIEW developer_revenue")
    op.execute(REVENUE_BEFORE)
    op.execute("GRANT SELECT ON developer_revenue TO switchyard_app, switchyard_platform")
    for table in ("bank_transfers", "payout_roll_overs", "payouts", "beneficiaries", "payees"):
        op.drop_table(table)
    op.execute("DROP FUNCTION keep_payout_status()")
    op.execute("DROP FUNCTION lock_ledger_accounts(text[])")
