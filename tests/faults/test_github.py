"""GitHub at its worst, one failure at a time and all of them at once."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

import httpx2 as httpx
import psycopg
import pytest

from app.errors import AlreadyTracked, GitHubError, GitHubRateLimited
from app.factory import open_tracker
from app.schemas import RepositoryReference, Representation
from app.services.github.client import CONCURRENT_CALLS
from app.settings import Settings
from lab.database import new_database
from lab.github import answers
from lab.github.server import ANY, GitHub
from lab.github.world import GitHubRepository
from lab.processes import memory, open_files
from lab.service import Service, running
from tests.faults.storm import (
    FAILURES,
    REQUESTS,
    RESET,
    Storm,
    at_github,
    body_of,
    mixed_answers,
)
from tests.support.calls import ask, track
from tests.support.promises import MARGIN, PROMISED, assert_nothing_unforeseen
from tests.support.waiting import PATIENCE, POLL, tell, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
    pytest.mark.timeout(180),
]

SEED = 20_261_123
KNOWN = 60
CALLERS = 30  # More than may ask GitHub at once.
# MB more than before a storm, in which GitHub sends five megabytes again and again.
MOST_GROWTH = 40.0
GOOD_CALLS = 5


@pytest.fixture(scope="module")
def database(postgresql: str) -> Iterator[str]:
    with new_database(postgresql) as url:
        yield url


@pytest.fixture(scope="module")
def service(database: str, github: GitHub) -> Iterator[Service]:
    with running(DATABASE_URL=database, GITHUB_API_URL=github.url) as service:
        yield service
        assert service.process.poll() is None
    assert_nothing_unforeseen(service)


async def until_the_quota_is_renewed(service: Service) -> None:
    """Wait until the service asks GitHub again."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        deadline = time.monotonic() + PATIENCE
        while (await track(client, service.url, "quota", "renewed")).status not in {201, 409}:
            assert time.monotonic() < deadline, "GitHub is not asked again"
            await asyncio.sleep(POLL)


async def assert_all_is_well(service: Service, github: GitHub, owner: str) -> None:
    """Every call that GitHub answers well succeeds: tracked, refreshed and read."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for number in range(GOOD_CALLS):
            repository = at_github(github, owner, f"good-{number}")
            created = await track(client, service.url, owner, repository.name)
            assert created.status == 201, created
            assert created.body == body_of(repository, created.body["id"])
            path = f"{service.url}/repos/{created.body['id']}"
            repository.stars += 1
            refreshed = await ask(client, "PUT", path)
            read = await ask(client, "GET", path)
            assert refreshed.body == read.body == body_of(repository, created.body["id"])
            assert max(a.seconds for a in (created, refreshed, read)) < 1 + MARGIN


@pytest.mark.usefixtures("github_recovers")
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_crowd_gets_its_answer_in_time_though_github_sends(
    failure: str, service: Service, github: GitHub
) -> None:
    answer, problem = FAILURES[failure]
    owner = f"failure-{list(FAILURES).index(failure)}"
    github.script(ANY, answer, repeat=True)
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        told = await asyncio.gather(
            *(track(client, service.url, owner, f"r-{number}") for number in range(CALLERS))
        )
    github.script(ANY)
    worst = max(answer.seconds for answer in told)
    tell(f"{failure}: {CALLERS} x {problem.status} {problem.slug}, worst {worst:.2f} s")
    assert {(a.status, a.body["type"]) for a in told} == {
        (problem.status, f"/problems/{problem.slug}")
    }
    assert all(answer.is_problem for answer in told)
    assert worst < PROMISED + MARGIN
    await assert_all_is_well(service, github, owner)


@pytest.mark.usefixtures("github_recovers")
async def test_a_storm_of_two_thousand_requests_is_answered_and_leaves_nothing_behind(
    service: Service, github: GitHub, database: str
) -> None:
    records: dict[str, GitHubRepository] = {}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for number in range(KNOWN):
            created = await track(client, service.url, "known", f"r-{number}")
            records[created.body["id"]] = at_github(github, "known", f"r-{number}")
    pid = service.process.pid
    files, before, calls = open_files(pid), memory(pid), github.count
    storm = Storm(service, github, records, Random(SEED))  # noqa: S311
    github.script(ANY, *mixed_answers(storm.chance, 2 * REQUESTS))
    begun = time.monotonic()
    await storm.run()
    took = time.monotonic() - begun
    github.script(ANY)

    statuses = Counter(answer.status for answer in storm.told)
    worst = max(answer.seconds for answer in storm.told)
    tell(
        f"{REQUESTS} requests in {took:.0f} s, {github.count - calls} calls of GitHub: "
        f"{dict(sorted(statuses.items()))}, worst {worst:.2f} s; {storm.gone} went away"
    )
    assert storm.wrong == []
    assert worst < PROMISED + MARGIN
    assert {200, 201, 409, 502, 503, 504} <= statuses.keys()
    assert storm.gone > REQUESTS / 4

    await until(lambda: github.in_flight == 0, "calls of callers who left are under way")
    await until_the_quota_is_renewed(service)
    await assert_all_is_well(service, github, "afterwards")
    await assert_kept(service, database, storm)
    await until(lambda: open_files(pid) <= files + CONCURRENT_CALLS, "connections were left open")
    tell(
        f"memory {before:.0f} MB before and {memory(pid):.0f} MB after, "
        f"{files} and {open_files(pid)} open files"
    )
    assert memory(pid) < before + MOST_GROWTH


async def assert_kept(service: Service, database: str, storm: Storm) -> None:
    """All that was acknowledged can be read, and all that is stored is what GitHub said."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for record, repository in storm.records.items():
            read = await ask(client, "GET", f"{service.url}/repos/{record}")
            assert read.body == body_of(repository, record)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT r.id::text, owner, repo_name, stars, github_id FROM repositories r "
            "FULL JOIN github_links l ON l.repository_id = r.id WHERE owner IN ('storm', 'known') "
            "OR r.id IS NULL OR l.repository_id IS NULL"
        ).fetchall()
    stored = {record: tuple(row) for record, *row in rows}
    assert storm.records.keys() <= stored.keys()
    for owner, name, stars, github_id in stored.values():
        repository = at_github(storm.github, owner, name)
        assert (repository.stars, repository.id) == (stars, github_id)
    tell(f"{len(stored)} records stored, {len(storm.records)} of them acknowledged")


@pytest.mark.usefixtures("github_recovers")
async def test_callers_who_go_away_in_a_storm_leave_no_task_slot_or_connection(
    database: str, github: GitHub
) -> None:
    chance = Random(SEED)  # noqa: S311
    settings = Settings(database_url=database, github_api_url=github.url)
    before = asyncio.all_tasks()
    async with open_tracker(settings) as tracker:
        github.script(ANY, *mixed_answers(chance, 1000))
        callers: list[asyncio.Task[Representation]] = []
        for number in range(300):
            reference = RepositoryReference(owner="inside", repo_name=f"r-{number % 200}")
            callers.append(asyncio.create_task(tracker.track(reference)))
            await asyncio.sleep(chance.uniform(0, 0.04))
            waiting = [caller for caller in callers if not caller.done()]
            if number % 2 and waiting:
                chance.choice(waiting).cancel()
        ends = await asyncio.gather(*callers, return_exceptions=True)
        github.script(ANY)
        kinds = Counter(type(end).__name__ for end in ends)
        tell(f"{len(ends)} callers: {dict(kinds)}")
        assert [
            end
            for end in ends
            if isinstance(end, BaseException)
            and not isinstance(end, GitHubError | AlreadyTracked | asyncio.CancelledError)
        ] == []

        await until(lambda: asyncio.all_tasks() <= before, "tasks are left")
        await asyncio.sleep(RESET + 1)
        # Every slot and every connection can be used again: twenty ask GitHub at once.
        github.hold()
        calls = github.count
        names = [f"good-{number}" for number in range(2 * CONCURRENT_CALLS)]
        references = [RepositoryReference(owner="inside", repo_name=name) for name in names]
        tracking = [asyncio.create_task(tracker.track(reference)) for reference in references]
        await until(lambda: github.count == calls + CONCURRENT_CALLS, "a slot is not free")
        github.release()
        records = await asyncio.gather(*tracking)
        assert [json.loads(record.body)["repo_name"] for record in records] == names
    assert asyncio.all_tasks() <= before


ABSURD = {
    "in three hundred years": str(10**10),
    "in more years than there are": "9" * 18,
    "in the past": "1",
    "before the epoch": "-5",
    "never": "tomorrow",
    "infinitely late": "inf",
}


@pytest.mark.usefixtures("github_recovers")
@pytest.mark.parametrize("reset", ABSURD.values(), ids=ABSURD)
async def test_an_absurd_reset_stops_nobody_for_longer_than_an_hour(
    reset: str, database: str, github: GitHub
) -> None:
    settings = Settings(database_url=database, github_api_url=github.url)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    async with open_tracker(settings) as tracker:
        github.script(ANY, answers.Answer(403, headers, {"message": "API rate limit exceeded"}))
        calls = github.count
        for number in range(GOOD_CALLS):
            reference = RepositoryReference(owner="absurd", repo_name=f"r-{number}")
            with pytest.raises(GitHubRateLimited) as caught:
                await tracker.track(reference)
            assert 1 <= caught.value.retry_after <= 3600
        assert github.count == calls + 1
