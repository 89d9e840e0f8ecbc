"""What the tests of the client of GitHub do again and again."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from app.errors import GitHubError
from app.models import GitHubRepository
from app.services.github.answers import GitHubAnswer, interpret
from app.services.github.client import CONCURRENT_CALLS, GitHub
from lab.github.server import ANY
from lab.github.server import GitHub as StandIn
from tests.services.conftest import tasks_of_the_services

TOKEN = "ghp_very5ecret"  # noqa: S105
# Any time of PostgreSQL's clock.
MOMENT = datetime(2026, 11, 25, tzinfo=UTC)
PATIENCE = 20
# Seconds since 1970.
NOW = 1_800_000_000


class Clock:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self.ahead


async def error_of(client: GitHub, name: str = "a/b", within: float | None = None) -> GitHubError:
    """Return the error that a repository's name leads to, within so many seconds."""
    owner, _, repository = name.partition("/")
    deadline = None if within is None else asyncio.get_running_loop().time() + within
    with pytest.raises(GitHubError) as caught:
        await client.repository(owner, repository, deadline=deadline)
    return caught.value


def numbered(github_id: int, etag: str | None = None) -> GitHubRepository:
    """Return a repository of which only the number and maybe the ETag are known."""
    return GitHubRepository(github_id, "a", "b", 0, etag)


async def by_number(client: GitHub, github_id: int) -> GitHubRepository:
    """Return what GitHub has under this number."""
    return (await client.check(numbered(github_id), asked_at=MOMENT)).repository


async def assert_unharmed(client: GitHub, github: StandIn) -> None:
    """No task is left, twenty can ask at once, and good calls are answered."""
    async with asyncio.timeout(PATIENCE):
        while tasks := tasks_of_the_services():
            await asyncio.wait(tasks)
    github.script(ANY)
    github.generate = True
    github.hold()
    asked, names = github.count, [str(number) for number in range(2 * CONCURRENT_CALLS)]
    calls = [asyncio.create_task(client.repository("good", name)) for name in names]
    await github.called(asked + CONCURRENT_CALLS)
    github.release()
    assert [found.name for found in await asyncio.gather(*calls)] == names


def answer(status: int, body: object = b"", **headers: str) -> GitHubAnswer:
    """Return an answer; `retry_after` stands for the header `retry-after`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return GitHubAnswer(status, named, content)


def read(
    given: GitHubAnswer, *, unchanged: GitHubRepository | None = None, authorized: bool = False
) -> GitHubRepository:
    """Interpret an answer that came at NOW by our own clock."""
    return interpret(given, unchanged=unchanged, authorized=authorized, now=float(NOW))
