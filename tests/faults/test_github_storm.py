"""GitHub at its worst, one evil at a time and all of them at once."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random as Chance
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from app.errors import (
    AlreadyTracked,
    GitHubBadAnswer,
    GitHubError,
    GitHubRateLimited,
    GitHubRefused,
    GitHubTimeout,
    GitHubUnavailable,
    GoneFromGitHub,
    NotOnGitHub,
    Problem,
)
from app.factory import open_tracker
from app.schemas import RepositoryReference, Representation
from app.services.github.client import CONCURRENT_CALLS
from app.services.github.client import GitHub as Client
from app.settings import Settings
from tests.faults.load import Answer, ask, track
from tests.faults.processes import Worker
from tests.faults.promises import MARGIN, PROMISED, assert_nothing_unforeseen
from tests.faults.support import PATIENCE, tell, until
from tests.support import answers
from tests.support.answers import UNICORN
from tests.support.database import new_database
from tests.support.github import ANY, GitHub
from tests.support.service import Service, running
from tests.support.world import GitHubRepository

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
    pytest.mark.timeout(180),
]

SEED = 20_261_123
REQUESTS = 2000
AT_ONCE = 64
NAMES = 900
KNOWN = 60
CROWD = 30  # More than may ask GitHub at once.
DRIP = 0.25
RESET = 1  # Seconds until a quota that ran dry is renewed.
# MB more than before a storm, in which five megabytes come again and again.
MOST_GROWTH = 40.0
PEACE = 5

LOOP = answers.redirect("{base}/repositories/1")
EVILS: dict[str, tuple[answers.Answer, type[Problem]]] = {
    "silence": (answers.silence(), GitHubTimeout),
    "a byte every quarter second": (answers.drip(DRIP), GitHubTimeout),
    "a head of a byte every quarter second": (answers.drip(DRIP, head_too=True), GitHubTimeout),
    "a body that is announced and does not come": (answers.lie(100), GitHubTimeout),
    "hanging up at once": (answers.hang_up(), GitHubUnavailable),
    "a reset connection": (answers.hang_up(reset=True), GitHubUnavailable),
    "hanging up in the middle of a body": (answers.cut(), GitHubUnavailable),
    "not HTTP": (answers.garbage(), GitHubUnavailable),
    "five megabytes": (answers.huge(), GitHubBadAnswer),
    "five megabytes, announced": (answers.huge(announced=True), GitHubBadAnswer),
    "a gzip bomb": (answers.gzip_bomb(), GitHubBadAnswer),
    "garbage for JSON": (answers.Answer(body=b'{"id": 1, "full_name'), GitHubBadAnswer),
    "HTML labelled JSON": (answers.Answer(body=UNICORN), GitHubBadAnswer),
    "a page of an ill GitHub": (answers.html(), GitHubUnavailable),
    "a redirect in circles": (LOOP, GitHubBadAnswer),
    "a redirect to another host": (answers.redirect("{foreign}/x"), GitHubBadAnswer),
}
# What a request may be told in the storm; never a 500, never that the database is away.
RIGHT: dict[str, set[type[Problem]]] = {
    "POST": {AlreadyTracked, NotOnGitHub},
    "PUT": {GoneFromGitHub},
}
OF_GITHUB: set[type[Problem]] = {
    GitHubBadAnswer,
    GitHubRateLimited,
    GitHubRefused,
    GitHubTimeout,
    GitHubUnavailable,
}


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


def at_github(github: GitHub, owner: str, name: str) -> GitHubRepository:
    """Return what GitHub has under this name."""
    found = github.look_up(f"{owner}/{name}")
    assert isinstance(found, GitHubRepository)
    return found


def body_of(repository: GitHubRepository, record: str) -> dict[str, Any]:
    """Return what the service has to say of it."""
    name = {"owner": repository.owner, "repo_name": repository.name}
    return {"id": record, **name, "stars": repository.stars}


async def assert_all_is_well(service: Service, github: GitHub, owner: str) -> None:
    """Five good calls out of five are good: tracked, read and refreshed."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for number in range(PEACE):
            repository = at_github(github, owner, f"good-{number}")
            created = await track(client, service, owner, repository.name)
            assert created.status == 201, created
            assert created.body == body_of(repository, created.body["id"])
            path = f"{service.url}/repos/{created.body['id']}"
            repository.stars += 1
            refreshed = await ask(client, "PUT", path)
            read = await ask(client, "GET", path)
            assert refreshed.body == read.body == body_of(repository, created.body["id"])
            assert max(a.seconds for a in (created, refreshed, read)) < 1 + MARGIN


@pytest.mark.usefixtures("peace")
@pytest.mark.parametrize("evil", EVILS)
async def test_a_crowd_gets_its_answer_in_time_though_github_sends(
    evil: str, service: Service, github: GitHub
) -> None:
    answer, problem = EVILS[evil]
    owner = f"evil-{list(EVILS).index(evil)}"
    github.script(ANY, answer, repeat=True)
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        told = await asyncio.gather(
            *(track(client, service, owner, f"r-{number}") for number in range(CROWD))
        )
    github.script(ANY)
    worst = max(answer.seconds for answer in told)
    tell(f"{evil}: {CROWD} x {problem.status} {problem.slug}, worst {worst:.2f} s")
    assert {(a.status, a.body["type"]) for a in told} == {
        (problem.status, f"/problems/{problem.slug}")
    }
    assert all(answer.is_problem for answer in told)
    assert worst < PROMISED + MARGIN
    await assert_all_is_well(service, github, owner)


# Everything at once


def weather(chance: Chance, calls: int) -> list[answers.Answer]:
    """Return what GitHub answers, call by call; its quota runs dry three times."""
    good = [answers.ORDINARY, answers.ordinary(delay=0.3), answers.farewell(), answers.not_found()]
    quick = [answer for answer, problem in EVILS.values() if problem is not GitHubTimeout]
    slow = [answer for answer, problem in EVILS.values() if problem is GitHubTimeout]
    odd = [answers.Answer(500, body=b"{}"), answers.bad_credentials(), answers.lie(-10)]
    kinds = chance.choices([good, quick, slow, odd], weights=[50, 38, 7, 5], k=calls)
    coming = [chance.choice(kind) for kind in kinds]
    for place in (calls // 8, calls // 4, calls // 2):
        # Made when the storm comes to it, its reset would have passed already.
        coming[place] = answers.Answer(
            403,
            {"X-RateLimit-Remaining": "0", "Retry-After": str(RESET)},
            {"message": "API rate limit exceeded for 192.0.2.1."},
        )
    return coming


@dataclass
class Storm:
    """Callers of whom every other one goes away without waiting for the answer."""

    service: Service
    github: GitHub
    records: dict[str, GitHubRepository]
    chance: Chance
    told: list[Answer] = field(default_factory=list)
    gone: int = 0
    wrong: list[str] = field(default_factory=list)

    async def rage(self) -> None:
        """Make all requests, so many at once."""
        turns = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for _ in range(REQUESTS):
                await turns.acquire()
                caller = group.create_task(self._call())
                caller.add_done_callback(lambda _: turns.release())

    async def _call(self) -> None:
        # Every other one goes away: at once, before there can be an answer, or later.
        patience = self.chance.choice([PATIENCE, PATIENCE, 0.0, self.chance.uniform(0, 1.5)])
        if self.chance.random() < 0.6:
            name = f"r-{self.chance.randrange(NAMES)}"
            repository = at_github(self.github, "storm", name)
            body = {"owner": repository.owner, "repo_name": repository.name}
            answer = await self._ask("POST", "/repos", body, patience)
        else:
            record, repository = self.chance.choice(list(self.records.items()))
            answer = await self._ask("PUT", f"/repos/{record}", None, patience)
        if answer is None:
            self.gone += 1
            return
        self.told.append(answer)
        if answer.status == 503:  # Told when to come again: the next caller heeds it.
            await asyncio.sleep(RESET / 2)
        if answer.status == 201:
            self.records[answer.body["id"]] = repository
        if answer.status in {200, 201}:
            if answer.body != body_of(repository, answer.body["id"]):
                self.wrong.append(f"{answer}, and not {repository}")
        elif not self._is_right(answer):
            self.wrong.append(str(answer))

    def _is_right(self, answer: Answer) -> bool:
        expected = {
            (problem.status, f"/problems/{problem.slug}")
            for problem in RIGHT[answer.method] | OF_GITHUB
        }
        if answer.status == 503 and not 1 <= int(answer.headers["retry-after"]) <= RESET + 1:
            return False
        return answer.is_problem and (answer.status, answer.body["type"]) in expected

    async def _ask(self, method: str, path: str, body: Any, patience: float) -> Answer | None:
        """Make a request on a connection of its own; None where the caller went away."""
        content = b"" if body is None else json.dumps(body).encode()
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(-1), patience)
        except TimeoutError:
            if patience == PATIENCE:
                self.wrong.append(f"{method} {path}: no answer at all")
            return None
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        head, _, said = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in pairs}
        status = int(first.split()[1])
        return Answer(method, path, started, time.monotonic(), status, json.loads(said), headers)


@pytest.mark.usefixtures("peace")
async def test_a_storm_of_two_thousand_requests_is_answered_and_leaves_nothing_behind(
    service: Service, github: GitHub, database: str
) -> None:
    records: dict[str, GitHubRepository] = {}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for number in range(KNOWN):
            created = await track(client, service, "known", f"r-{number}")
            records[created.body["id"]] = at_github(github, "known", f"r-{number}")
    worker = Worker(service.process.pid)
    files, memory, calls = worker.files, worker.memory, github.count
    storm = Storm(service, github, records, Chance(SEED))  # noqa: S311
    github.script(ANY, *weather(storm.chance, 2 * REQUESTS))
    begun = time.monotonic()
    await storm.rage()
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

    # What those who went away left under way ends too.
    await asyncio.sleep(max(PROMISED, RESET + 1))
    await assert_all_is_well(service, github, "afterwards")
    await assert_kept(service, database, storm)
    await until(lambda: worker.files <= files + CONCURRENT_CALLS, "connections were left open")
    tell(
        f"memory {memory:.0f} MB before and {worker.memory:.0f} MB after, "
        f"{files} and {worker.files} open files"
    )
    assert worker.memory < memory + MOST_GROWTH


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


@pytest.mark.usefixtures("peace")
async def test_callers_who_go_away_in_a_storm_leave_no_task_slot_or_connection(
    database: str, github: GitHub
) -> None:
    chance = Chance(SEED)  # noqa: S311
    settings = Settings(database_url=database, github_api_url=github.url)
    before = asyncio.all_tasks()
    async with open_tracker(settings) as tracker:
        client: Client = tracker._github
        github.script(ANY, *weather(chance, 1000))
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

        await until(lambda: not client._calls and not tracker._tracking, "calls are under way")
        await until(lambda: asyncio.all_tasks() <= before, "tasks are left")
        assert client._slots._value == CONCURRENT_CALLS
        assert not client._slots.locked()
        pool = client._client._transport._pool  # type: ignore[attr-defined]
        assert [connection for connection in pool.connections if not connection.is_idle()] == []
        await asyncio.sleep(RESET + 1)
        for number in range(PEACE):
            reference = RepositoryReference(owner="inside", repo_name=f"good-{number}")
            record = await tracker.track(reference)
            assert json.loads(record.body)["repo_name"] == f"good-{number}"
    assert asyncio.all_tasks() <= before


ABSURD = {
    "in three hundred years": str(10**10),
    "in more years than there are": "9" * 18,
    "in the past": "1",
    "before the epoch": "-5",
    "never": "tomorrow",
    "infinitely late": "inf",
}


@pytest.mark.usefixtures("peace")
@pytest.mark.parametrize("reset", ABSURD.values(), ids=ABSURD)
async def test_an_absurd_reset_stops_nobody_for_longer_than_an_hour(
    reset: str, database: str, github: GitHub
) -> None:
    settings = Settings(database_url=database, github_api_url=github.url)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    async with open_tracker(settings) as tracker:
        github.script(ANY, answers.Answer(403, headers, {"message": "API rate limit exceeded"}))
        calls = github.count
        for number in range(PEACE):
            reference = RepositoryReference(owner="absurd", repo_name=f"r-{number}")
            with pytest.raises(GitHubRateLimited) as caught:
                await tracker.track(reference)
            assert 1 <= caught.value.retry_after <= 3600
        assert github.count == calls + 1
