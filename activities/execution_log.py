"""An agent's standard error as ``log`` events of its run, while it runs."""

import asyncio
import contextlib
from types import TracebackType

import structlog

from activities.records.database import Database, DatabaseUnavailableError
from activities.records.runs import append_events
from models.event import EventType, NewEvent

logger = structlog.get_logger()

FLUSH_SECONDS = 0.4
"""People read along; more often would only cost transactions."""

MAX_LOG_BYTES = 256 * 1024
"""Of one attempt; what comes after is only in the kept end of standard error."""

MAX_EVENT_CHARACTERS = 16_000


class ExecutionLog:
    """Collects output and appends it to the run's events in batches.

    The log is a convenience for those who watch: when the database is away, lines wait for the next flush,
    and an execution never fails for its log. The end of standard error is kept with the execution anyway.
    """

    def __init__(self, database: Database, tenant_id: str, run_id: str, attempt: int) -> None:
        """Log to the run ``run_id``; ``attempt`` keeps the keys of a retry apart."""
        self._database = database
        self._tenant_id = tenant_id
        self._run_id = run_id
        self._attempt = attempt
        self._pending = bytearray()
        self._total = 0
        self._count = 0
        self._batch: list[NewEvent] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ExecutionLog":
        self._task = asyncio.create_task(self._flush_regularly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if kind is not asyncio.CancelledError:
            await self._flush(final=True)

    def write(self, stream: str, data: bytes) -> None:
        """Take output as it comes; only standard error is a log, standard output is the result."""
        if stream != "stderr" or self._total >= MAX_LOG_BYTES:
            return
        taken = data[: MAX_LOG_BYTES - self._total]
        self._total += len(taken)
        self._pending += taken

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self, *, final: bool = False) -> None:
        # A batch keeps its events until the store has it: sent again, it is the same batch.
        self._batch = self._batch or self._next_batch(final=final)
        if not self._batch:
            return
        try:
            async with self._database.tenant(self._tenant_id) as connection:
                await append_events(connection, self._run_id, self._batch)
        except DatabaseUnavailableError:
            logger.warning("log_waits_for_database", run_id=self._run_id)
            return
        self._batch = []

    def _next_batch(self, *, final: bool) -> list[NewEvent]:
        # Whole lines only, so that no character is cut in two; at the end whatever there is.
        end = len(self._pending) if final else self._pending.rfind(b"\n") + 1
        text = self._pending[:end].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        del self._pending[:end]
        events: list[NewEvent] = []
        for start in range(0, len(text), MAX_EVENT_CHARACTERS):
            self._count += 1
            events.append(
                NewEvent(
                    type=EventType.LOG,
                    key=f"log:{self._attempt}:{self._count}",
                    data={"stream": "stderr", "text": text[start : start + MAX_EVENT_CHARACTERS]},
                    source="sandbox",
                )
            )
        return events
