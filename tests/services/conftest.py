"""What the tests of the services share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest
from pydantic import SecretStr

from app.factory import open_database
from app.services.github.client import GitHub
from app.services.tracker import Tracker
from app.settings import Settings
from lab.github.server import GitHub as StandIn
from tests.conftest import Serve
from tests.services.support import TOKEN, Rows

Ask = Callable[..., AbstractAsyncContextManager[GitHub]]


def tasks_of_the_services() -> list[asyncio.Task[Any]]:
    """Return the running tasks that the application started."""
    return [
        task
        for task in asyncio.all_tasks()
        if (code := getattr(task.get_coro(), "cr_code", None)) and "/app/" in code.co_filename
    ]


@pytest.fixture
def ask(github: StandIn) -> Ask:
    """Open a client of the stand-in, or of another address."""

    @asynccontextmanager
    async def ask(url: str = "", token: str | None = None, **options: Any) -> AsyncIterator[GitHub]:
        github.token, github.anonymous.remaining = token, 10**6
        client = GitHub(url or github.url, token, **options)
        try:
            yield client
        finally:
            await client.close()

    return ask


@pytest.fixture
async def asker(ask: Ask) -> AsyncIterator[GitHub]:
    """Open a client without a token."""
    async with ask() as client:
        yield client


@pytest.fixture
def whole(rows: Rows) -> Iterator[None]:
    """Let no test leave a record without its link."""
    yield
    halves = (
        "SELECT count(*) FROM repositories WHERE id NOT IN (SELECT repository_id FROM github_links)"
    )
    assert rows.execute(halves).fetchone() == (0,)


@pytest.fixture
async def with_token(serve: Serve, github: StandIn) -> AsyncIterator[httpx.AsyncClient]:
    """Serve with a token."""
    github.token = TOKEN
    async with serve(github_token=TOKEN) as client:
        yield client


@pytest.fixture
async def hasty_tracker(database_url: str, ask: Ask) -> AsyncIterator[Tracker]:
    """Open a tracker that gives GitHub little time."""
    settings = Settings(database_url=SecretStr(database_url))
    async with open_database(settings) as database, ask(time_limit=0.5) as client:
        tracker = Tracker(database, client)
        yield tracker
        await tracker.close()
