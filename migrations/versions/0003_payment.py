"""Payment: ledger, policies, intents, mandates, holds, settlements, payments, wallets, receipts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from migrations.guards import append_only, create_functions, drop_functions, never_emptied, sticky
from migrations.tenancy import APP_ROLE, PLATFORM_ROLE, protect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
MAX_AMOUNT = 2**53 - 1


# The balance is the database's own work: nobody has the privilege to set it, and the trigger that does runs
# as the owner. Its row lock is what makes floors exact; writers insert in the order of account ids.
POST = """
CREATE FUNCTION ledger_post() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE ledger_accounts SET balance = balance + NEW.amount, last_seq = last_seq + 1
    WHERE id = NEW.account_id AND currency = NEW.currency
    RETURNING last_seq, balance, tenant_id INTO NEW.account_seq, NEW.balance_after, NEW.tenant_id;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = 'no account of this id and currency';
    END IF;
    RETURN NEW;
END $$
"""

# Deferred to the commit, when all lines are there.
BALANCED = """
CREATE FUNCTION ledger_balanced() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    wanted text := CASE TG_TABLE_NAME WHEN 'ledger_transactions' THEN to_jsonb(NEW) ->> 'id'
                                      ELSE to_jsonb(NEW) ->> 'transaction_id' END;
BEGIN
    IF (SELECT count(*) FROM ledger_postings WHERE transaction_id = wanted) < 2 OR EXISTS (
        SELECT FROM ledger_postings WHERE transaction_id = wanted GROUP BY currency HAVING sum(amount) <> 0
    ) THEN
        RAISE check_violation USING CONSTRAINT = 'ledger_balanced', TABLE = 'ledger_postings',
            MESSAGE = 'a transaction needs two postings or more that sum to zero per currency';
    END IF;
    RETURN NULL;
END $$
"""

APPEND_ONLY = ("ledger_transactions", "ledger_postings", "payment_policies", "payments", "receipts")

TERMINAL = {
    "purchase_intents": ("denied", "closed"),
    "mandates": ("consumed", "expired", "revoked"),
    "payment_holds": ("captured", "released"),
    "settlements": ("settled", "declined"),
    "wallet_holds": ("captured", "voided"),
}

VIEWS = {
    "developer_revenue": """
        SELECT a.owner_id AS developer_id, a.tenant_id, p.agent_id, p.execution_id, p.amount, p.currency,
               'pending'::text AS status, p.created_at, p.account_id, p.account_seq, p.transaction_id
        FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
        WHERE a.kind = 'developer_payable' AND p.purpose = 'developer_share'
    """,
    "platform_revenue": """
        SELECT p.execution_id, p.agent_id, p.amount, p.currency, p.purpose AS share,
               'pending'::text AS status, p.created_at, p.transaction_id, p.position
        FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
        WHERE a.kind = 'platform_revenue' AND p.purpose IN ('platform_share', 'unorchestrated_share')
    """,
}


def upgrade() -> None:
    _create_ledger()
    _create_policies()
    _create_purchases()
    _create_wallets()
    _create_receipts()
    _protect()
    _enforce()
    for name, query in VIEWS.items():
        # The reader's own row-level security applies, not the owner's.
        op.execute(f"CREATE VIEW {name} WITH (security_invoker = true) AS {query}")
        op.execute(f"GRANT SELECT ON {name} TO {APP_ROLE}, {PLATFORM_ROLE}")


def _create_ledger() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("qualifier", sa.String, nullable=False),
        sa.Column("floor", sa.BigInteger),
        sa.Column("balance", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("last_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        sa.CheckConstraint(f"balance BETWEEN -{MAX_AMOUNT} AND {MAX_AMOUNT}", name="balance"),
        sa.CheckConstraint("floor IS NULL OR balance >= floor", name="floor"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "kind", "owner_id", "currency", "qualifier"),
    )
    op.create_index("ix_ledger_accounts_tenant_id_owner_id", "ledger_accounts", ["tenant_id", "owner_id"])
    op.create_table(
        "ledger_transactions",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("agent_id", sa.String),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("meta", pg.JSONB, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("reference"),
    )
    op.create_index("ix_ledger_transactions_execution_id", "ledger_transactions", ["execution_id"])
    op.create_index(
        "ix_ledger_transactions_tenant_id_created_at", "ledger_transactions", ["tenant_id", "created_at"]
    )
    op.create_table(
        "ledger_postings",
        sa.Column("transaction_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("account_id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("transaction_kind", sa.Text, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("agent_id", sa.String),
        sa.Column("account_seq", sa.BigInteger, nullable=False),
        sa.Column("balance_after", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(f"amount <> 0 AND amount BETWEEN -{MAX_AMOUNT} AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"]),
        sa.ForeignKeyConstraint(["transaction_id"], ["ledger_transactions.id"]),
        sa.PrimaryKeyConstraint("transaction_id", "position"),
        sa.UniqueConstraint("account_id", "account_seq"),
    )
    op.create_index(
        "ix_ledger_postings_execution_id",
        "ledger_postings",
        ["execution_id"],
        postgresql_where=sa.text("execution_id IS NOT NULL"),
    )
    op.create_index("ix_ledger_postings_tenant_id", "ledger_postings", ["tenant_id"])


def _create_policies() -> None:
    op.create_table(
        "payment_policies",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("rules", pg.JSONB, nullable=False),
        sa.Column("rules_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_by", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "revision"),
    )
    op.create_table(
        "spending_counters",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("starts_on", sa.Date, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint("spent >= 0", name="spent"),
        sa.PrimaryKeyConstraint("tenant_id", "scope", "subject_id", "period", "starts_on", "currency"),
    )


def _create_purchases() -> None:
    op.create_table(
        "payment_outbox",
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("done_at", TIME),
        sa.PrimaryKeyConstraint("topic", "subject_id"),
    )
    op.create_index(
        "ix_payment_outbox_owed",
        "payment_outbox",
        ["created_at"],
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_table(
        "purchase_intents",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("developer_id", sa.String, nullable=False),
        sa.Column("developer_tenant_id", sa.String, nullable=False),
        sa.Column("orchestrator_id", sa.String),
        sa.Column("orchestrator_tenant_id", sa.String),
        sa.Column("vendor", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("cost_cap", sa.BigInteger),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("meta", pg.JSONB, nullable=False),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("policy_id", sa.String),
        sa.Column("policy_hash", sa.LargeBinary),
        sa.Column("spent_on", sa.Date),
        sa.Column("denial_code", sa.String),
        sa.Column("denial_message", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("closed_at", TIME),
        sa.CheckConstraint(f"amount BETWEEN 0 AND {MAX_AMOUNT}", name="amount"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_purchase_intents_tenant_id_created_at", "purchase_intents", ["tenant_id", "created_at"]
    )
    op.create_index(
        "uq_purchase_intents_denial",
        "purchase_intents",
        ["execution_id", "denial_code"],
        unique=True,
        postgresql_where=sa.text("status = 'denied'"),
    )
    op.create_index(
        "uq_purchase_intents_execution",
        "purchase_intents",
        ["execution_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'denied'"),
    )
    op.create_table(
        "mandates",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("intent_id", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("kid", sa.String, nullable=False),
        sa.Column("nonce", sa.String, nullable=False),
        sa.Column("issued_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint("expires_at <= issued_at + interval '600 seconds'", name="lifetime"),
        sa.CheckConstraint("status IN ('active', 'consumed', 'expired', 'revoked')", name="status"),
        sa.ForeignKeyConstraint(["intent_id"], ["purchase_intents.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("nonce"),
    )
    op.create_index("ix_mandates_tenant_id_created_at", "mandates", ["tenant_id", "created_at"])
    op.create_index(
        "uq_mandates_active_intent",
        "mandates",
        ["intent_id"],
        unique=True,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "uq_mandates_consumed_intent",
        "mandates",
        ["intent_id"],
        unique=True,
        postgresql_where=sa.text("status = 'consumed'"),
    )
    op.create_table(
        "payment_holds",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("intent_id", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["intent_id"], ["purchase_intents.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("intent_id"),
    )
    op.create_index("ix_payment_holds_tenant_id", "payment_holds", ["tenant_id"])
    op.create_table(
        "settlements",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("intent_id", sa.String, nullable=False),
        sa.Column("mandate_id", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("rail", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.String, nullable=False),
        sa.Column("request_body", sa.LargeBinary, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("provider_ref", sa.String),
        sa.Column("decline_code", sa.String),
        sa.Column("decline_message", sa.String),
        sa.Column("unknown_reason", sa.String),
        sa.Column("requested_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("first_sent_at", TIME),
        sa.Column("completed_at", TIME),
        sa.CheckConstraint(f"amount BETWEEN 0 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["intent_id"], ["purchase_intents.id"]),
        sa.ForeignKeyConstraint(["mandate_id"], ["mandates.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("execution_id"),
        sa.UniqueConstraint("idempotency_key"),
        sa.UniqueConstraint("intent_id"),
        sa.UniqueConstraint("mandate_id"),
        sa.UniqueConstraint("rail", "provider_ref"),
    )
    op.create_index(
        "ix_settlements_open",
        "settlements",
        ["requested_at"],
        postgresql_where=sa.text("status IN ('requested', 'sent', 'unknown')"),
    )
    op.create_index("ix_settlements_tenant_id_requested_at", "settlements", ["tenant_id", "requested_at"])
    op.create_table(
        "payments",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("intent_id", sa.String, nullable=False),
        sa.Column("mandate_id", sa.String, nullable=False),
        sa.Column("settlement_id", sa.String, nullable=False),
        sa.Column("execution_id", sa.String),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("provider_ref", sa.String, nullable=False),
        sa.Column("transaction_id", sa.String),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(f"amount BETWEEN 0 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["intent_id"], ["purchase_intents.id"]),
        sa.ForeignKeyConstraint(["mandate_id"], ["mandates.id"]),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"]),
        sa.ForeignKeyConstraint(["transaction_id"], ["ledger_transactions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("execution_id"),
        sa.UniqueConstraint("intent_id"),
        sa.UniqueConstraint("mandate_id"),
        sa.UniqueConstraint("provider", "provider_ref"),
        sa.UniqueConstraint("settlement_id"),
    )
    op.create_index("ix_payments_tenant_id_created_at", "payments", ["tenant_id", "created_at"])


def _create_wallets() -> None:
    op.create_table(
        "wallet_holds",
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("captured_amount", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("capture_key", sa.String),
        sa.Column("capture_body_hash", sa.LargeBinary),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("resolved_at", TIME),
        sa.CheckConstraint("captured_amount BETWEEN 0 AND amount", name="captured_amount"),
        sa.PrimaryKeyConstraint("reference"),
    )
    op.create_index("ix_wallet_holds_tenant_id", "wallet_holds", ["tenant_id"])
    op.create_table(
        "wallet_top_ups",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("wallet_id", sa.String, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        sa.ForeignKeyConstraint(["wallet_id"], ["ledger_accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_wallet_top_ups_tenant_id", "wallet_top_ups", ["tenant_id"])


def _create_receipts() -> None:
    op.create_table(
        "receipt_chains",
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("chain_index", sa.BigInteger, nullable=False),
        sa.Column("prev_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("kid", sa.String, nullable=False),
        sa.Column("settlement_id", sa.String, nullable=False),
        sa.Column("payment_id", sa.String),
        sa.Column("execution_id", sa.String),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("issued_at", TIME, nullable=False),
        sa.CheckConstraint("chain_index >= 1", name="chain_index"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"]),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("payment_id"),
        sa.UniqueConstraint("settlement_id"),
        sa.UniqueConstraint("tenant_id", "chain_index"),
        sa.UniqueConstraint("tenant_id", "prev_hash"),
    )
    op.create_index("ix_receipts_execution_id", "receipts", ["execution_id"])
    op.create_index("ix_receipts_tenant_id_user_id", "receipts", ["tenant_id", "user_id"])


def _protect() -> None:
    """Everything is written on the platform's transactions; owners read."""
    protect(
        "ledger_accounts",
        app="SELECT",
        platform="SELECT, INSERT (id, tenant_id, kind, owner_id, currency, qualifier, floor)",
    )
    op.execute("CREATE POLICY posting ON ledger_accounts TO CURRENT_USER USING (true) WITH CHECK (true)")
    protect("ledger_transactions", app="SELECT", platform="SELECT, INSERT")
    protect(
        "ledger_postings",
        app="SELECT",
        platform="SELECT, INSERT (transaction_id, position, account_id, amount, currency, purpose, "
        "transaction_kind, execution_id, agent_id)",
    )
    protect("payment_policies", app="SELECT, INSERT", platform="SELECT, INSERT")
    protect("spending_counters", app="SELECT", platform="SELECT, INSERT, UPDATE (spent)")
    protect("purchase_intents", app="SELECT", platform="SELECT, INSERT, UPDATE (status, closed_at)")
    protect("mandates", app="SELECT", platform="SELECT, INSERT, UPDATE (status, ended_at)")
    protect("payment_holds", app="SELECT", platform="SELECT, INSERT, UPDATE (status, reason, ended_at)")
    protect(
        "settlements",
        app="SELECT",
        platform="SELECT, INSERT, UPDATE (status, attempts, provider_ref, decline_code, decline_message, "
        "unknown_reason, first_sent_at, completed_at)",
    )
    protect("payments", app="SELECT", platform="SELECT, INSERT")
    protect("payment_outbox", app="", platform="SELECT, INSERT, UPDATE (done_at)")
    protect(
        "wallet_holds",
        app="SELECT",
        platform="SELECT, INSERT, UPDATE (status, captured_amount, capture_key, capture_body_hash, "
        "resolved_at)",
    )
    protect("wallet_top_ups", app="SELECT", platform="SELECT, INSERT")
    protect("receipts", app="SELECT", platform="SELECT, INSERT")
    protect("receipt_chains", app="SELECT", platform="SELECT, INSERT, UPDATE (size, hash)")


def _enforce() -> None:
    """What no program may get wrong is refused by the database itself."""
    create_functions()
    op.execute(POST)
    op.execute(BALANCED)
    op.execute("REVOKE EXECUTE ON FUNCTION ledger_post() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER post BEFORE INSERT ON ledger_postings FOR EACH ROW EXECUTE FUNCTION ledger_post()"
    )
    for table in ("ledger_postings", "ledger_transactions"):
        op.execute(
            f"CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION ledger_balanced()"
        )
    for table in APPEND_ONLY:
        append_only(table)
    for table in ("ledger_accounts", "mandates", "settlements", "receipt_chains"):
        never_emptied(table)
    for table, statuses in TERMINAL.items():
        sticky(table, statuses)


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in (
        "receipts",
        "receipt_chains",
        "wallet_top_ups",
        "wallet_holds",
        "payments",
        "settlements",
        "payment_holds",
        "payment_outbox",
        "mandates",
        "purchase_intents",
        "spending_counters",
        "payment_policies",
        "ledger_postings",
        "ledger_transactions",
        "ledger_accounts",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION ledger_post()")
    op.execute("DROP FUNCTION ledger_balanced()")
    drop_functions()
