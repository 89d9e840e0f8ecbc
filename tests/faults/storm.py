"""A storm: many requests at once, of whose callers half go away, while GitHub fails in all ways."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.errors import (
    AlreadyTracked,
    GitHubBadAnswer,
    GitHubRateLimited,
    GitHubRefused,
    GitHubTimeout,
    GitHubUnavailable,
    GoneFromGitHub,
    NotOnGitHub,
    Problem,
)
from lab.github import answers
from lab.github.answers import UNICORN
from lab.github.server import GitHub
from lab.github.world import GitHubRepository
from lab.service import Service
from tests.support.calls import Answer
from tests.support.waiting import PATIENCE

REQUESTS = 2000
AT_ONCE = 64
NAMES = 900
# Seconds between two bytes.
DRIP = 0.25
# Seconds until an exhausted quota is renewed.
RESET = 1

LOOP = answers.redirect("{base}/repositories/1")
FAILURES: dict[str, tuple[answers.Answer, type[Problem]]] = {
    "silence": (answers.silence(), GitHubTimeout),
    "a byte every quarter second": (answers.drip(DRIP), GitHubTimeout),
    "a head of a byte every quarter second": (answers.drip(DRIP, head_too=True), GitHubTimeout),
    "a body that is announced and does not come": (answers.lie(100), GitHubTimeout),
    "a closed connection": (answers.hang_up(), GitHubUnavailable),
    "a reset connection": (answers.hang_up(reset=True), GitHubUnavailable),
    "a connection closed in the middle of a body": (answers.cut(), GitHubUnavailable),
    "not HTTP": (answers.garbage(), GitHubUnavailable),
    "five megabytes": (answers.huge(), GitHubBadAnswer),
    "five megabytes, announced": (answers.huge(announced=True), GitHubBadAnswer),
    "a gzip bomb": (answers.gzip_bomb(), GitHubBadAnswer),
    "garbage for JSON": (answers.Answer(body=b'{"id": 1, "full_name'), GitHubBadAnswer),
    "HTML labelled JSON": (answers.Answer(body=UNICORN), GitHubBadAnswer),
    "a page of a GitHub that has a server error": (answers.html(), GitHubUnavailable),
    "a redirect in circles": (LOOP, GitHubBadAnswer),
    "a redirect to another host": (answers.redirect("{foreign}/x"), GitHubBadAnswer),
}
# The answers that are allowed in the storm: never a 500, never an unavailable database.
ALLOWED: dict[str, set[type[Problem]]] = {
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


def at_github(github: GitHub, owner: str, name: str) -> GitHubRepository:
    """Return what GitHub has under this name."""
    found = github.look_up(f"{owner}/{name}")
    assert isinstance(found, GitHubRepository)
    return found


def body_of(repository: GitHubRepository, record: str) -> dict[str, Any]:
    """Return what the service has to answer about it."""
    name = {"owner": repository.owner, "repo_name": repository.name}
    return {"id": record, **name, "stars": repository.stars}


def mixed_answers(chance: Random, calls: int) -> list[answers.Answer]:
    """Return what GitHub answers, call by call; its quota is exhausted three times."""
    good = [answers.ORDINARY, answers.ordinary(delay=0.3), answers.farewell(), answers.not_found()]
    quick = [answer for answer, problem in FAILURES.values() if problem is not GitHubTimeout]
    slow = [answer for answer, problem in FAILURES.values() if problem is GitHubTimeout]
    odd = [answers.Answer(500, body=b"{}"), answers.bad_credentials(), answers.lie(-10)]
    kinds = chance.choices([good, quick, slow, odd], weights=[50, 38, 7, 5], k=calls)
    coming = [chance.choice(kind) for kind in kinds]
    for place in (calls // 8, calls // 4, calls // 2):
        # Relative, because a fixed time of the reset would have passed when the storm reaches it.
        coming[place] = answers.Answer(
            403,
            {"X-RateLimit-Remaining": "0", "Retry-After": str(RESET)},
            {"message": "API rate limit exceeded for 192.0.2.1."},
        )
    return coming


@dataclass
class Storm:
    """Callers, every other of whom closes the connection without waiting for the answer."""

    service: Service
    github: GitHub
    records: dict[str, GitHubRepository]
    chance: Random
    told: list[Answer] = field(default_factory=list)
    gone: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Make all requests, AT_ONCE at a time."""
        turns = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for _ in range(REQUESTS):
                await turns.acquire()
                caller = group.create_task(self._call())
                caller.add_done_callback(lambda _: turns.release())

    async def _call(self) -> None:
        # Every other one goes away, either before there can be an answer or later.
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
        if answer.status == 503:  # It said when to try again: the next request waits.
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
            for problem in ALLOWED[answer.method] | OF_GITHUB
        }
        if answer.status == 503 and not 1 <= int(answer.headers["retry-after"]) <= RESET + 1:
            return False
        return answer.is_problem and (answer.status, answer.body["type"]) in expected

    async def _ask(self, method: str, path: str, body: Any, patience: float) -> Answer | None:
        """Make a request on a connection of its own; return None if the caller went away."""
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
