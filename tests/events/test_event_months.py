"""Old months leave the store for S3, and nobody who reads can tell."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from alembic import command

from activities.housekeeping import UPLOAD_REST
from activities.publishing import upload_key
from activities.records.archives import due_months, lagging_groups
from activities.records.database import Database
from activities.records.migrate import alembic_config, upgrade
from activities.services import Services, open_services
from activities.streams.archive import archive_month
from activities.streams.publisher import Publisher
from activities.temporal.client import connect
from cli.stack.secrets import SecretStore
from models.run import Run
from models.settings import Settings
from models.table import utc_now
from models.task_queues import TaskQueue
from tests.api.calling import bearer
from tests.events.conftest import Token
from tests.events.log import a_run, end, write
from tests.eventually import eventually
from tests.histories.record import check_history
from worker import running_workers
from workflows.housekeeping import Housekeeping

LONG_AGO = date(2024, 3, 1)


async def made_in(store: Database, run: Run, month: date, *, ended: bool = True) -> None:
    """Pretend that the run is of a month long gone."""
    async with store.platform() as connection:
        await connection.execute("SELECT ensure_event_month(%s)", [month])
        await connection.execute("UPDATE run_events SET month = %s WHERE run_id = %s", [month, run.id])
        await connection.execute(
            "UPDATE runs SET events_month = %s, ended_at = CASE WHEN %s THEN %s::timestamptz END "
            "WHERE id = %s",
            [month, ended, datetime(month.year, month.month, 20, tzinfo=UTC), run.id],
        )


async def followed(web: httpx.AsyncClient, path: str, headers: dict[str, str]) -> list[str]:
    """The lines of a stream up to its end, without the hint when to come back."""
    async with web.stream("GET", path, headers=headers) as answer:
        return [line async for line in answer.aiter_lines() if line.startswith(("id:", "event:", "data:"))]


async def settled(store: Database, *runs: Run) -> None:
    """Publish what these tests wrote, and let every group be done with it."""
    publisher = Publisher(store)
    while await publisher.pass_once():
        continue
    async with store.platform() as connection:
        await connection.execute("UPDATE event_groups SET position = (SELECT position FROM event_positions)")


async def test_an_archived_run_reads_and_streams_as_before(
    store: Database, web: httpx.AsyncClient, token: Token, event_services: Services
) -> None:
    old, lasting = await a_run(store), await a_run(store)
    await write(store, old, *(f"k{number}" for number in range(600)))
    await end(store, old)
    await write(store, lasting, "a", "b")
    await settled(store)
    await made_in(store, old, LONG_AGO)
    await made_in(store, lasting, LONG_AGO, ended=False)
    headers = bearer(token(old.tenant_id))
    page = f"/runs/{old.id}/events?fromSeq=300&limit=1000"
    before = (await web.get(page, headers=headers)).json()
    stream = await followed(web, f"/runs/{old.id}/stream", headers)
    assert len(before["data"]["items"]) == 302
    assert len([line for line in stream if line.startswith("id:")]) == 601

    done = await archive_month(store, event_services.objects, LONG_AGO, beat=lambda: None)

    assert (done.runs, done.events, done.carried, done.dropped) == (1, 601, 1, True)
    async with store.platform() as connection:
        gone = await connection.execute("SELECT FROM run_events WHERE run_id = %s", [old.id])
        kept = await connection.execute("SELECT FROM run_events WHERE run_id = %s", [lasting.id])
        assert (gone.rowcount, kept.rowcount) == (0, 2)
    assert (await web.get(page, headers=headers)).json() == before
    assert await followed(web, f"/runs/{old.id}/stream", headers) == stream
    assert (await followed(web, f"/runs/{old.id}/stream?fromSeq=601", headers))[0] == "id: 601"
    again = {**headers, "Last-Event-ID": "601"}
    assert (await web.get(f"/runs/{old.id}/stream", headers=again)).status_code == 204
    stranger = await web.get(page, headers=bearer(token("tenant-other")))
    assert stranger.status_code == 404
    # What is told of it later stands behind what was archived.
    await write(store, old, "late")
    await settled(store)
    late = (await web.get(f"/runs/{old.id}/events?fromSeq=600", headers=headers)).json()["data"]["items"]
    assert [event["seq"] for event in late] == [600, 601, 602]


async def test_a_month_stays_until_every_group_has_handled_it(
    store: Database, web: httpx.AsyncClient, token: Token, event_services: Services
) -> None:
    month = date(2024, 5, 1)
    run = await a_run(store)
    await write(store, run, "a")
    await end(store, run)
    await settled(store)
    await made_in(store, run, month)
    headers = bearer(token(run.tenant_id))
    await web.post("/consumer-groups", json={"name": "slow", "position": 0}, headers=headers)
    waiting = await archive_month(store, event_services.objects, month, beat=lambda: None)
    assert (waiting.waits_for, waiting.dropped) == ([f"{run.tenant_id}/slow"], False)
    await web.delete("/consumer-groups/slow", headers=headers)
    assert (await archive_month(store, event_services.objects, month, beat=lambda: None)).dropped


async def test_months_are_due_when_the_retention_after_their_end_is_over(store: Database) -> None:
    async with store.platform() as connection:
        await connection.execute("SELECT ensure_event_month('2023-01-01')")
        today = utc_now().date()
        months_since = (today.year - 2023) * 12 + today.month - 1
        assert date(2023, 1, 1) in await due_months(connection, retention_months=months_since - 1)
        assert date(2023, 1, 1) not in await due_months(connection, retention_months=months_since)


@pytest.fixture
async def event_services(event_settings: Settings) -> AsyncIterator[Services]:
    async with open_services(event_settings, name="switchyard-test-housekeeping") as services:
        yield services


async def test_the_night_archives_forgets_and_sweeps(store: Database, event_services: Services) -> None:
    run = await a_run(store)
    await write(store, run, "a")
    await end(store, run)
    await settled(store)
    await made_in(store, run, date(2024, 8, 1))
    async with store.tenant(run.tenant_id) as connection:
        for key, days in (("old", 40), ("new", 1)):
            await connection.execute(
                "INSERT INTO idempotency_records (tenant_id, user_id, key, operation, request_hash, "
                "subject_id, created_at) "
                "VALUES (%s, 'u', %s, 'o', '', 's', now() - make_interval(days => %s))",
                [run.tenant_id, key, days],
            )
    left = upload_key(run.id)
    await event_services.objects.put(left, b"submitted")
    assert left in await event_services.objects.list(upload_key(""), before=utc_now() + UPLOAD_REST)

    client = await connect(event_services.settings, event_services.objects)

    async def handled() -> bool:
        async with store.platform() as connection:
            cursor = await connection.execute("SELECT FROM event_groups WHERE name = 'webhooks'")
            return cursor.rowcount == 1 and not await lagging_groups(connection, date(2024, 8, 1))

    async with running_workers(event_services, client, [TaskQueue.CORE]):
        await eventually(handled)
        handle = await client.start_workflow(
            Housekeeping.run, id=f"housekeeping-{run.id}", task_queue=TaskQueue.CORE
        )
        summary = await handle.result()

    assert date(2024, 8, 1) in [each.month for each in summary.months if each.dropped]
    assert summary.requests_forgotten >= 1
    async with store.tenant(run.tenant_id) as connection:
        rows = await (await connection.execute("SELECT key FROM idempotency_records")).fetchall()
    assert [row["key"] for row in rows] == ["new"]
    assert await event_services.objects.exists(left), "an upload of today may still be scanned"
    await check_history(handle, "housekeeping/night", event_services.settings)


@pytest.fixture
def empty_database(postgres: Settings, stack_directory: Any) -> str:
    """Address of a database of its own, as the schema's owner."""
    owner = urlsplit(postgres.database_owner_url.get_secret_value())
    password = SecretStore(stack_directory / "postgres" / "secrets").password("postgres_admin")
    admin = owner._replace(netloc=f"postgres:{password}@{owner.hostname}:{owner.port}").geturl()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE event_months OWNER switchyard_owner")
    return owner._replace(path="/event_months").geturl()


def test_the_migration_moves_every_event_into_its_month_and_back(empty_database: str) -> None:
    config = alembic_config(empty_database)
    command.upgrade(config, "0016")
    with psycopg.connect(empty_database) as connection:
        for table in ("runs", "run_events"):
            connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")  # pyright: ignore[reportArgumentType, reportCallIssue]
        for number, month in enumerate(("2026-01", "2026-03"), start=1):
            connection.execute(
                "INSERT INTO runs (id, tenant_id, kind, status, subject, correlation_id, workflow_id, "
                "last_seq, published_seq, created_at) "
                "VALUES (%(id)s, 't', 'flow', 'SUCCEEDED', 's', 'c', 'w', 2, 2, %(at)s)",
                {"id": f"r{number}", "at": f"{month}-10T00:00:00Z"},
            )
            for seq in (1, 2):
                connection.execute(
                    "INSERT INTO run_events (run_id, seq, id, key, tenant_id, type, source, timestamp, data, "
                    "correlation_id, position) VALUES "
                    "(%(run)s, %(seq)s, %(id)s, %(id)s, 't', 'log', 's', now(), '{}', 'c', %(position)s)",
                    {"run": f"r{number}", "seq": seq, "id": f"e{number}-{seq}", "position": 2 * number + seq},
                )
    upgrade(empty_database)
    with psycopg.connect(empty_database) as connection:
        connection.execute("ALTER TABLE run_events NO FORCE ROW LEVEL SECURITY")
        connection.execute("ALTER TABLE event_positions NO FORCE ROW LEVEL SECURITY")
        rows = connection.execute(
            "SELECT tableoid::regclass::text, id FROM run_events ORDER BY position"
        ).fetchall()
        assert rows == [
            ("run_events_2026_01", "e1-1"),
            ("run_events_2026_01", "e1-2"),
            ("run_events_2026_03", "e2-1"),
            ("run_events_2026_03", "e2-2"),
        ]
        assert connection.execute("SELECT position FROM event_positions").fetchone() == (6,)
    command.downgrade(config, "0016")
    with psycopg.connect(empty_database) as connection:
        connection.execute("ALTER TABLE run_events NO FORCE ROW LEVEL SECURITY")
        assert connection.execute("SELECT count(*) FROM run_events").fetchone() == (4,)
