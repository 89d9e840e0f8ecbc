"""Reads that share a call: who shares it, who waits, and who learns of an error."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.postgres.shared_reads import MOST_READS, SharedReads


class Table:
    """Squares of the numbers below a thousand; a call ends when `is_open` is set."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.deadlines: list[float] = []
        self.errors: list[Exception] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def fetch(self, keys: list[int], deadline: float) -> dict[int, int]:
        """Return the squares that exist, or raise the next error."""
        self.calls.append(sorted(keys))
        self.deadlines.append(deadline)
        await self.is_open.wait()
        if self.errors:
            raise self.errors.pop()
        return {key: key**2 for key in keys if key < 1000}


@pytest.fixture
async def table() -> Table:
    return Table()


@pytest.fixture
async def reads(table: Table) -> AsyncIterator[SharedReads[int, int]]:
    reads = SharedReads(table.fetch)
    yield reads
    table.is_open.set()
    await reads.close()


def start(reads: SharedReads[int, int], *keys: int) -> list[asyncio.Task[int | None]]:
    return [asyncio.create_task(reads.get(key)) for key in keys]


async def until_called(table: Table, times: int) -> None:
    async with asyncio.timeout(4):
        while len(table.calls) < times:  # noqa: ASYNC110 - nothing tells of a call
            await asyncio.sleep(0)


async def test_a_value_is_read(reads: SharedReads[int, int]) -> None:
    assert await reads.get(3) == 9


async def test_a_value_that_does_not_exist_is_none(reads: SharedReads[int, int]) -> None:
    assert await reads.get(1000) is None


async def test_each_reader_gets_its_own_value(reads: SharedReads[int, int]) -> None:
    keys = [*range(50), *range(1000, 1050), *range(50)]
    squares = [key**2 for key in range(50)]
    assert await asyncio.gather(*map(reads.get, keys)) == [*squares, *[None] * 50, *squares]


async def test_reads_that_arrive_together_share_one_call(
    reads: SharedReads[int, int], table: Table
) -> None:
    await asyncio.gather(*map(reads.get, [*range(100), *range(100)]))
    assert table.calls == [list(range(100))]


async def test_reads_one_after_another_share_nothing(
    reads: SharedReads[int, int], table: Table
) -> None:
    for _ in range(3):
        await reads.get(1)
    assert table.calls == [[1]] * 3


async def test_more_reads_than_fit_into_one_call_are_split(
    reads: SharedReads[int, int], table: Table
) -> None:
    keys = list(range(MOST_READS + 1))
    assert await asyncio.gather(*map(reads.get, keys)) == [key**2 for key in keys]
    assert table.calls == [keys[:-1], keys[-1:]]


async def test_no_read_joins_a_call_that_has_begun(
    reads: SharedReads[int, int], table: Table
) -> None:
    table.is_open.clear()
    first = start(reads, 1)
    await until_called(table, 1)
    second = start(reads, 1)
    await until_called(table, 2)
    table.is_open.set()
    assert await asyncio.gather(*first, *second) == [1, 1]


async def test_reads_gather_while_as_many_calls_as_allowed_are_under_way(
    reads: SharedReads[int, int], table: Table
) -> None:
    table.is_open.clear()
    readers = start(reads, 1)
    await until_called(table, 1)
    readers += start(reads, 2)
    await until_called(table, 2)
    for key in range(3, 10):
        readers += start(reads, key)
        await asyncio.sleep(0)
    table.is_open.set()
    assert await asyncio.gather(*readers) == [key**2 for key in range(1, 10)]
    assert table.calls == [[1], [2], list(range(3, 10))]


async def test_one_call_at_a_time_may_be_asked_for(table: Table) -> None:
    reads = SharedReads(table.fetch, at_once=1)
    table.is_open.clear()
    readers = start(reads, 1)
    await until_called(table, 1)
    readers += start(reads, 2)
    await asyncio.sleep(0)
    assert table.calls == [[1]]
    table.is_open.set()
    assert await asyncio.gather(*readers) == [1, 4]


async def test_the_deadline_counts_from_the_first_read(table: Table) -> None:
    reads = SharedReads(table.fetch, seconds=60.0, at_once=1)
    table.is_open.clear()
    readers = start(reads, 1)
    await until_called(table, 1)
    before = asyncio.get_running_loop().time()
    readers += start(reads, 2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    after = asyncio.get_running_loop().time()
    table.is_open.set()
    await asyncio.gather(*readers)
    assert before + 60 <= table.deadlines[1] <= after + 60


async def test_every_reader_of_a_call_raises_its_error(
    reads: SharedReads[int, int], table: Table
) -> None:
    table.errors.append(KeyError("broken"))
    ends = await asyncio.gather(*map(reads.get, range(5)), return_exceptions=True)
    assert [repr(end) for end in ends] == ["KeyError('broken')"] * 5
    assert await reads.get(2) == 4


async def test_a_reader_who_goes_away_does_not_disturb_the_others(
    reads: SharedReads[int, int], table: Table
) -> None:
    table.is_open.clear()
    readers = start(reads, *range(5))
    await until_called(table, 1)
    readers.pop(0).cancel()
    table.is_open.set()
    assert await asyncio.gather(*readers) == [1, 4, 9, 16]


async def test_readers_who_all_go_away_disturb_nobody_later(
    reads: SharedReads[int, int], table: Table
) -> None:
    table.errors.append(KeyError("broken"))
    readers = start(reads, *range(5))
    await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await until_called(table, 1)
    assert await reads.get(5) == 25


async def test_closing_waits_for_the_reads_under_way_and_those_that_gather(table: Table) -> None:
    reads = SharedReads(table.fetch, at_once=1)
    table.is_open.clear()
    readers = start(reads, 1)
    await until_called(table, 1)
    readers += start(reads, 2)
    closing = asyncio.create_task(reads.close())
    await asyncio.sleep(0)
    assert not closing.done()
    table.is_open.set()
    await closing
    assert [reader.result() for reader in readers] == [1, 4]
