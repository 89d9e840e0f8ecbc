"""Callers who write and read all the time, and remember what they were promised."""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx2 as httpx

from tests.support.process import GitHubProcess

WRITERS, READERS = 3, 2  # For each replica.
PAUSE = 0.03
PATIENCE = 15.0  # Longer than the service's own deadline, which is to be seen.

_WRITES = ("POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one replica."""

    replica: int
    method: str
    started: float
    ended: float
    status: int
    body: dict[str, Any]
    retry_after: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether it did what was asked."""
        return httpx.codes.is_success(self.status)

    @property
    def is_database_away(self) -> bool:
        """Whether it says, as it should, that PostgreSQL is away."""
        return (
            self.status == httpx.codes.SERVICE_UNAVAILABLE
            and self.body.get("type") == "/problems/database-unavailable"
            and (self.retry_after or "").isdecimal()
        )


@dataclass
class Promises:
    """What the callers may rely on from now on."""

    stars: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


class _Stopped(Exception):
    """The load ends before the last answer was final."""


class Load:
    """Runs callers of all replicas in a thread of its own while inside."""

    def __init__(self, urls: Sequence[str], github: GitHubProcess) -> None:
        self.answers: list[Answer] = []
        self.promises = Promises()
        self._urls = urls
        self._github = github
        self._serial = 0
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Let every caller have its last answer."""
        self._stopping = True
        self._thread.join(PATIENCE * 2)

    def first(self, replica: int, *, after: float, writes: bool) -> float | None:
        """Return the seconds until the first success of a replica after a time."""
        ends = [
            answer.ended - after
            for answer in self.answers.copy()
            if answer.replica == replica
            and (answer.method in _WRITES) is writes
            and answer.is_success
            and answer.ended >= after
        ]
        return min(ends, default=None)

    def last_refusal(self, *, after: float) -> float:
        """Return when the last 503 was given, or that time if there was none."""
        refused = [answer.ended for answer in self.answers if answer.status == 503]
        return max([after, *refused])

    async def _main(self) -> None:
        async with AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
            for replica, url in enumerate(self._urls):
                client = await clients.enter_async_context(
                    httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False)
                )
                for _ in range(WRITERS):
                    tasks.create_task(self._write(replica, client))
                for _ in range(READERS):
                    tasks.create_task(self._read(replica, client))

    async def _write(self, replica: int, client: httpx.AsyncClient) -> None:
        while not self._stopping:
            self._serial += 1
            serial = self._serial
            try:
                await self._live(replica, client, serial)
            except _Stopped:
                return

    async def _live(self, replica: int, client: httpx.AsyncClient, serial: int) -> None:
        """Track a repository, refresh it, and untrack every third."""
        owner, name = "load", f"repository-{random.getrandbits(40):x}-{serial}"
        body = {"owner": owner, "repo_name": name}
        created, tries = await self._ask(replica, client, "POST", "/repos", (201, 409), json=body)
        if created.status == 409 and tries == 1:
            self.promises.broken.append(f"{name} was said to exist before it was made")
        record = str(created.body["id" if created.status == 201 else "repository_id"])
        path, stars = f"/repos/{record}", serial
        await asyncio.to_thread(self._github.order, stars={f"{owner}/{name}": stars})
        refreshed, _ = await self._ask(replica, client, "PUT", path, (200, 404))
        if refreshed.body.get("stars") != stars:
            self.promises.broken.append(f"{record} has {refreshed.body} instead of {stars} stars")
        if serial % 3:
            self.promises.stars[record] = stars
            return
        deleted, tries = await self._ask(replica, client, "DELETE", path, (204, 404))
        if deleted.status == 404 and tries == 1:
            self.promises.broken.append(f"{record} was gone before it was deleted")
        self.promises.gone.add(record)

    async def _read(self, replica: int, client: httpx.AsyncClient) -> None:
        """Read what was promised, by whichever replica, and what is gone."""
        while not self._stopping:
            kept, gone = list(self.promises.stars.items()), list(self.promises.gone)
            if not kept or not gone:
                await asyncio.sleep(PAUSE)
                continue
            # One of the last, which a PostgreSQL that missed something would not have.
            record, stars = random.choice(kept[-20:])  # noqa: S311
            answer = await self._once(replica, client, "GET", f"/repos/{record}")
            if answer.status != 503 and answer.body.get("stars") != stars:
                self.promises.broken.append(f"GET {record}: {answer.body}, not {stars} stars")
            answer = await self._once(replica, client, "GET", f"/repos/{random.choice(gone)}")  # noqa: S311
            if answer.status not in (404, 503):
                self.promises.broken.append(f"deleted, and there again: {answer.body}")

    async def _ask(
        self,
        replica: int,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        final: tuple[int, ...],
        **body: Any,
    ) -> tuple[Answer, int]:
        """Ask until the answer is final, as a caller would who wants it done."""
        tries = 0
        while True:
            tries += 1
            answer = await self._once(replica, client, method, path, **body)
            if answer.status in final:
                return answer, tries
            if self._stopping:
                raise _Stopped

    async def _once(
        self, replica: int, client: httpx.AsyncClient, method: str, path: str, **body: Any
    ) -> Answer:
        await asyncio.sleep(PAUSE)
        started = time.monotonic()
        try:
            response = await client.request(method, path, **body)
        except httpx.HTTPError as error:
            status, said, retry_after = 0, {"error": repr(error)}, None
        else:
            status, retry_after = response.status_code, response.headers.get("Retry-After")
            said = response.json() if response.content else {}
        answer = Answer(replica, method, started, time.monotonic(), status, said, retry_after)
        self.answers.append(answer)
        return answer
