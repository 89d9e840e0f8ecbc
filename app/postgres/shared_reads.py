"""Reads that wait at the same moment share one SELECT."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

import psycopg
import structlog
from psycopg.pq.abc import PGresult

from app import crud
from app.database import Database
from app.errors import DatabaseUnavailable
from app.models import Record
from app.postgres.connections import IDLE_PATIENCE, UNAVAILABLE, reason
from app.postgres.statement import PreparedStatement

log = structlog.get_logger(__name__)

K = TypeVar("K")
Row = Record | None

# Seconds from the first read of a batch; the promise to the caller is five.
DEADLINE = 4.5

# While one SELECT is under way the next batch gathers; a second lane keeps a slow SELECT from
# holding up everybody.
LANES = 2

# In one SELECT, so that what is sent fits into a socket's buffer.
MOST_READS = 200

# PostgreSQL was restarted, another host leads now, or a migration made the plan stale.
WORTH_A_RETRY = (*UNAVAILABLE, psycopg.NotSupportedError)


class _Batch(Generic[K]):
    """The reads that one SELECT answers, each with a future of its own."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.reads: list[tuple[K, asyncio.Future[Row]]] = []
        self.timer = timer
        self.lane: PreparedStatement | None = None
        self.task: asyncio.Task[None] | None = None
        self.attempts = 0

    def waiting(self) -> list[K]:
        """Return the keys that somebody still waits for."""
        return list({key for key, future in self.reads if not future.done()})

    def answer(self, rows: dict[K, Record]) -> None:
        for key, future in self.reads:
            if not future.done():
                future.set_result(rows.get(key))

    def fail(self, error: Exception) -> None:
        for _, future in self.reads:
            if not future.done():
                future.set_exception(error)


class SharedReads(Generic[K]):
    """Reads rows by their keys, always from PostgreSQL and never from memory.

    A read joins the batch that gathers, never a SELECT that has begun: it sees all that was
    committed before it started. A lane is a connection with the SELECT prepared on it.
    """

    def __init__(
        self, database: Database, select: crud.KeyedSelect[K], *, lanes: int = LANES
    ) -> None:
        self._database = database
        self._select = select
        self._gathering: deque[_Batch[K]] = deque()
        self._under_way: set[_Batch[K]] = set()
        self._free_lanes = [self._new_lane() for _ in range(lanes)]
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, key: K) -> Row:
        """Return the row with this key, or None; raise DatabaseUnavailable within the deadline."""
        loop = asyncio.get_running_loop()
        if not self._gathering or len(self._gathering[-1].reads) >= MOST_READS:
            self._gather(loop)
        future: asyncio.Future[Row] = loop.create_future()
        self._gathering[-1].reads.append((key, future))
        return await future

    async def close(self) -> None:
        """Wait for the reads under way, then close the connections."""
        while pending := self._pending():
            await asyncio.wait(pending)
            await asyncio.sleep(0)  # What waits for them goes on before the next look.
        # Batches may be left whose readers have all gone away.
        for batch in (*self._gathering, *self._under_way):
            batch.timer.cancel()
        lanes = [*self._free_lanes, *(batch.lane for batch in self._under_way if batch.lane)]
        self._gathering.clear()
        self._free_lanes.clear()
        for lane in lanes:
            await lane.close()

    def _pending(self) -> list[asyncio.Future[Any]]:
        batches = (*self._gathering, *self._under_way)
        reads = [future for batch in batches for _, future in batch.reads if not future.done()]
        return [*reads, *self._tasks]

    def _new_lane(self) -> PreparedStatement:
        return PreparedStatement(self._database, self._select.sql)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: _Batch[K] = _Batch(loop.call_later(DEADLINE, lambda: self._give_up(batch)))
        self._gathering.append(batch)
        # One turn of the loop later, so that requests which arrived together go together.
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        while self._gathering and self._free_lanes:
            batch = self._gathering.popleft()
            batch.lane = self._free_lanes.pop()
            self._under_way.add(batch)
            self._start(batch, batch.lane)

    def _start(self, batch: _Batch[K], lane: PreparedStatement) -> None:
        """Send the SELECT at once where there is a connection, without a task of its own."""
        batch.attempts += 1
        if not lane.is_connected:
            self._spawn(batch, self._connect_and_start(batch, lane))
            return
        if lane.is_idle:
            loop = asyncio.get_running_loop()
            loop.call_later(IDLE_PATIENCE, self._doubt, batch, lane)
        try:
            parameter = self._select.parameter(batch.waiting())
            lane.start(parameter, partial(self._done, batch, lane))
        except psycopg.Error as error:
            self._done(batch, lane, error)

    def _done(
        self, batch: _Batch[K], lane: PreparedStatement, outcome: PGresult | psycopg.Error
    ) -> None:
        if isinstance(outcome, psycopg.Error):
            self._spawn(batch, self._recover(batch, lane, outcome))
            return
        batch.answer(self._select.rows(outcome))
        self._end(batch, lane)

    def _doubt(self, batch: _Batch[K], lane: PreparedStatement) -> None:
        """Ask again on a new connection where one that lay idle does not answer at once."""
        if batch in self._under_way and batch.lane is lane and batch.task is None:
            self._spawn(batch, self._recover(batch, lane, TimeoutError()))

    async def _recover(self, batch: _Batch[K], lane: PreparedStatement, error: Exception) -> None:
        await self._leave(lane, in_silence=isinstance(error, TimeoutError))
        if batch.attempts == 1 and isinstance(error, WORTH_A_RETRY):
            self._start(batch, lane)
        else:
            self._fail(batch, lane, error)

    async def _connect_and_start(self, batch: _Batch[K], lane: PreparedStatement) -> None:
        try:
            await lane.connect()
        except Exception as error:  # noqa: BLE001  (each reader raises it)
            self._fail(batch, lane, error)
        else:
            self._start(batch, lane)

    def _fail(self, batch: _Batch[K], lane: PreparedStatement, error: Exception) -> None:
        if isinstance(error, UNAVAILABLE):
            log.warning("database unavailable", reason=reason(error))
            error = DatabaseUnavailable()
        batch.fail(error)
        self._end(batch, lane)

    def _end(self, batch: _Batch[K], lane: PreparedStatement) -> None:
        batch.timer.cancel()
        self._under_way.discard(batch)
        if batch.lane is lane:
            self._free_lanes.append(lane)
        self._begin()

    def _give_up(self, batch: _Batch[K]) -> None:
        """Answer that the database is away, and leave a connection that may never answer."""
        log.warning("database does not answer in time", reads=len(batch.reads))
        batch.fail(DatabaseUnavailable())
        if batch.lane is None:
            self._gathering.remove(batch)
            return
        lane, batch.lane = batch.lane, None
        if batch.task is not None:
            batch.task.cancel()
        self._under_way.discard(batch)
        self._spawn(batch, self._leave(lane, in_silence=True))
        self._free_lanes.append(self._new_lane())
        self._begin()

    async def _leave(self, lane: PreparedStatement, *, in_silence: bool) -> None:
        generation = lane.generation
        await lane.close()
        if in_silence and generation is not None:
            await self._database.distrust(generation)

    def _spawn(self, batch: _Batch[K], work: Coroutine[Any, Any, None]) -> None:
        batch.task = asyncio.create_task(work)
        self._tasks.add(batch.task)
        batch.task.add_done_callback(self._tasks.discard)
