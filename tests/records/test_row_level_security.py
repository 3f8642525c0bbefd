"""No tenant reaches another's rows, in any table, through the application's own database role (DESIGN §5).

The proof has a database of its own. Its tables are read from the catalogue, so a table that somebody adds
tomorrow is tried, too: a row of one tenant is planted in every table that has ``tenant_id`` (values are made
up from the column types, constraints are dropped), then every statement is tried as another tenant, as no
tenant, and as tenants whose names are hostile.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from activities.records.migrate import upgrade
from cli.stack.secrets import SecretStore
from models.settings import Settings

VISIBLE_TO_OTHERS: dict[str, str] = {
    "agent_reviews": "reviews are the marketplace's: everybody may read them",
    "agent_statistics": "success rate and rating are the marketplace's: everybody may read them",
}
"""Tables whose rows other tenants may read, with the reason; writing is tried all the same.

Published agents are readable, too; the planted ones are not published, so they must stay hidden.
"""

WITHOUT_TENANT: dict[str, str] = {
    "alembic_version": "the schema's own version; the application's role has no privilege on it",
}
"""Tables without ``tenant_id``, with the reason; none of them may be writable unless listed here."""

MINE, THEIRS = "tenant-rls-mine", "tenant-rls-theirs"

# What PostgreSQL may say to a forbidden write. Anything else is a hole.
REFUSALS = (psycopg.errors.InsufficientPrivilege,)

Connection = psycopg.Connection[TupleRow]


def names(connection: Connection, query: LiteralString) -> list[str]:
    return [str(row[0]) for row in connection.execute(query).fetchall()]


def in_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="module")
def addresses(postgres: Settings, stack_directory: Path) -> Iterator[dict[str, str]]:
    """The proof's own database, migrated, as each role sees it."""
    owner_url = postgres.database_owner_url.get_secret_value()
    password = SecretStore(stack_directory / "postgres" / "secrets").password("postgres_admin")
    address = urlsplit(owner_url)
    admin = address._replace(netloc=f"postgres:{password}@{address.hostname}:{address.port}").geturl()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE row_level_security OWNER switchyard_owner")
    urls = {
        "admin": admin,
        "owner": owner_url,
        "app": postgres.database_url.get_secret_value(),
    }
    urls = {role: in_database(url, "row_level_security") for role, url in urls.items()}
    upgrade(urls["owner"])
    yield urls
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("DROP DATABASE row_level_security WITH (FORCE)")


@pytest.fixture(scope="module")
def owner(addresses: dict[str, str]) -> Iterator[Connection]:
    """A superuser: reads the catalogue and plants."""
    with psycopg.connect(addresses["admin"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def app(addresses: dict[str, str], planted: list[str]) -> Iterator[Connection]:
    """The application's own role, in the database where the rows are planted."""
    with psycopg.connect(addresses["app"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def tenant_tables(owner: Connection) -> list[str]:
    return names(
        owner,
        """
        SELECT c.relname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
        ORDER BY 1
        """,
    )


def columns(owner: Connection, table: str) -> list[tuple[str, str, bool]]:
    rows = owner.execute(
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '' OR a.attidentity <> ''
        FROM pg_attribute a
        WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        [table],
    ).fetchall()
    return [(str(name), str(kind), bool(generated)) for name, kind, generated in rows]


def made_up(kind: str, tenant: str, column: str) -> object:
    """Return some value of a column's type that differs between tenants where it can."""
    number = 1 if tenant == MINE else 2
    if kind.endswith("[]"):
        return []
    if kind.startswith("timestamp") or kind == "date":
        return "2026-01-01"
    simple: dict[str, object] = {
        "bytea": bytes([number]),
        "boolean": False,
        "jsonb": "{}",
        "json": "{}",
        "interval": "1 second",
        "uuid": f"00000000-0000-0000-0000-00000000000{number}",
    }
    if kind in simple:
        return simple[kind]
    if kind.startswith(("integer", "bigint", "smallint", "numeric", "real", "double")):
        return number
    return tenant if column == "tenant_id" else f"{column[:8]}-{number}"


def row_of(owner: Connection, table: str, tenant: str) -> dict[str, object]:
    return {
        name: made_up(kind, tenant, name) for name, kind, generated in columns(owner, table) if not generated
    }


def insert(table: str, row: dict[str, object]) -> sql.Composed:
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )


@pytest.fixture(scope="module")
def planted(owner: Connection, tenant_tables: list[str]) -> list[str]:
    """Tables that hold a row of `THEIRS`: all of them."""
    owner.execute("SET session_replication_role = replica")
    for kind in ("f", "c"):
        for table, constraint in owner.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = %s "
            "AND connamespace = 'public'::regnamespace AND conparentid = 0",
            [kind],
        ).fetchall():
            owner.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                    sql.Identifier(str(table)), sql.Identifier(str(constraint))
                )
            )
    for table in tenant_tables:
        owner.execute(insert(table, row_of(owner, table, THEIRS)))
    return tenant_tables


def affected(app: Connection, tenant: str | None, statement: sql.Composed) -> int:
    """Return the number of rows seen or changed by the tenant; 0 when PostgreSQL refuses."""
    try:
        with app.transaction(force_rollback=True):
            if tenant is not None:
                app.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant])
            return app.execute(statement).rowcount
    except REFUSALS:
        return 0
    except psycopg.errors.UniqueViolation:
        return 1  # Row-level security is asked before uniqueness: it let the row through.


def test_every_table_with_a_tenant_is_forced_under_row_level_security(
    owner: Connection, tenant_tables: list[str]
) -> None:
    assert {"runs", "run_events", "users", "api_keys", "idempotency_records"} <= set(tenant_tables)
    unprotected = names(
        owner,
        """
        SELECT c.relname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        """,
    )
    assert unprotected == [], "protect each with migrations.tenancy.protect"


def test_every_table_without_a_tenant_is_known_with_its_reason(
    owner: Connection, tenant_tables: list[str]
) -> None:
    everything = names(
        owner,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace",
    )
    unknown = set(everything) - set(tenant_tables) - set(WITHOUT_TENANT)
    assert unknown == set(), "give each a tenant_id, or list it in WITHOUT_TENANT with the reason"
    assert set(VISIBLE_TO_OTHERS) <= set(tenant_tables)


@pytest.mark.parametrize("table", WITHOUT_TENANT)
def test_the_application_cannot_touch_tables_that_belong_to_no_tenant(owner: Connection, table: str) -> None:
    row = owner.execute(
        "SELECT has_table_privilege('switchyard_app', %s, 'SELECT, INSERT, UPDATE, DELETE')", [table]
    ).fetchone()
    assert row == (False,)


def test_no_role_of_the_application_bypasses_row_level_security_or_owns_a_table(owner: Connection) -> None:
    rows = owner.execute(
        """
        SELECT rolname FROM pg_roles
        WHERE rolname IN ('switchyard_app', 'switchyard_platform')
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)
        UNION ALL
        SELECT tableowner FROM pg_tables
        WHERE schemaname = 'public' AND tableowner IN ('switchyard_app', 'switchyard_platform')
        UNION ALL
        SELECT granted.rolname FROM pg_auth_members m
        JOIN pg_roles member ON member.oid = m.member
        JOIN pg_roles granted ON granted.oid = m.roleid
        WHERE member.rolname = 'switchyard_app'
        """
    ).fetchall()
    assert rows == []


def test_views_and_functions_do_not_run_with_their_owners_rights(owner: Connection) -> None:
    leaky = names(
        owner,
        """
        SELECT c.relname FROM pg_class c
        WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace
          AND has_table_privilege('switchyard_app', c.oid, 'SELECT')
          AND (c.relkind = 'm' OR NOT coalesce('security_invoker=true' = ANY (c.reloptions), false))
        UNION ALL
        SELECT p.proname FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
          AND has_function_privilege('switchyard_app', p.oid, 'EXECUTE')
        """,
    )
    assert leaky == []


HOSTILE = [MINE, None, "", "%", "tenant-rls-their_", f"{THEIRS} ", THEIRS.upper(), "' OR true --"]


@pytest.mark.parametrize("tenant", HOSTILE)
def test_no_statement_reaches_another_tenants_row_in_any_table(
    owner: Connection, app: Connection, planted: list[str], tenant: str | None
) -> None:
    holes = [f"{found} on {table}" for table in planted for found in succeeding(owner, app, table, tenant)]
    assert holes == []


def succeeding(owner: Connection, app: Connection, table: str, tenant: str | None) -> set[str]:
    """Try every kind of statement on the planted row of a table; return those that got through."""
    name, column = sql.Identifier(table), sql.Identifier("tenant_id")
    theirs = sql.SQL("{} = {}").format(column, sql.Literal(THEIRS))
    statements: dict[str, sql.Composed] = {
        "UPDATE": sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(name, column, column, theirs),
        "UPDATE of all": sql.SQL("UPDATE {} SET {} = {}").format(name, column, column),
        "take over": sql.SQL("UPDATE {} SET {} = {}").format(name, column, sql.Literal(tenant)),
        "DELETE": sql.SQL("DELETE FROM {} WHERE {}").format(name, theirs),
        "TRUNCATE": sql.SQL("TRUNCATE {} CASCADE").format(name),
        "INSERT": insert(table, _another(row_of(owner, table, THEIRS))),
    }
    if table not in VISIBLE_TO_OTHERS:
        statements["SELECT"] = sql.SQL("SELECT FROM {} WHERE {}").format(name, theirs)
        statements["SELECT FOR UPDATE"] = sql.SQL("SELECT FROM {} WHERE {} FOR UPDATE").format(name, theirs)
    return {kind for kind, statement in statements.items() if affected(app, tenant, statement) > 0}


def _another(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the same tenant that collides with the planted one in nothing."""
    changed = dict(row)
    for name, value in row.items():
        if name == "tenant_id":
            continue
        if isinstance(value, str) and value.endswith("-2"):
            changed[name] = value.removesuffix("-2") + "-9"
        elif isinstance(value, bytes):
            changed[name] = b"\x09"
        elif isinstance(value, int) and not isinstance(value, bool):
            changed[name] = 9
    return changed


def test_the_attempts_would_succeed_for_the_tenant_itself(
    owner: Connection, app: Connection, planted: list[str]
) -> None:
    """The proof's own proof: as the row's tenant the same statements do reach it."""
    for table in planted:
        for privilege in ("SELECT", "INSERT", "UPDATE"):
            allowed = owner.execute(
                "SELECT has_table_privilege('switchyard_app', %s, %s)", [table, privilege]
            ).fetchone()
            if allowed == (True,) and not (privilege == "SELECT" and table in VISIBLE_TO_OTHERS):
                assert privilege in succeeding(owner, app, table, THEIRS), f"{privilege} on {table}"


def test_a_tenant_cannot_give_its_rows_away(app: Connection, planted: list[str]) -> None:
    for table in planted:
        statement = sql.SQL("UPDATE {} SET tenant_id = {}").format(sql.Identifier(table), sql.Literal(MINE))
        assert affected(app, THEIRS, statement) == 0, table
