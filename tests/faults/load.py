"""Callers who track, read, refresh and untrack, and remember what they were told."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2 as httpx

from tests.faults.support import PATIENCE, POLL
from tests.support.github import GitHub
from tests.support.service import Service

CALLERS = 16
PAUSE = 0.04

AWAY = "/problems/database-unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to; the status is 0 where the connection was lost."""

    method: str
    path: str
    started: float
    ended: float
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started

    @property
    def is_problem(self) -> bool:
        """Whether it is a problem of RFC 9457 that is right about itself."""
        return (
            self.headers.get("content-type") == "application/problem+json"
            and isinstance(self.body, dict)
            and {"type", "title", "status", "detail", "instance"} <= self.body.keys()
            and self.body["status"] == self.status
            and self.body["instance"] == self.path
        )

    @property
    def is_database_away(self) -> bool:
        """Whether it says, as it should, that PostgreSQL is away."""
        return (
            self.status == 503
            and self.is_problem
            and self.body["type"] == AWAY
            and self.headers.get("retry-after", "").isdecimal()
        )


@dataclass(slots=True)
class Record:
    """A repository of one caller, and what may be stored of it: its stars, None for nothing."""

    owner: str
    name: str
    id: str | None = None
    possible: set[int | None] = field(default_factory=lambda: {None})

    @property
    def full_name(self) -> str:
        """Return owner/name."""
        return f"{self.owner}/{self.name}"

    def body(self, stars: int) -> dict[str, Any]:
        """Return the body of an answer about it."""
        return {"id": self.id, "owner": self.owner, "repo_name": self.name, "stars": stars}


class Load:
    """Callers who track, read, refresh and untrack repositories of their own while inside.

    Each remembers what it was told. What was refused may have been done, but whole or not at all.
    """

    def __init__(self, url: str, github: GitHub, *, may_be_cut_off: bool = False) -> None:
        self.answers: list[Answer] = []
        self.broken: list[str] = []
        self.records: list[Record] = []
        self.url = url
        self._github = github
        self._may_be_cut_off = may_be_cut_off
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Begin."""
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Let every caller have its last answer."""
        self._stopping = True
        await asyncio.gather(*self._callers)
        await self._client.aclose()

    def successes(self, *, after: float = 0.0) -> Counter[str]:
        """Count what was done since a time, by method."""
        return Counter(
            answer.method
            for answer in self.answers
            if 200 <= answer.status < 300 and answer.started >= after
        )

    async def do(self, each: int) -> None:
        """Wait until everything was done so many times more."""
        begun = time.monotonic()
        while len(done := self.successes(after=begun)) < 4 or min(done.values()) < each:
            assert time.monotonic() - begun < 4 * PATIENCE, f"{done} in a minute"
            assert not any(caller.done() for caller in self._callers)
            await asyncio.sleep(POLL)

    async def _call(self) -> None:
        while not self._stopping:
            number = len(self.records)
            record = Record(f"caller-{number % 50}", f"repository-{number}")
            self.records.append(record)
            await self._track(record)
            if record.id is None:
                continue
            await self._read(record)
            await self._refresh(record)
            await self._read(record)
            if number % 3 == 0:
                await self._untrack(record)
                await self._read(record)

    async def _track(self, record: Record) -> None:
        stars = self._at_github(record)
        record.possible.add(stars)
        reference = {"owner": record.owner, "repo_name": record.name}
        for attempt in range(1, 1000):
            if self._stopping and attempt > 1:
                return
            answer = await self._ask("POST", "/repos", reference)
            if answer.status == 201:
                record.id = answer.body["id"]
            elif answer.status == 409 and attempt > 1:
                record.id = answer.body["repository_id"]
            else:
                self._expect_refusal(answer)
                continue
            record.possible = {stars}
            if answer.status == 201:
                self._expect(answer, record.body(stars))
            return

    async def _refresh(self, record: Record) -> None:
        stars = self._at_github(record, gained=1)
        answer = await self._ask("PUT", f"/repos/{record.id}")
        if answer.status == 200:
            record.possible = {stars}
            self._expect(answer, record.body(stars))
        else:
            record.possible.add(stars)
            self._expect_refusal(answer)

    async def _read(self, record: Record) -> None:
        answer = await self._ask("GET", f"/repos/{record.id}")
        if answer.status == 200:
            expected = [record.body(stars) for stars in record.possible if stars is not None]
            self._expect(answer, *expected)
        elif answer.status != 404 or None not in record.possible:
            self._expect_refusal(answer)

    async def _untrack(self, record: Record) -> None:
        answer = await self._ask("DELETE", f"/repos/{record.id}")
        if answer.status == 204:
            record.possible = {None}
        else:
            record.possible.add(None)
            self._expect_refusal(answer)

    def _at_github(self, record: Record, *, gained: int = 0) -> int:
        found = self._github.look_up(record.full_name)
        assert found is not None
        assert not isinstance(found, int)
        found.stars += gained
        return found.stars

    def _expect(self, answer: Answer, *expected: dict[str, Any]) -> None:
        if answer.body not in expected:
            self.broken.append(f"{answer}, not one of {expected}")

    def _expect_refusal(self, answer: Answer) -> None:
        if answer.is_database_away or (answer.status == 0 and self._may_be_cut_off):
            return
        self.broken.append(f"unexpected: {answer}")

    async def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        # A caller who was cut off does not try again at once.
        cut_off = bool(self.answers) and self.answers[-1].status == 0
        await asyncio.sleep((0.2 if cut_off else PAUSE) * random.uniform(0.5, 1.5))  # noqa: S311
        answer = await ask(self._client, method, f"{self.url}{path}", body)
        self.answers.append(answer)
        return answer

    def __str__(self) -> str:
        """Say it in figures."""
        statuses = Counter(answer.status for answer in self.answers)
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        unsure = sum(len(record.possible) > 1 for record in self.records)
        return (
            f"{len(self.answers)} answers ({counts}), worst {self.worst():.2f} s; "
            f"{self.successes().total()} acknowledged, {unsure} records unsure"
        )

    def worst(self) -> float:
        """Return how long the slowest answer took."""
        return max((answer.seconds for answer in self.answers if answer.status), default=0.0)

    def recovery(self, ready: float) -> float:
        """Return how long after this time the last request began that was refused."""
        return max(
            (a.started - ready for a in self.answers if not 200 <= a.status < 500), default=0
        )


@asynccontextmanager
async def loaded(url: str, github: GitHub, *, may_be_cut_off: bool = False) -> AsyncIterator[Load]:
    """Put a service under load while inside, which begins when all is in full swing."""
    async with Load(url, github, may_be_cut_off=may_be_cut_off) as load:
        await load.do(20)
        yield load


async def ask(client: httpx.AsyncClient, method: str, url: str, body: Any = None) -> Answer:
    """Make a request and note what it came to."""
    started, path = time.monotonic(), httpx.URL(url).path
    try:
        response = await client.request(method, url, json=body)
    except httpx.TimeoutException:
        return Answer(method, path, started, time.monotonic(), -1, "no answer at all")
    except httpx.TransportError as error:
        return Answer(method, path, started, time.monotonic(), 0, repr(error))
    ended = time.monotonic()
    said = response.json() if response.content else None
    return Answer(method, path, started, ended, response.status_code, said, dict(response.headers))


async def track(client: httpx.AsyncClient, service: Service, owner: str, name: str) -> Answer:
    """Track a repository."""
    body = {"owner": owner, "repo_name": name}
    return await ask(client, "POST", f"{service.url}/repos", body)
