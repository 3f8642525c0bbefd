"""Append events in one call: lock the run, look keys up, count on, insert (DESIGN §3, phase 1)."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Each statement of a volatile function has a snapshot of its own: the look-up of keys after the lock holds
# every event that an earlier holder of the lock committed.
_APPEND = """
CREATE FUNCTION append_run_events(
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
    INSERT INTO run_events (run_id, seq, id, key, tenant_id, type, source, "timestamp", data,
                            correlation_id, causation_id)
    SELECT run.id, run.last_seq + row_number() OVER (ORDER BY g.place), g.event ->> 'id', g.event ->> 'key',
           run.tenant_id, g.event ->> 'type', g.event ->> 'source',
           coalesce((g.event ->> 'timestamp')::timestamptz, clock_timestamp()), g.event -> 'data',
           run.correlation_id, g.event ->> 'causation_id'
    FROM jsonb_array_elements(given) WITH ORDINALITY AS g (event, place)
    -- A scalar look-up per event: as an anti-join, the planner reads all events of a long run.
    WHERE (SELECT e.seq FROM run_events e WHERE e.run_id = for_run AND e.key = g.event ->> 'key') IS NULL;
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


def replacing() -> str:
    """Return the statement that brings this version of the function back."""
    return _APPEND.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


def upgrade() -> None:
    op.execute(_APPEND)


def downgrade() -> None:
    op.execute("DROP FUNCTION append_run_events(text, jsonb, text, text[], jsonb, boolean)")
