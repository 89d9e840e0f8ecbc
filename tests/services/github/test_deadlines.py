"""What takes too long, and many calls at once."""

import asyncio
import random
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import (
    GitHubBadAnswer,
    GitHubError,
    GitHubTimeout,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.models import GitHubRepository
from app.services.github.client import CONCURRENT_CALLS, GitHub
from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import ANY
from lab.github.server import GitHub as StandIn
from tests.conftest import Serve
from tests.services.conftest import Ask, tasks_of_the_services
from tests.services.github.support import MOMENT, assert_unharmed, by_number, error_of, numbered

SHORT = 0.3


# The deadline


@pytest.mark.parametrize(
    "answer",
    [
        answers.silence(),
        answers.drip(0.02),
        answers.drip(0.02, head_too=True),
        answers.lie(10),
        answers.ordinary(delay=60),
    ],
    ids=["silence", "slow body", "slow head", "missing end", "late"],
)
async def test_whatever_takes_too_long_is_given_up_at_the_deadline(
    asker: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", answer)
    started = time.monotonic()
    assert isinstance(await error_of(asker, within=SHORT), GitHubTimeout)
    assert SHORT - 0.05 < time.monotonic() - started < SHORT + 3
    assert github.count <= 1
    await assert_unharmed(asker, github)


async def test_a_call_ends_at_the_time_limit_of_the_client(ask: Ask, github: StandIn) -> None:
    github.script(ANY, answers.silence(), repeat=True)
    started = time.monotonic()
    async with ask(time_limit=SHORT) as client:
        assert isinstance(await error_of(client), GitHubTimeout)
        with pytest.raises(GitHubTimeout):
            await by_number(client, 1)
    assert time.monotonic() - started < 2 * SHORT + 3


async def test_the_deadline_is_for_all_redirects_together(asker: GitHub, github: StandIn) -> None:
    for number in range(3):
        onward = answers.redirect(f"/repositories/{number + 1}")
        path = f"/repositories/{number}" if number else "/repos/a/b"
        github.script(path, replace(onward, delay=SHORT * 0.4))
    started = time.monotonic()
    assert isinstance(await error_of(asker, within=SHORT), GitHubTimeout)
    assert time.monotonic() - started < SHORT + 3


async def test_the_deadline_is_for_the_retry_too(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", Answer(502, delay=SHORT * 0.6), answers.ordinary(delay=SHORT * 0.6))
    started = time.monotonic()
    assert isinstance(await error_of(asker, within=SHORT), GitHubTimeout)
    assert time.monotonic() - started < SHORT + 3


async def test_the_deadline_is_for_waiting_in_line_too(asker: GitHub, github: StandIn) -> None:
    github.hold()
    started = time.monotonic()
    errors = await asyncio.gather(
        *(error_of(asker, f"a/{n}", 1.0) for n in range(10 * CONCURRENT_CALLS)),
        return_exceptions=True,
    )
    assert {type(error) for error in errors} == {GitHubTimeout}
    # One after the other, those in line would take ten seconds.
    assert time.monotonic() - started < 6


async def test_a_caller_of_the_service_has_the_answer_within_the_five_seconds_and_a_half(
    serve: Serve, github: StandIn
) -> None:
    known = github.add("a", "tracked")
    late = replace(answers.redirect(f"/repositories/{known.id}"), delay=2)
    github.script("a/silent", answers.silence())
    github.script("a/slow-head", answers.drip(0.25, head_too=True))
    github.script("a/slow-body", answers.drip(0.25, answers.html(200)))
    github.script("a/renamed", late)
    async with serve() as client:
        record = await client.post("/repos", json={"owner": "a", "repo_name": "tracked"})
        github.script(f"/repositories/{known.id}", answers.silence(), repeat=True)

        async def timed(method: str, path: str, name: str | None = None) -> tuple[int, float]:
            started = time.monotonic()
            body = {"owner": "a", "repo_name": name} if name else None
            answer = await client.request(method, path, json=body)
            return answer.status_code, time.monotonic() - started

        timings = await asyncio.gather(
            *(
                timed("POST", "/repos", name)
                for name in ("silent", "slow-head", "slow-body", "renamed")
            ),
            timed("PUT", f"/repos/{record.json()['id']}"),
        )
    assert [status for status, _ in timings] == [504] * 5
    assert all(4.5 < seconds < 5.5 for _, seconds in timings), timings


# Many at once


async def test_no_more_than_twenty_are_asked_at_once(asker: GitHub, github: StandIn) -> None:
    github.generate = True
    github.hold()
    calls = [asyncio.create_task(asker.repository("a", str(n))) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    github.release()
    assert len(await asyncio.gather(*calls)) == 60
    assert github.concurrent_peak == CONCURRENT_CALLS == 20


async def test_a_hundred_checks_share_one_call_and_the_moment_it_was_asked(
    asker: GitHub, github: StandIn
) -> None:
    known = numbered(github.add("a", "b").id)
    github.hold()
    moments = [MOMENT + timedelta(seconds=second) for second in range(100)]
    calls = [asyncio.create_task(asker.check(known, asked_at=moment)) for moment in moments]
    await github.called(1)
    github.release()
    assert {check.asked_at for check in await asyncio.gather(*calls)} == {MOMENT}
    assert github.count == 1


async def test_a_failed_check_is_shared_too(asker: GitHub, github: StandIn) -> None:
    github.hold()
    calls = [asyncio.create_task(by_number(asker, 404)) for _ in range(10)]
    await github.called(1)
    github.release()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {NotOnGitHub}
    assert github.count == 1


async def test_a_check_that_comes_after_the_answer_asks_anew(
    asker: GitHub, github: StandIn
) -> None:
    known = github.add("a", "b", stars=1)
    assert (await by_number(asker, known.id)).stars == 1
    known.stars = 2
    assert (await by_number(asker, known.id)).stars == 2


@pytest.mark.parametrize("gone", [0, 5, 9])
async def test_a_caller_who_goes_away_does_not_fail_the_rest(
    asker: GitHub, github: StandIn, gone: int
) -> None:
    known = github.add("a", "b")
    github.hold()
    calls = [asyncio.create_task(by_number(asker, known.id)) for _ in range(10)]
    await github.called(1)
    calls.pop(gone).cancel()
    github.release()
    found = await asyncio.gather(*calls)
    assert [one.name for one in found] == ["b"] * 9
    assert github.count == 1


async def test_a_caller_has_a_deadline_of_its_own(asker: GitHub, github: StandIn) -> None:
    known = numbered(github.add("a", "b").id)
    github.hold()
    soon = asyncio.get_running_loop().time() + SHORT
    patient = asyncio.create_task(by_number(asker, known.github_id))
    await github.called(1)
    with pytest.raises(GitHubTimeout):
        await asker.check(known, asked_at=MOMENT, deadline=soon)
    with pytest.raises(GitHubTimeout):
        await asker.repository("a", "b", deadline=soon)
    github.release()
    assert (await patient).name == "b"


async def test_callers_who_all_go_away_leave_nothing_behind(asker: GitHub, github: StandIn) -> None:
    github.hold()
    calls = [asyncio.create_task(asker.repository("a", str(n))) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    github.release()
    await assert_unharmed(asker, github)


async def test_callers_who_leave_a_silent_github_leave_nothing_behind(
    asker: GitHub, github: StandIn
) -> None:
    github.script(ANY, answers.silence(), repeat=True)
    calls = [asyncio.create_task(asker.repository("a", str(n))) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await assert_unharmed(asker, github)


async def test_closing_ends_the_running_checks(ask: Ask, github: StandIn) -> None:
    github.script(ANY, answers.silence(), repeat=True)
    async with ask() as client:
        calls = [asyncio.create_task(by_number(client, n)) for n in range(1, 31)]
        await github.called(CONCURRENT_CALLS)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert tasks_of_the_services() == []


# Everything at once


async def test_after_a_storm_every_call_is_good_again(asker: GitHub, github: StandIn) -> None:
    dice = random.Random(20_261_122)  # noqa: S311
    github.generate = True
    weather = [
        *[answers.ordinary()] * 6,
        *[answers.ordinary(delay=0.05)] * 4,
        answers.silence(),
        answers.drip(0.01),
        answers.drip(0.01, head_too=True),
        answers.hang_up(),
        answers.hang_up(reset=True),
        answers.farewell(),
        answers.cut(),
        answers.chunked(cut_off=True),
        answers.lie(10),
        answers.lie(-10),
        answers.garbage(),
        answers.huge(1_500_000),
        answers.gzip_bomb(4),
        answers.html(502),
        answers.html(200),
        Answer(500),
        answers.redirect("{foreign}/repositories/1"),
        answers.redirect(None),
    ]
    github.script(ANY, *dice.choices(weather, k=1000))
    line = asyncio.Semaphore(50)

    async def one(number: int) -> GitHubRepository | GitHubError:
        async with line:
            deadline = asyncio.get_running_loop().time() + 2
            call = asyncio.create_task(asker.repository("storm", str(number), deadline=deadline))
            if number % 3 == 0:
                asyncio.get_running_loop().call_later(dice.random() * SHORT / 2, call.cancel)
            try:
                return await call
            except GitHubError as error:
                return error

    ends = await asyncio.gather(*(one(number) for number in range(300)), return_exceptions=True)
    assert {type(end) for end in ends} == {
        GitHubRepository,
        GitHubBadAnswer,
        GitHubTimeout,
        GitHubUnavailable,
        asyncio.CancelledError,
    }
    await assert_unharmed(asker, github)
