"""The dashboard over 1 000 000 runs and 10 000 000 events (goal: 50 ms at p95).

``python -m bench.monitoring [--runs N] [--requests N]``. Runs and events are copied in bulk into a PostgreSQL
that is started for it and thrown away; the product's own code then measures all of them, and the endpoints
are asked over HTTP, with authentication and limits, while more events come in.
"""

import argparse
import asyncio
import io
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from activities.monitoring import BATCH, Measurer
from activities.records.database import Database
from activities.records.migrate import upgrade
from activities.records.monitoring import lock_position, move_position
from activities.records.monitoring_figures import read_dashboard
from activities.telemetry.logs import configure_logging
from api.issuer_key import IssuerKey
from bench.figures import Figure, percentile, report
from cli.stack.embedded import EmbeddedStack
from cli.stack.secrets import SecretStore
from models.identity import Role
from models.settings import Settings
from tests.api.calling import bearer, serving, with_issuer

GOAL_MILLISECONDS = 50
EVENTS_PER_RUN = 10
DAYS = 30
TENANTS = 10
"""Half of the runs are the first one's."""

AGENTS = 200
DEFINITIONS = 20
ELEMENTS = 4

RUN_COLUMNS = (
    "id, tenant_id, kind, status, subject, correlation_id, workflow_id, last_seq, published_seq, "
    "created_at, updated_at, started_at, ended_at, events_month, archived_seq"
)
EVENT_COLUMNS = (
    'run_id, seq, month, id, key, tenant_id, type, source, "timestamp", data, correlation_id, '
    "published_at, position"
)
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = 'run_events'::regclass AND relname LIKE 'ix_%'
"""


class Story:
    """Run number ``number`` of the bench; the same number is always the same run."""

    def __init__(self, number: int, runs: int, end: datetime) -> None:
        chance = random.Random(number)
        self.number = number
        self.tenant = f"bench-{0 if chance.random() < 0.5 else chance.randrange(1, TENANTS)}"
        self.flow = chance.random() < 0.3
        self.kind = "flow" if self.flow else "agent_execution"
        self.subject = f"process-{number % DEFINITIONS}" if self.flow else f"agent-{number % AGENTS}"
        self.definition = f"flow_{number % DEFINITIONS:032x}"
        self.id = f"{'inst' if self.flow else 'exec'}_{number:032x}"
        self.created = end - timedelta(days=DAYS) * (1 - number / runs)
        self.length = chance.randrange(200, 60_000)
        # The last thousandth still goes on.
        self.status = (
            "RUNNING" if number >= runs - runs // 1000 else "FAILED" if number % 20 == 0 else "SUCCEEDED"
        )

    def at(self, share: float) -> str:
        return (self.created + timedelta(milliseconds=self.length * share)).isoformat()

    @property
    def month(self) -> date:
        return self.created.date().replace(day=1)

    def row(self) -> str:
        ended = "\\N" if self.status == "RUNNING" else self.at(1)
        cells = [self.id, self.tenant, self.kind, self.status, self.subject, self.id, self.id]
        cells += [str(EVENTS_PER_RUN)] * 2
        cells += [self.at(0), self.at(1), self.at(0.05), ended, str(self.month), "0"]
        return "\t".join(cells) + "\n"

    def events(self) -> Iterator[str]:
        said: list[tuple[str, str]] = [("run.queued", "{}"), ("run.dispatched", "{}"), ("run.started", "{}")]
        if self.flow:
            said.append(("flow.started", f'{{"definition_id": "{self.definition}"}}'))
            for key in range(2):
                step = (
                    f'{{"element": "e{(self.number + key) % ELEMENTS}", "key": {key}, "kind": "serviceTask"}}'
                )
                said += [("task.started", step), ("task.completed", step)]
            said.append(("state.updated", '{"version": 2}'))
        else:
            said += [("log", '{"text": "working", "stream": "stderr"}')] * 4
            said.append(("agent.completed", f'{{"duration_ms": {self.length}}}'))
            said.append(("payment.settled", '{"amount": 50, "currency": "INR", "rail": "wallet"}'))
        last = {"SUCCEEDED": "run.succeeded", "FAILED": "run.failed", "RUNNING": "log"}[self.status]
        said.append((last, '{"code": "TIMEOUT"}' if self.status == "FAILED" else "{}"))
        for seq, (kind, data) in enumerate(said, start=1):
            position = self.number * EVENTS_PER_RUN + seq
            moment = self.at(seq / EVENTS_PER_RUN)
            cells = [self.id, str(seq), str(self.month), f"evt_{position:032x}", str(seq), self.tenant, kind]
            cells += ["bench", moment, data, self.id, moment, str(position)]
            yield "\t".join(cells) + "\n"


def fill(admin_url: str, runs: int) -> float:
    """Copy the runs and their events in, and return how many seconds it took."""
    started = time.perf_counter()
    end = datetime.now(UTC)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '512MB'")
        for month in {Story(number, runs, end).month for number in range(0, runs, max(1, runs // 100))}:
            connection.execute("SELECT ensure_event_month(%s)", [month])
        indexes = connection.execute(INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY runs ({RUN_COLUMNS}) FROM STDIN".encode()) as copy:
                for first in range(0, runs, 1000):
                    numbers = range(first, min(runs, first + 1000))
                    copy.write("".join(Story(number, runs, end).row() for number in numbers))
            with cursor.copy(f"COPY run_events ({EVENT_COLUMNS}) FROM STDIN".encode()) as copy:
                for first in range(0, runs, 1000):
                    numbers = range(first, min(runs, first + 1000))
                    copy.write(
                        "".join(line for number in numbers for line in Story(number, runs, end).events())
                    )
        for _, definition in indexes:
            connection.execute(str(definition).encode())
        connection.execute("UPDATE event_positions SET position = %s", [runs * EVENTS_PER_RUN])
        connection.execute("VACUUM ANALYZE runs, run_events")
    return time.perf_counter() - started


async def measure_all(database: Database, after: int) -> float:
    """Measure what was copied, from a position on, and return how many seconds it took."""
    async with database.platform() as connection:
        await lock_position(connection)
        await move_position(connection, after, events=0)
    started = time.perf_counter()
    measurer = Measurer(database)
    done, told = 0, 0
    while count := await measurer.pass_once(limit=10 * BATCH):
        done += count
        if done - told >= 100_000:
            told = done
            print(f"  {done} events measured after {time.perf_counter() - started:.0f} s", flush=True)
    return time.perf_counter() - started


async def ask(url: str, token: str, paths: dict[str, str], requests: int) -> list[Figure]:
    """Ask each path ``requests`` times, one after the other, and return p50 and p95."""
    figures: list[Figure] = []
    async with httpx.AsyncClient(base_url=url, headers=bearer(token), trust_env=False, timeout=60) as client:
        for name, path in paths.items():
            for _ in range(20):
                (await client.get(path)).raise_for_status()
            times: list[float] = []
            for _ in range(requests):
                started = time.perf_counter()
                (await client.get(path)).raise_for_status()
                times.append((time.perf_counter() - started) * 1000)
            goal = f"< {GOAL_MILLISECONDS}" if name == "dashboard" else ""
            figures.append(Figure(f"{name}, p50", percentile(times, 0.5), "ms"))
            figures.append(Figure(f"{name}, p95", percentile(times, 0.95), "ms", goal))
    return figures


def token_of(settings: Settings) -> str:
    """Make a token of the largest tenant."""
    key = IssuerKey.from_settings(settings)
    assert key is not None, "the settings name a key"
    return key.issue(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name="bench",
        tenant_id="bench-0",
        roles=[Role.OPERATOR],
        lifetime_seconds=3600,
    )


async def measure(settings: Settings, runs: int, requests: int, share: float) -> list[Figure]:
    """Measure the copied events, then ask the endpoints."""
    async with Database(
        settings.database_url.get_secret_value(), settings.database_platform_url.get_secret_value()
    ) as database:
        events = int(runs * share) * EVENTS_PER_RUN
        seconds = await measure_all(database, runs * EVENTS_PER_RUN - events)
        async with database.platform() as connection:
            row = await (await connection.execute("SELECT count(*) AS rows FROM measurements")).fetchone()
        times: list[float] = []
        for _ in range(requests):
            started = time.perf_counter()
            async with database.tenant("bench-0") as connection:
                await read_dashboard(connection, datetime.now(UTC))
            times.append((time.perf_counter() - started) * 1000)
    assert row is not None, "an aggregate always has a row"
    paths = {
        "an answer that reads nothing, for comparison": "/health/live",
        "dashboard": "/api/monitoring/dashboard",
        "metrics of an agent over 24 h": "/api/monitoring/agents/agent-7/metrics?period=24h",
        "analytics of a process over 7 d": f"/api/monitoring/flows/flow_{7:032x}/analytics?period=7d",
        "costs over 30 d, 200 agents": "/api/monitoring/costs?period=30d",
    }
    with serving(settings) as url:
        asked = await ask(url, token_of(settings), paths, requests)
    return [
        Figure("events measured", events, ""),
        Figure("events measured per second", events / seconds, "/s"),
        Figure("rows that they became", row["rows"], ""),
        Figure("the dashboard's transaction alone, p50", percentile(times, 0.5), "ms"),
        Figure("the dashboard's transaction alone, p95", percentile(times, 0.95), "ms"),
        *asked,
    ]


def main() -> None:
    """Start PostgreSQL, fill it, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument(
        "--measured", type=float, default=1.0, help="share of the runs, the last ones, that is measured"
    )
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # A line per request is the product's way, a coloured one is not.
    configure_logging("info", "json", service="bench", stream=io.StringIO())
    with tempfile.TemporaryDirectory(prefix="bench-monitoring-") as directory:
        where = Path(directory)
        with EmbeddedStack(where, parts=["postgres"], durable=False, ports="auto") as stack:
            owner_url = stack.database_owner_url.get_secret_value()
            upgrade(owner_url)
            address = urlsplit(owner_url)
            password = SecretStore(where / "secrets").password("postgres_admin")
            admin = address._replace(netloc=f"postgres:{password}@{address.hostname}:{address.port}")
            filled = fill(admin.geturl(), options.runs)
            issuer = where / "issuer"
            issuer.mkdir()
            settings = with_issuer(stack, issuer)
            figures = [
                Figure("copying them in (not the product's way)", filled, "s"),
                *asyncio.run(measure(settings, options.runs, options.requests, options.measured)),
            ]
    report(f"{options.runs} runs, {options.runs * EVENTS_PER_RUN} events", figures, options.json)


if __name__ == "__main__":
    main()
