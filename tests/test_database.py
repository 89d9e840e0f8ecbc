"""Transactions that end in time, whole or not at all."""

import asyncio
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import POOL_SIZE, Database
from app.errors import DatabaseUnavailable
from app.postgres.url import connection_parameters
from tests.support.database import (
    Rows,
    in_seconds,
    select_one,
)

INSERT = text("INSERT INTO repositories VALUES (gen_random_uuid(), 'o', 'r', 1)")


def count(rows: Rows) -> int:
    (number,) = rows.execute("SELECT count(*) FROM repositories").fetchone() or (-1,)
    return int(number)


async def insert(session: AsyncSession) -> None:
    await session.execute(INSERT)


async def insert_and_sleep(session: AsyncSession) -> None:
    await session.execute(INSERT)
    await session.execute(text("SELECT pg_sleep(30)"))


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


@pytest.mark.direct
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
