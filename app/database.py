"""Transactions on PostgreSQL that end in time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from app.errors import DatabaseUnavailable
from app.postgres import migration
from app.postgres.connections import UNAVAILABLE, Connection, Connector, reason

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Ten services of one worker each, with three connections more each for reading, stay below the
# hundred connections that PostgreSQL allows as it comes.
POOL_SIZE = 6


class _LostBeforeCommit(Exception):
    """The connection turned out to be dead and nothing was committed: a new one may do."""


class _Pool(AsyncAdaptedQueuePool):
    """A pool that keeps no connection once it was disposed of: nobody would close it."""

    _disposed = False

    def dispose(self) -> None:
        """Close the connections that lie idle now, and those in use when they are given back."""
        self._disposed = True
        super().dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self._disposed:
            record.close()
        super()._do_return_conn(record)  # Still given back: it wakes who waits for a slot.


class Database:
    """The connections to one PostgreSQL, or to whichever of several hosts is writable."""

    def __init__(self, url: str) -> None:
        self._connector = Connector(url)
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connector.open,
            poolclass=_Pool,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        event.listen(self._engine.sync_engine, "checkout", self._check)
        event.listen(self._engine.sync_engine, "checkin", _note_use)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def generation(self) -> int:
        """The generation of the connections that may be used, see Connector."""
        return self._connector.generation

    async def transaction(
        self, work: Callable[[AsyncSession], Awaitable[T]], *, deadline: float
    ) -> T:
        """Return what `work` returns, committed; `deadline` is a time of the event loop's clock.

        Raises DatabaseUnavailable when PostgreSQL does not answer by then; what `work` did is
        then rolled back, unless the connection was lost in the middle of the commit itself. The
        work has a task of its own: a caller who goes away does not tear a transaction apart.
        """
        generation = self.generation
        task = asyncio.create_task(self._transact(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(task)
        except TimeoutError:
            task.cancel()
            log.warning("database does not answer in time")
            await self.distrust(generation)
            raise DatabaseUnavailable from None

    async def _transact(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        try:
            try:
                return await self._attempt(work)
            except _LostBeforeCommit:
                return await self._attempt(work)
        except (*UNAVAILABLE, _LostBeforeCommit) as error:
            log.warning("database unavailable", reason=reason(error))
            raise DatabaseUnavailable from error

    async def _attempt(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        committing = False
        try:
            async with self._sessions.begin() as session:
                result = await work(session)
                committing = True
        except DBAPIError as error:
            if error.connection_invalidated and not committing:
                raise _LostBeforeCommit(reason(error)) from error
            raise
        else:
            return result

    async def connect(self) -> Connection:
        """Return a connection of its own in autocommit mode, outside of the pool."""
        try:
            connection = await self._connector.open()
        except psycopg.OperationalError:
            # Where connections are scarce, those that lie idle in the pool keep this one out.
            await self._engine.dispose()
            raise
        await connection.set_autocommit(True)
        return connection

    async def distrust(self, generation: int) -> None:
        """Let nobody use a connection of this generation again, see Connector."""
        if self._connector.distrust(generation):
            await self._engine.dispose()

    async def migrate(self) -> None:
        """Bring the schema up to date, see `app.postgres.migration`; raises StartError."""
        await migration.migrate(self._engine)

    async def close(self) -> None:
        """Wait for the transactions under way, then close every connection."""
        for _ in range(3):  # One that is cancelled once waits ten seconds for a frozen PostgreSQL.
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=1)
                for task in late:
                    task.cancel()
        await self._engine.dispose()

    def _check(self, dbapi_connection: Any, _record: object, _proxy: object) -> None:
        """Keep the pool from handing out a connection that died while it lay idle."""
        if dbapi_connection.driver_connection.is_idle:
            dbapi_connection.run_async(self._check_idle)

    async def _check_idle(self, connection: Connection) -> None:
        try:
            if await connection.answers():
                return
        except TimeoutError:
            await self.distrust(connection.generation)
        raise DisconnectionError("the connection does not answer")


def _note_use(dbapi_connection: Any, _record: object) -> None:
    if dbapi_connection is not None:
        dbapi_connection.driver_connection.used = time.monotonic()
