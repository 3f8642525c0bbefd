"""Events by the month of their run: whole months leave the store for S3, and a month is dropped in one step.

Moves every event into its partition, under a lock of both tables.
"""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import APP_ROLE, PLATFORM_ROLE, protect

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
THIS_MONTH = "(date_trunc('month', now() AT TIME ZONE 'UTC'))::date"

COLUMNS = """run_id, seq, id, key, tenant_id, type, source, "timestamp", data, correlation_id,
             causation_id, published_at, position"""

_EVENTS = f"""
CREATE TABLE run_events (
    run_id varchar NOT NULL REFERENCES runs (id),
    seq bigint NOT NULL,
    month date NOT NULL DEFAULT {THIS_MONTH},
    id varchar NOT NULL,
    key varchar NOT NULL,
    tenant_id varchar NOT NULL,
    type text NOT NULL,
    source varchar NOT NULL,
    "timestamp" timestamptz NOT NULL,
    data jsonb NOT NULL,
    correlation_id varchar NOT NULL,
    causation_id varchar,
    published_at timestamptz,
    position bigint,
    CONSTRAINT pk_run_events PRIMARY KEY (run_id, seq, month),
    CONSTRAINT uq_run_events_run_id_key_month UNIQUE (run_id, key, month),
    CONSTRAINT uq_run_events_id_month UNIQUE (id, month),
    CONSTRAINT uq_run_events_position_month UNIQUE (position, month)
) PARTITION BY RANGE (month)
"""

# Only a net: what comes before its month has a partition must go somewhere.
_DEFAULT = "CREATE TABLE run_events_default PARTITION OF run_events DEFAULT"

# With its owner's rights: the platform makes and drops months and owns no table.
_ENSURE = """
CREATE FUNCTION ensure_event_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first date := date_trunc('month', wanted)::date;
    partition text := 'run_events_' || to_char(first, 'YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(7303017152);
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF run_events FOR VALUES FROM (%L) TO (%L)',
                   partition, first, (first + interval '1 month')::date);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', partition);
    RETURN true;
EXCEPTION WHEN check_violation THEN
    -- The default partition holds events of that month already; they stay there.
    RETURN false;
END $$
"""

_DROP = """
CREATE FUNCTION drop_event_month(wanted date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    partition text := 'run_events_' || to_char(wanted, 'YYYY_MM');
BEGIN
    IF wanted >= date_trunc('month', now() AT TIME ZONE 'UTC')::date OR to_regclass(partition) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', partition);
    RETURN true;
END $$
"""

_APPEND = """
CREATE OR REPLACE FUNCTION append_run_events(
    for_run text, given jsonb, wanted text, reachable_from text[], report jsonb, terminal boolean
) RETURNS TABLE (last_seq bigint, status text, refused boolean) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    run runs%ROWTYPE;
    changes boolean;
    written bigint;
BEGIN
    SELECT * INTO run FROM runs WHERE runs.id = for_run FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    changes := wanted IS NOT NULL AND wanted <> run.status;
    IF changes AND NOT run.status = ANY (reachable_from) THEN
        RETURN QUERY SELECT run.last_seq, run.status, true;
        RETURN;
    END IF;
    IF changes AND report IS NOT NULL THEN
        given := given || jsonb_set(
            report, '{key}', to_jsonb('status:' || wanted || ':' || (run.last_seq + 1))
        );
    END IF;
    INSERT INTO run_events (run_id, seq, month, id, key, tenant_id, type, source, "timestamp", data,
                            correlation_id, causation_id)
    SELECT run.id, run.last_seq + row_number() OVER (ORDER BY g.place), run.events_month, g.event ->> 'id',
           g.event ->> 'key', run.tenant_id, g.event ->> 'type', g.event ->> 'source',
           coalesce((g.event ->> 'timestamp')::timestamptz, clock_timestamp()), g.event -> 'data',
           run.correlation_id, g.event ->> 'causation_id'
    FROM jsonb_array_elements(given) WITH ORDINALITY AS g (event, place)
    -- A scalar look-up per event: as an anti-join, the planner reads all events of a long run.
    WHERE (
        SELECT e.seq FROM run_events e
        WHERE e.run_id = for_run AND e.key = g.event ->> 'key' AND e.month = run.events_month
    ) IS NULL;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written > 0 OR changes THEN
        UPDATE runs SET
            last_seq = run.last_seq + written,
            status = CASE WHEN changes THEN wanted ELSE run.status END,
            paused_from = CASE WHEN NOT changes THEN run.paused_from
                               WHEN wanted = 'PAUSED' THEN run.status END,
            updated_at = now(),
            started_at = CASE WHEN wanted = 'RUNNING' THEN coalesce(run.started_at, now())
                              ELSE run.started_at END,
            ended_at = CASE WHEN terminal THEN coalesce(run.ended_at, now()) ELSE run.ended_at END
        WHERE runs.id = for_run;
    END IF;
    RETURN QUERY SELECT run.last_seq + written, CASE WHEN changes THEN wanted ELSE run.status END, false;
END $$
"""


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column("events_month", sa.Date, nullable=False, server_default=sa.text(THIS_MONTH)),
    )
    op.add_column("runs", sa.Column("archive_id", sa.String))
    op.add_column("runs", sa.Column("archived_seq", sa.BigInteger, nullable=False, server_default="0"))
    # Row-level security holds for the owner, too: nothing could be moved.
    for table in ("runs", "run_events"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE runs SET events_month = date_trunc('month', created_at AT TIME ZONE 'UTC')::date")
    op.execute("ALTER TABLE run_events RENAME TO run_events_unparted")
    op.execute("ALTER INDEX pk_run_events RENAME TO pk_run_events_unparted")
    op.execute(_EVENTS)
    op.execute(_ENSURE)
    op.execute(_DROP)
    op.execute(_DEFAULT)
    op.execute("ALTER TABLE run_events_default ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE run_events_default FORCE ROW LEVEL SECURITY")
    op.execute(
        "SELECT ensure_event_month(month) FROM (SELECT DISTINCT events_month AS month FROM runs) present"
    )
    for ahead in range(3):
        op.execute(f"SELECT ensure_event_month(({THIS_MONTH} + interval '{ahead} month')::date)")
    op.execute(
        f"INSERT INTO run_events ({COLUMNS}, month) "
        f"SELECT {', '.join('e.' + name.strip() for name in COLUMNS.split(','))}, r.events_month "
        "FROM run_events_unparted e JOIN runs r ON r.id = e.run_id"
    )
    op.create_table(
        "event_positions",
        sa.Column("tenant_id", sa.String, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    # Positions go on where they were when the events that had them are in S3.
    op.execute("INSERT INTO event_positions SELECT '*', coalesce(max(position), 0) FROM run_events_unparted")
    op.drop_table("run_events_unparted")
    op.execute("ALTER TABLE runs FORCE ROW LEVEL SECURITY")
    op.create_index("ix_runs_events_month", "runs", ["events_month", "tenant_id", "id"])
    op.create_index("ix_run_events_tenant_id_timestamp", "run_events", ["tenant_id", "timestamp"])
    op.create_index("ix_run_events_type_timestamp", "run_events", ["type", "timestamp"])
    op.create_index("ix_run_events_correlation_id", "run_events", ["correlation_id"])
    op.create_index(
        "ix_run_events_tenant_id_position",
        "run_events",
        ["tenant_id", "position"],
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_table(
        "event_archives",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant_id", sa.String, nullable=False),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("object_key", sa.String, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_event_archives_tenant_id_month", "event_archives", ["tenant_id", "month"])
    protect("run_events")
    protect("event_positions", app="", platform="SELECT, UPDATE")
    protect("event_archives", app="SELECT", platform="SELECT, INSERT")
    for function in ("ensure_event_month(date)", "drop_event_month(date)"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC, {APP_ROLE}")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {PLATFORM_ROLE}")
    op.execute(_APPEND)


def downgrade() -> None:
    """Put the events that are in the store back into one table; archives stay in S3, unread."""
    op.execute("ALTER TABLE runs NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE run_events NO FORCE ROW LEVEL SECURITY")
    op.execute("CREATE TABLE run_events_whole (LIKE run_events INCLUDING DEFAULTS)")
    op.execute(f"INSERT INTO run_events_whole ({COLUMNS}, month) SELECT {COLUMNS}, month FROM run_events")
    op.drop_table("run_events")
    op.execute("ALTER TABLE run_events_whole RENAME TO run_events")
    op.drop_column("run_events", "month")
    op.create_primary_key("pk_run_events", "run_events", ["run_id", "seq"])
    op.create_unique_constraint("uq_run_events_run_id_key", "run_events", ["run_id", "key"])
    op.create_unique_constraint("uq_run_events_id", "run_events", ["id"])
    op.create_unique_constraint("uq_run_events_position", "run_events", ["position"])
    op.create_foreign_key("fk_run_events_run_id_runs", "run_events", "runs", ["run_id"], ["id"])
    for index in (["tenant_id", "timestamp"], ["type", "timestamp"], ["correlation_id"]):
        op.create_index(f"ix_run_events_{'_'.join(index)}", "run_events", index)
    op.create_index(
        "ix_run_events_tenant_id_position",
        "run_events",
        ["tenant_id", "position"],
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    protect("run_events")
    op.execute(import_module("migrations.versions.0010_append_events").replacing())
    op.execute("DROP FUNCTION ensure_event_month(date), drop_event_month(date)")
    op.drop_table("event_archives")
    op.drop_table("event_positions")
    op.drop_index("ix_runs_events_month", "runs")
    for column in ("archived_seq", "archive_id", "events_month"):
        op.drop_column("runs", column)
    op.execute("ALTER TABLE runs FORCE ROW LEVEL SECURITY")
