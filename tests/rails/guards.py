"""What the database itself refuses, one probe per guard; and how to take each guard away.

A probe tries, as the schema's owner and past row-level security, what a program with a mistake would try. It
is done in a transaction that is rolled back, so that the guards of a shared database can be taken away.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

Session = psycopg.Connection[TupleRow]

TABLES = (
    "ledger_accounts",
    "ledger_transactions",
    "ledger_postings",
    "payment_policies",
    "spending_counters",
    "purchase_intents",
    "mandates",
    "payment_holds",
    "settlements",
    "payments",
    "payment_outbox",
    "wallet_holds",
    "receipts",
    "receipt_chains",
    "refunds",
    "payouts",
)

FRESH = {
    "text": "text",
    "character varying": "text",
    "bytea": "bytes",
    "bigint": "number",
    "integer": "number",
}

CODED = frozenset({"currency", "kind", "status", "rail", "provider"})
"""Columns of keys that other rules allow certain values only; each key has another column that can differ."""


@dataclass(frozen=True)
class Guard:
    """One rule that the database keeps."""

    name: str
    removal: str
    """Statement that takes it away."""
    holds: Callable[[Session], bool]
    """Whether it still refuses."""


def refused(session: Session, statement: str, values: Sequence[object], names: set[str]) -> bool:
    """Tell whether the statement, with all deferred checks, is refused by one of these rules.

    Args:
        session: A transaction.
        statement: What is tried.
        values: Its parameters.
        names: Constraint names or SQL states; anything else that goes wrong is the probe's own mistake.
    """
    try:
        with session.transaction():
            session.execute(statement.encode(), values)
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")
            raise psycopg.Rollback
    except psycopg.Error as error:
        if error.diag.constraint_name in names or error.sqlstate in names:
            return True
        raise
    return False


def past_security(session: Session) -> None:
    """Let the owner see and write every row in this transaction: its security is not what is probed."""
    for table in TABLES:
        session.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY".encode())


def clone(
    table: str, kept: str = "", where: str = "true", **changes: object
) -> Callable[[Session], tuple[str, list[object]]]:
    """Word the insertion of a copy of a row in which every key differs, but for columns that are ``kept``."""

    def word(session: Session) -> tuple[str, list[object]]:
        row = session.execute(f"SELECT to_jsonb(x) FROM {table} x WHERE {where} LIMIT 1".encode()).fetchone()
        assert row is not None, f"{table} has no row where {where}"
        values: dict[str, object] = row[0]
        for column, kind in _keyed_columns(session, table):
            if column not in kept.split() and values[column] is not None:
                values[column] = _fresh(kind)
        return f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, %s::jsonb)).*", [
            json.dumps(values | changes)
        ]

    return word


def _keyed_columns(session: Session, table: str) -> list[tuple[str, str]]:
    """Columns of any key of the table, with their types; those of other types are left as they are."""
    rows = session.execute(
        "SELECT DISTINCT a.attname, format_type(a.atttypid, NULL) FROM pg_index i "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
        "WHERE i.indrelid = %s::regclass AND i.indisunique",
        [table],
    ).fetchall()
    return [(name, kind) for name, kind in rows if kind in FRESH and name not in CODED]


def _fresh(kind: str) -> object:
    if FRESH[kind] == "bytes":
        return "\\x" + secrets.token_hex(32)
    return secrets.randbelow(2**30) if FRESH[kind] == "number" else f"probe-{secrets.token_hex(8)}"


def unique(table: str, columns: str, where: str = "true", name: str = "") -> Guard:
    """A key: a copy of a row in which all other keys differ is refused."""
    constraint = name or f"uq_{table}_{columns.replace(' ', '_')}"
    removal = f"DROP INDEX {constraint}" if name else f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"
    copy = clone(table, columns, where)

    def holds(session: Session) -> bool:
        _alone(session, table)
        return refused(session, *copy(session), {constraint})

    return Guard(f"unique {table} ({columns}{' where' if name else ''})", removal, holds)


def check(table: str, constraint: str, where: str = "true", **bad: object) -> Guard:
    """A condition on a row's values."""
    copy = clone(table, "", where, **bad)

    def holds(session: Session) -> bool:
        _alone(session, table)
        return refused(session, *copy(session), {constraint})

    return Guard(f"check {constraint}", f"ALTER TABLE {table} DROP CONSTRAINT {constraint}", holds)


def sticky(table: str, ended: str, other: str) -> Guard:
    """A status that is never left."""

    def holds(session: Session) -> bool:
        key = f"(SELECT ctid FROM {table} WHERE status = %s LIMIT 1)"
        statement = f"UPDATE {table} SET status = %s WHERE ctid = {key}"
        return refused(session, statement, [other, ended], {"terminal_status"})

    return Guard(f"sticky {table} {ended}", f"DROP TRIGGER terminal_status ON {table}", holds)


def append_only(table: str, column: str) -> Guard:
    """Rows that are never changed nor deleted."""

    def holds(session: Session) -> bool:
        update = f"UPDATE {table} SET {column} = {column}"
        return all(
            refused(session, each, [], {"42501"})
            for each in (
                f"{update} WHERE ctid = (SELECT min(ctid) FROM {table})",
                f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})",
            )
        )

    return Guard(f"append-only {table}", f"DROP TRIGGER append_only ON {table}", holds)


def never_emptied(table: str) -> Guard:
    """Tables that nobody truncates."""

    def holds(session: Session) -> bool:
        rows = session.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint "
            "WHERE contype = 'f' AND confrelid = %s::regclass",
            [table],
        ).fetchall()
        for owner, name in rows:
            session.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {name}".encode())
        return refused(session, f"TRUNCATE {table}", [], {"42501"})

    return Guard(f"never emptied {table}", f"DROP TRIGGER never_emptied ON {table}", holds)


def withheld(table: str, columns: str, role: str = "switchyard_platform") -> Guard:
    """Columns that even the platform's own role cannot write."""
    listed = ", ".join(columns.split())

    def holds(session: Session) -> bool:
        return not any(
            session.execute(
                "SELECT has_column_privilege(%s, %s, %s, 'UPDATE')", [role, table, column]
            ).fetchone()
            == (True,)
            for column in columns.split()
        )

    return Guard(f"withheld {table} ({listed})", f"GRANT UPDATE ({listed}) ON {table} TO {role}", holds)


def _alone(session: Session, table: str) -> None:
    """Foreign keys and the ledger's triggers are not what is probed; a copy may point to nothing."""
    rows = session.execute(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint "
        "WHERE contype = 'f' AND %s::regclass IN (conrelid, confrelid)",
        [table],
    ).fetchall()
    for owner, name in rows:
        session.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {name}".encode())
    if table in {"ledger_postings", "ledger_transactions"}:
        session.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())


def _transaction_without_lines(session: Session) -> bool:
    return refused(session, *clone("ledger_transactions")(session), {"ledger_balanced"})


_LINE = """
INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, purpose,
                             transaction_kind, tenant_id, account_seq, balance_after)
SELECT p.transaction_id, 1000 + p.position, p.account_id, 5, p.currency, p.purpose, p.transaction_kind,
       p.tenant_id, 1000000000, 0
FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id WHERE a.kind = 'bank' LIMIT 1
"""


def _line_too_many(session: Session) -> bool:
    return refused(session, _LINE, [], {"ledger_balanced"})


def _below_floor(session: Session) -> bool:
    return refused(
        session,
        "UPDATE ledger_accounts SET balance = -1 WHERE id = "
        "(SELECT id FROM ledger_accounts WHERE kind = 'user_wallet' LIMIT 1)",
        [],
        {"ck_ledger_accounts_floor"},
    )


def _balance_follows(session: Session) -> bool:
    """A line moves its account's balance and gets the account's next number, whatever it says itself."""
    with session.transaction() as saved:
        row = session.execute(
            "SELECT p.transaction_id, p.account_id, a.balance, a.last_seq FROM ledger_postings p "
            "JOIN ledger_accounts a ON a.id = p.account_id WHERE a.kind = 'bank' LIMIT 1"
        ).fetchone()
        assert row is not None
        transaction, account, balance, last = row
        session.execute(
            "INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, purpose, "
            "transaction_kind, tenant_id, account_seq, balance_after) "
            "VALUES (%s, 1000, %s, -5, 'INR', 'funding', 'top_up', 'x', 1000000000, 0)",
            [transaction, account],
        )
        after = session.execute(
            "SELECT balance, last_seq FROM ledger_accounts WHERE id = %s", [account]
        ).fetchone()
        raise psycopg.Rollback(saved)
    return after == (balance - 5, last + 1)


GUARDS: tuple[Guard, ...] = (
    unique("ledger_transactions", "reference"),
    unique("ledger_postings", "account_id account_seq"),
    unique("ledger_accounts", "tenant_id kind owner_id currency qualifier"),
    unique("payment_policies", "tenant_id revision"),
    unique("mandates", "nonce"),
    unique("mandates", "intent_id", "status = 'active'", "uq_mandates_active_intent"),
    unique("mandates", "intent_id", "status = 'consumed'", "uq_mandates_consumed_intent"),
    unique("payment_holds", "intent_id"),
    unique("settlements", "mandate_id"),
    unique("settlements", "execution_id", "execution_id IS NOT NULL"),
    unique("settlements", "intent_id"),
    unique("settlements", "idempotency_key"),
    unique("settlements", "rail provider_ref", "status = 'settled'"),
    unique("payments", "mandate_id"),
    unique("payments", "execution_id", "execution_id IS NOT NULL"),
    unique("payments", "intent_id"),
    unique("payments", "settlement_id"),
    unique("payments", "provider provider_ref"),
    unique("receipts", "settlement_id", "settlement_id IS NOT NULL"),
    unique("receipts", "payment_id", "payment_id IS NOT NULL"),
    unique("receipts", "refund_id", "refund_id IS NOT NULL"),
    unique("receipts", "hash"),
    unique("receipts", "tenant_id chain_index"),
    unique("receipts", "tenant_id prev_hash"),
    unique("payouts", "reference"),
    unique("payouts", "account_id period number", "status = 'failed'"),
    unique("payouts", "account_id period", "status = 'paid'", "uq_payouts_live"),
    check("mandates", "ck_mandates_lifetime", expires_at="2999-01-01T00:00:00Z"),
    check("settlements", "ck_settlements_amount", amount=-1),
    check("payments", "ck_payments_amount", amount=-1),
    check("refunds", "ck_refunds_amount", amount=0),
    check("receipts", "ck_receipts_subject", settlement_id=None, refund_id=None, refused_intent_id=None),
    check("payouts", "ck_payouts_amount", "status = 'failed'", amount=49_999),
    check("ledger_postings", "ck_ledger_postings_amount", amount=0),
    check("ledger_accounts", "ck_ledger_accounts_balance", "floor IS NULL", balance=2**53),
    check("spending_counters", "ck_spending_counters_spent", spent=-1),
    check("wallet_holds", "ck_wallet_holds_captured_amount", amount=1, captured_amount=2),
    sticky("settlements", "settled", "unknown"),
    sticky("mandates", "consumed", "active"),
    sticky("payment_holds", "released", "held"),
    sticky("payment_holds", "captured", "released"),
    sticky("purchase_intents", "closed", "approved"),
    sticky("wallet_holds", "captured", "held"),
    sticky("payouts", "failed", "reversed"),
    sticky("payouts", "paid", "submitted"),
    append_only("ledger_transactions", "reference"),
    append_only("ledger_postings", "purpose"),
    append_only("payments", "status"),
    append_only("receipts", "kid"),
    sticky("refunds", "settled", "unknown"),
    append_only("payment_policies", "revision"),
    *(
        never_emptied(table)
        for table in (
            "ledger_accounts",
            "ledger_transactions",
            "ledger_postings",
            "mandates",
            "settlements",
            "payments",
            "receipts",
            "receipt_chains",
            "refunds",
            "payouts",
        )
    ),
    Guard(
        "balanced transactions", "DROP TRIGGER balanced ON ledger_transactions", _transaction_without_lines
    ),
    Guard("balanced lines", "DROP TRIGGER balanced ON ledger_postings", _line_too_many),
    Guard("posting moves the balance", "DROP TRIGGER post ON ledger_postings", _balance_follows),
    Guard("floors", "ALTER TABLE ledger_accounts DROP CONSTRAINT ck_ledger_accounts_floor", _below_floor),
    withheld("ledger_accounts", "balance last_seq floor"),
    withheld("settlements", "idempotency_key request_body amount mandate_id"),
    withheld("mandates", "body signature expires_at nonce"),
    withheld("payouts", "reference request_body amount through_seq"),
    withheld("receipts", "body hash signature"),
    withheld("refunds", "amount payment_id reason"),
)
"""Every guard that the payment core relies on."""


def probe(owner_url: str) -> list[str]:
    """Try all guards as they are; return the names of those that do not refuse."""
    broken: list[str] = []
    with psycopg.connect(owner_url) as session:
        for guard in GUARDS:
            with session.transaction() as saved:
                past_security(session)
                try:
                    if not guard.holds(session):
                        broken.append(guard.name)
                except (psycopg.Error, AssertionError) as error:
                    broken.append(f"{guard.name}: {error}")
                raise psycopg.Rollback(saved)
    return broken


def survivors(owner_url: str) -> list[str]:
    """Take each guard away and probe; return the guards whose absence nobody would notice."""
    unnoticed: list[str] = []
    with psycopg.connect(owner_url) as session:
        for guard in GUARDS:
            with session.transaction() as saved:
                past_security(session)
                session.execute(guard.removal.encode())
                try:
                    if guard.holds(session):
                        unnoticed.append(guard.name)
                except (psycopg.Error, AssertionError) as error:
                    unnoticed.append(f"{guard.name}: {error}")
                raise psycopg.Rollback(saved)
    return unnoticed
