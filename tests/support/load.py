"""Callers who track, read, refresh and untrack repositories, and remember what they were told."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2 as httpx

from lab.github.loopback import CONTROL
from tests.support.calls import CUT_OFF, Answer, ask
from tests.support.waiting import PATIENCE, eventually

# Callers at once of each service, and the seconds between two requests of one.
WRITERS, READERS = 12, 4
PAUSE = 0.04
READER = -1
# A caller whose connection was lost does not try again at once.
PAUSE_WHEN_CUT_OFF = 0.2
METHODS = ("POST", "GET", "PUT", "DELETE")


@dataclass(slots=True)
class Record:
    """A repository of one caller, and what may be stored of it: its stars, None for nothing."""

    owner: str
    name: str
    id: str | None = None
    possible: set[int | None] = field(default_factory=lambda: {None})

    @property
    def full_name(self) -> str:
        """The name as GitHub writes it."""
        return f"{self.owner}/{self.name}"

    @property
    def is_certain(self) -> bool:
        """Whether its caller was told of all that became of it."""
        return len(self.possible) == 1

    def body(self, stars: int) -> dict[str, Any]:
        """Return the body of an answer about it."""
        return {"id": self.id, "owner": self.owner, "repo_name": self.name, "stars": stars}


class Load:
    """Calls one service, or several on one database, from a thread of its own while inside.

    Each writer has repositories of its own. A request that was refused may have been carried out,
    but completely or not at all. Readers read what the writers have finished with. `tolerated` are
    results, CUT_OFF or NO_ANSWER, that are no fault of the service.
    """

    def __init__(
        self, urls: list[str], github_url: str, *, tolerated: Collection[int] = ()
    ) -> None:
        self.answers: list[Answer] = []
        self.broken: list[str] = []
        self.records: list[Record] = []
        self._finished: list[Record] = []
        self._urls = urls
        self._owner = f"load-{token_hex(4)}"
        parts = urlsplit(github_url)
        self._control = f"{parts.scheme}://{parts.netloc}{CONTROL}"
        self._writers = range(len(urls) * WRITERS)
        self._tolerated = tolerated
        self._stopping = False
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        """Begin, and return when every kind of request is served."""
        self._run = self._thread.submit(asyncio.run, self._call_all())
        try:
            eventually(self.served(10), lambda: f"no load: {self}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop when every caller has its last answer."""
        self._stopping = True
        self._thread.shutdown()
        self._run.result()

    def __str__(self) -> str:
        statuses = Counter(answer.status for answer in self.answers)
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        unsure = sum(not record.is_certain for record in self.records)
        done = sum(answer.is_success for answer in self.answers)
        return (
            f"{len(self.answers)} answers ({counts}), slowest {self.slowest():.2f} s; "
            f"{done} acknowledged, {unsure} records unsure"
        )

    def served(self, each: int) -> Callable[[], bool]:
        """Return a condition: each service has done each kind of request `each` times from now."""
        begun, first = time.monotonic(), len(self.answers)
        wanted = [(url, method) for url in self._urls for method in METHODS]

        def condition() -> bool:
            assert not self._run.done(), self._run.exception()
            done = Counter(
                (answer.url, answer.method)
                for answer in self.answers[first:]
                if answer.is_success and answer.started >= begun
            )
            return all(done[kind] >= each for kind in wanted)

        return condition

    def refused(self, each: int) -> Callable[[], bool]:
        """Return a condition: each writer was refused `each` times from now without PostgreSQL."""
        begun, first = time.monotonic(), len(self.answers)

        def condition() -> bool:
            refused = Counter(
                answer.caller
                for answer in self.answers[first:]
                if answer.is_database_unavailable and answer.started >= begun
            )
            return all(refused[caller] >= each for caller in self._writers)

        return condition

    def first_success(self, url: str, *, after: float, writes: bool) -> float | None:
        """Return the seconds from a time until a service first did a write or a read."""
        ends = [
            answer.ended - after
            for answer in self.answers.copy()
            if answer.url == url
            and (answer.method != "GET") is writes
            and answer.is_success
            and answer.ended >= after
        ]
        return min(ends, default=None)

    def slowest(self) -> float:
        """Return the seconds that the slowest answer took."""
        return max((a.seconds for a in self.answers if a.status != CUT_OFF), default=0.0)

    def recovery(self, ready: float) -> float:
        """Return the seconds from a time until the last request that failed was made."""
        failures = [a.started - ready for a in self.answers if not 200 <= a.status < 500]
        return max(0.0, *failures, 0.0)

    async def _call_all(self) -> None:
        async with (
            httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as self._client,
            asyncio.TaskGroup() as group,
        ):
            for caller in self._writers:
                group.create_task(self._write(caller))
            for url in self._urls * READERS:
                group.create_task(self._read_finished(url))

    async def _write(self, caller: int) -> None:
        # What one service has confirmed is there for the next one.
        here, next_one = (self._urls[(caller + n) % len(self._urls)] for n in range(2))
        while not self._stopping:
            number = len(self.records)
            record = Record(self._owner, f"repository-{number}")
            self.records.append(record)
            await self._track(caller, here, record, stars=number)
            if record.id is not None:
                await self._read(caller, next_one, record)
                await self._refresh(caller, here, record, stars=number + 1)
                await self._read(caller, next_one, record)
                if number % 3 == 0:
                    await self._untrack(caller, here, record)
                    await self._read(caller, next_one, record)
            self._finished.append(record)

    async def _read_finished(self, url: str) -> None:
        while not self._stopping:
            # One of the last: a PostgreSQL that missed something misses those.
            known = [record for record in self._finished[-30:] if record.id]
            if known:
                await self._read(READER, url, random.choice(known))  # noqa: S311
            else:
                await asyncio.sleep(PAUSE)

    async def _track(self, caller: int, url: str, record: Record, *, stars: int) -> None:
        await self._order(add={record.full_name: stars})
        record.possible.add(stars)
        reference = {"owner": record.owner, "repo_name": record.name}
        tries = 0
        while not (self._stopping and tries):
            tries += 1
            answer = await self._ask(caller, "POST", f"{url}/repos", reference)
            # A POST that was refused may have stored the record: 409 then.
            if answer.status == 201 or (answer.status == 409 and tries > 1):
                record.id = answer.body["id" if answer.status == 201 else "repository_id"]
                record.possible = {stars}
                if answer.status == 201:
                    self._expect(answer, record.body(stars))
                return
            self._expect_refusal(answer)

    async def _refresh(self, caller: int, url: str, record: Record, *, stars: int) -> None:
        await self._order(stars={record.full_name: stars})
        answer = await self._ask(caller, "PUT", f"{url}/repos/{record.id}")
        if answer.status == 200:
            record.possible = {stars}
            self._expect(answer, record.body(stars))
        else:
            record.possible.add(stars)
            self._expect_refusal(answer)

    async def _read(self, caller: int, url: str, record: Record) -> None:
        answer = await self._ask(caller, "GET", f"{url}/repos/{record.id}")
        if answer.status == 200:
            self._expect(answer, *(record.body(n) for n in record.possible if n is not None))
        elif answer.status != 404 or None not in record.possible:
            self._expect_refusal(answer)

    async def _untrack(self, caller: int, url: str, record: Record) -> None:
        answer = await self._ask(caller, "DELETE", f"{url}/repos/{record.id}")
        if answer.status == 204:
            record.possible = {None}
        else:
            record.possible.add(None)
            self._expect_refusal(answer)

    async def _order(self, **orders: Any) -> None:
        """Change what GitHub says."""
        (await self._client.post(self._control, json=orders)).raise_for_status()

    async def _ask(self, caller: int, method: str, url: str, body: Any = None) -> Answer:
        cut_off = bool(self.answers) and self.answers[-1].status == CUT_OFF
        pause = PAUSE_WHEN_CUT_OFF if cut_off else PAUSE
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        answer = await ask(self._client, method, url, body, caller=caller)
        self.answers.append(answer)
        return answer

    def _expect(self, answer: Answer, *expected: dict[str, Any]) -> None:
        if answer.body not in expected:
            self.broken.append(f"{answer}, not one of {expected}")

    def _expect_refusal(self, answer: Answer) -> None:
        if not answer.is_database_unavailable and answer.status not in self._tolerated:
            self.broken.append(f"unexpected: {answer}")
