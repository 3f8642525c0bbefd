"""A process that dies around its commits, and transactions that the database breaks off.

A worker's fates are spent one per platform transaction, in order; when none is left it lives. They are
bound to the task that runs it, so that workers in one process die each by themselves.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Literal, Self

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from activities.records.database import Connection, Database

Fate = Literal["lives", "dies before commit", "dies after commit", "conflict"]
FATES: tuple[Fate, ...] = ("dies before commit", "dies after commit", "conflict")

_fates: ContextVar[list[Fate] | None] = ContextVar("fates", default=None)


class DeathError(BaseException):
    """The process ends here: nothing catches it but who started the process."""


@contextmanager
def fated(fates: Sequence[Fate]) -> Generator[None]:
    """Let this task's next transactions end as ``fates`` say."""
    token = _fates.set(list(fates))
    try:
        yield
    finally:
        _fates.reset(token)


class MortalDatabase(Database):
    """A real database, used by processes that may die. The server lives, so connections are not tried out."""

    def __init__(self, app_url: str, platform_url: str, *, max_connections: int = 20) -> None:
        super().__init__(app_url, platform_url, max_connections=max_connections, name="mortal")
        self._platform = AsyncConnectionPool[Connection](
            platform_url,
            kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": 1},
            min_size=0,
            max_size=max_connections,
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[Connection]:
        fates = _fates.get()
        fate: Fate = fates.pop(0) if fates else "lives"
        async with super().platform() as connection:
            yield connection
            if fate == "dies before commit":
                raise DeathError
            if fate == "conflict":
                raise psycopg.errors.SerializationFailure
        if fate == "dies after commit":
            raise DeathError
