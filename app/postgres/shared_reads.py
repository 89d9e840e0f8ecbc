"""Reads that wait at the same moment share one SELECT."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from app import deadlines

K = TypeVar("K")
V = TypeVar("V")

# In one SELECT.
MOST_READS = 200


class SharedReads(Generic[K, V]):
    """Reads values by their keys, always from PostgreSQL and never from memory.

    `fetch(keys, deadline)` returns the values of many keys; `deadline` is a time of the event
    loop's clock, `seconds` after the first of these reads. While `at_once` calls are under way,
    later reads gather for the next one. No read joins a call that has begun, so it sees all that
    was committed before it.
    """

    def __init__(
        self,
        fetch: Callable[[list[K], float], Awaitable[Mapping[K, V]]],
        *,
        seconds: float = deadlines.DATABASE,
        at_once: int = 2,
    ) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._turns = asyncio.Semaphore(at_once)
        self._gathering: list[tuple[K, asyncio.Future[V | None]]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """Return the value of this key, or None; raise what `fetch` raises."""
        if self._gathering is None or len(self._gathering) >= MOST_READS:
            self._gathering = []
            task = asyncio.create_task(self._answer(self._gathering))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # A future for each reader costs less than a shared one that is shielded from all of them.
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._gathering.append((key, answer))
        return await answer

    async def close(self) -> None:
        """Wait for the reads under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _answer(self, readers: list[tuple[K, asyncio.Future[V | None]]]) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds
        # Those in front have earlier deadlines, so this turn comes before this deadline.
        async with self._turns:
            if readers is self._gathering:
                self._gathering = None
            try:
                values = await self._fetch(list({key for key, _ in readers}), deadline)
            except Exception as error:  # noqa: BLE001 - each reader raises it
                for _, answer in readers:
                    if not answer.done():  # Its reader may have gone away.
                        answer.set_exception(error)
            else:
                for key, answer in readers:
                    if not answer.done():
                        answer.set_result(values.get(key))
