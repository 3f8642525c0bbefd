"""Rules of tables that the database keeps by itself, worded once for the migrations that need them."""

from collections.abc import Sequence

from alembic import op

_REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = TG_TABLE_NAME || ' is append-only';
END $$
"""

_KEEP_TERMINAL_STATUS = """
CREATE FUNCTION keep_terminal_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = ANY (TG_ARGV) AND NEW.status IS DISTINCT FROM OLD.status THEN
        RAISE check_violation USING CONSTRAINT = 'terminal_status', TABLE = TG_TABLE_NAME,
            MESSAGE = TG_TABLE_NAME || ' cannot leave the status ' || OLD.status;
    END IF;
    RETURN NEW;
END $$
"""


def create_functions() -> None:
    """Create the trigger functions that the guards below use."""
    op.execute(_REFUSE_CHANGE)
    op.execute(_KEEP_TERMINAL_STATUS)


def drop_functions() -> None:
    """Drop them again, after every table that uses them."""
    op.execute("DROP FUNCTION refuse_change()")
    op.execute("DROP FUNCTION keep_terminal_status()")


def append_only(table: str) -> None:
    """Refuse UPDATE, DELETE and TRUNCATE on ``table`` to everybody, its owner included."""
    op.execute(
        f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    never_emptied(table)


def never_emptied(table: str) -> None:
    """Refuse TRUNCATE on ``table``."""
    op.execute(
        f"CREATE TRIGGER never_emptied BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def sticky(table: str, statuses: Sequence[str]) -> None:
    """Refuse that a row of ``table`` leaves one of the terminal ``statuses``."""
    listed = ", ".join(f"'{status}'" for status in statuses)
    op.execute(
        f"CREATE TRIGGER terminal_status BEFORE UPDATE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION keep_terminal_status({listed})"
    )
