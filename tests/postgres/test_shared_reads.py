"""Reads that share a SELECT, on a real PostgreSQL that is locked, frozen and torn away."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGresult

from app import crud
from app.database import Database
from app.errors import DatabaseUnavailable
from app.models import Record
from app.postgres.shared_reads import LANES, SharedReads
from app.postgres.statement import PreparedStatement
from tests.services.conftest import tasks_of_the_services

Rows = psycopg.Connection[Any]


class CountedStatement(PreparedStatement):
    """A statement that counts how often all of its kind are run."""

    runs = 0

    def start(self, parameter: bytes, done: Callable[[PGresult | psycopg.Error], None]) -> None:
        """Start, as ever."""
        CountedStatement.runs += 1
        super().start(parameter, done)


@pytest.fixture
async def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr("app.postgres.shared_reads.PreparedStatement", CountedStatement)
    CountedStatement.runs = 0
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def reads(database: Database, rows: Rows) -> AsyncIterator[SharedReads[UUID]]:
    for pid in backends(rows):  # What another test may have left is not to be seen here.
        rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    reads = SharedReads(database, crud.BY_ID)
    yield reads
    try:
        await reads.close()
        assert tasks_of_the_services() == []
        await no_backend_is_left(rows)
    finally:
        gc.collect()  # What was not closed is to be complained of here, and not in another test.


def insert(rows: Rows, count: int = 1) -> list[UUID]:
    """Store so many records and return their ids."""
    keys = [uuid4() for _ in range(count)]
    with rows.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO repositories VALUES (%s, 'a', %s, %s)",
            [(key, str(number), number) for number, key in enumerate(keys)],
        )
    return keys


def backends(rows: Rows) -> list[int]:
    """Return the process ids of the connections of the service."""
    rows.execute("SELECT pg_stat_clear_snapshot()")
    found = rows.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'github-repository-tracker'"
    )
    return [pid for (pid,) in found]


async def no_backend_is_left(rows: Rows) -> None:
    """Wait for PostgreSQL to notice that its clients have hung up."""
    async with asyncio.timeout(4):
        while backends(rows):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def blocked(rows: Rows, count: int) -> None:
    """Wait until so many connections are held up by a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(4):
        while rows.execute(waiting).fetchone() != (count,):
            await asyncio.sleep(0.01)
            rows.execute("SELECT pg_stat_clear_snapshot()")


# What is read


async def test_a_record_is_read(reads: SharedReads[UUID], rows: Rows) -> None:
    (key,) = insert(rows)
    assert await reads.read(key) == Record(key, "a", "0", 0)


async def test_a_record_that_is_not_there_is_none(reads: SharedReads[UUID]) -> None:
    assert await reads.read(uuid4()) is None


async def test_each_reader_gets_its_own_record(reads: SharedReads[UUID], rows: Rows) -> None:
    keys = insert(rows, 50)
    missing = [uuid4() for _ in range(50)]
    found = await asyncio.gather(*(reads.read(key) for key in [*keys, *missing, *keys]))
    assert [row.stars if row else None for row in found] == [*range(50), *[None] * 50, *range(50)]


async def test_reads_that_arrive_together_share_one_select(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, 100)
    await asyncio.gather(*(reads.read(key) for key in keys))
    CountedStatement.runs = 0
    await asyncio.gather(*(reads.read(key) for key in keys))
    assert CountedStatement.runs == 1


async def test_a_read_alone_costs_one_select(reads: SharedReads[UUID], rows: Rows) -> None:
    (key,) = insert(rows)
    await reads.read(key)
    CountedStatement.runs = 0
    for _ in range(3):
        await reads.read(key)
    assert CountedStatement.runs == 3


async def test_reads_that_arrive_while_all_lanes_are_busy_share_the_next_select(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, 40)
    await reads.read(keys[0])
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        callers = []
        for lane in range(LANES):
            callers.append(asyncio.create_task(reads.read(keys[lane])))
            await blocked(rows, lane + 1)
        CountedStatement.runs = 0
        callers += [asyncio.create_task(reads.read(key)) for key in keys[LANES:]]
        await asyncio.sleep(0)
    found = await asyncio.gather(*callers)
    assert [row.stars for row in found if row] == list(range(40))
    # The lanes but the first connect while the table is locked, and begin afterwards.
    assert CountedStatement.runs == 1 + (LANES - 1)
    assert len(backends(rows)) == LANES


async def test_a_read_sees_what_was_committed_before_it_began(
    reads: SharedReads[UUID], rows: Rows, database_url: str
) -> None:
    (key,) = insert(rows)
    acknowledged = 0
    ends = time.monotonic() + 1.0
    seen = 0

    async def write() -> None:
        nonlocal acknowledged
        async with await psycopg.AsyncConnection.connect(
            make_conninfo(database_url), autocommit=True
        ) as connection:
            while time.monotonic() < ends:
                stars = acknowledged + 1
                await connection.execute("UPDATE repositories SET stars = %s", [stars])
                acknowledged = stars

    async def read() -> None:
        nonlocal seen
        while time.monotonic() < ends:
            at_least = acknowledged
            row = await reads.read(key)
            assert row is not None
            assert row.stars >= at_least
            seen += 1

    await asyncio.gather(write(), *(read() for _ in range(20)))
    assert acknowledged > 20
    assert seen > 100


# Readers who go away


async def test_a_reader_who_goes_away_does_not_disturb_the_others(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, 10)
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        callers = [asyncio.create_task(reads.read(key)) for key in keys]
        await blocked(rows, 1)
        callers.pop(0).cancel()
    found = await asyncio.gather(*callers)
    assert [row.stars for row in found if row] == list(range(1, 10))


async def test_readers_who_all_go_away_disturb_nobody_later(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, 10)
    callers = [asyncio.create_task(reads.read(key)) for key in keys]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    for key in keys:
        assert await reads.read(key) is not None


# A PostgreSQL that is torn away


async def test_a_read_survives_the_loss_of_its_idle_connection(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    (key,) = insert(rows)
    for _ in range(3):
        assert await reads.read(key) is not None
        for pid in backends(rows):
            rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        found = await asyncio.gather(*(reads.read(key) for _ in range(20)))
        assert None not in found


async def test_a_read_survives_the_loss_of_its_connection_in_the_middle(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    (key,) = insert(rows)
    await reads.read(key)
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        callers = [asyncio.create_task(reads.read(key)) for _ in range(5)]
        await blocked(rows, 1)
        for pid in backends(rows):
            rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert None not in await asyncio.gather(*callers)


async def test_a_postgresql_that_is_not_there_is_unavailable_at_once(unused_url: str) -> None:
    reads = SharedReads(Database(unused_url), crud.BY_ID)
    started = time.monotonic()
    ends = await asyncio.gather(*(reads.read(uuid4()) for _ in range(20)), return_exceptions=True)
    assert {type(end) for end in ends} == {DatabaseUnavailable}
    assert time.monotonic() - started < 3
    await reads.close()


@pytest.fixture
async def unused_url() -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"postgresql://nobody@127.0.0.1:{port}/nothing"


async def test_frozen_selects_fail_in_time_and_reads_go_on_when_the_lock_is_gone(
    monkeypatch: pytest.MonkeyPatch, reads: SharedReads[UUID], rows: Rows
) -> None:
    monkeypatch.setattr("app.postgres.shared_reads.DEADLINE", 0.4)
    keys = insert(rows, 10)
    await reads.read(keys[0])
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        callers = []
        for lane in range(LANES):
            callers.append(asyncio.create_task(reads.read(keys[lane])))
            await blocked(rows, lane + 1)
        callers += [asyncio.create_task(reads.read(key)) for key in keys[LANES:]]
        ends = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(end) for end in ends} == {DatabaseUnavailable}
        assert time.monotonic() - started < 1.5
    found = await asyncio.gather(*(reads.read(key) for key in keys))
    assert None not in found
    assert None not in [await reads.read(key) for key in keys]


async def test_a_select_that_is_held_up_does_not_keep_the_next_from_beginning(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, LANES)
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        callers = []
        for lane, key in enumerate(keys):
            callers.append(asyncio.create_task(reads.read(key)))
            await blocked(rows, lane + 1)
    assert [row and row.id for row in await asyncio.gather(*callers)] == keys


async def test_a_table_that_cannot_be_read_is_an_error_and_no_hang(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    (key,) = insert(rows)
    rows.execute("ALTER TABLE repositories RENAME COLUMN stars TO hidden")
    try:
        for _ in range(2 * LANES):
            with pytest.raises(psycopg.errors.UndefinedColumn):
                await asyncio.wait_for(reads.read(key), 2)
    finally:
        rows.execute("ALTER TABLE repositories RENAME COLUMN hidden TO stars")
    assert await reads.read(key) is not None


# The end


async def test_closing_leaves_no_connection(reads: SharedReads[UUID], rows: Rows) -> None:
    keys = insert(rows, 20)
    await asyncio.gather(*(reads.read(key) for key in keys))
    assert backends(rows)
    await reads.close()
    await no_backend_is_left(rows)


async def test_closing_waits_for_the_reads_under_way(reads: SharedReads[UUID], rows: Rows) -> None:
    (key,) = insert(rows)
    caller = asyncio.create_task(reads.read(key))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await reads.close()
    assert await caller is not None
    await no_backend_is_left(rows)


async def test_closing_waits_for_reads_that_wait_for_a_lane(
    reads: SharedReads[UUID], rows: Rows
) -> None:
    keys = insert(rows, LANES + 1)
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        callers = []
        for lane in range(LANES):
            callers.append(asyncio.create_task(reads.read(keys[lane])))
            await blocked(rows, lane + 1)
        last = asyncio.create_task(reads.read(keys[LANES]))
        closing = asyncio.create_task(reads.close())
        await asyncio.sleep(0)
        for pid in backends(rows):  # A new connection that is lost is not replaced.
            rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        ends = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(end) for end in ends} == {DatabaseUnavailable}
        await blocked(rows, 1)
        assert not closing.done()
    await closing
    assert await last is not None
    assert tasks_of_the_services() == []
    await no_backend_is_left(rows)


async def test_closing_after_a_frozen_select_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch, reads: SharedReads[UUID], rows: Rows
) -> None:
    monkeypatch.setattr("app.postgres.shared_reads.DEADLINE", 0.3)
    (key,) = insert(rows)
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseUnavailable):
            await reads.read(key)
    await reads.close()
    await no_backend_is_left(rows)
