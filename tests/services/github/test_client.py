"""The client of GitHub, against a stand-in that speaks HTTP, well or badly."""

import asyncio
import random
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.errors import (
    GitHubBadAnswer,
    GitHubError,
    GitHubRateLimited,
    GitHubRefused,
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

TOKEN = "ghp_very5ecret"  # noqa: S105
SHORT = 0.3
PATIENCE = 20


# Any time of PostgreSQL's clock.
MOMENT = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
async def hasty(ask: Ask) -> AsyncIterator[GitHub]:
    """Open a client that gives GitHub less time than usual, but enough for a good answer."""
    async with ask(time_limit=SHORT) as client:
        yield client


class Clock:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def patient(ask: Ask, clock: Clock) -> AsyncIterator[GitHub]:
    """Open a client that waits by the clock of the test."""
    async with ask(clock=clock) as client:
        yield client


@pytest.fixture
async def elsewhere() -> AsyncIterator[StandIn]:
    """Serve another stand-in, which nobody has any business with."""
    async with StandIn.serve() as elsewhere:
        elsewhere.generate = True
        yield elsewhere
        assert elsewhere.count == 0


async def in_vain(client: GitHub, name: str = "a/b") -> GitHubError:
    """Return the error that a repository's name leads to."""
    with pytest.raises(GitHubError) as caught:
        await client.repository(*name.split("/"))
    return caught.value


def numbered(github_id: int, etag: str | None = None) -> GitHubRepository:
    """Return a repository of which only the number and maybe the ETag are known."""
    return GitHubRepository(github_id, "a", "b", 0, etag)


async def by_number(client: GitHub, github_id: int) -> GitHubRepository:
    """Return what GitHub has under this number."""
    return (await client.check(numbered(github_id), asked_at=MOMENT)).repository


async def all_ended() -> None:
    """Wait until no task of the services is left."""
    async with asyncio.timeout(PATIENCE):
        while tasks := tasks_of_the_services():
            await asyncio.wait(tasks)


async def assert_unharmed(client: GitHub, github: StandIn) -> None:
    """No task is left, twenty can ask at once, and good calls are answered."""
    await all_ended()
    github.script(ANY)
    github.generate = True
    github.hold()
    asked = github.count
    calls = [asyncio.create_task(persist(client, str(n))) for n in range(2 * CONCURRENT_CALLS)]
    await github.called(asked + CONCURRENT_CALLS)
    github.release()
    assert {found.name for found in await asyncio.gather(*calls)} == set(
        map(str, range(2 * CONCURRENT_CALLS))
    )


async def persist(client: GitHub, name: str) -> GitHubRepository:
    """Return a repository; a client with a short time limit may need several attempts."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(GitHubTimeout):
                return await client.repository("good", name)


# What is asked, and how


async def test_a_repository_is_found_by_its_name_in_any_case(
    asker: GitHub, github: StandIn
) -> None:
    known = github.add("octocat", "Hello-World", stars=80)
    found = await asker.repository("OctoCat", "hello-world")
    assert (found.github_id, found.owner, found.name, found.stars) == (
        known.id,
        "octocat",
        "Hello-World",
        80,
    )


async def test_a_repository_is_found_by_its_number(asker: GitHub, github: StandIn) -> None:
    known = github.add("octocat", "Hello-World", stars=80)
    found = await by_number(asker, known.id)
    assert (found.owner, found.name, found.stars) == ("octocat", "Hello-World", 80)


@pytest.mark.parametrize("name", [".github", "a..b", "...", "-", "_", "x.git", "A-b_C.d"])
async def test_an_odd_name_reaches_github_as_it_is(
    asker: GitHub, github: StandIn, name: str
) -> None:
    github.add("octocat_acme", name)
    assert (await asker.repository("octocat_acme", name)).name == name
    assert github.paths == [f"/repos/octocat_acme/{name}"]


async def test_an_enterprise_server_is_asked_below_its_prefix(ask: Ask) -> None:
    async with StandIn.serve(prefix="/api/v3") as server, ask(server.url) as client:
        known = server.add("octocat", "new")
        server.add("octocat", "old", id=5)
        server.rename("octocat/old", "octocat", "renamed")
        assert (await client.repository("octocat", "new")).github_id == known.id
        assert (await client.repository("octocat", "old")).name == "renamed"
        assert (await by_number(client, 5)).name == "renamed"
        assert server.violations == []
        assert {path[:8] for path in server.paths} == {"/api/v3/"}


async def test_the_address_may_end_with_a_slash(ask: Ask, github: StandIn) -> None:
    github.add("a", "b")
    async with ask(f"{github.url}/") as client:
        assert (await client.repository("a", "b")).name == "b"


# The token


async def test_the_token_stands_in_one_header_only(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b")
    github.rename(known, "a", "c")
    async with ask(token=TOKEN) as client:
        found = await client.repository("a", "b")
        await client.check(found, asked_at=MOMENT)
    assert len(github.calls) == 3
    for call in github.calls:
        assert call.headers.pop("authorization") == f"Bearer {TOKEN}"
        assert TOKEN not in f"{call.path} {call.headers} {call.body!r}"


@pytest.mark.parametrize("refusal", [answers.bad_credentials(), answers.forbidden()])
@pytest.mark.parametrize(("token", "advice"), [(None, "set GITHUB_TOKEN"), (TOKEN, "Its operator")])
async def test_the_advice_to_a_refusal_fits_whether_there_is_a_token(
    ask: Ask, github: StandIn, refusal: Answer, token: str | None, advice: str
) -> None:
    async with ask(token=token) as client:
        github.script("a/b", refusal)
        error = await in_vain(client)
    assert isinstance(error, GitHubRefused)
    assert advice in error.detail
    assert ("no token" in error.detail) is (token is None)


async def test_without_a_token_none_is_sent(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    await asker.repository("a", "b")
    assert "authorization" not in github.calls[0].headers


async def test_the_token_is_in_no_representation_and_no_error(ask: Ask, github: StandIn) -> None:
    async with ask(token=TOKEN) as client:
        github.token = "another"  # noqa: S105
        error = await in_vain(client)
        assert TOKEN not in f"{client!r} {vars(client)} {error!r} {error.__cause__!r} {vars(error)}"
    assert isinstance(error, GitHubRefused)


# Conditional requests


async def test_an_etag_goes_with_a_token_and_is_answered_unchanged(
    ask: Ask, github: StandIn
) -> None:
    github.add("a", "b")
    async with ask(token=TOKEN) as client:
        found = await client.repository("a", "b")
        assert (await client.check(found, asked_at=MOMENT)).repository is found
    assert github.calls[1].headers["if-none-match"] == found.etag
    assert github.remaining == 4999


async def test_a_change_is_told_to_whoever_has_an_old_etag(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b", stars=1)
    async with ask(token=TOKEN) as client:
        old = await client.repository("a", "b")
        known.stars = 2
        new = (await client.check(old, asked_at=MOMENT)).repository
    assert new.stars == 2
    assert new.etag != old.etag


async def test_an_etag_is_not_sent_without_a_token(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    found = await asker.repository("a", "b")
    assert (await asker.check(found, asked_at=MOMENT)).repository == found
    assert "if-none-match" not in github.calls[1].headers


async def test_unchanged_is_a_bad_answer_to_whoever_did_not_ask(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b")
    github.script(ANY, Answer(304), repeat=True)
    async with ask(token=TOKEN) as client:
        assert isinstance(await in_vain(client), GitHubBadAnswer)
        with pytest.raises(GitHubBadAnswer):
            await by_number(client, known.id)


async def test_an_answer_about_another_number_is_a_bad_answer(
    asker: GitHub, github: StandIn
) -> None:
    body = {"id": 6, "full_name": "a/b", "stargazers_count": 1}
    github.script("/repositories/5", Answer(body=body))
    with pytest.raises(GitHubBadAnswer):
        await by_number(asker, 5)


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
    hasty: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", answer)
    started = time.monotonic()
    assert isinstance(await in_vain(hasty), GitHubTimeout)
    assert SHORT - 0.05 < time.monotonic() - started < SHORT + 1.5
    assert github.count == 1
    await assert_unharmed(hasty, github)


async def test_the_deadline_is_for_all_redirects_together(hasty: GitHub, github: StandIn) -> None:
    for number in range(3):
        onward = answers.redirect(f"/repositories/{number + 1}")
        path = f"/repositories/{number}" if number else "/repos/a/b"
        github.script(path, replace(onward, delay=SHORT * 0.4))
    started = time.monotonic()
    assert isinstance(await in_vain(hasty), GitHubTimeout)
    assert time.monotonic() - started < SHORT + 1.5
    assert github.count == 3


async def test_the_deadline_is_for_the_retry_too(hasty: GitHub, github: StandIn) -> None:
    github.script("a/b", Answer(502, delay=SHORT * 0.6), answers.ordinary(delay=SHORT * 0.6))
    started = time.monotonic()
    assert isinstance(await in_vain(hasty), GitHubTimeout)
    assert time.monotonic() - started < SHORT + 1.5


async def test_the_deadline_is_for_waiting_in_line_too(hasty: GitHub, github: StandIn) -> None:
    github.hold()
    started = time.monotonic()
    errors = await asyncio.gather(
        *(in_vain(hasty, f"a/{n}") for n in range(10 * CONCURRENT_CALLS)), return_exceptions=True
    )
    assert {type(error) for error in errors} == {GitHubTimeout}
    # One after the other, those in line would take ten times as long.
    assert time.monotonic() - started < SHORT + 1.5


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
    hasty: GitHub, github: StandIn
) -> None:
    github.script(ANY, answers.silence(), repeat=True)
    calls = [asyncio.create_task(hasty.repository("a", str(n))) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await assert_unharmed(hasty, github)


async def test_closing_ends_the_running_checks(ask: Ask, github: StandIn) -> None:
    github.script(ANY, answers.silence(), repeat=True)
    async with ask() as client:
        calls = [asyncio.create_task(by_number(client, n)) for n in range(1, 31)]
        await github.called(CONCURRENT_CALLS)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert tasks_of_the_services() == []


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
    first = await in_vain(patient)
    assert isinstance(first, GitHubRateLimited)
    assert first.retry_after == seconds

    clock.ahead = seconds - 1
    for _ in range(3):
        later = await in_vain(patient, "c/d")
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
    await in_vain(patient)
    clock.ahead = 35.5
    error = await in_vain(patient)
    assert isinstance(error, GitHubRateLimited)
    assert error.retry_after in {24, 25}


async def test_a_spent_quota_closes_the_gate_until_its_reset(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.script("a/b", answers.rate_limited(600))
    error = await in_vain(patient)
    assert isinstance(error, GitHubRateLimited)
    assert 595 <= error.retry_after <= 601
    clock.ahead = 590
    assert isinstance(await in_vain(patient), GitHubRateLimited)
    assert github.count == 1
    clock.ahead = 602
    assert isinstance(await in_vain(patient), NotOnGitHub)


async def test_a_shorter_limit_does_not_open_the_gate_sooner(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.script("a/long", answers.secondary_limit(600))
    github.script("a/short", answers.secondary_limit(5))
    github.hold()
    long = asyncio.create_task(in_vain(patient, "a/long"))
    await github.called(1)
    short = asyncio.create_task(in_vain(patient, "a/short"))
    await github.called(2)
    github.release()
    await asyncio.gather(long, short)
    clock.ahead = 500
    assert isinstance(await in_vain(patient), GitHubRateLimited)
    assert github.count == 2


async def test_a_good_answer_that_spends_the_quota_closes_the_gate(
    clock: Clock, patient: GitHub, github: StandIn
) -> None:
    github.add("a", "b")
    github.remaining = 1
    assert (await patient.repository("a", "b")).name == "b"
    error = await in_vain(patient, "a/b")
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
        assert isinstance(await in_vain(client), GitHubRateLimited)
    assert github.count == 1


async def test_a_not_found_that_spends_the_quota_closes_the_gate(
    asker: GitHub, github: StandIn
) -> None:
    github.remaining = 1
    assert isinstance(await in_vain(asker), NotOnGitHub)
    assert isinstance(await in_vain(asker), GitHubRateLimited)
    assert github.count == 1


async def test_those_who_wait_in_line_do_not_ask_when_the_gate_closes(
    asker: GitHub, github: StandIn
) -> None:
    github.script(ANY, answers.secondary_limit(60), repeat=True)
    github.hold()
    calls = [asyncio.create_task(in_vain(asker, f"a/{n}")) for n in range(60)]
    await github.called(CONCURRENT_CALLS)
    github.release()
    assert {type(error) for error in await asyncio.gather(*calls)} == {GitHubRateLimited}
    assert github.count == CONCURRENT_CALLS


async def test_a_closed_gate_answers_at_once(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.secondary_limit(60))
    await in_vain(asker)
    started = time.monotonic()
    await asyncio.gather(*(in_vain(asker, f"a/{n}") for n in range(100)))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("answer", [answers.forbidden(), answers.blocked(), answers.not_found()])
async def test_what_is_no_limit_leaves_the_gate_open(
    asker: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("c", "d")
    github.script("a/b", answer)
    await in_vain(asker)
    assert (await asker.repository("c", "d")).name == "d"


# The retry


PASSING = [
    answers.hang_up(),
    answers.hang_up(reset=True),
    answers.html(502),
    answers.html(503),
    Answer(504),
]


@pytest.mark.parametrize("failure", PASSING, ids=["close", "reset", "502", "503", "504"])
async def test_a_passing_failure_is_tried_once_more(
    asker: GitHub, github: StandIn, failure: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", failure)
    assert (await asker.repository("a", "b")).name == "b"
    assert github.count == 2


@pytest.mark.parametrize("failure", PASSING, ids=["close", "reset", "502", "503", "504"])
async def test_a_lasting_failure_is_tried_no_more_than_twice(
    asker: GitHub, github: StandIn, failure: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", failure, failure)
    assert isinstance(await in_vain(asker), GitHubUnavailable)
    assert github.count == 2
    await assert_unharmed(asker, github)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 451, 500, 501, 520])
async def test_what_would_fail_again_is_not_tried_again(
    asker: GitHub, github: StandIn, status: int
) -> None:
    github.add("a", "b")
    github.script("a/b", Answer(status))
    await in_vain(asker)
    assert github.count == 1


async def test_a_github_that_is_not_there_is_unavailable(ask: Ask) -> None:
    async with StandIn.serve() as gone:
        url = gone.url
    async with ask(url) as client:
        assert isinstance(await in_vain(client), GitHubUnavailable)


async def test_a_connection_that_was_closed_in_the_meantime_does_no_harm(
    asker: GitHub, github: StandIn
) -> None:
    github.add("a", "b")
    github.script("a/b", *[answers.farewell()] * 10)
    for _ in range(10):
        assert (await asker.repository("a", "b")).name == "b"


# Bodies


BAD_BODIES = {
    "too large": answers.huge(2_000_000),
    "announced to be too large": answers.huge(2_000_000, announced=True),
    "a bomb": answers.gzip_bomb(8),
    "not gzip": Answer(headers={"Content-Encoding": "gzip"}, body=b"{}"),
    "cut": answers.cut(),
    "chunks without an end": answers.chunked(cut_off=True),
    "shorter than announced": answers.lie(-500),
    "no HTTP": answers.garbage(),
    "a page labelled JSON": answers.html(200),
    "a page": answers.html(200, "text/html"),
    "an empty one": Answer(),
    "a list": Answer(body=[]),
    "no content": Answer(204),
}


@pytest.mark.parametrize("answer", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_that_cannot_be_used_is_a_bad_gateway(
    asker: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", answer, repeat=True)
    assert (await in_vain(asker)).status == 502
    await assert_unharmed(asker, github)


async def test_a_body_in_chunks_is_read(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    github.script("a/b", answers.chunked())
    assert (await asker.repository("a", "b")).name == "b"


async def test_a_body_just_below_a_mebibyte_is_read(asker: GitHub, github: StandIn) -> None:
    body: dict[str, object] = {"id": 1, "full_name": "a/b", "stargazers_count": 2}
    github.script("a/b", answers.chunked(Answer(body=body | {"padding": "x" * 1_048_000})))
    assert (await asker.repository("a", "b")).stars == 2


@pytest.mark.parametrize(
    "description",
    [
        rb"half a smile \ud83d",
        b"a raw \x01 control character and a line\nbreak",
        "Latin-1: München".encode("latin-1"),
        b"bytes of nothing \xff\xfe\xed\xa0\x80",
    ],
    ids=["surrogate", "control", "latin-1", "bytes"],
)
async def test_a_field_that_is_not_read_spoils_nothing(
    asker: GitHub, github: StandIn, description: bytes
) -> None:
    body = b'{"id": 5, "description": "%b", "full_name": "a/b", "stargazers_count": 2}'
    github.script("a/b", Answer(body=body % description))
    assert await asker.repository("a", "b") == GitHubRepository(5, "a", "b", 2, None)


async def test_a_refusal_is_read_whatever_else_it_says(asker: GitHub, github: StandIn) -> None:
    body = b'{"message": "M\xfcnchen: \x01 secondary rate limit", "documentation_url": "\\ud83d"}'
    github.script("a/b", Answer(403, body=body))
    assert isinstance(await in_vain(asker), GitHubRateLimited)


async def test_a_bomb_is_not_unpacked_into_memory(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.gzip_bomb(64))
    tracemalloc.start()
    try:
        await in_vain(asker)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# Redirects


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["{base}/repositories/5", "/repositories/5"])
async def test_a_redirect_of_githubs_own_is_followed(
    asker: GitHub, github: StandIn, status: int, location: str
) -> None:
    github.add("new", "name", id=5)
    github.script("a/b", answers.redirect(location, status))
    assert (await asker.repository("a", "b")).owner == "new"
    assert github.paths == ["/repos/a/b", "/repositories/5"]


async def test_a_relative_redirect_is_followed_from_where_it_was_given(
    asker: GitHub, github: StandIn
) -> None:
    github.add("a", "name")
    github.script("a/b", answers.redirect("name"))
    assert (await asker.repository("a", "b")).name == "name"


@pytest.mark.parametrize(("hops", "calls"), [(1, 2), (2, 3), (3, 4)])
async def test_three_redirects_are_followed(
    asker: GitHub, github: StandIn, hops: int, calls: int
) -> None:
    github.add("new", "name", id=100 + hops)
    chain(github, hops)
    assert (await asker.repository("a", "b")).owner == "new"
    assert github.count == calls


async def test_a_fourth_redirect_is_not_followed(asker: GitHub, github: StandIn) -> None:
    github.add("new", "name", id=104)
    chain(github, 4)
    assert isinstance(await in_vain(asker), GitHubBadAnswer)
    assert github.count == 4


def chain(github: StandIn, hops: int) -> None:
    """Redirect a/b so many times, to the repository 100 + hops in the end."""
    path = "/repos/a/b"
    for number in range(101, 101 + hops):
        github.script(path, answers.redirect(f"{{base}}/repositories/{number}"))
        path = f"/repositories/{number}"


async def test_a_loop_is_left(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.redirect("{base}/repos/a/b"), repeat=True)
    assert isinstance(await in_vain(asker), GitHubBadAnswer)
    assert github.count == 4


@pytest.mark.parametrize(
    "location",
    [
        "{foreign}/repositories/5",
        "//{foreign_host}/repositories/5",
        "http://localhost:{port}/repositories/5",
        "https://127.0.0.1:{port}/repositories/5",
        "http://127.0.0.1/repositories/5",
        "http://user:password@127.0.0.1:{port}/repositories/5",
        "http://127.0.0.1:{port}@{foreign_host}/repositories/5",
        "ftp://127.0.0.1:{port}/repositories/5",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http://[::1/repositories/5",
        "http://127.0.0.1:99999999/repositories/5",
        "http://127.0.0.1:port/repositories/5",
        "http://xn--/repositories/5",
        "http://xn--zzzzzzz/repositories/5",
        "http://a..b/repositories/5",
        "http://\xff/repositories/5",
        "http://example.invalid\x00/repositories/5",
        "x" * 70_000,
        "http://" + "x" * 60_000 + "/",
    ],
    ids=lambda location: location[:60],
)
async def test_a_redirect_elsewhere_is_never_followed(
    ask: Ask, github: StandIn, elsewhere: StandIn, location: str
) -> None:
    github.foreign = elsewhere.url
    github.add("new", "name", id=5)
    host = elsewhere.url.removeprefix("http://")
    port = github.url.rpartition(":")[2]
    location = location.replace("{foreign_host}", host).replace("{port}", port)
    github.script("a/b", answers.redirect(location), repeat=True)
    async with ask(token=TOKEN) as client:
        assert (await in_vain(client)).status == 502
    assert set(github.paths) == {"/repos/a/b"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_nowhere_is_a_bad_answer(
    asker: GitHub, github: StandIn, status: int
) -> None:
    github.script("a/b", answers.redirect(None, status))
    assert isinstance(await in_vain(asker), GitHubBadAnswer)
    assert github.count == 1


async def test_a_second_hop_elsewhere_is_not_followed_either(
    ask: Ask, github: StandIn, elsewhere: StandIn
) -> None:
    github.foreign = elsewhere.url
    github.script("a/b", answers.redirect("{base}/repositories/5"))
    github.script("/repositories/5", answers.redirect("{foreign}/repositories/5"))
    async with ask(token=TOKEN) as client:
        assert isinstance(await in_vain(client), GitHubBadAnswer)
    assert github.count == 2


# Everything at once


async def test_after_a_storm_every_call_is_good_again(hasty: GitHub, github: StandIn) -> None:
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
            call = asyncio.create_task(hasty.repository("storm", str(number)))
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
    await assert_unharmed(hasty, github)
