"""A host that falls silent while nobody calls, the first of two."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import POOL_SIZE, Database
from app.errors import DatabaseUnavailable
from tests.support.database import (
    Rows,
    Wire,
    backends,
    in_seconds,
    locked,
    select_one,
    stars,
    url_of_both,
)


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


@pytest.mark.direct
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
