"""What the tests of the services share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from app.services.github.client import GitHub
from app.settings import Settings
from lab.github.server import GitHub as StandIn

Ask = Callable[..., AbstractAsyncContextManager[GitHub]]


def tasks_of_the_services() -> list[asyncio.Task[Any]]:
    """Return the tasks under way that the application started."""
    return [
        task
        for task in asyncio.all_tasks()
        if (code := getattr(task.get_coro(), "cr_code", None)) and "/app/" in code.co_filename
    ]


@pytest.fixture
def ask(github: StandIn) -> Ask:
    """Open a client of the stand-in, or of another address."""

    @asynccontextmanager
    async def ask(url: str = "", token: str | None = None) -> AsyncIterator[GitHub]:
        github.token, github.anonymous.remaining = token, 10**6
        client = GitHub.open(Settings(github_api_url=url or github.url, github_token=token))
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
