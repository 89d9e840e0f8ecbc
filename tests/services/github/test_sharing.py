"""Calls that several callers share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from app.services.github.sharing import SharedCalls


class Work:
    """Something to be called, which ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        """Return how many calls there were."""
        self.begun += 1
        number = self.begun
        try:
            await self.may_end.wait()
        finally:
            self.ended += 1
        return number

    async def fail(self) -> int:
        """Fail, when it may end."""
        await self()
        raise LookupError("not found")


def start(
    calls: SharedCalls[str, int], work: Callable[[], Coroutine[Any, Any, int]], key: str = "key"
) -> asyncio.Task[int]:
    return asyncio.create_task(calls.join(key, work))


async def turn() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_of_one_moment_share_one_call() -> None:
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work) for _ in range(100)]
    await turn()
    work.may_end.set()
    assert set(await asyncio.gather(*callers)) == {1}
    assert work.begun == 1


async def test_different_keys_are_different_calls() -> None:
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work, key) for key in "abc"]
    await turn()
    assert work.begun == 3
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1, 2, 3]


async def test_a_caller_who_comes_later_starts_a_call_of_its_own() -> None:
    calls, work = SharedCalls[str, int](), Work()
    work.may_end.set()
    assert await calls.join("key", work) == 1
    assert await calls.join("key", work) == 2


async def test_a_call_that_began_too_long_ago_is_not_joined() -> None:
    now = 0.0
    calls, work = SharedCalls[str, int](joinable_for=1, clock=lambda: now), Work()
    first = start(calls, work)
    await turn()
    now = 1.1
    second = start(calls, work)
    await turn()
    assert work.begun == 2
    work.may_end.set()
    assert list(await asyncio.gather(first, second)) == [1, 2]


async def test_the_end_of_an_old_call_leaves_the_young_one_joinable() -> None:
    now = 0.0
    calls, old, young = SharedCalls[str, int](joinable_for=1, clock=lambda: now), Work(), Work()
    first = start(calls, old)
    await turn()
    now = 1.1
    second = start(calls, young)
    await turn()
    old.may_end.set()
    assert await first == 1
    third = start(calls, young)
    await turn()
    young.may_end.set()
    assert list(await asyncio.gather(second, third)) == [1, 1]


async def test_a_failure_reaches_every_caller() -> None:
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work.fail) for _ in range(10)]
    await turn()
    work.may_end.set()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(end) for end in ends} == {LookupError}


async def test_a_failure_is_not_kept() -> None:
    calls, work = SharedCalls[str, int](), Work()
    work.may_end.set()
    with pytest.raises(LookupError):
        await calls.join("key", work.fail)
    assert await calls.join("key", work) == 2


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_caller_who_leaves_does_not_disturb_the_others(leaver: int) -> None:
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work) for _ in range(3)]
    await turn()
    callers.pop(leaver).cancel()
    await turn()
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1, 1]


async def test_a_caller_may_join_a_call_that_all_others_have_left() -> None:
    calls, work = SharedCalls[str, int](), Work()
    first = start(calls, work)
    await turn()
    first.cancel()
    await turn()
    second = start(calls, work)
    await turn()
    work.may_end.set()
    assert await second == 1


@pytest.mark.parametrize("failing", [False, True])
async def test_a_call_that_all_have_left_ends_and_leaves_nothing_behind(*, failing: bool) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work.fail if failing else work) for _ in range(3)]
    await turn()
    for caller in callers:
        caller.cancel()
    await turn()
    work.may_end.set()
    await turn()
    assert (work.ended, complaints) == (1, [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_ends_the_calls_and_waits_for_their_end() -> None:
    calls, work = SharedCalls[str, int](), Work()
    callers = [start(calls, work, key) for key in "aab"]
    await turn()
    await calls.close()
    assert (work.begun, work.ended) == (2, 2)
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
