"""A stand-in with one repository, and a client that asks it as GitHub wants to be asked."""

from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio

from lab.github.server import ACCEPT, GitHub

HEADERS = {
    "Accept": ACCEPT,
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "tracker/1",
}
RIGHT = "right"
TOKEN = {"Authorization": f"Bearer {RIGHT}"}


@pytest_asyncio.fixture
async def github() -> AsyncIterator[GitHub]:
    """Serve a world with one repository."""
    async with GitHub.serve() as github:
        github.add("FastAPI", "FastAPI", stars=90_000, id=160_919_119)
        yield github


@pytest_asyncio.fixture
async def client(github: GitHub) -> AsyncIterator[httpx2.AsyncClient]:
    """Ask as a good client does."""
    async with httpx2.AsyncClient(base_url=github.url, headers=HEADERS, timeout=5) as client:
        yield client
