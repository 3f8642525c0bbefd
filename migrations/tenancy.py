"""Row-level security, worded once: how a migration protects a table (DESIGN §5)."""

from alembic import op

APP_ROLE = "switchyard_app"
PLATFORM_ROLE = "switchyard_platform"

CURRENT_TENANT = "current_setting('app.tenant_id', true)"


def protect(
    table: str,
    *,
    app: str = "SELECT, INSERT, UPDATE",
    platform: str = "SELECT, INSERT, UPDATE",
    visible_to_all: str | None = None,
) -> None:
    """Put ``table`` (which has ``tenant_id``) under row-level security and grant the two roles.

    Args:
        table: Its name.
        app: Privileges of the application's role, which sees the current tenant's rows only.
        platform: Privileges of the platform's role, which sees all rows.
        visible_to_all: An SQL condition under which any tenant may read a row, for what is public by
            nature (published agents).
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON {table} TO {APP_ROLE} "
        f"USING (tenant_id = {CURRENT_TENANT}) WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    if visible_to_all is not None:
        op.execute(f"CREATE POLICY visible ON {table} FOR SELECT TO {APP_ROLE} USING ({visible_to_all})")
    op.execute(f"CREATE POLICY platform ON {table} TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)")
    if app:
        op.execute(f"GRANT {app} ON {table} TO {APP_ROLE}")
    if platform:
        op.execute(f"GRANT {platform} ON {table} TO {PLATFORM_ROLE}")
