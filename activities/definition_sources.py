"""Sources of deployed processes by their hash, shared by everything in a worker process.

Content under a hash never changes, so a source that is known here is known for good. Workflow code asks with
`DefinitionSources.get`, which may read the store: what it answers is fixed by the hash, so a replay sees the
same, and where the store is away the workflow task fails and is tried again.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from activities.records.database import Database
from activities.records.process_definitions import find_content
from models.errors import PlatformError

MAX_KNOWN = 500
"""Sources kept; the least lately used one goes first and is read again when needed."""

READ_SECONDS = 1.5
"""Temporal takes a workflow that computes for 2 s for dead."""


class DefinitionUnreadableError(Exception):
    """A definition cannot be read here and now.

    Not one of our refusals on purpose: in workflow code those end a run, and this must only delay it.
    """

    def __init__(self, content_hash: str, reason: str) -> None:
        super().__init__(f"the definition {content_hash[:12]} cannot be read: {reason}")


@dataclass(frozen=True)
class DefinitionSource:
    """What a graph is made from.

    Attributes:
        canonical: Canonical JSON of the definition.
        decisions: DMN files that its business rule tasks use.
    """

    canonical: bytes
    decisions: tuple[bytes, ...] = ()


class DefinitionSources:
    """The sources that this process knows."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, DefinitionSource] = OrderedDict()
        self._lock = threading.Lock()
        self._read: Callable[[str], DefinitionSource | None] | None = None

    def put(self, content_hash: str, source: DefinitionSource) -> None:
        """Make a source known."""
        with self._lock:
            self._known[content_hash] = source
            self._known.move_to_end(content_hash)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def has(self, content_hash: str) -> bool:
        """Tell whether the source is known without reading."""
        return content_hash in self._known

    def get(self, content_hash: str) -> DefinitionSource:
        """Return a source; reads it, and blocks for that, where it is not known yet.

        Raises:
            DefinitionUnreadableError: There is none, or the store did not answer in time.
        """
        with self._lock:
            found = self._known.get(content_hash)
            if found is not None:
                self._known.move_to_end(content_hash)
                return found
        try:
            found = self._read(content_hash) if self._read is not None else None
        except (PlatformError, TimeoutError) as error:
            raise DefinitionUnreadableError(content_hash, str(error)) from error
        if found is None:
            raise DefinitionUnreadableError(content_hash, "the store does not have it")
        self.put(content_hash, found)
        return found

    @asynccontextmanager
    async def reading(self, database: Database) -> AsyncGenerator[None]:
        """Read unknown sources from ``database`` while the block lasts; blocks other threads only."""
        loop = asyncio.get_running_loop()

        def read(content_hash: str) -> DefinitionSource | None:
            future = asyncio.run_coroutine_threadsafe(read_source(database, content_hash), loop)
            return future.result(READ_SECONDS)

        before, self._read = self._read, read
        try:
            yield
        finally:
            self._read = before


async def read_source(database: Database, content_hash: str) -> DefinitionSource | None:
    """Read a source from the store."""
    async with database.platform() as connection:
        found = await find_content(connection, content_hash)
    if found is None:
        return None
    model, decisions = found
    return DefinitionSource(orjson.dumps(model), tuple(text.encode() for text in decisions))


SOURCES = DefinitionSources()
"""The one of this process."""
