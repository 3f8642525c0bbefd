"""Transactions on PostgreSQL, each bound to one tenant or, explicitly, to the platform.

Two login roles, two pools. ``tenant()`` runs as ``switchyard_app``: row-level security shows it the
tenant's rows only. ``platform()`` runs as ``switchyard_platform``, for the few jobs that cross tenants
by nature (posting a user's payment to a developer, publishing events, finding an API key's owner).
Neither role can bypass row-level security; the platform role has policies of its own.
"""

import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from models.errors import UnavailableError

Connection = psycopg.AsyncConnection[DictRow]
"""A connection inside a transaction whose rows are dictionaries."""

ACQUIRE_TIMEOUT_SECONDS = 10.0


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL does not answer, or ended the transaction; the same work may be tried again."""

    code = "DATABASE_UNAVAILABLE"

    def __init__(self, reason: BaseException) -> None:
        super().__init__(
            f"The database did not complete the transaction ({type(reason).__name__}); try again."
        )


class Database:
    """Gives transactions. Open it once per process, on the event loop that uses it."""

    def __init__(
        self, app_url: str, platform_url: str, *, max_connections: int = 20, name: str = "switchyard"
    ) -> None:
        """Prepare pools of at most ``max_connections`` connections each; nothing connects yet.

        Args:
            app_url: ``postgresql://`` address with the application's role.
            platform_url: The same with the platform's role.
            max_connections: Upper size of each pool.
            name: Shown as ``application_name`` by PostgreSQL.
        """
        self._app = _pool(app_url, max_connections, f"{name}-app")
        self._platform = _pool(platform_url, max_connections, f"{name}-platform")

    async def open(self) -> None:
        """Start both pools; connections are made when first needed."""
        await self._app.open()
        await self._platform.open()

    async def close(self) -> None:
        """Close every connection; transactions in flight are rolled back."""
        await self._app.close()
        await self._platform.close()

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncGenerator[Connection]:
        """Open a transaction that sees and writes the rows of one tenant only.

        It commits when the block ends and rolls back when the block raises.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away or broke the transaction off.
        """
        async with _transaction(self._app, _begin(tenant_id)) as connection:
            yield connection

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[Connection]:
        """Open a transaction of the platform itself, which sees the rows of all tenants.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away or broke the transaction off.
        """
        async with _transaction(self._platform, "BEGIN") as connection:
            yield connection


def _pool(url: str, max_connections: int, name: str) -> AsyncConnectionPool[Connection]:
    options: dict[str, Any] = {"autocommit": True, "row_factory": dict_row, "application_name": name}
    return AsyncConnectionPool[Connection](
        url,
        kwargs=options,
        min_size=0,
        max_size=max_connections,
        timeout=ACQUIRE_TIMEOUT_SECONDS,
        check=_check,
        open=False,
        name=name,
    )


@lru_cache(maxsize=1024)
def _begin(tenant_id: str) -> str:
    # Both in one message: a transaction costs one round trip to open and one to end.
    return f"BEGIN; SET LOCAL app.tenant_id = {sql.quote(tenant_id)}"


async def _check(connection: Connection) -> None:
    """Ask the server only about a connection that has something to say: an idle one is silent until it dies.

    Raises:
        psycopg.OperationalError: The connection is lost; the pool makes another.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool[Connection].check_connection(connection)


@asynccontextmanager
async def _transaction(pool: AsyncConnectionPool[Connection], begin: str) -> AsyncGenerator[Connection]:
    try:
        # The pool's block commits when it ends and rolls back when it raises.
        async with pool.connection() as connection:
            await connection.execute(cast("LiteralString", begin), prepare=False)
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed) as error:
        raise DatabaseUnavailableError(error) from error
