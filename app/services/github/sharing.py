"""Callers who want the same thing at the same moment share one call."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SharedCalls(Generic[K, T]):
    """The calls under way, by key. A call belongs to no caller: each may go away.

    Only a young call is joined, for so many seconds: what somebody else has waited for nearly in
    vain would fail a newcomer at once, and its answer may be older than the question.
    """

    def __init__(self, *, joinable_for: float = 1.0) -> None:
        self._joinable_for = joinable_for
        self._joinable: dict[K, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return, or raise, what the young call for `key` does; start one if there is none."""
        task = self._joinable.get(key)
        return await asyncio.shield(self._begin(key, call()) if task is None else task)

    def _begin(self, key: K, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._joinable[key] = asyncio.create_task(call)
        self._tasks.add(task)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._joinable_for, self._close_to_newcomers, key, task)
        task.add_done_callback(partial(self._finish, key, timer))
        return task

    def _close_to_newcomers(self, key: K, task: asyncio.Task[T]) -> None:
        if self._joinable.get(key) is task:
            del self._joinable[key]

    def _finish(self, key: K, timer: asyncio.TimerHandle, task: asyncio.Task[T]) -> None:
        timer.cancel()
        self._close_to_newcomers(key, task)
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Every caller may have gone: nobody else would look at it.

    async def close(self) -> None:
        """Cancel the calls under way and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
