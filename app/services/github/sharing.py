"""Callers who want the same answer at the same time share one call."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedCalls(Generic[K, T]):
    """The running calls, by key. A call belongs to no caller: each caller may go away.

    A call is joined during its first `joinable_for` seconds only: a late joiner would inherit a
    call that is about to time out, and an answer that may be older than the question.
    """

    def __init__(
        self, *, joinable_for: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._joinable_for = joinable_for
        self._clock = clock
        self._latest: dict[K, tuple[asyncio.Task[T], float]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def join(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return, or raise, what the call for `key` does; start one if none can be joined."""
        return await asyncio.shield(self._joinable(key) or self._begin(key, call()))

    async def close(self) -> None:
        """Cancel the running calls and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _joinable(self, key: K) -> asyncio.Task[T] | None:
        if key not in self._latest:
            return None
        task, begun = self._latest[key]
        is_young = self._clock() - begun <= self._joinable_for
        return task if is_young and not task.done() else None

    def _begin(self, key: K, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(call)
        self._latest[key] = task, self._clock()
        self._tasks.add(task)
        task.add_done_callback(partial(self._finish, key))
        return task

    def _finish(self, key: K, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if key in self._latest and self._latest[key][0] is task:
            del self._latest[key]
        if not task.cancelled():
            task.exception()  # If every caller has gone, nobody else retrieves it.
