"""Reads that end in time, on a PostgreSQL that is locked, lost or full."""

import asyncio
from collections.abc import Iterator
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
    backends,
    closed,
    in_seconds,
    locked,
    select_one,
    stars,
    terminate_all,
    until_blocked,
    until_no_backend_is_left,
)


def store(rows: Rows, *names: str) -> None:
    for number, name in enumerate(names):
        rows.execute(
            "INSERT INTO repositories VALUES (gen_random_uuid(), 'o', %s, %s)", (name, number)
        )


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


@pytest.mark.direct
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


@pytest.mark.direct
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


@pytest.mark.direct
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


@pytest.mark.direct
async def test_closing_leaves_no_connection(database: Database, rows: Rows) -> None:
    await asyncio.gather(*(stars(database, "a") for _ in range(3)))
    await database.transaction(select_one, deadline=in_seconds(5))
    assert backends(rows)
    await database.close()
    await until_no_backend_is_left(rows)


@pytest.mark.direct
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
