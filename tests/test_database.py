"""Transactions and reads that end in time, on a PostgreSQL that is locked, lost or silent."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import POOL_SIZE, Database
from app.errors import DatabaseUnavailable
from app.postgres.url import connection_parameters
from lab.database import url_of
from tests.support.database import (
    Rows,
    Wire,
    backends,
    closed,
    in_seconds,
    locked,
    terminate_all,
    until_blocked,
    until_no_backend_is_left,
    url_of_both,
)

INSERT = text("INSERT INTO repositories VALUES (gen_random_uuid(), 'o', 'r', 1)")


@pytest.fixture
async def database(database_url: str, rows: Rows) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


def count(rows: Rows) -> int:
    (number,) = rows.execute("SELECT count(*) FROM repositories").fetchone() or (-1,)
    return int(number)


async def select_one(session: AsyncSession) -> Any:
    return await session.scalar(text("SELECT 1"))


async def insert(session: AsyncSession) -> None:
    await session.execute(INSERT)


async def insert_and_sleep(session: AsyncSession) -> None:
    await session.execute(INSERT)
    await session.execute(text("SELECT pg_sleep(30)"))


# Transactions


async def test_a_transaction_returns_what_its_work_returns(database: Database) -> None:
    assert await database.transaction(select_one, deadline=in_seconds(5)) == 1


async def test_a_transaction_is_committed(database: Database, rows: Rows) -> None:
    await database.transaction(insert, deadline=in_seconds(5))
    assert count(rows) == 1


async def test_a_transaction_whose_work_fails_is_rolled_back(
    database: Database, rows: Rows
) -> None:
    async def insert_and_fail(session: AsyncSession) -> None:
        await session.execute(INSERT)
        raise KeyError

    with pytest.raises(KeyError):
        await database.transaction(insert_and_fail, deadline=in_seconds(5))
    assert count(rows) == 0


async def test_a_transaction_that_is_late_is_unavailable_by_its_deadline(
    database: Database,
) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(DatabaseUnavailable):
            await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))


async def test_a_transaction_that_is_late_is_rolled_back(database: Database, rows: Rows) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))
    await database.close()
    assert count(rows) == 0


async def test_a_transaction_that_is_late_does_not_go_on_in_postgresql(
    database: Database, rows: Rows
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert_and_sleep, deadline=in_seconds(0.2))
    await database.close()
    sleepers = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'active' AND query ~ 'pg_sleep.30'"
        " AND pid <> pg_backend_pid()"
    )
    assert rows.execute(sleepers).fetchone() == (0,)


async def test_a_deadline_that_has_passed_is_unavailable(database: Database, rows: Rows) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.transaction(insert, deadline=in_seconds(-1))
    await database.close()
    assert count(rows) == 0


async def test_after_more_late_transactions_than_connections_the_pool_is_usable(
    database: Database,
) -> None:
    late = [
        database.transaction(insert_and_sleep, deadline=in_seconds(0.3))
        for _ in range(POOL_SIZE * 2)
    ]
    errors = await asyncio.gather(*late, return_exceptions=True)
    assert {type(error) for error in errors} == {DatabaseUnavailable}
    assert await database.transaction(select_one, deadline=in_seconds(5)) == 1


async def test_when_connections_fail_no_transaction_waits_until_its_deadline() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql://127.0.0.1:{port}/nothing")
        many = [
            database.transaction(select_one, deadline=in_seconds(30)) for _ in range(POOL_SIZE * 5)
        ]
        async with asyncio.timeout(10):
            errors = await asyncio.gather(*many, return_exceptions=True)
        await database.close()
    assert {type(error) for error in errors} == {DatabaseUnavailable}


async def test_a_caller_who_goes_away_does_not_tear_a_transaction_apart(
    database: Database, rows: Rows
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def insert_twice(session: AsyncSession) -> None:
        await session.execute(INSERT)
        begun.set()
        await goes_on.wait()
        await session.execute(text("UPDATE repositories SET stars = 2"))

    caller = asyncio.create_task(database.transaction(insert_twice, deadline=in_seconds(5)))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    goes_on.set()
    await database.close()
    assert rows.execute("SELECT stars FROM repositories").fetchall() == [(2,)]


async def test_closing_waits_for_the_transactions_under_way(database: Database, rows: Rows) -> None:
    begun = asyncio.Event()

    async def insert_slowly(session: AsyncSession) -> None:
        begun.set()
        await session.execute(text("SELECT pg_sleep(0.1)"))
        await session.execute(INSERT)

    under_way = asyncio.create_task(database.transaction(insert_slowly, deadline=in_seconds(5)))
    await begun.wait()
    await database.close()
    await under_way
    assert count(rows) == 1


async def test_a_lost_connection_is_unavailable(database: Database, rows: Rows) -> None:
    async def lose(session: AsyncSession) -> None:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        await session.execute(INSERT)

    with pytest.raises(DatabaseUnavailable):
        await database.transaction(lose, deadline=in_seconds(5))


async def test_connections_that_were_lost_while_idle_are_replaced(
    database: Database, rows: Rows
) -> None:
    pids = text("SELECT pg_backend_pid()")

    async def pid(session: AsyncSession) -> Any:
        return await session.scalar(pids)

    before = await database.transaction(pid, deadline=in_seconds(5))
    rows.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    assert await database.transaction(pid, deadline=in_seconds(5)) != before


async def test_a_transaction_is_read_committed_whatever_the_database_prefers(
    database: Database, database_url: str, rows: Rows
) -> None:
    async def isolation(session: AsyncSession) -> Any:
        return await session.scalar(text("SHOW transaction_isolation"))

    name = sql.Identifier(str(connection_parameters(database_url)["dbname"]))
    prefer = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'")
    rows.execute(prefer.format(name))
    try:
        assert await database.transaction(isolation, deadline=in_seconds(5)) == "read committed"
    finally:
        rows.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


# Reads

STARS = "SELECT repo_name, stars FROM repositories WHERE repo_name = ANY(%s)"


def store(rows: Rows, *names: str) -> None:
    for stars, name in enumerate(names):
        rows.execute(
            "INSERT INTO repositories VALUES (gen_random_uuid(), 'o', %s, %s)", (name, stars)
        )


async def stars(database: Database, *names: str, seconds: float = 5) -> list[tuple[Any, ...]]:
    return await database.fetch(STARS, list(names), in_seconds(seconds))


async def test_a_read_returns_the_rows_that_exist(database: Database, rows: Rows) -> None:
    store(rows, "a", "b", "c")
    assert sorted(await stars(database, "a", "c", "x")) == [("a", 0), ("c", 2)]
    assert await stars(database) == []


async def test_a_read_sees_what_was_committed_before_it_began(
    database: Database, rows: Rows
) -> None:
    store(rows, "a")
    for number in range(50):
        rows.execute("UPDATE repositories SET stars = %s", [number])
        assert await stars(database, "a") == [("a", number)]


async def test_reads_one_after_another_share_a_connection(database: Database, rows: Rows) -> None:
    for _ in range(3):
        await stars(database, "a")
    assert len(backends(rows)) == 1


async def test_a_read_survives_the_loss_of_idle_connections(database: Database, rows: Rows) -> None:
    store(rows, "a")
    for _ in range(3):
        await asyncio.gather(*(stars(database, "a") for _ in range(3)))
        terminate_all(rows)
        assert await stars(database, "a") == [("a", 0)]


async def test_a_read_survives_a_migration_that_makes_its_plan_stale(
    database: Database, rows: Rows
) -> None:
    store(rows, "a")
    await stars(database, "a")
    rows.execute("ALTER TABLE repositories ALTER COLUMN stars TYPE bigint")
    try:
        assert await stars(database, "a") == [("a", 0)]
    finally:
        rows.execute("ALTER TABLE repositories ALTER COLUMN stars TYPE integer")


async def test_a_read_survives_the_loss_of_a_kept_connection_in_the_middle(
    database: Database, rows: Rows
) -> None:
    store(rows, "a")
    await stars(database, "a")
    with locked(rows):
        read = asyncio.create_task(stars(database, "a"))
        await until_blocked(rows, 1)
        terminate_all(rows)
    assert await read == [("a", 0)]


async def test_a_read_that_is_late_is_unavailable_by_its_deadline(
    database: Database, rows: Rows
) -> None:
    await stars(database, "a")
    with locked(rows):
        async with asyncio.timeout(2):
            with pytest.raises(DatabaseUnavailable):
                await stars(database, "a", seconds=0.3)
    assert await stars(database, "a") == []


async def test_a_read_of_a_column_that_does_not_exist_is_an_error(database: Database) -> None:
    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await database.fetch("SELECT x FROM repositories WHERE x = ANY(%s)", [1], in_seconds(5))
    assert await stars(database, "a") == []


async def test_a_read_of_a_postgresql_that_refuses_is_unavailable_at_once(
    database: Database, postgresql: str, database_url: str
) -> None:
    with closed(postgresql, database_url):
        async with asyncio.timeout(3):
            with pytest.raises(DatabaseUnavailable):
                await stars(database, "a")


@pytest.fixture
def few_connections(database_url: str, rows: Rows) -> Iterator[str]:
    """The URL of the database for a user who may have as many connections as the pool keeps."""
    name = f"few_{uuid4().hex}"
    role = sql.Identifier(name)
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'few' CONNECTION LIMIT {}")
    rows.execute(create.format(role, sql.Literal(POOL_SIZE)))
    rows.execute(sql.SQL("GRANT SELECT ON repositories TO {}").format(role))
    yield url_of({**connection_parameters(database_url), "user": name, "password": "few"})
    rows.execute(sql.SQL("DROP OWNED BY {}").format(role))
    rows.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_a_read_finds_room_although_idle_connections_of_transactions_take_it_all(
    few_connections: str, rows: Rows
) -> None:
    database = Database(few_connections)
    barrier = asyncio.Barrier(POOL_SIZE)

    async def meet(session: AsyncSession) -> None:
        await select_one(session)
        await barrier.wait()

    try:
        transactions = (
            database.transaction(meet, deadline=in_seconds(5)) for _ in range(POOL_SIZE)
        )
        await asyncio.gather(*transactions)
        assert len(backends(rows)) == POOL_SIZE
        assert await stars(database, "a") == []
    finally:
        await database.close()


async def test_closing_leaves_no_connection(database: Database, rows: Rows) -> None:
    await asyncio.gather(*(stars(database, "a") for _ in range(3)))
    await database.transaction(select_one, deadline=in_seconds(5))
    assert backends(rows)
    await database.close()
    await until_no_backend_is_left(rows)


async def test_closing_after_late_calls_leaves_no_connection(
    database: Database, rows: Rows
) -> None:
    async def count_rows(session: AsyncSession) -> Any:
        return await session.scalar(text("SELECT count(*) FROM repositories"))

    with locked(rows):
        calls = [
            stars(database, "a", seconds=0.3),
            database.transaction(count_rows, deadline=in_seconds(0.3)),
        ]
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [DatabaseUnavailable] * 2
    await database.close()
    await until_no_backend_is_left(rows)


# A host that falls silent while nobody calls, the first of two


@pytest.fixture
async def wires(database_url: str) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two ways to one database, as if they were two hosts."""
    async with Wire.to(database_url) as one, Wire.to(database_url) as other:
        yield one, other


@pytest.fixture
async def two_hosts(wires: tuple[Wire, Wire], rows: Rows) -> AsyncIterator[Database]:
    """A database on both, whose connections to the first are all idle."""
    database = Database(url_of_both(wires))
    both = asyncio.Barrier(2)

    async def meet(session: AsyncSession) -> None:
        await select_one(session)
        await both.wait()

    await asyncio.gather(
        *(stars(database, "a") for _ in range(2)),
        *(database.transaction(meet, deadline=in_seconds(5)) for _ in range(2)),
    )
    yield database
    await database.close()


async def test_after_a_read_that_met_silence_reads_and_transactions_use_the_other_host(
    two_hosts: Database, wires: tuple[Wire, Wire]
) -> None:
    wires[0].freeze()
    with pytest.raises(DatabaseUnavailable):
        await stars(two_hosts, "a", seconds=0.3)
    assert await stars(two_hosts, "a") == []
    assert await two_hosts.transaction(select_one, deadline=in_seconds(5)) == 1


async def test_after_a_transaction_that_met_silence_reads_and_transactions_use_the_other_host(
    two_hosts: Database, wires: tuple[Wire, Wire]
) -> None:
    wires[0].freeze()
    with pytest.raises(DatabaseUnavailable):
        await two_hosts.transaction(select_one, deadline=in_seconds(0.3))
    assert await two_hosts.transaction(select_one, deadline=in_seconds(5)) == 1
    assert await stars(two_hosts, "a") == []


async def test_a_host_that_was_silent_is_not_asked_on_an_old_connection_when_it_thaws(
    two_hosts: Database, wires: tuple[Wire, Wire], rows: Rows
) -> None:
    """It may not know yet what was written elsewhere."""

    async def pid(session: AsyncSession) -> Any:
        return await session.scalar(text("SELECT pg_backend_pid()"))

    old = backends(rows)
    wires[0].freeze()
    with pytest.raises(DatabaseUnavailable):
        await stars(two_hosts, "a", seconds=0.3)
    wires[0].thaw()
    assert await two_hosts.transaction(pid, deadline=in_seconds(5)) not in old


async def test_calls_that_were_late_together_replace_connections_once(
    database: Database, rows: Rows
) -> None:
    async def pid(session: AsyncSession) -> Any:
        return await session.scalar(text("SELECT pg_backend_pid()"))

    async def count_rows(session: AsyncSession) -> Any:
        return await session.scalar(text("SELECT count(*) FROM repositories"))

    with locked(rows):
        calls = [
            asyncio.create_task(database.transaction(count_rows, deadline=in_seconds(seconds)))
            for seconds in (0.3, 0.9)
        ]
        with pytest.raises(DatabaseUnavailable):
            await calls[0]
        new = await database.transaction(pid, deadline=in_seconds(5))
        with pytest.raises(DatabaseUnavailable):
            await calls[1]
        assert await database.transaction(pid, deadline=in_seconds(5)) == new


async def test_more_late_calls_than_connections_hold_up_nobody_for_long(
    two_hosts: Database, wires: tuple[Wire, Wire]
) -> None:
    wires[0].freeze()
    calls = (
        two_hosts.transaction(select_one, deadline=in_seconds(0.3)) for _ in range(3 * POOL_SIZE)
    )
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {DatabaseUnavailable}
    async with asyncio.timeout(9):
        while True:
            try:
                await two_hosts.transaction(select_one, deadline=in_seconds(4.5))
            except DatabaseUnavailable:
                continue
            break
