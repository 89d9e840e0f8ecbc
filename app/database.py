"""Transactions and reads on PostgreSQL that end in time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, LiteralString, TypeVar

import psycopg
import structlog
from psycopg import AsyncCursor
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.errors import DatabaseUnavailable
from app.postgres import migration
from app.postgres.connections import UNAVAILABLE, Connector, cause, reason

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A worker needs few connections: each is in use for about a millisecond per write. Ten workers,
# with their readers, fit into PostgreSQL's default of a hundred.
POOL_SIZE = 6

# The second group is raised while a backup is being restored.
_NOT_READY = (
    *UNAVAILABLE,
    *(psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege),
)

# PostgreSQL was restarted, another host leads now, or a migration made the plan stale.
_RETRYABLE = (*UNAVAILABLE, psycopg.NotSupportedError)

# Seconds that PostgreSQL has to cancel what is late.
_CANCELLATION = 1.0


class Database:
    """The connections to one PostgreSQL, or to whichever of several hosts is writable.

    A deadline is a time of the event loop's clock. Whatever PostgreSQL has not answered by then
    raises DatabaseUnavailable, and no connection that was open at that time is used again: what
    froze one of them has frozen the others too.
    """

    def __init__(self, url: str) -> None:
        self._connector = Connector(url)
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connector.open,
            isolation_level="READ COMMITTED",
            pool_size=POOL_SIZE,
            max_overflow=-1,  # The semaphore is the limit.
            pool_use_lifo=True,
            hide_parameters=True,
        )
        event.listen(self._engine.sync_engine, "checkout", self._refuse_silent)
        # SQLAlchemy's own limit wakes no waiter when opening a connection fails.
        self._slots = asyncio.Semaphore(POOL_SIZE)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._idle_readers: list[AsyncCursor[Any]] = []
        self._silences = 0  # So far, each of one or more calls that were late.
        self._tasks: set[asyncio.Task[Any]] = set()

    async def transaction(
        self, work: Callable[[AsyncSession], Awaitable[T]], *, deadline: float
    ) -> T:
        """Return what `work` returns, committed.

        Raises DatabaseUnavailable; what `work` did is then rolled back, unless the connection was
        lost in the middle of the commit itself. A caller who goes away does not abort it.
        """
        return await asyncio.shield(self._start(self._in_time(self._transact(work), deadline)))

    async def fetch(
        self, sql: LiteralString, values: list[Any], deadline: float
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a prepared SELECT whose one parameter is an array.

        Raises DatabaseUnavailable.
        """
        return await self._in_time(self._fetch(sql, values), deadline)

    async def migrate(self, *, patience: float = migration.PATIENCE) -> None:
        """Bring the schema up to date, see `app.postgres.migration`; raises StartError."""
        await migration.migrate(self._engine, patience=patience)

    async def close(self) -> None:
        """Wait a second for what is under way, then close every connection."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
            await asyncio.gather(*map(_cancel, self._tasks))
        await self._engine.dispose()
        await self._close_idle_readers()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_time(self, work: Coroutine[Any, Any, T], deadline: float) -> T:
        silences = self._silences
        task = self._start(work)
        await asyncio.wait([task], timeout=deadline - asyncio.get_running_loop().time())
        if not task.done():
            self._start(_cancel(task))
            log.warning("database does not answer in time")
            if silences == self._silences:
                self._silences += 1
                await self._close_idle_readers()
            raise DatabaseUnavailable
        try:
            return task.result()
        except (DBAPIError, psycopg.Error, OSError) as error:
            if not isinstance(cause(error), _NOT_READY):
                raise
            log.warning("database unavailable", reason=reason(error))
            raise DatabaseUnavailable from error

    async def _transact(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        is_retry = False
        while True:
            is_committing = False
            try:
                async with self._slots, self._sessions.begin() as session:
                    result = await work(session)
                    is_committing = True
            except DBAPIError as error:
                # A connection that was lost before the commit is replaced once.
                if is_retry or is_committing or not error.connection_invalidated:
                    raise
                is_retry = True
            else:
                return result

    def _refuse_silent(self, _connection: object, entry: ConnectionPoolEntry, _: object) -> None:
        """Let SQLAlchemy replace a connection that was open when PostgreSQL fell silent."""
        if entry.info.setdefault("silences", self._silences) < self._silences:
            raise DisconnectionError

    async def _fetch(self, sql: LiteralString, values: list[Any]) -> list[tuple[Any, ...]]:
        # An idle connection may be dead: then the next one is used, at last a new one.
        while self._idle_readers:
            with suppress(*_RETRYABLE):
                return await self._fetch_by(self._idle_readers.pop(), sql, values)
        return await self._fetch_by(await self._new_reader(), sql, values)

    async def _fetch_by(
        self, reader: AsyncCursor[Any], sql: LiteralString, values: list[Any]
    ) -> list[tuple[Any, ...]]:
        try:
            await reader.execute(sql, [values], prepare=True)
            rows = await reader.fetchall()
        except BaseException:
            await reader.connection.close()
            raise
        self._idle_readers.append(reader)
        return rows

    async def _new_reader(self) -> AsyncCursor[Any]:
        """Return a cursor on a connection of its own.

        Both are kept, and their plan: to make a cursor or a plan costs about as much as to
        execute the SELECT.
        """
        try:
            connection = await self._connector.open(has_one_plan=True)
        except psycopg.OperationalError:
            # If connections are scarce, one that lies idle in the pool makes room.
            async with self._engine.connect() as idle:
                await idle.invalidate()
            connection = await self._connector.open(has_one_plan=True)
        return connection.cursor(binary=True)

    async def _close_idle_readers(self) -> None:
        while self._idle_readers:
            await self._idle_readers.pop().connection.close()


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it ends.

    When psycopg is cancelled, it first asks PostgreSQL to stop executing and waits up to ten
    seconds for the answer; when it is cancelled again, it closes the connection.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCELLATION)
    await asyncio.gather(task, return_exceptions=True)  # Its error concerns nobody.
