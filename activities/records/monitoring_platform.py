"""What operators watch over all tenants: lag, dead letters, money whose place is not known."""

from dataclasses import dataclass

from activities.records.database import Connection
from models.ledger import AccountKind
from models.monitoring import ALL_TIME, PLATFORM_TENANT, Measure, Resolution
from models.payment import SettlementStatus


@dataclass(frozen=True)
class LogState:
    """The way of events from the writer to the reader.

    Attributes:
        unpublished_runs: Runs with events that nobody can see yet.
        publisher_lag_seconds: How long the oldest of them has waited.
        measuring_lag: Published events that are not in the measurements.
        open_dead_letters: Events that consumer groups gave up on.
    """

    unpublished_runs: int
    publisher_lag_seconds: float
    measuring_lag: int
    open_dead_letters: int


@dataclass(frozen=True)
class DatabaseState:
    """Connections of the database server."""

    used: int
    limit: int


@dataclass(frozen=True)
class MoneyState:
    """Money whose place is not known.

    Attributes:
        open_settlements: Settlements that no rail has answered for good.
        oldest_unknown_seconds: How long the oldest unknown one is open; 0 where there is none.
        suspense: Currency → minor units in suspense accounts, both directions added.
    """

    open_settlements: int
    oldest_unknown_seconds: float
    suspense: dict[str, int]


@dataclass(frozen=True)
class Standing:
    """What stands now, over all tenants: kind of run → how many go on, and approvals that wait."""

    active_runs: dict[str, int]
    pending_approvals: int


async def read_log_state(connection: Connection) -> LogState:
    """Read how far publishing and measuring are behind; the platform's transaction."""
    # Each part is answered by an index: unpublished runs, the last position, open letters.
    row = await (
        await connection.execute(
            """
            SELECT (SELECT count(*) FROM runs WHERE published_seq < last_seq) AS unpublished,
                   (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(updated_at)), 0)
                    FROM runs WHERE published_seq < last_seq)::float AS lag,
                   (SELECT coalesce(max(position), 0) FROM event_positions) AS published,
                   (SELECT coalesce(max(total), 0) FROM measurements WHERE tenant_id = %(platform)s
                    AND resolution = %(all)s AND measure = %(position)s)::bigint AS measured,
                   (SELECT count(*) FROM event_dead_letters WHERE resolved_at IS NULL) AS letters
            """,
            {"platform": PLATFORM_TENANT, "all": Resolution.ALL, "position": Measure.POSITION},
        )
    ).fetchone()
    assert row is not None, "a row of sub-selects always exists"
    return LogState(
        unpublished_runs=row["unpublished"],
        publisher_lag_seconds=max(0.0, row["lag"]),
        measuring_lag=max(0, row["published"] - row["measured"]),
        open_dead_letters=row["letters"],
    )


async def read_database_state(connection: Connection) -> DatabaseState:
    """Read how many of the server's connections are in use."""
    row = await (
        await connection.execute(
            "SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int AS used, "
            "current_setting('max_connections')::int AS limit"
        )
    ).fetchone()
    assert row is not None, "a row of sub-selects always exists"
    return DatabaseState(used=row["used"], limit=row["limit"])


async def read_money_state(connection: Connection) -> MoneyState:
    """Read which settlements are open and what lies in suspense; the platform's transaction."""
    row = await (
        await connection.execute(
            """
            SELECT count(*) AS open,
                   coalesce(max(extract(epoch FROM now() - coalesce(first_sent_at, requested_at)))
                            FILTER (WHERE status = %(unknown)s), 0)::float AS oldest
            FROM settlements WHERE status IN ('requested', 'sent', 'unknown')
            """,
            {"unknown": SettlementStatus.UNKNOWN},
        )
    ).fetchone()
    assert row is not None, "an aggregate always has a row"
    cursor = await connection.execute(
        "SELECT currency, sum(abs(balance))::bigint AS amount FROM ledger_accounts "
        "WHERE kind = %s GROUP BY currency",
        [AccountKind.SUSPENSE],
    )
    suspense = {each["currency"]: each["amount"] for each in await cursor.fetchall()}
    return MoneyState(open_settlements=row["open"], oldest_unknown_seconds=row["oldest"], suspense=suspense)


async def read_all_standing(connection: Connection) -> Standing:
    """Read what stands now over all tenants; the platform's transaction."""
    cursor = await connection.execute(
        "SELECT measure, scope, sum(count)::bigint AS count FROM measurements "
        "WHERE resolution = %s AND measure = ANY (%s) AND bucket = %s GROUP BY measure, scope",
        [Resolution.ALL, [Measure.ACTIVE_RUNS, Measure.PENDING_APPROVALS], ALL_TIME],
    )
    rows = await cursor.fetchall()
    return Standing(
        active_runs={row["scope"]: row["count"] for row in rows if row["measure"] == Measure.ACTIVE_RUNS},
        pending_approvals=sum(row["count"] for row in rows if row["measure"] == Measure.PENDING_APPROVALS),
    )
