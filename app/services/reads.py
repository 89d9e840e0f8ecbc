"""Reads that wait at the same moment share one SELECT."""

import asyncio
from typing import Generic, TypeVar

import psycopg
import structlog
from psycopg.pq.abc import PGresult

from app import crud
from app.database import UNAVAILABLE, Database, reason
from app.errors import DatabaseUnavailable
from app.schemas import RepositoryRow
from app.statement import PreparedStatement

log = structlog.get_logger(__name__)

K = TypeVar("K")
Row = RepositoryRow | None

# Seconds from the first read of a batch; the promise to the caller is five.
DEADLINE = 4.5

# While one SELECT is under way the next batch gathers; a second lane keeps a slow SELECT from
# holding up everybody.
LANES = 2

# In one SELECT, so that what is sent fits into a socket's buffer.
MOST_KEYS = 200


class _Batch(Generic[K]):
    """The reads that one SELECT answers, each with a future of its own."""

    def __init__(self) -> None:
        self.reads: list[tuple[K, asyncio.Future[Row]]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.given_up = False

    def waiting(self) -> list[K]:
        """Return the keys that somebody still waits for."""
        return list({key for key, future in self.reads if not future.done()})

    def answer(self, rows: dict[K, RepositoryRow]) -> None:
        for key, future in self.reads:
            if not future.done():
                future.set_result(rows.get(key))

    def fail(self, error: Exception) -> None:
        for _, future in self.reads:
            if not future.done():
                future.set_exception(error)


class _Lane(Generic[K]):
    """A connection for one SELECT at a time, made when it is needed and again when it is lost."""

    def __init__(self, database: Database, select: crud.KeyedSelect[K]) -> None:
        self._select = select
        self._statement = PreparedStatement(database, select.sql)
        self.close = self._statement.close

    async def select(self, keys: list[K]) -> dict[K, RepositoryRow]:
        """Return the rows that exist; a connection that turns out to be dead is replaced."""
        rows: dict[K, RepositoryRow] = {}
        for start in range(0, len(keys), MOST_KEYS):
            parameter = self._select.parameter(keys[start : start + MOST_KEYS])
            rows |= self._select.rows(await self._run(parameter))
        return rows

    async def _run(self, parameter: bytes) -> PGresult:
        was_connected = self._statement.is_connected
        try:
            return await self._statement.run(parameter)
        except (*UNAVAILABLE, psycopg.NotSupportedError):
            if not was_connected:
                raise
            # PostgreSQL was restarted, another host leads now, or a migration made the plan stale.
            return await self._statement.run(parameter)


class SharedReads(Generic[K]):
    """Reads rows by their keys, always from PostgreSQL and never from memory.

    A read joins the batch that gathers, never a SELECT that has begun: it sees all that was
    committed before it started.
    """

    def __init__(
        self, database: Database, select: crud.KeyedSelect[K], *, lanes: int = LANES
    ) -> None:
        self._database = database
        self._keyed = select
        self._gathering: _Batch[K] | None = None
        self._free_lanes = [self._new_lane() for _ in range(lanes)]
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, key: K) -> Row:
        """Return the row with this key, or None; raise DatabaseUnavailable within the deadline."""
        loop = asyncio.get_running_loop()
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch[K]()
            batch.timer = loop.call_later(DEADLINE, self._give_up, batch)
            # One turn of the loop later, so that requests which arrived together go together.
            loop.call_soon(self._begin)
        future: asyncio.Future[Row] = loop.create_future()
        batch.reads.append((key, future))
        return await future

    def _new_lane(self) -> _Lane[K]:
        return _Lane(self._database, self._keyed)

    def _begin(self) -> None:
        if self._gathering is None or not self._free_lanes:
            return
        batch, self._gathering = self._gathering, None
        batch.task = asyncio.create_task(self._select(batch, self._free_lanes.pop()))
        self._tasks.add(batch.task)
        batch.task.add_done_callback(self._tasks.discard)

    async def _select(self, batch: _Batch[K], lane: _Lane[K]) -> None:
        try:
            batch.answer(await lane.select(batch.waiting()))
        except UNAVAILABLE as error:
            if not batch.given_up:
                log.warning("database unavailable", reason=reason(error))
            batch.fail(DatabaseUnavailable())
        except Exception as error:  # noqa: BLE001  (each reader raises it)
            batch.fail(error)
        if batch.timer is not None:
            batch.timer.cancel()
        if batch.given_up:
            await lane.close()
        else:
            self._free_lanes.append(lane)
            self._begin()

    def _give_up(self, batch: _Batch[K]) -> None:
        """Answer that the database is away, and leave a connection that may never answer."""
        log.warning("database does not answer in time", reads=len(batch.reads))
        batch.given_up = True
        batch.fail(DatabaseUnavailable())
        if batch is self._gathering:
            self._gathering = None
        if batch.task is not None:
            batch.task.cancel()
            self._free_lanes.append(self._new_lane())
            self._begin()

    async def close(self) -> None:
        """Wait for the SELECTs under way, then close the connections."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._free_lanes:
            await lane.close()
