"""What a rate limit stops, and until when."""

import asyncio
import time
from dataclasses import replace

import pytest

from app.errors import (
    GitHubRateLimited,
    NotOnGitHub,
)
from app.services.github.client import CONCURRENT_CALLS, GitHub
from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import ANY
from lab.github.server import GitHub as StandIn
from tests.services.conftest import Ask
from tests.services.github.support import MOMENT, TOKEN, Clock, by_number, error_of, numbered

# Rate limits


LIMITS = [
    (answers.secondary_limit(60), 60),
    (answers.secondary_limit(7, status=429), 7),
    (answers.secondary_limit("soon"), 60),
    (answers.secondary_limit(via="body"), 60),
    (answers.secondary_limit(via="abuse"), 60),
    (answers.secondary_limit(via="url"), 60),
    (answers.secondary_limit(via="gh-limited-by"), 60),
    (answers.secondary_limit(via="nothing", status=429), 60),
    (answers.rate_limited(None), 60),
    (answers.rate_limited(None, status=429), 60),
    (answers.rate_limited(10**9), 3600),
    (
        replace(
            answers.rate_limited(900),
            headers={**answers.rate_limited(900).headers, "Retry-After": "7"},
        ),
        7,
    ),
]


@pytest.mark.parametrize(("limit", "seconds"), LIMITS)
async def test_a_limit_closes_the_gate_and_nobody_asks_before_it_opens(
    clock: Clock, patient: GitHub, github: StandIn, limit: Answer, seconds: int
) -> None:
    known = github.add("c", "d")
    github.script("a/b", limit)
    first = await error_of(patient)
    assert isinstance(first, GitHubRateLimited)
    assert first.retry_after == seconds

    clock.ahead = seconds - 1
    for _ in range(3):
        later = await error_of(patient, "c/d")
        assert isinstance(later, GitHubRateLimited)
        assert later.retry_after == 1
    with pytest.raises(GitHubRateLimited):
        await by_number(patient, known.id)
    assert github.count == 1

    clock.ahead = seconds + 1
    assert (await patient.repository("c", "d")).name == "d"


async def test_a_closed_gate_tells_the_time_that_remains(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.script("a/b", answers.secondary_limit(60))
    await error_of(patient)
    clock.ahead = 35.5
    error = await error_of(patient)
    assert isinstance(error, GitHubRateLimited)
    assert error.retry_after in {24, 25}


async def test_a_spent_quota_closes_the_gate_until_its_reset(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.script("a/b", answers.rate_limited(600))
    error = await error_of(patient)
    assert isinstance(error, GitHubRateLimited)
    assert 595 <= error.retry_after <= 601
    clock.ahead = 590
    assert isinstance(await error_of(patient), GitHubRateLimited)
    assert github.count == 1
    clock.ahead = 602
    assert isinstance(await error_of(patient), NotOnGitHub)


async def test_a_shorter_limit_does_not_open_the_gate_sooner(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.script("a/long", answers.secondary_limit(600))
    github.script("a/short", answers.secondary_limit(5))
    github.hold()
    long = asyncio.create_task(error_of(patient, "a/long"))
    await github.called(1)
    short = asyncio.create_task(error_of(patient, "a/short"))
    await github.called(2)
    github.release()
    await asyncio.gather(long, short)
    clock.ahead = 500
    assert isinstance(await error_of(patient), GitHubRateLimited)
    assert github.count == 2


async def test_a_good_answer_that_spends_the_quota_closes_the_gate(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.add("a", "b")
    github.remaining = 1
    assert (await patient.repository("a", "b")).name == "b"
    error = await error_of(patient, "a/b")
    assert isinstance(error, GitHubRateLimited)
    assert 3590 <= error.retry_after <= 3600
    assert github.count == 1


async def test_an_unchanged_answer_that_spends_the_quota_closes_the_gate(
    ask: Ask, github: StandIn
) -> None:
    headers: dict[str, str | None] = {"X-RateLimit-Remaining": "0"}
    github.script("/repositories/5", Answer(304, headers))
    async with ask(token=TOKEN) as client:
        known = numbered(5, '"tag"')
        assert (await client.check(known, asked_at=MOMENT)).repository is known
        assert isinstance(await error_of(client), GitHubRateLimited)
    assert github.count == 1


async def test_a_not_found_that_spends_the_quota_closes_the_gate(
    asker: GitHub, github: StandIn
) -> None:
    github.remaining = 1
    assert isinstance(await error_of(asker), NotOnGitHub)
    assert isinstance(await error_of(asker), GitHubRateLimited)
    assert github.count == 1


async def test_those_who_wait_in_line_do_not_ask_when_the_gate_closes(
    asker: GitHub, github: StandIn
) -> None:
    github.script(ANY, answers.secondary_limit(60), repeat=True)
    github.hold()
    calls = [asyncio.create_task(error_of(asker, f"a/{n}")) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    github.release()
    assert {type(error) for error in await asyncio.gather(*calls)} == {GitHubRateLimited}
    assert github.count == CONCURRENT_CALLS


async def test_a_closed_gate_answers_at_once(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.secondary_limit(60))
    await error_of(asker)
    started = time.monotonic()
    await asyncio.gather(*(error_of(asker, f"a/{n}") for n in range(100)))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("answer", [answers.forbidden(), answers.blocked(), answers.not_found()])
async def test_what_is_no_limit_leaves_the_gate_open(
    asker: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("c", "d")
    github.script("a/b", answer)
    await error_of(asker)
    assert (await asker.repository("c", "d")).name == "d"
