"""PostgreSQL: connections, transactions that end in time, and the schema brought up to date."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from app.database_url import connection_parameters
from app.errors import DatabaseUnavailable, StartError
from app.settings import PROJECT_DIR

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Ten services of one worker each, with three connections more each for reading, stay below the
# hundred connections that PostgreSQL allows as it comes.
POOL_SIZE = 6

# Per host of the URL, so that a frozen first host still leaves time for the second.
CONNECT_TIMEOUT = 2

START_PATIENCE = 30.0

# What a PostgreSQL that is away, starting, stopping, full, frozen or no longer the leader raises.
UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    OSError,
)

# Waiting does not mend these. A connection that is refused has no SQLSTATE in libpq, so the words
# have to do; where the server speaks another language it is asked until patience ends.
HOPELESS = re.compile(
    r"password authentication failed|no password supplied|does not exist|no pg_hba.conf entry"
)

# Any number will do, as long as no other program uses it on the same database.
MIGRATION_LOCK = 7_291_650_814


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
        self._parameters: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "github-repository-tracker",
            "keepalives_idle": 10,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **connection_parameters(url),
        }
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            connect_args={**self._parameters, "prepare_threshold": None},
            poolclass=_Pool,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        event.listen(self._engine.sync_engine, "connect", _prepare_unless_pooled)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def transaction(
        self, work: Callable[[AsyncSession], Awaitable[T]], *, deadline: float
    ) -> T:
        """Return what `work` returns, committed; `deadline` is a time of the event loop's clock.

        Raises DatabaseUnavailable when PostgreSQL does not answer by then; what `work` did is
        then rolled back, unless the connection was lost in the middle of the commit itself. The
        work has a task of its own: a caller who goes away does not tear a transaction apart.
        """
        task = asyncio.create_task(self._transact(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(task)
        except TimeoutError:
            task.cancel()
            log.warning("database does not answer in time")
            # Whatever froze this connection froze those that lie idle too.
            await self._engine.dispose()
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

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection of its own in autocommit mode, outside of the pool."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                **self._parameters, autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError:
            # Where connections are scarce, those that lie idle in the pool keep this one out.
            await self._engine.dispose()
            raise
        try:
            backend = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        except BaseException:
            await connection.close()
            raise
        _allow_prepared_statements(connection, backend)
        return connection

    async def migrate(self) -> None:
        """Bring the schema up to date, waiting half a minute for a PostgreSQL that is starting.

        Any number of services may do so at once. Raises StartError.
        """
        patience_ends = time.monotonic() + START_PATIENCE
        while True:
            try:
                async with self._engine.connect() as connection:
                    await connection.run_sync(_upgrade)
                    return
            except UNAVAILABLE as error:
                if HOPELESS.search(str(error)) or time.monotonic() > patience_ends:
                    raise StartError(
                        f"PostgreSQL cannot be used: {reason(error)}. Check DATABASE_URL."
                    ) from error
                log.warning("waiting for PostgreSQL", reason=reason(error))
                await asyncio.sleep(0.5)
            except CommandError as error:
                raise StartError(
                    f"The database's schema is not one that this version knows: {error}."
                ) from error
            except DBAPIError as error:
                raise StartError(
                    f"The database's schema cannot be brought up to date: {reason(error)}."
                ) from error

    async def close(self) -> None:
        """Wait for the transactions under way, then close every connection."""
        for _ in range(3):  # One that is cancelled once waits ten seconds for a frozen PostgreSQL.
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=1)
                for task in late:
                    task.cancel()
        await self._engine.dispose()


def reason(error: BaseException) -> str:
    """Return the first line of what the driver says, without SQL and parameters."""
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _upgrade(connection: Connection) -> None:
    # Before Alembic begins: what it keeps in its modules is not for two migrations at once.
    connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    config = Config(toml_file=PROJECT_DIR / "pyproject.toml")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()


def _prepare_unless_pooled(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    backend = cursor.fetchone()
    cursor.close()
    dbapi_connection.rollback()
    _allow_prepared_statements(dbapi_connection.driver_connection, backend)


def _allow_prepared_statements(
    connection: psycopg.AsyncConnection[Any], backend: tuple[int] | None
) -> None:
    # A pooler answers the connection with a process id of its own making. Behind one that pools
    # transactions, the next statement may reach a backend that has not prepared it.
    if backend == (connection.info.backend_pid,):
        connection.prepare_threshold = 1
