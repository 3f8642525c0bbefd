"""Events of runs that ended long ago: packed into objects in S3, and read from there as if never moved.

An object holds the events of some runs of one tenant: gzip of one JSON document per line, by run and number.
"""

import asyncio
import gzip
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson

from activities.records.archives import (
    Archived,
    carry_over,
    drop_month,
    events_of,
    find_archived,
    lagging_groups,
    next_runs,
    record_archive,
)
from activities.records.database import Connection, Database
from activities.storage import ObjectStore
from models.errors import PlatformError
from models.event import EventArchive, RunEvent
from models.housekeeping import ArchiveSummary
from models.identifiers import new_identifier
from models.run import Run

RUNS_PER_OBJECT = 500
EVENTS_PER_OBJECT = 10_000
CARRIED_AT_ONCE = 100
KEPT_OBJECTS = 8
"""Unpacked objects that a reader keeps, for pages of the same run."""

_TIMES = ("timestamp", "published_at")


class ArchiveDamagedError(PlatformError):
    """An object with archived events is not what was written."""

    code = "EVENT_ARCHIVE_DAMAGED"

    def __init__(self, object_key: str) -> None:
        super().__init__(
            f"The archived events in {object_key} are not what was written; restore it from a backup.",
            details={"object_key": object_key},
        )


class ArchiveReader:
    """Reads archived events; one per process."""

    def __init__(self, objects: ObjectStore) -> None:
        """Read from ``objects``."""
        self._objects = objects
        self._kept: OrderedDict[str, dict[str, list[bytes]]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def read(self, where: Archived, *, after: int, limit: int) -> list[dict[str, Any]]:
        """Read the archived events of a run after a number, at most ``limit``, in order.

        Returns:
            Rows as of `activities.records.events.read_published`.

        Raises:
            UnavailableError: S3 is away.
            ArchiveDamagedError: The object was changed.
        """
        lines = (await self._runs_in(where)).get(where.run_id, [])
        # Numbers have no gap, so the place in the list is known.
        return [_row(line, where) for line in lines[after : min(after + limit, where.upto)]]

    async def _runs_in(self, where: Archived) -> Mapping[str, list[bytes]]:
        async with self._lock:
            kept = self._kept.get(where.object_key)
            if kept is None:
                packed = await self._objects.get(where.object_key)
                kept = self._kept[where.object_key] = await asyncio.to_thread(_unpack, packed, where)
                while len(self._kept) > KEPT_OBJECTS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(where.object_key)
            return kept


def _unpack(packed: bytes, where: Archived) -> dict[str, list[bytes]]:
    if hashlib.sha256(packed).digest() != where.sha256:
        raise ArchiveDamagedError(where.object_key)
    runs: dict[str, list[bytes]] = {}
    for line in gzip.decompress(packed).splitlines():
        runs.setdefault(orjson.loads(line)["run_id"], []).append(line)
    return runs


def _row(line: bytes, where: Archived) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(line)
    for name in _TIMES:
        row[name] = row[name] and datetime.fromisoformat(row[name])
    return row | {"final": row["seq"] == where.final}


def _pack(rows: Sequence[Mapping[str, Any]]) -> bytes:
    # Without a time of its own, the same events always make the same object.
    return gzip.compress(b"\n".join(orjson.dumps(dict(row)) for row in rows), mtime=0)


async def read_archived(
    connection: Connection, archive: ArchiveReader, run: Run, *, from_seq: int, limit: int
) -> list[RunEvent]:
    """Read a run's archived events from a number on; nothing where none are archived there."""
    if from_seq > run.archived_seq:
        return []
    where = await find_archived(connection, run.id)
    if where is None:
        return []
    rows = await archive.read(where, after=from_seq - 1, limit=limit)
    return [
        RunEvent(**{name: row[name] for name in row if name != "final"}, month=run.events_month)
        for row in rows
    ]


async def archive_month(
    database: Database, objects: ObjectStore, month: date, *, beat: Callable[[], None]
) -> ArchiveSummary:
    """Move a month's events to S3 and drop its partition; safe to repeat and to break off anywhere.

    Runs that go on move to the present month. Nothing leaves while a consumer group has not handled it.

    Raises:
        UnavailableError: Database or S3 are away.
    """
    summary = ArchiveSummary(month=month)
    async with database.platform() as connection:
        summary.waits_for = await lagging_groups(connection, month)
    if summary.waits_for:
        return summary
    while True:
        beat()
        async with database.platform() as connection:
            moved = await carry_over(connection, month, limit=CARRIED_AT_ONCE)
        summary.carried += moved
        if not moved:
            break
    reader = ArchiveReader(objects)
    while True:
        beat()
        async with database.platform() as connection:
            runs = _one_object(await next_runs(connection, month, limit=RUNS_PER_OBJECT))
            if not runs:
                break
            events = await events_of(connection, month, [run.id for run in runs])
            # A run that was archived before and then went on: its object takes the earlier events along.
            earlier = [found for run in runs if (found := await find_archived(connection, run.id))]
        rows = [row for where in earlier for row in await reader.read(where, after=0, limit=where.upto)]
        rows = [{name: row[name] for name in row if name != "final"} for row in rows]
        rows += [event.model_dump(exclude={"month"}) for event in events]
        rows.sort(key=lambda row: (row["run_id"], row["seq"]))
        packed = await asyncio.to_thread(_pack, rows)
        digest = hashlib.sha256(packed).digest()
        key = f"events/{month:%Y-%m}/{runs[0].tenant_id}/{digest.hex()}.jsonl.gz"
        await objects.put(key, packed, content_type="application/gzip")
        record = EventArchive(
            id=new_identifier("event_archive"),
            tenant_id=runs[0].tenant_id,
            month=month,
            object_key=key,
            sha256=digest,
            runs=len(runs),
            events=len(rows),
            last_position=max((row["position"] or 0 for row in rows), default=0),
        )
        async with database.platform() as connection:
            await record_archive(connection, record, runs)
        summary.runs += len(runs)
        summary.events += len(events)
        summary.objects += 1
    async with database.platform() as connection:
        summary.dropped = await drop_month(connection, month)
    return summary


def _one_object(runs: Sequence[Run]) -> list[Run]:
    taken: list[Run] = []
    events = 0
    for run in runs:
        events += run.last_seq
        if taken and events > EVENTS_PER_OBJECT:
            break
        taken.append(run)
    return taken
